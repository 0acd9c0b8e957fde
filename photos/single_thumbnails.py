"""Thumbnails of which nothing else is kept: they come from a file, are listed, and go.

Each change is one of the heart. Everyone who knows its URL may load one; by its id nobody but its
owner and admins is told that it is there.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from database import Row, Statement, Transaction
from errors import ThumbnailNotFound
from files import Backends
from files.answers import read_changed
from files.change import Change
from files.idempotency import Claim
from files.kinds import SINGLE_THUMBNAIL
from logs import Event
from models import SingleThumbnail, User
from photos.cursors import Listed, find_start, write_cursor
from pictures import ProcessedImage

logger = logging.getLogger(__name__)

_is_given = (SingleThumbnail.id == bindparam("thumbnail_id")) & (
    SingleThumbnail.owner_id == bindparam("owner_id")
)
INSERT = Statement(
    insert(SingleThumbnail)
    .values(owner_id=bindparam("owner_id"), file_id=bindparam("file_id"))
    .returning(SingleThumbnail.id)
)
READ = Statement(select(SingleThumbnail.__table__).where(_is_given))
DELETE = Statement(delete(SingleThumbnail).where(_is_given).returning(SingleThumbnail.file_id))


@dataclass(frozen=True)
class ThumbnailsPage:
    """A part of the list; `next_cursor` asks for the part behind it, and is None at the end."""

    thumbnails: Sequence[SingleThumbnail]
    next_cursor: str | None


async def add_single_thumbnail(
    backends: Backends,
    owner_id: int,
    picture: ProcessedImage,
    claim: Claim | None = None,
    fingerprint: str = "",
) -> SingleThumbnail:
    """Store the picture as a thumbnail of this account; return it.

    The claim, if there is one, is completed with it. Raises StoreError, UserNotFound,
    UploadExpired, StillInProgress, ThumbnailNotFound where it is gone by now, OutcomeUnknown or
    DatabaseUnavailable.
    """
    inserted: list[Row] = []
    async with Change(backends, owner_id) as change:
        file = await change.store(SINGLE_THUMBNAIL, picture)

        async def insert_row(transaction: Transaction, _: Row) -> list[int]:
            inserted[:] = await transaction.fetch(INSERT, owner_id=owner_id, file_id=file.id)
            if claim is not None:
                await claim.complete(transaction, inserted[0]["id"], fingerprint)
            return []

        await change.commit(insert_row, "inside_single_thumbnail")
    return await read_changed(backends, SingleThumbnail, inserted[0]["id"], ThumbnailNotFound)


def find_thumbnail_fingerprint(content: bytes) -> str:
    """Tell requests apart by the file that they send; one that adds a photo is another."""
    return hashlib.sha256(b"single thumbnail\0" + content).hexdigest()


async def delete_single_thumbnail(backends: Backends, thumbnail: SingleThumbnail) -> None:
    """Delete a thumbnail.

    Raises ThumbnailNotFound, UserNotFound, OutcomeUnknown or DatabaseUnavailable.
    """
    ids = {"thumbnail_id": thumbnail.id, "owner_id": thumbnail.owner_id}

    async def delete_row(transaction: Transaction, _: Row) -> list[int]:
        deleted = await transaction.fetch(DELETE, **ids)
        if not deleted:
            raise ThumbnailNotFound
        return [deleted[0]["file_id"]]

    async def is_gone(transaction: Transaction, _: Row | None) -> bool:
        return await transaction.fetch_row(READ, **ids) is None

    async with Change(backends, thumbnail.owner_id) as change:
        await change.commit(delete_row, "inside_single_thumbnail_deletion", is_gone)


async def read_single_thumbnail(db: AsyncSession, thumbnail_id: int, user: User) -> SingleThumbnail:
    """Read a thumbnail that this user may delete, its owner or an admin.

    Raises ThumbnailNotFound.
    """
    thumbnail = await db.get(SingleThumbnail, thumbnail_id)
    if thumbnail is None or not (user.is_admin or thumbnail.owner_id == user.id):
        raise ThumbnailNotFound
    if thumbnail.owner_id != user.id:
        more = {"event": Event.ADMIN_ACT, "about": thumbnail.owner_id}
        logger.info("acts as an admin on thumbnail %d", thumbnail.id, extra=more)
    return thumbnail


async def list_single_thumbnails(
    db: AsyncSession, owner_id: int, cursor: str | None, limit: int
) -> ThumbnailsPage:
    """List an account's thumbnails, the newest first. Raises BadCursor."""
    before_id = find_start(cursor, Listed.SINGLE_THUMBNAILS)
    scan = (
        select(SingleThumbnail)
        .where(SingleThumbnail.owner_id == owner_id, -SingleThumbnail.id > -before_id)
        .order_by(-SingleThumbnail.id)
        .limit(limit + 1)
    )
    thumbnails = (await db.scalars(scan)).all()
    shown = thumbnails[:limit]
    if len(thumbnails) <= limit:
        return ThumbnailsPage(shown, None)
    return ThumbnailsPage(shown, write_cursor(shown[-1].id, Listed.SINGLE_THUMBNAILS))
