"""Lists of photos, newest first, in pages that neither repeat nor skip what stays.

A page begins below the last id of the page before, so that what comes or goes meanwhile moves
nothing. Each is read by at most two scans of an index, which end with the page: a million photos
cost what a thousand cost.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import lazyload

from errors import NotYours, PhotoNotFound, UserNotFound
from logs import Event
from models import Photo, User, Visibility
from photos.cursors import Listed, find_start, write_cursor

logger = logging.getLogger(__name__)

# Two screens of thumbnails on a telephone.
DEFAULT_PAGE_PHOTOS = 30
# An answer of some 100 KB. A client that wants all of them asks for pages.
MOST_PAGE_PHOTOS = 100


@dataclass(frozen=True)
class Page:
    """A part of a list; `next_cursor` asks for the part behind it, and is None at the end."""

    photos: Sequence[Photo]
    next_cursor: str | None


async def list_all(db: AsyncSession, viewer_id: int | None, cursor: str | None, limit: int) -> Page:
    """List everyone's public photos, and the viewer's own private ones. Raises BadCursor."""
    before_id = find_start(cursor, Listed.PHOTOS)
    scans = [_scan_all(before_id, limit)]
    if viewer_id is not None:
        scans.append(_scan_account(viewer_id, Visibility.PRIVATE, before_id, limit))
    return await _read_page(db, scans, limit)


async def list_account(
    db: AsyncSession, owner_id: int, viewer_id: int | None, cursor: str | None, limit: int
) -> Page:
    """List an account's photos, the private ones to itself only.

    Raises UserNotFound, and BadCursor.
    """
    before_id = find_start(cursor, Listed.PHOTOS)
    scans = [_scan_account(owner_id, Visibility.PUBLIC, before_id, limit)]
    if viewer_id == owner_id:
        scans.append(_scan_account(owner_id, Visibility.PRIVATE, before_id, limit))
    page = await _read_page(db, scans, limit)
    # Whoever has a photo exists, so that most pages cost no second round trip.
    if not page.photos and await db.scalar(select(User.id).where(User.id == owner_id)) is None:
        raise UserNotFound
    return page


async def read_photo(db: AsyncSession, photo_id: int, viewer_id: int | None) -> Photo:
    """Read a photo that the viewer may see. Raises PhotoNotFound."""
    photo = await db.get(Photo, photo_id)
    if photo is None or not _may_see(photo, viewer_id):
        raise PhotoNotFound
    return photo


async def read_photo_to_render(
    db: AsyncSession, photo_id: int, viewer_id: int | None, is_shown_by_link: bool
) -> Photo:
    """Read a photo that the viewer may see, or whoever has a link, without its thumbnails.

    That is one round trip less. Raises PhotoNotFound.
    """
    photo = await db.get(Photo, photo_id, options=[lazyload(Photo.thumbnails)])
    if photo is None or not (is_shown_by_link or _may_see(photo, viewer_id)):
        raise PhotoNotFound
    return photo


async def read_photo_to_change(db: AsyncSession, photo_id: int, user: User) -> Photo:
    """Read a photo that this user may change: its owner or an admin.

    Raises PhotoNotFound, and NotYours for what the user may only see.
    """
    photo = await db.get(Photo, photo_id)
    if photo is None or not (user.is_admin or _may_see(photo, user.id)):
        raise PhotoNotFound
    if photo.owner_id != user.id and not user.is_admin:
        raise NotYours
    if photo.owner_id != user.id:
        more = {"event": Event.ADMIN_ACT, "about": photo.owner_id}
        logger.info("acts as an admin on photo %d", photo.id, extra=more)
    return photo


async def read_own_photo(db: AsyncSession, photo_id: int, owner_id: int) -> Photo:
    """Read a photo of this account's. Raises PhotoNotFound."""
    photo = await db.get(Photo, photo_id)
    if photo is None or photo.owner_id != owner_id:
        raise PhotoNotFound
    return photo


def _may_see(photo: Photo, viewer_id: int | None) -> bool:
    return photo.visibility == Visibility.PUBLIC or photo.owner_id == viewer_id


def _scan_all(before_id: int, limit: int) -> Select[int]:
    """The newest ids of all public photos; one more than fit tells that there are more."""
    return (
        select(Photo.id)
        .where(Photo.visibility == Visibility.PUBLIC, Photo.id < before_id)
        .order_by(Photo.id.desc())
        .limit(limit + 1)
    )


def _scan_account(owner_id: int, visibility: Visibility, before_id: int, limit: int) -> Select[int]:
    """The newest ids of an account's photos of one sort.

    Their order is one that only the index of owners has. By id, Postgres might walk through
    everyone's photos, in the belief that enough of this account's are among the first.
    """
    return (
        select(Photo.id)
        .where(Photo.owner_id == owner_id, Photo.visibility == visibility, -Photo.id > -before_id)
        .order_by(-Photo.id)
        .limit(limit + 1)
    )


async def _read_page(db: AsyncSession, scans: Sequence[Select[int]], limit: int) -> Page:
    """Read the newest photos of several scans, no two of which find the same."""
    ids = union_all(*scans).subquery()
    newest = select(ids.c.id).order_by(ids.c.id.desc()).limit(limit + 1).subquery()
    found = await db.scalars(
        select(Photo)
        .join(newest, Photo.id == newest.c.id)
        .order_by(Photo.id.desc())
        .options(lazyload(Photo.original))  # lists do not show it
    )
    photos = found.all()
    shown = photos[:limit]
    has_more = len(photos) > limit
    return Page(shown, write_cursor(shown[-1].id, Listed.PHOTOS) if has_more else None)
