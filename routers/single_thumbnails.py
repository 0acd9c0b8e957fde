"""Thumbnails of which nothing else is kept: made of a file that is sent, listed, and deleted."""

from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

import photos
from accounts import CurrentUser
from concurrency import start_in_thread
from database import RequestDatabase
from errors import (
    BadCursor,
    IdempotencyKeyReused,
    OutcomeUnknown,
    StillInProgress,
    ThumbnailNotFound,
    UserNotFound,
)
from files import Backends, RequestBackends
from files.idempotency import Claim, Done, claim_key
from files.urls import find_url
from models import SingleThumbnail, User
from photos import DEFAULT_PAGE_PHOTOS, MOST_PAGE_PHOTOS
from pictures.decoding import Decoding
from routers.photos import FILE_SCHEMA, LINK, UPLOAD, Cursor, Key, link_next
from routers.users import LOGIN, SMALL_BODY, RequestDecoding
from schemas import AddressId, SingleThumbnailPage, SingleThumbnailShown
from web.addresses import ClientAddress
from web.admission import RequestAdmission
from web.bodies import BoundedRoute
from web.document import refuse_with
from web.forms import PictureForm, admit_picture_form

router = APIRouter(tags=["photos"], route_class=BoundedRoute)
upload_router = APIRouter(tags=["photos"])  # bounds its bodies itself

BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": FILE_SCHEMA},
            }
        }
    },
}

ThumbnailId = Annotated[AddressId, Path()]
Limit = Annotated[int, Query(ge=1, le=MOST_PAGE_PHOTOS, description="The most of a page")]


async def _read_editable_thumbnail(
    thumbnail_id: ThumbnailId, current: CurrentUser, database: RequestDatabase
) -> SingleThumbnail:
    async with database.reader() as db:
        return await photos.read_single_thumbnail(db, thumbnail_id, current)


EditableThumbnail = Annotated[SingleThumbnail, Depends(_read_editable_thumbnail)]


@upload_router.post(
    "/photos/thumbnail",
    status_code=201,
    openapi_extra={"requestBody": BODY},
    responses=refuse_with(
        *(*LOGIN, *UPLOAD, UserNotFound, ThumbnailNotFound),
        *(StillInProgress, IdempotencyKeyReused),
    ),
)
async def add_thumbnail(
    user: CurrentUser,
    request: Request,
    backends: RequestBackends,
    admission: RequestAdmission,
    decoding: RequestDecoding,
    address: ClientAddress,
    idempotency_key: Key = None,
) -> SingleThumbnailShown:
    """Make a thumbnail of a file, which fits into 300 x 300, and keep nothing else of it.

    The bare file as the body, with its own Content-Type (`image/...`), is taken as well. Sent again
    with the same `Idempotency-Key` within 24 hours, it is made once and answered alike.
    """
    claim = None
    async with AsyncExitStack() as held:
        if idempotency_key is not None:
            claim = await held.enter_async_context(claim_key(backends, user.id, idempotency_key))
        form = await held.enter_async_context(
            admit_picture_form(request, admission, backends.settings, user.id, address)
        )
        if isinstance(claim, Done):
            return await _answer_again(backends, user, form, claim)
        # The last byte is here: from now on a task goes on to the end, and holds the seat, the
        # memory and the claim itself, whatever becomes of this request.
        return await backends.tasks.finish(
            _finish_addition(backends, decoding, user.id, form, claim, held.pop_all())
        )


@router.get("/thumbnails", responses=LINK | refuse_with(*SMALL_BODY, *LOGIN, BadCursor))
async def list_thumbnails(
    user: CurrentUser,
    database: RequestDatabase,
    response: Response,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE_PHOTOS,
) -> SingleThumbnailPage:
    """Your thumbnails of which nothing else was kept; the newest first."""
    async with database.reader() as db:
        page = await photos.list_single_thumbnails(db, user.id, cursor, limit)
    link_next(response, page.next_cursor, limit)
    shown = [await _show(thumbnail) for thumbnail in page.thumbnails]
    return SingleThumbnailPage(thumbnails=shown, next=page.next_cursor)


@router.delete(
    "/thumbnails/{thumbnail_id}",
    status_code=204,
    responses=refuse_with(*SMALL_BODY, *LOGIN, ThumbnailNotFound, UserNotFound, OutcomeUnknown),
)
async def delete_thumbnail(thumbnail: EditableThumbnail, backends: RequestBackends) -> None:
    """Delete a thumbnail of which nothing else was kept."""
    await backends.tasks.finish(photos.delete_single_thumbnail(backends, thumbnail))


async def _finish_addition(
    backends: Backends,
    decoding: Decoding,
    owner_id: int,
    form: PictureForm,
    claim: Claim | None,
    held: AsyncExitStack,
) -> SingleThumbnailShown:
    """Do all that follows the last byte.

    Once it is made, only the thumbnail is kept; the seat and a claim are `held` to the end.
    """
    async with held:
        try:
            fingerprint = "" if claim is None else await _find_fingerprint(form)
            picture = await decoding.make_thumbnail(form.content, form.reservation.owners)
        finally:
            form.let_go()
        thumbnail = await photos.add_single_thumbnail(
            backends, owner_id, picture, claim, fingerprint
        )
    return await _show(thumbnail)


async def _answer_again(
    backends: Backends, user: User, form: PictureForm, done: Done
) -> SingleThumbnailShown:
    """Answer a request that is sent again.

    Raises IdempotencyKeyReused where it is another, and ThumbnailNotFound where the thumbnail is
    gone.
    """
    if await _find_fingerprint(form) != done.fingerprint:
        raise IdempotencyKeyReused
    async with backends.database.reader() as db:
        thumbnail = await photos.read_single_thumbnail(db, done.made_id, user)
    return await _show(thumbnail)


async def _find_fingerprint(form: PictureForm) -> str:
    return await start_in_thread(partial(photos.find_thumbnail_fingerprint, form.content))


async def _show(thumbnail: SingleThumbnail) -> SingleThumbnailShown:
    file = thumbnail.file
    # The table demands them of what is live.
    assert file.width_px and file.height_px and file.content_type and file.size_bytes
    return SingleThumbnailShown(
        id=thumbnail.id,
        thumbnail=await find_url(file),
        width=file.width_px,
        height=file.height_px,
        content_type=file.content_type,
        size_bytes=file.size_bytes,
        placeholder=file.placeholder,
        created_at=thumbnail.created_at,
    )
