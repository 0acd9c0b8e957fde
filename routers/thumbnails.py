"""Thumbnails on demand: of a preset for everyone, of any other size for who has its signature."""

import base64
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import RedirectResponse

import photos
from accounts import OptionalUser
from database import RequestDatabase
from errors import (
    BadSignature,
    BadThumbnail,
    Busy,
    DarkroomError,
    DatabaseUnavailable,
    DecoderUnavailable,
    InvalidToken,
    LinkExpired,
    OutcomeUnknown,
    PhotoChanged,
    PhotoNotFound,
    ShuttingDown,
    StoreError,
    ThumbnailNotReady,
    TokenExpired,
    UploadExpired,
)
from files.urls import find_url
from models import Photo, StoredFile, Visibility
from photos import MOST_SIDE_PX, ThumbnailLinks, ThumbnailOptions, Thumbnails, WantedFormat
from pictures import Fit, Rendition, draw_placeholder
from routers.photos import OPTIONAL_LOGIN, PhotoId
from routers.users import SMALL_BODY
from web.bodies import BoundedRoute
from web.document import Responses, find_raised, refuse_with

router = APIRouter(tags=["photos"], route_class=BoundedRoute)

# The object behind it is for ever; which object it is changes with the photo.
REDIRECT_SECONDS = 300
ANSWERS: Responses = {
    200: {"description": "A blurred PNG until it is made, if THUMBNAIL_ON_MISS is placeholder"},
    302: {"description": "The stored thumbnail; made if nobody has yet"},
}
REFUSALS: tuple[type[DarkroomError], ...] = (
    *(*SMALL_BODY, InvalidToken, TokenExpired),
    *(PhotoNotFound, BadThumbnail, BadSignature, LinkExpired, PhotoChanged),
    *(Busy, ShuttingDown, DecoderUnavailable, DatabaseUnavailable, OutcomeUnknown),
    *(ThumbnailNotReady, UploadExpired),
    *find_raised(StoreError),
)

Side = Annotated[int | None, Query(ge=1, le=MOST_SIDE_PX)]


def _get_thumbnails(request: Request) -> Thumbnails:
    thumbnails: Thumbnails = request.app.state.thumbnails
    return thumbnails


def _get_links(request: Request) -> ThumbnailLinks:
    links: ThumbnailLinks = request.app.state.thumbnail_links
    return links


@router.get(
    "/photos/{photo_id}/thumbnail",
    status_code=302,
    response_class=RedirectResponse,
    openapi_extra=OPTIONAL_LOGIN,
    responses=ANSWERS | refuse_with(*REFUSALS),
)
async def read_thumbnail(
    photo_id: PhotoId,
    request: Request,
    viewer: OptionalUser,
    database: RequestDatabase,
    thumbnails: Annotated[Thumbnails, Depends(_get_thumbnails)],
    links: Annotated[ThumbnailLinks, Depends(_get_links)],
    w: Side = None,
    h: Side = None,
    fit: Fit = Fit.INSIDE,
    format: WantedFormat = WantedFormat.AUTO,
    preset: Annotated[int | None, Query(description="One of THUMBNAIL_WIDTHS, unsigned")] = None,
    expires: Annotated[int | None, Query(ge=0, description="Seconds since 1970, signed")] = None,
    sig: Annotated[str | None, Query(description="Of the other options")] = None,
    accept: Annotated[str, Header()] = "",
) -> Response:
    """A thumbnail, made on its first use: never larger than the photo, whatever is asked for."""
    if preset is not None:
        if preset not in request.app.state.settings.thumbnail_widths or (w, h) != (None, None):
            raise BadThumbnail
        options = ThumbnailOptions(preset, None, format=format)
    else:
        options = ThumbnailOptions(w, h, fit, format)
    if sig is not None:
        links.check(photo_id, options, expires, sig)
    is_shown_by_link = sig is not None and expires is not None
    async with database.reader() as db:
        viewer_id = viewer.id if viewer else None
        photo = await photos.read_photo_to_render(db, photo_id, viewer_id, is_shown_by_link)
    if sig is None and preset is None:
        raise BadSignature
    rendition = options.resolve(photo.master, accept)
    thumbhash = photo.master.thumbhash  # of what was stored before there were placeholders, none
    file: StoredFile | None
    if request.app.state.settings.thumbnail_on_miss == "placeholder" and thumbhash is not None:
        file = await thumbnails.find_or_order(photo, rendition)
        if file is None:
            return _show_placeholder(photo, thumbhash, rendition)
    else:
        file = await thumbnails.find_or_make(photo, rendition)
    url = await find_url(file)
    if url is None:
        raise ThumbnailNotReady
    return RedirectResponse(url, 302, _describe_cache(photo, format))


def _show_placeholder(photo: Photo, thumbhash: str, rendition: Rendition) -> Response:
    master = photo.master
    assert master.width_px and master.height_px  # the table demands them of what is live
    size = (master.width_px, master.height_px)
    png = draw_placeholder(base64.b64decode(thumbhash), size, rendition)
    return Response(png, media_type="image/png", headers={"Cache-Control": "no-store"})


def _describe_cache(photo: Photo, wanted_format: WantedFormat) -> dict[str, str]:
    is_public = photo.visibility == Visibility.PUBLIC
    cache = f"public, max-age={REDIRECT_SECONDS}" if is_public else "no-store"
    return {"Cache-Control": cache} | (
        {"Vary": "Accept"} if wanted_format is WantedFormat.AUTO else {}
    )
