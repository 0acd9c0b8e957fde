"""Accounts and their pictures."""

import logging
from contextlib import AsyncExitStack
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy import func
from sqlalchemy.exc import IntegrityError

import files
import photos
from accounts import (
    CurrentUser,
    DeletableUser,
    EditableUser,
    Login,
    RequestLimits,
    RequestPasswords,
    UserId,
    lock_account,
)
from credentials import check_new_name, check_new_password, fold, fold_name
from database import Db, RequestDatabase, commit
from errors import (
    BadForm,
    BadPicture,
    BodyTooLarge,
    Busy,
    DatabaseUnavailable,
    DecoderUnavailable,
    EmailTaken,
    FileTooLarge,
    InvalidRequest,
    InvalidToken,
    LoginAgain,
    MalformedBody,
    NoPicture,
    NotAuthenticated,
    NotYours,
    OutcomeUnknown,
    PhotoNotFound,
    ShuttingDown,
    SideTooLong,
    StoreError,
    TokenExpired,
    TooManyAttempts,
    TooManyPixels,
    UploadExpired,
    UploadStalled,
    UsernameTaken,
    UserNotFound,
    WrongCredentials,
    WrongPassword,
)
from files import Backends, RequestBackends
from logs import Event
from models import EMAIL_CONSTRAINT, USERNAME_CONSTRAINT, User
from pictures.decoding import Decoding
from schemas import (
    LoginForm,
    PictureOfPhoto,
    Token,
    UserCreate,
    UserPrivate,
    UserPublic,
    UserUpdate,
    UserWithNewPicture,
)
from web.addresses import ClientAddress
from web.admission import RequestAdmission, Reservation
from web.bodies import BoundedRoute, read_json
from web.document import find_raised, refuse_with
from web.forms import (
    PICTURE_FORM,
    PictureForm,
    admit_picture_form,
    parse_background,
    parse_crop,
)

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/users", tags=["users"], route_class=BoundedRoute)
upload_router = APIRouter(prefix="/users", tags=["users"])  # bounds its bodies itself

# Refusals that several routes have in common, for the document.
SMALL_BODY = (MalformedBody, UploadStalled, BodyTooLarge, InvalidRequest, DatabaseUnavailable)
LOGIN = (NotAuthenticated, InvalidToken, TokenExpired)
OWN_ACCOUNT = (*LOGIN, NotYours, UserNotFound)
TAKEN = (UsernameTaken, EmailTaken, Busy)


def _get_decoding(request: Request) -> Decoding:
    decoding: Decoding = request.app.state.decoding
    return decoding


# A FastAPI dependency: the one on `request.app.state`.
RequestDecoding = Annotated[Decoding, Depends(_get_decoding)]


@router.post(
    "",
    status_code=201,
    responses=refuse_with(*SMALL_BODY, *TAKEN, TooManyAttempts, OutcomeUnknown),
)
async def register(
    new: UserCreate,
    client_address: ClientAddress,
    db: Db,
    limits: RequestLimits,
    passwords: RequestPasswords,
) -> UserPrivate:
    """Make an account."""
    password = new.password.get_secret_value()
    _check_password(password, new.username, new.email)
    await limits.count_registration(client_address)
    user = User(
        username=new.username,
        username_folded=fold_name(new.username),
        email=new.email,
        email_folded=fold(new.email),
        password_hash=await passwords.hash(password),
        picture=None,
    )
    db.add(user)
    try:
        await commit(db)
    except IntegrityError as err:
        _raise_taken(err)
    return UserPrivate.model_validate(user)


@router.post("/token", responses=refuse_with(*SMALL_BODY, WrongCredentials, TooManyAttempts, Busy))
async def log_in(
    form: Annotated[LoginForm, Form()],
    client_address: ClientAddress,
    login: Annotated[Login, Depends()],
) -> Token:
    """Log in with the OAuth2 password form; `username` is the e-mail address or the name."""
    return await login.log_in(form.username, form.password.get_secret_value(), client_address)


@router.delete(
    "/token",
    status_code=204,
    responses=refuse_with(*SMALL_BODY, *LOGIN, UserNotFound, OutcomeUnknown),
)
async def end_all_tokens(current: CurrentUser, db: Db) -> None:
    """Log out everywhere: every token of the account ends."""
    user = await lock_account(db, current.id)
    user.tokens_valid_after = func.clock_timestamp()
    await commit(db)


@router.get("/me", responses=refuse_with(*SMALL_BODY, *LOGIN))
async def read_me(user: CurrentUser) -> UserPrivate:
    """The account of the token."""
    return UserPrivate.model_validate(user)


@router.get("/{user_id}", responses=refuse_with(*SMALL_BODY, UserNotFound))
async def read_user(user_id: UserId, database: RequestDatabase) -> UserPublic:
    """An account as anyone sees it."""
    async with database.reader() as db:
        user = await db.get(User, user_id)
    if user is None:
        raise UserNotFound
    return UserPublic.model_validate(user)


@router.patch(
    "/{user_id}",
    responses=refuse_with(
        *(*SMALL_BODY, *OWN_ACCOUNT, WrongPassword, *TAKEN, TooManyAttempts, OutcomeUnknown)
    ),
)
async def update_user(
    user: EditableUser,
    current: CurrentUser,
    update: UserUpdate,
    client_address: ClientAddress,
    db: Db,
    limits: RequestLimits,
    passwords: RequestPasswords,
) -> UserPrivate:
    """Change name, address or password. A new password ends every token of the account.

    Whoever changes the address or the password of the own account sends the current password.
    """
    given = update.model_fields_set
    if "username" in given and update.username != user.username:
        _check_name(update.username)
    if "password" in given:
        names = {user.username, user.email, update.username, update.email} - {None}
        _check_password(update.password.get_secret_value(), *names)
    is_own = user.id == current.id
    is_compared = is_own and ("password" in given or _changes_address(update, user))
    if is_compared:
        current_password = update.current_password
        if current_password is None or not current_password.get_secret_value():
            raise WrongPassword
        await limits.count_password(client_address, user.id)
        if not await passwords.match(current_password.get_secret_value(), user.password_hash):
            raise WrongPassword
    password_hash = None
    if "password" in given:
        password_hash = await passwords.hash(update.password.get_secret_value())
    changed = await lock_account(db, user.id)
    if (is_compared or password_hash) and changed.password_hash != user.password_hash:
        raise WrongPassword  # someone else changed it while we compared
    if is_own and not is_compared and _changes_address(update, changed):
        raise WrongPassword  # the address that was sent is the old one by now
    if "username" in given:
        changed.username = update.username
        changed.username_folded = fold_name(update.username)
    if "email" in given:
        changed.email = update.email
        changed.email_folded = fold(update.email)
    if password_hash is not None:
        changed.password_hash = password_hash
        changed.tokens_valid_after = func.clock_timestamp()
    try:
        await commit(db)
    except IntegrityError as err:
        _raise_taken(err)
    if password_hash is not None:
        logger.info("password changed", extra={"event": Event.PASSWORD_CHANGED, "about": user.id})
    return UserPrivate.model_validate(changed)


@router.delete(
    "/{user_id}",
    status_code=204,
    responses=refuse_with(*SMALL_BODY, *OWN_ACCOUNT, LoginAgain, OutcomeUnknown),
)
async def delete_user(user: DeletableUser, backends: RequestBackends) -> None:
    """Delete the account with all that it has. The own one: within 15 minutes of a login."""
    await backends.tasks.finish(files.delete_account(backends, user.id))


@upload_router.patch(
    "/{user_id}/picture",
    openapi_extra=PICTURE_FORM,
    responses=refuse_with(
        *(*OWN_ACCOUNT, PhotoNotFound, BodyTooLarge),
        *find_raised(BadPicture),
        *find_raised(BadForm),
        *find_raised(StoreError),
        *(FileTooLarge, TooManyPixels, SideTooLong, UploadStalled, InvalidRequest),
        *(Busy, ShuttingDown, DecoderUnavailable, DatabaseUnavailable),
        *(OutcomeUnknown, UploadExpired),
    ),
)
async def replace_picture(
    user: EditableUser,
    request: Request,
    backends: RequestBackends,
    admission: RequestAdmission,
    decoding: RequestDecoding,
    address: ClientAddress,
) -> UserWithNewPicture:
    """Replace the picture: resize it, store it, commit its name, delete the old one.

    What was sent becomes a clean, upright 300 x 300 JPEG, or a WebP where something stays
    transparent (`AVATAR_TRANSPARENCY`). The bare picture as the body, with its
    own Content-Type (`image/...`), is taken as well; and JSON that names a photo of the account.
    """
    async with AsyncExitStack() as held:
        if "json" in request.headers.get("content-type", "").lower():
            named = await read_json(request, backends.settings, PictureOfPhoto)
            reservation = await held.enter_async_context(admission.admit(user.id, address))
            form = await _fetch_photo(backends, user.id, named, reservation)
        else:
            form = await held.enter_async_context(
                admit_picture_form(request, admission, backends.settings, user.id, address)
            )
        # The last byte is here: from now on a task goes on to the end, and holds the seat and the
        # reservation itself, whatever becomes of this request.
        work = _finish_replacement(backends, decoding, user.id, form, held.pop_all())
        return await backends.tasks.finish(work)


@router.delete(
    "/{user_id}/picture",
    responses=refuse_with(*SMALL_BODY, *OWN_ACCOUNT, NoPicture, OutcomeUnknown),
)
async def delete_picture(user: EditableUser, backends: RequestBackends) -> UserPrivate:
    """Take the picture away; the default picture shows instead."""
    changed = await backends.tasks.finish(files.remove_picture(backends, user.id))
    return UserPrivate.model_validate(changed)


async def _fetch_photo(
    backends: Backends,
    user_id: int,
    named: PictureOfPhoto,
    reservation: Reservation,
) -> PictureForm:
    """Fetch a photo of the account from its store, as if it had been sent.

    Raises PhotoNotFound, BadCrop, BadBackground, Busy, or a StoreError.
    """
    crop = None if named.crop is None else parse_crop(named.crop)
    background = None if named.background is None else parse_background(named.background)
    async with backends.database.reader() as db:
        photo = await photos.read_own_photo(db, named.photo_id, user_id)
    file = photo.original or photo.master
    await reservation.grow_to(file.size_bytes or 0)
    reservation.stop_growing()
    return PictureForm(await photos.read_file(file), crop, reservation, background)


async def _finish_replacement(
    backends: Backends,
    decoding: Decoding,
    user_id: int,
    form: PictureForm,
    held: AsyncExitStack,
) -> UserWithNewPicture:
    """Do all that follows the last byte; the seat is `held` to the end.

    Once resized, only the small picture is kept, and the reservation ends.
    """
    async with held:
        try:
            picture = await decoding.process_profile_image(
                form.content, form.crop, form.reservation.owners, form.background
            )
        finally:
            form.let_go()
        user = await files.replace_picture(backends, user_id, picture)
    answer = UserWithNewPicture.model_validate(user)
    return answer.model_copy(
        update={"removed_metadata": picture.removed_metadata, "notes": picture.notes}
    )


def _changes_address(update: UserUpdate, user: User) -> bool:
    """Whether mail would go elsewhere; another case of its letters changes nothing."""
    return "email" in update.model_fields_set and update.email.lower() != user.email.lower()


def _check_name(name: str) -> None:
    """Refuse what may only be kept, in the way in which input is refused."""
    try:
        check_new_name(name)
    except ValueError as err:
        raise _make_refusal("username", err) from err


def _check_password(password: str, *known: str) -> None:
    """Refuse one that is guessed first, also by what the account is known by."""
    try:
        check_new_password(password, *known)
    except ValueError as err:
        raise _make_refusal("password", err) from err


def _make_refusal(field: str, err: ValueError) -> RequestValidationError:
    error = {"type": "value_error", "loc": ("body", field), "ctx": {"error": err}}
    return RequestValidationError([error])


def _raise_taken(err: IntegrityError) -> None:
    message = str(err.orig)
    if USERNAME_CONSTRAINT in message:
        raise UsernameTaken from err
    if EMAIL_CONSTRAINT in message:
        raise EmailTaken from err
    raise err
