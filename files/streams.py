"""A file on its way to the store while it arrives: one put if it is short, else parts.

At most MOST_IN_FLIGHT parts are on their way and one is being filled, whatever the length; whoever
writes waits for the store. Killed anywhere, it leaves a pending row that knows the upload.
"""

import asyncio
import logging
import uuid
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self, cast

import faults
from concurrency import start_in_thread
from errors import StoreError, UploadExpired
from files import statements
from files.backends import Backends
from files.hashing import Hashes, PartHash, compose
from files.kinds import Kind
from files.puts import put_patiently, put_whole
from files.reservations import NewFile, renew, reserve
from storage import PART_BYTES, UNKNOWN_TYPE, find_suffix

logger = logging.getLogger(__name__)

# Two hide the store's time to answer; more would only hold more memory.
MOST_IN_FLIGHT = 2
# What one stream holds at most: the parts on their way, the one being filled, and what arrives or
# is copied meanwhile.
STREAM_BYTES = (MOST_IN_FLIGHT + 2) * PART_BYTES
# The row is renewed several times before it would expire.
RENEWALS_BEFORE_EXPIRY = 4


class Stream:
    """One file that is written in pieces, hashed, then finished.

    As a context it ends what is not finished: the parts on their way are waited for behind it and
    the upload is aborted. The row stays pending and expires.
    """

    def __init__(self, backends: Backends, owner_id: int, kind: Kind) -> None:
        self._backends = backends
        self._owner_id = owner_id
        self._kind = kind
        self._part = bytearray()  # that is being filled
        self._held_bytes = 0  # of it
        # Full parts that are stored. Used again, memory costs no new pages.
        self._spare: list[bytearray] = []
        self._beginning_bytes: int | None = None
        self._hashing: list[asyncio.Future[PartHash]] = []  # the parts, in their order
        self._hashes: Hashes | None = None  # once all of it has come
        self._file: NewFile | None = None  # once it is reserved, which is before its first part
        self._upload_id = ""
        self._parts: list[asyncio.Task[str]] = []  # for their receipts, in their order
        self._find_time = asyncio.get_running_loop().time  # asked for at each piece
        self._renewed_at = 0.0
        self._is_finished = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._spare.clear()
        if self._file is not None and self._upload_id and not self._is_finished:
            self._backends.tasks.start(self._abort(self._file))

    async def write(
        self, piece: bytes, content_type: str | None = None, beginning_bytes: int | None = None
    ) -> None:
        """Take the next bytes; wait while the store has enough to do.

        What is known by now of the file: what it is, and how long the beginning is that is hashed
        for itself; that is said at the latest with its last byte. Raises StoreError, UploadExpired
        or DatabaseUnavailable.
        """
        self._beginning_bytes = beginning_bytes
        left = memoryview(piece)
        # More must follow a part: the last one is put by `finish`, whatever its length.
        while self._held_bytes + len(left) > PART_BYTES:
            missing_bytes = PART_BYTES - self._held_bytes
            self._hold(left[:missing_bytes])
            left = left[missing_bytes:]
            self._hash_part()
            await self._put_part(content_type or UNKNOWN_TYPE)
        self._hold(left)
        if self._file is not None:
            await self._renew_if_due(self._file)

    async def hash(self) -> Hashes:
        """Hash all that was written; nothing is written after it."""
        if self._hashes is None:
            self._cut_part()
            self._hash_part()
            self._hashes = compose(await asyncio.gather(*self._hashing))
        return self._hashes

    async def finish(self, facts: Mapping[str, object]) -> NewFile:
        """Store what is left, and make it one object.

        `facts` are its row's: the columns of FACTS, but for the hash. Raises StoreError,
        UploadExpired or DatabaseUnavailable.
        """
        content_type = str(facts["content_type"])
        sha256 = (await self.hash()).whole
        if self._file is None:
            self._file = await put_whole(
                self._backends,
                self._owner_id,
                self._kind,
                self._make_filename(content_type),
                bytes(self._take_part()),
                content_type,
                sha256,
            )
        else:
            await self._put_part(content_type)
            receipts = await asyncio.gather(*self._parts)
            await self._file.store.complete_upload(self._file.key, self._upload_id, receipts)
            faults.reached("upload_completed")
        self._is_finished = True
        faults.reached("original_put")
        return replace(self._file, late_facts={**facts, "sha256": sha256})

    def _hold(self, piece: memoryview) -> None:
        end = self._held_bytes + len(piece)
        if len(self._part) < PART_BYTES:
            self._part += piece
        else:
            memoryview(self._part)[self._held_bytes : end] = piece
        self._held_bytes = end

    def _cut_part(self) -> None:
        """Cut what is held from memory that was used before, and longer."""
        del self._part[self._held_bytes :]

    def _take_part(self) -> bytearray:
        """Take what is held, and hold what comes now elsewhere."""
        self._cut_part()
        part = self._part
        self._part = self._spare.pop() if self._spare else bytearray()
        self._held_bytes = 0
        return part

    def _make_filename(self, content_type: str) -> str:
        return f"{uuid.uuid4().hex}{find_suffix(content_type)}"

    async def _begin(self, content_type: str) -> NewFile:
        """Reserve a row, begin the upload and let the row know it, before the first part."""
        filename = self._make_filename(content_type)
        file = await reserve(self._backends, self._owner_id, self._kind, filename)
        self._file = file
        self._renewed_at = self._find_time()
        self._upload_id = await file.store.begin_upload(file.key, content_type)
        noted = await self._backends.database.fetch(
            statements.NOTE_UPLOAD, file_id=file.id, upload_id=self._upload_id
        )
        if not noted:
            raise UploadExpired
        return file

    def _hash_part(self) -> None:
        """Begin to hash what is held, in a thread; it stays as it is until that is done."""
        part = self._part
        ends_at = None  # of the beginning, in this part
        if self._beginning_bytes is not None:
            in_part_bytes = self._beginning_bytes - len(self._hashing) * PART_BYTES
            ends_at = in_part_bytes if 0 < in_part_bytes <= len(part) else None
        self._hashing.append(start_in_thread(lambda: PartHash.of(part, ends_at)))

    async def _put_part(self, content_type: str) -> None:
        """Send what is held on its way as a part, once few enough are under way."""
        file = self._file or await self._begin(content_type)
        if len(self._parts) >= MOST_IN_FLIGHT:
            await self._parts[-MOST_IN_FLIGHT]
        number = len(self._parts) + 1
        store = self._store_part(file, number, self._take_part())
        self._parts.append(asyncio.create_task(store))

    async def _store_part(self, file: NewFile, number: int, content: bytearray) -> str:
        sha256 = (await self._hashing[number - 1]).whole.hex()
        attempts = 0

        async def put() -> str:
            nonlocal attempts
            attempts += 1
            # Every store reads a bytearray as it does bytes.
            part = cast(bytes, content)
            return await file.store.put_part(file.key, self._upload_id, number, part, sha256)

        # Once more under its number: a part that arrived twice is there once.
        receipt = await put_patiently(put)
        faults.reached("part_put")
        # A call that was given up may read its bytes for as long as it likes.
        if attempts == 1 and len(content) == PART_BYTES:
            self._spare.append(content)
        return receipt

    async def _renew_if_due(self, file: NewFile) -> None:
        """Renew the row of a file that arrives slowly, before a reaper takes it for left over."""
        now = self._find_time()
        expiry_seconds = self._backends.settings.pending_expiry_seconds
        if now - self._renewed_at > expiry_seconds / RENEWALS_BEFORE_EXPIRY:
            await renew(self._backends, file)
            self._renewed_at = now

    async def _abort(self, file: NewFile) -> None:
        """End the upload once no part of it is under way; what fails is left to the reaper."""
        await asyncio.gather(*self._parts, return_exceptions=True)
        try:
            await file.store.abort_upload(file.key, self._upload_id)
        except StoreError as err:
            logger.warning("the upload of %s is left to the reaper: %r", file.key, err.__cause__)
