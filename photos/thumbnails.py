"""Thumbnails: each is made once, whoever asks for it, and shown once it is stored.

A row claims what is being made, and names its file from the commit on that made the file live.
Whoever finds it claimed waits for a while; what has failed is left alone for a while.
"""

import asyncio
import logging
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import faults
import jobs
from database import Row, Transaction
from errors import (
    BadPicture,
    DatabaseUnavailable,
    PhotoChanged,
    PhotoNotFound,
    ThumbnailNotReady,
    UserNotFound,
)
from files import Backends
from files.change import Change
from files.leases import renew_lease
from models import Photo, StoredFile
from photos import thumbnail_statements as statements
from photos.gallery import find_kind, read_locked
from photos.options import ThumbnailOptions, WantedFormat, read_rendition, write_rendition
from photos.stored import read_file
from pictures import ForeignRendition, Rendition, price_renditions
from pictures.decoding import Decoding

logger = logging.getLogger(__name__)

# Of the way in which thumbnails are made: what an earlier one made is made anew when it is asked
# for.
VERSION = 1
# Long for a page that waits for a picture, and longer than any render whose turn has come.
PATIENCE_SECONDS = 10.0
# What browsers take that are older than WebP, and what is smaller.
PRESET_FORMATS = (WantedFormat.WEBP, WantedFormat.JPEG)
# The job that makes one that a page did not wait for.
RENDER_THUMBNAIL = "render_thumbnail"
# How often somebody else's work is looked at.
LOOK_SECONDS = 0.1
# What a job does not have to try again.
GONE = (PhotoChanged, PhotoNotFound, UserNotFound)


@dataclass
class _Search:
    """What requests of one process wait for, and until when the last one to come does."""

    give_up_at: float = 0.0  # of the event loop's clock
    finding: asyncio.Future[StoredFile] = field(init=False)


class Thumbnails:
    """The thumbnails of one application: no two of its requests make the same one at once."""

    def __init__(self, backends: Backends, decoding: Decoding) -> None:
        self._backends = backends
        self._decoding = decoding
        self._searches: dict[tuple[int, str], _Search] = {}

    async def find_or_make(self, photo: Photo, rendition: Rendition) -> StoredFile:
        """Return the file of a thumbnail, which is made if nobody has.

        Raises ThumbnailNotReady where somebody else is at it for too long, or failed just now;
        PhotoNotFound or PhotoChanged where the photo changes meanwhile; Busy, DecoderUnavailable,
        StoreError, UserNotFound, UploadExpired, OutcomeUnknown or DatabaseUnavailable.
        """
        key = (photo.master_id, write_rendition(rendition))
        search = self._searches.get(key)
        if search is None:
            search = _Search()
            search.finding = self._backends.tasks.start(
                self._find_or_make(photo, rendition, search)
            )
            self._searches[key] = search
            search.finding.add_done_callback(lambda _: self._searches.pop(key))
        search.give_up_at = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await asyncio.shield(search.finding)
        except TimeoutError as err:
            raise ThumbnailNotReady from err

    async def _find_or_make(
        self, photo: Photo, rendition: Rendition, search: _Search
    ) -> StoredFile:
        while True:
            file = await self._find(photo, rendition)
            if file is not None:
                return file
            if await self.make(photo, [rendition]):
                continue
            is_late = asyncio.get_running_loop().time() > search.give_up_at
            if is_late or await self._is_resting(photo, rendition):
                raise ThumbnailNotReady
            await asyncio.sleep(LOOK_SECONDS)

    async def find_or_order(self, photo: Photo, rendition: Rendition) -> StoredFile | None:
        """Return the file of a thumbnail, or None: then one job makes it, however many ask.

        Raises OutcomeUnknown or DatabaseUnavailable.
        """
        file = await self._find(photo, rendition)
        if file is None:
            ordered = {
                "photo_id": photo.id,
                "master_id": photo.master_id,
                "rendition": write_rendition(rendition),
            }
            async with self._backends.database.transaction() as transaction:
                await jobs.enqueue(transaction, RENDER_THUMBNAIL, ordered, is_once=True)
                await transaction.commit()
        return file

    async def make_ordered(self, photo_id: int, master_id: int, rendition: str) -> None:
        """Make what was ordered, if the photo still has this master.

        Raises what `find_or_make` raises, so that the job comes again; until it is given up nobody
        orders another one.
        """
        async with self._backends.database.reader() as db:
            photo = await db.get(Photo, photo_id)
        if photo is not None and photo.master_id == master_id:
            with suppress(*GONE):
                await self.find_or_make(photo, read_rendition(rendition))

    async def make_presets(self, photo_id: int) -> None:
        """Make what pages always use of a photo, if it is there; raises what `find_or_make` raises.

        ThumbnailNotReady is also raised where somebody else is at one of them, who may die of it.
        """
        async with self._backends.database.reader() as db:
            photo = await db.get(Photo, photo_id)
        if photo is not None:
            presets = list_presets(photo, self._backends.settings.thumbnail_widths)
            with suppress(*GONE):  # another job came with that change
                await self.make(photo, [rendition for _, rendition in presets])
            names = [write_rendition(rendition) for _, rendition in presets]
            rows = await self._backends.database.fetch(
                statements.READ, **_identify(photo), renditions=names
            )
            if any(row["file_id"] is None for row in rows):
                raise ThumbnailNotReady

    async def make(self, photo: Photo, renditions: Sequence[Rendition]) -> bool:
        """Make, in one decode, what of these nobody has made, or is making; tell whether any.

        Raises what `find_or_make` raises.
        """
        values = {**_identify(photo), "claim": uuid.uuid4()}
        # In one order, so that no two wait for each other.
        names = sorted(map(write_rendition, renditions))
        rows = await self._backends.database.fetch(statements.CLAIM, **values, renditions=names)
        claimed = {row["rendition"] for row in rows}
        ours = [rendition for rendition in renditions if write_rendition(rendition) in claimed]
        if not ours:
            return False
        faults.reached("thumbnail_claimed")
        is_made = False
        try:
            async with renew_lease(self._backends.database, statements.RENEW, values):
                await self._make_claimed(photo, ours)
            is_made = True
        finally:
            if not is_made:
                self._backends.tasks.start(self._give_up(values))
        return True

    async def _make_claimed(self, photo: Photo, renditions: Sequence[Rendition]) -> None:
        master = photo.master
        assert master.width_px and master.height_px and master.size_bytes  # of what is live
        size = (master.width_px, master.height_px)
        cost = price_renditions(size, master.size_bytes, renditions)
        try:
            pictures = await self._decoding.render(cost, partial(read_file, master), renditions)
        except (BadPicture, ForeignRendition) as err:  # our own masters are what their rows say
            logger.error("the master %s cannot be rendered: %r", master.key, err)
            raise ThumbnailNotReady from err
        async with Change(self._backends, photo.owner_id) as change:
            kind = find_kind(photo.visibility)
            files = [await change.store(kind, picture) for picture in pictures]
            faults.reached("thumbnail_put")
            made = {
                "renditions": [write_rendition(rendition) for rendition in renditions],
                "file_ids": [file.id for file in files],
            }

            async def publish(transaction: Transaction, _: Row) -> list[int]:
                found = await read_locked(transaction, photo)
                if found["master_id"] != photo.master_id:
                    raise PhotoChanged
                rows = await transaction.fetch(statements.PUBLISH, **_identify(photo), **made)
                published_ids = {row["file_id"] for row in rows}
                return [file.id for file in files if file.id not in published_ids]

            await change.commit(publish, "thumbnail_published")

    async def _find(self, photo: Photo, rendition: Rendition) -> StoredFile | None:
        async with self._backends.database.reader() as db:
            wanted = {**_identify(photo), "rendition": write_rendition(rendition)}
            file: StoredFile | None = await db.scalar(statements.SELECT_FILE, wanted)
            return file

    async def _is_resting(self, photo: Photo, rendition: Rendition) -> bool:
        """Whether it failed so lately that it is left alone. Raises PhotoChanged if nobody may."""
        rows = await self._backends.database.fetch(
            statements.READ, **_identify(photo), renditions=[write_rendition(rendition)]
        )
        if not rows:  # nor could it be claimed
            raise PhotoChanged
        return bool(rows[0]["is_resting"])

    async def _give_up(self, values: dict[str, object]) -> None:
        try:
            await self._backends.database.fetch(statements.GIVE_UP, **values)
        except DatabaseUnavailable as err:
            logger.warning("a thumbnail stays claimed for a while: %r", err.__cause__)


def list_presets(photo: Photo, widths: Sequence[int]) -> list[tuple[int, Rendition]]:
    """List what pages always use of a photo, each with the width by which it is asked for.

    A master that is smaller gives what it can, once.
    """
    presets: dict[Rendition, int] = {}
    for width_px in sorted(widths):
        for wanted_format in PRESET_FORMATS:
            options = ThumbnailOptions(width_px, None, format=wanted_format)
            presets.setdefault(options.resolve(photo.master, ""), width_px)
    return [(width_px, rendition) for rendition, width_px in presets.items()]


def _identify(photo: Photo) -> dict[str, object]:
    """Name the master whose thumbnails are meant, and how they are made."""
    return {"photo_id": photo.id, "master_id": photo.master_id, "version": VERSION}
