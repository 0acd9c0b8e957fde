"""The gallery: photos, and the lists in which people look at them."""

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import ValidationError

import photos
from accounts import CurrentUser, ListedUserId, OptionalUser
from database import RequestDatabase
from errors import (
    BadCursor,
    BadForm,
    BadPicture,
    BadThumbnail,
    BodyTooLarge,
    Busy,
    DatabaseUnavailable,
    DecoderUnavailable,
    FileTooLarge,
    IdempotencyKeyReused,
    InvalidRequest,
    InvalidToken,
    NotAuthenticated,
    NotYours,
    OutcomeUnknown,
    OutOfDescriptors,
    PhotoChanged,
    PhotoNotFound,
    ShuttingDown,
    SideTooLong,
    StillInProgress,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    TokenExpired,
    TooManyPixels,
    UploadExpired,
    UploadStalled,
    UserNotFound,
    WrongStore,
)
from files import Backends, RequestBackends
from files.hashing import FileHash
from files.idempotency import Done, claim_key
from models import Photo, User, Visibility
from photos import DEFAULT_PAGE_PHOTOS, MOST_PAGE_PHOTOS, MOST_SIZES, Intake, Page, Sent, Words
from photos.gallery import find_fingerprint
from pictures import PICTURES_TAKEN
from routers.shown_photos import RequestShownPhotos, ShownPhotos
from routers.users import LOGIN, SMALL_BODY, RequestDecoding
from schemas import (
    LONGEST_CAPTION,
    AddressId,
    PhotoPage,
    PhotoPrivate,
    PhotoPublic,
    PhotoUpdate,
)
from web.addresses import ClientAddress
from web.admission import RequestAdmission, Reservation
from web.bodies import BoundedRoute, read_json, refuse_body
from web.document import Responses, find_raised, refuse_with
from web.photo_forms import PhotoForm, read_photo_form

router = APIRouter(tags=["photos"], route_class=BoundedRoute)
upload_router = APIRouter(tags=["photos"])  # bounds its bodies itself

UPLOAD = (
    *find_raised(BadPicture),
    *find_raised(BadForm),
    *find_raised(StoreError),
    *(FileTooLarge, BodyTooLarge, TooManyPixels, SideTooLong, UploadStalled, InvalidRequest),
    *(Busy, ShuttingDown, DecoderUnavailable, DatabaseUnavailable),
    *(OutcomeUnknown, UploadExpired),
)
OWN_PHOTO = (NotYours, PhotoNotFound)
FILE_SCHEMA = {
    "type": "string",
    # Of OpenAPI 3.0, and what every generator of clients understands.
    "format": "binary",
    "contentMediaType": "application/octet-stream",
    "description": PICTURES_TAKEN,
}
_TEXT_SCHEMA = {"type": "string", "maxLength": LONGEST_CAPTION}
_WORDS_SCHEMA = {
    "caption": _TEXT_SCHEMA,
    "alt": {**_TEXT_SCHEMA, "description": "What it shows, for who cannot see it"},
    "visibility": {"type": "string", "enum": list(Visibility)},
}
PHOTO_FORM = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "properties": {"file": FILE_SCHEMA, **_WORDS_SCHEMA},
    }
}
PHOTO_BODIES = {"multipart/form-data": PHOTO_FORM}
CHANGE_BODIES = {
    "application/json": {"schema": {"type": "object", "properties": _WORDS_SCHEMA}},
    "multipart/form-data": PHOTO_FORM,
}

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[!-~]{1,255}$",
        description="Random, new for each picture, and the same when its upload is tried again",
    ),
]
PhotoId = Annotated[AddressId, Path()]
Cursor = Annotated[str | None, Query(description="`next` of the page before")]
Sizes = Annotated[
    str,
    Query(
        description="Thumbnails to sign addresses of, as `480x320,96x96:cover`; at most"
        f" {MOST_SIZES}, each with the `fit` behind it, or `inside`",
        max_length=200,
    ),
]
Limit = Annotated[int, Query(ge=1, le=MOST_PAGE_PHOTOS, description="The most photos of a page")]

# Of a route that shows more to whoever is logged in, for the document.
OPTIONAL_LOGIN: dict[str, Any] = {"security": [{}]}
# Signing a link to what is private needs the keys of its store.
STORE_READ = (StoreUnavailable, StoreRefused, WrongStore, OutOfDescriptors)
READ = (*SMALL_BODY, InvalidToken, TokenExpired, *STORE_READ)
LIST = (*READ, BadCursor)
LINK: Responses = {
    200: {
        "headers": {
            "Link": {
                "description": 'The next page with `rel="next"` (RFC 8288), where there is one',
                "schema": {"type": "string"},
            }
        }
    }
}


async def _read_editable_photo(
    photo_id: PhotoId, current: CurrentUser, database: RequestDatabase
) -> Photo:
    async with database.reader() as db:
        return await photos.read_photo_to_change(db, photo_id, current)


# The photo that the path names, when the one who asks may change it: its owner or an admin.
EditablePhoto = Annotated[Photo, Depends(_read_editable_photo)]


@router.get("/photos", openapi_extra=OPTIONAL_LOGIN, responses=LINK | refuse_with(*LIST))
async def list_photos(
    viewer: OptionalUser,
    database: RequestDatabase,
    shown: RequestShownPhotos,
    response: Response,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE_PHOTOS,
) -> PhotoPage:
    """All public photos, and your own private ones; the newest first."""
    async with database.reader() as db:
        page = await photos.list_all(db, _find_id(viewer), cursor, limit)
    return await _show_page(shown, page, limit, response)


@router.get(
    "/users/{user_id}/photos",
    openapi_extra=OPTIONAL_LOGIN,
    responses=LINK | refuse_with(*LIST, NotAuthenticated, UserNotFound),
)
async def list_photos_of_user(
    user_id: ListedUserId,
    viewer: OptionalUser,
    database: RequestDatabase,
    shown: RequestShownPhotos,
    response: Response,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE_PHOTOS,
) -> PhotoPage:
    """The photos of an account, the private ones to itself only; the newest first."""
    async with database.reader() as db:
        page = await photos.list_account(db, user_id, _find_id(viewer), cursor, limit)
    return await _show_page(shown, page, limit, response)


@router.get(
    "/photos/{photo_id}",
    openapi_extra=OPTIONAL_LOGIN,
    responses=refuse_with(*READ, PhotoNotFound, BadThumbnail),
)
async def read_photo(
    photo_id: PhotoId,
    viewer: OptionalUser,
    database: RequestDatabase,
    shown: RequestShownPhotos,
    sizes: Sizes = "",
) -> PhotoPrivate | PhotoPublic:
    """A photo; to its owner with a link to the original."""
    wanted = photos.parse_sizes(sizes)
    viewer_id = _find_id(viewer)
    async with database.reader() as db:
        photo = await photos.read_photo(db, photo_id, viewer_id)
    is_owner = photo.owner_id == viewer_id
    described = await (shown.show_to_owner(photo) if is_owner else shown.show(photo))
    return described.model_copy(update={"sizes": shown.write_sizes(photo, wanted)})


@upload_router.post(
    "/photos",
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": PHOTO_BODIES}},
    responses=refuse_with(
        *(*LOGIN, *UPLOAD, UserNotFound, PhotoNotFound),
        *(StillInProgress, IdempotencyKeyReused),
    ),
)
async def add_photo(
    user: CurrentUser,
    request: Request,
    backends: RequestBackends,
    admission: RequestAdmission,
    decoding: RequestDecoding,
    shown: RequestShownPhotos,
    address: ClientAddress,
    idempotency_key: Key = None,
) -> PhotoPrivate:
    """Add a photo: stream it to the store, make its master, show it.

    The bare file as the body, with its own Content-Type (`image/...`), is taken as well. Sent again
    with the same `Idempotency-Key` within 24 hours, it is added once and answered alike.
    """
    claim = None
    async with AsyncExitStack() as resources:
        if idempotency_key is not None:
            claim = await resources.enter_async_context(
                claim_key(backends, user.id, idempotency_key)
            )
        reservation = await resources.enter_async_context(admission.admit(user.id, address))
        if isinstance(claim, Done):
            return await _answer_again(request, backends, shown, user.id, claim, reservation)
        sent, words = await _receive(request, backends, reservation, user.id, resources)

        async def finish(held: AsyncExitStack) -> Photo:
            async with held:
                return await photos.add_photo(backends, decoding, user.id, sent, words, claim)

        # The last byte is here: from now on a task goes on to the end, and holds what is reserved
        # itself, whatever becomes of this request.
        photo = await backends.tasks.finish(finish(resources.pop_all()))
    return await shown.show_to_owner(photo)


@upload_router.patch(
    "/photos/{photo_id}",
    openapi_extra={"requestBody": {"required": True, "content": CHANGE_BODIES}},
    responses=refuse_with(*LOGIN, *UPLOAD, *OWN_PHOTO, PhotoChanged),
)
async def update_photo(
    photo: EditablePhoto,
    request: Request,
    backends: RequestBackends,
    admission: RequestAdmission,
    decoding: RequestDecoding,
    current: CurrentUser,
    shown: RequestShownPhotos,
    address: ClientAddress,
) -> PhotoPrivate:
    """Change caption, alt or visibility (JSON), or replace the file (as when it was added).

    Made private, its public addresses are dead at once.
    """
    if "json" in request.headers.get("content-type", "").lower():
        update = await read_json(request, backends.settings, PhotoUpdate)
        words = Words(**update.model_dump(exclude_unset=True))
        changed = await backends.tasks.finish(photos.change_words(backends, photo, words))
        return await shown.show_changed(changed, current)
    async with AsyncExitStack() as resources:
        reservation = await resources.enter_async_context(admission.admit(photo.owner_id, address))
        sent, words = await _receive(request, backends, reservation, photo.owner_id, resources)

        async def finish(held: AsyncExitStack) -> Photo:
            async with held:
                return await photos.replace_photo(backends, decoding, photo, sent, words)

        changed = await backends.tasks.finish(finish(resources.pop_all()))
    return await shown.show_changed(changed, current)


@router.delete(
    "/photos/{photo_id}",
    status_code=204,
    responses=refuse_with(*SMALL_BODY, *LOGIN, *OWN_PHOTO, UserNotFound, OutcomeUnknown),
)
async def delete_photo(photo: EditablePhoto, backends: RequestBackends) -> None:
    """Delete a photo with all that was made of it."""
    await backends.tasks.finish(photos.delete_photo(backends, photo))


def link_next(response: Response, next_cursor: str | None, limit: int) -> None:
    """Name the next page in the header of a list, if there is one."""
    if next_cursor is not None:
        # Relative: a proxy may hide from us how this address is called.
        query = urlencode({"cursor": next_cursor, "limit": limit})
        response.headers["Link"] = f'<?{query}>; rel="next"'


async def _receive(
    request: Request,
    backends: Backends,
    reservation: Reservation,
    owner_id: int,
    resources: AsyncExitStack,
) -> tuple[Sent, Words]:
    """Stream the file of a body to the store; what it holds until it is stored is in `resources`.

    Raises a BadForm, BadPicture, TooLarge, UploadStalled, Busy, StoreError, or what streaming
    raises.
    """
    intake = await resources.enter_async_context(Intake(backends, owner_id, reservation.owners))
    form = await read_photo_form(request, backends.settings, intake.write, reservation)
    words = _read_words(form)
    return await intake.finish(form.filename), words


def _read_words(form: PhotoForm) -> Words:
    known = form.fields.keys() & PhotoUpdate.model_fields.keys()
    try:
        update = PhotoUpdate.model_validate({name: form.fields[name] for name in known})
    except ValidationError as err:
        raise refuse_body(err) from err
    return Words(**update.model_dump(exclude_unset=True))


async def _answer_again(
    request: Request,
    backends: Backends,
    shown: ShownPhotos,
    owner_id: int,
    done: Done,
    reservation: Reservation,
) -> PhotoPrivate:
    """Answer a request that is sent again; its body is read only to see that it is the same.

    Raises IdempotencyKeyReused where it is another, and PhotoNotFound where the photo is gone.
    """
    content = FileHash()

    async def hash_piece(piece: bytes) -> None:
        content.update(piece)

    form = await read_photo_form(request, backends.settings, hash_piece, reservation)
    asked = find_fingerprint(content.text(), form.filename, _read_words(form))
    if asked != done.fingerprint:
        raise IdempotencyKeyReused
    async with backends.database.reader() as db:
        photo = await photos.read_own_photo(db, done.made_id, owner_id)
    return await shown.show_to_owner(photo)


def _find_id(viewer: User | None) -> int | None:
    return viewer.id if viewer else None


async def _show_page(shown: ShownPhotos, page: Page, limit: int, response: Response) -> PhotoPage:
    link_next(response, page.next_cursor, limit)
    described = await asyncio.gather(*(shown.show(photo) for photo in page.photos))
    return PhotoPage(photos=described, next=page.next_cursor)
