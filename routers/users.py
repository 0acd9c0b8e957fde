"""Accounts and their pictures."""

from contextlib import AsyncExitStack
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.security import OAuth2PasswordRequestForm
from sqlalchemy import func
from sqlalchemy.exc import IntegrityError

from accounts import auth
from accounts.auth import CurrentUser, EditableUser, UserId
from config import settings
from database import Db, commit
from errors import EmailTaken, OutcomeUnknown, UsernameTaken, UserNotFound, WrongPassword
from files.unit_of_work import UnitOfWork, lock_user, uninterrupted
from models import EMAIL_CONSTRAINT, USERNAME_CONSTRAINT, User, fold
from pictures.costs import examine
from pictures.decoder import process_profile_image
from pictures.formats import PICTURES_TAKEN
from schemas import Token, UserCreate, UserPrivate, UserPublic, UserUpdate, UserWithNewPicture
from web.admission import admission
from web.uploads import BoundedRoute, PictureForm, admitted_picture_form

router = APIRouter(prefix="/users", tags=["users"], route_class=BoundedRoute)
upload_router = APIRouter(prefix="/users", tags=["users"])  # bounds its bodies itself

PICTURE_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": PICTURES_TAKEN,
                        },
                        "crop": {
                            "type": "string",
                            "pattern": r"^(\d{1,9},\d{1,9},\d{1,9})?$",
                            "examples": [""],  # what the try-it-out page fills in
                            "description": "x,y,size: a square in pixels of the upright picture; else its centre",
                        },
                    },
                }
            }
        },
    }
}


@router.post("", status_code=201)
async def register(new: UserCreate, db: Db) -> UserPrivate:
    """Make an account."""
    user = User(
        username=new.username,
        username_folded=fold(new.username),
        email=new.email,
        email_folded=fold(new.email),
        password_hash=await auth.hash_password(new.password.get_secret_value()),
        picture=None,
    )
    db.add(user)
    try:
        await _commit(db)
    except IntegrityError as err:
        _raise_taken(err)
    return UserPrivate.model_validate(user)


@router.post("/token")
async def log_in(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> Token:
    """Log in with the OAuth2 password form; `username` is the e-mail address."""
    return Token(access_token=await auth.log_in(form.username, form.password))


@router.delete("/token", status_code=204)
async def end_all_tokens(user: CurrentUser, db: Db) -> None:
    """Log out everywhere: every token of the account ends."""
    kept = await lock_user(db, user.id)
    kept.tokens_valid_after = func.clock_timestamp()
    await _commit(db)


@router.get("/me")
async def read_me(user: CurrentUser) -> UserPrivate:
    """The account of the token."""
    return UserPrivate.model_validate(user)


@router.get("/{user_id}")
async def read_user(user_id: UserId, db: Db) -> UserPublic:
    """An account as anyone sees it."""
    user = await db.get(User, user_id)
    if user is None:
        raise UserNotFound
    return UserPublic.model_validate(user)


@router.patch("/{user_id}")
async def update_user(
    user: EditableUser, current: CurrentUser, change: UserUpdate, db: Db
) -> UserPrivate:
    """Change name, address or password. A new password ends every token of the account."""
    given = change.model_fields_set
    password_hash = None
    if "password" in given:
        claimed = change.current_password.get_secret_value() if change.current_password else ""
        is_own = user.id == current.id
        if is_own and not (claimed and await auth.password_matches(claimed, user.password_hash)):
            raise WrongPassword
        password_hash = await auth.hash_password(change.password.get_secret_value())
    changed = await lock_user(db, user.id)
    if password_hash is not None and changed.password_hash != user.password_hash:
        raise WrongPassword  # someone else changed it while we compared
    if "username" in given:
        changed.username, changed.username_folded = change.username, fold(change.username)
    if "email" in given:
        changed.email, changed.email_folded = change.email, fold(change.email)
    if password_hash is not None:
        changed.password_hash, changed.tokens_valid_after = password_hash, func.clock_timestamp()
    try:
        await _commit(db)
    except IntegrityError as err:
        _raise_taken(err)
    return UserPrivate.model_validate(changed)


@router.delete("/{user_id}", status_code=204)
async def delete_user(user: EditableUser) -> None:
    """Delete the account with all that it has."""
    await _delete_account(user.id)


@upload_router.patch("/{user_id}/picture", openapi_extra=PICTURE_FORM)
async def replace_picture(user: EditableUser, request: Request) -> UserWithNewPicture:
    """Replace the picture: check it, make it a clean 300 x
    300 JPEG, store it, commit its name, delete the old one.
    """
    async with AsyncExitStack() as upload:
        form = await upload.enter_async_context(admitted_picture_form(request))
        return await _finish_replacement(user.id, form, upload.pop_all())


@router.delete("/{user_id}/picture")
async def delete_picture(user: EditableUser) -> UserPrivate:
    """Take the picture away; the default picture shows instead."""
    return await _remove_picture(user.id)


@uninterrupted
async def _finish_replacement(
    user_id: int, form: PictureForm, upload: AsyncExitStack
) -> UserWithNewPicture:
    """Do all that follows the last byte.

    Once resized, only the small picture is kept; the upload's memory is free.
    """
    async with upload:
        limits = settings.max_image_pixels, settings.max_whole_image_pixels
        _, cost = examine(form.content, form.crop, *limits)
        picture = await admission.in_picture_slot(
            cost, process_profile_image, form.content, cost, form.crop, *limits
        )
    async with UnitOfWork(user_id) as work:
        file_id = await work.put_picture(picture)
        changed = await work.swap_picture(file_id)
        await work.release()
    return UserWithNewPicture.model_validate(changed).model_copy(
        update={"removed_metadata": picture.removed_metadata}
    )


@uninterrupted
async def _remove_picture(user_id: int) -> UserPrivate:
    async with UnitOfWork(user_id) as work:
        changed = await work.remove_picture()
        await work.release()
    return UserPrivate.model_validate(changed)


@uninterrupted
async def _delete_account(user_id: int) -> None:
    async with UnitOfWork(user_id) as work:
        await work.delete_account()
        await work.release()


async def _commit(db: Db) -> None:
    if not await commit(db):
        raise OutcomeUnknown


def _raise_taken(err: IntegrityError) -> None:
    message = str(err.orig)
    if USERNAME_CONSTRAINT in message:
        raise UsernameTaken from err
    if EMAIL_CONSTRAINT in message:
        raise EmailTaken from err
    raise err
