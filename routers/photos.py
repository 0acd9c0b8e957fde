"""The gallery: photos, and the lists in which people look at them."""

import asyncio
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Response

import photos
from accounts import ListedUserId, OptionalUser
from database import RequestDatabase
from errors import (
    BadCursor,
    InvalidToken,
    NotAuthenticated,
    PhotoNotFound,
    TokenExpired,
    UserNotFound,
)
from models import Photo, StoredFile, User
from photos import DEFAULT_PAGE_PHOTOS, MOST_PAGE_PHOTOS, Page
from routers.users import SMALL_BODY
from schemas import LARGEST_ID, PhotoOwner, PhotoPage, PhotoPrivate, PhotoPublic
from web.bodies import BoundedRoute
from web.document import Responses, refuse_with

router = APIRouter(tags=["photos"], route_class=BoundedRoute)

PhotoId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Cursor = Annotated[str | None, Query(description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=MOST_PAGE_PHOTOS, description="The most photos of a page")]

# Of a route that shows more to whoever is logged in, for the document.
OPTIONAL_LOGIN: dict[str, Any] = {"security": [{}]}
LIST = (*SMALL_BODY, BadCursor, InvalidToken, TokenExpired)
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


@router.get("/photos", openapi_extra=OPTIONAL_LOGIN, responses=LINK | refuse_with(*LIST))
async def list_photos(
    viewer: OptionalUser,
    database: RequestDatabase,
    response: Response,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE_PHOTOS,
) -> PhotoPage:
    """All public photos, and your own private ones; the newest first."""
    async with database.reader() as db:
        page = await photos.list_all(db, _find_id(viewer), cursor, limit)
    return await _show_page(page, limit, response)


@router.get(
    "/users/{user_id}/photos",
    openapi_extra=OPTIONAL_LOGIN,
    responses=LINK | refuse_with(*LIST, NotAuthenticated, UserNotFound),
)
async def list_photos_of_user(
    user_id: ListedUserId,
    viewer: OptionalUser,
    database: RequestDatabase,
    response: Response,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE_PHOTOS,
) -> PhotoPage:
    """The photos of an account, the private ones to itself only; the newest first."""
    async with database.reader() as db:
        page = await photos.list_account(db, user_id, _find_id(viewer), cursor, limit)
    return await _show_page(page, limit, response)


@router.get(
    "/photos/{photo_id}",
    openapi_extra=OPTIONAL_LOGIN,
    responses=refuse_with(*SMALL_BODY, InvalidToken, TokenExpired, PhotoNotFound),
)
async def read_photo(
    photo_id: PhotoId, viewer: OptionalUser, database: RequestDatabase
) -> PhotoPrivate | PhotoPublic:
    """A photo; to its owner with a link to the original."""
    viewer_id = _find_id(viewer)
    async with database.reader() as db:
        photo = await photos.read_photo(db, photo_id, viewer_id)
    return await (show_to_owner(photo) if photo.owner_id == viewer_id else show(photo))


def _find_id(viewer: User | None) -> int | None:
    return viewer.id if viewer else None


async def _show_page(page: Page, limit: int, response: Response) -> PhotoPage:
    if page.next_cursor is not None:
        # Relative: a proxy may hide from us how this address is called.
        query = urlencode({"cursor": page.next_cursor, "limit": limit})
        response.headers["Link"] = f'<?{query}>; rel="next"'
    shown = await asyncio.gather(*(show(photo) for photo in page.photos))
    return PhotoPage(photos=shown, next=page.next_cursor)


async def show(photo: Photo) -> PhotoPublic:
    """Describe a photo to someone who may see it."""
    master = photo.master
    assert master.width_px and master.height_px  # the table demands them of what is live
    return PhotoPublic(
        id=photo.id,
        owner=PhotoOwner.model_validate(photo.owner),
        url=await _find_url(master),
        width=master.width_px,
        height=master.height_px,
        aspect_ratio=master.width_px / master.height_px,
        placeholder=master.placeholder,
        caption=photo.caption,
        alt=photo.alt,
        visibility=photo.visibility,
        filename=photo.filename,
        content_type=photo.content_type,
        size_bytes=photo.size_bytes,
        removed_metadata=photo.removed_metadata,
        created_at=photo.created_at,
    )


async def show_to_owner(photo: Photo) -> PhotoPrivate:
    """Describe a photo to its owner, with a link to the original."""
    original = photo.original
    original_url = None if original is None else await _find_url(original)
    return PhotoPrivate(**dict(await show(photo)), original_url=original_url)


async def _find_url(file: StoredFile) -> str | None:
    return file.url
