"""The asynchronous face of a store: the only thing that the application can reach.

Every call hops to the thread pool and is given up at a deadline, so blocking code cannot land on
the event loop by mistake.
"""

import asyncio
import errno
import functools
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import BinaryIO, Protocol, TypeVar

from concurrency import ThreadSlots
from errors import DarkroomError, OutOfDescriptors, StoreError, StoreUnavailable
from storage.contract import FoundObject, OpenObject, Store

logger = logging.getLogger(__name__)

# Far below `pending_expiry_seconds`: what has not been put
# by then is given up, and the reaper removes what lands.
STORE_DEADLINE_SECONDS = 20.0
# What S3 lists at once, so that each batch of a listing is one request.
LISTING_BATCH = 1000
# Of STORE_THREADS, for batches of one deletion of many: the other half is left to uploads.
DELETING_THREADS = 8

Result = TypeVar("Result")


class Guard(Protocol):
    """Tells of a store whether it is the one that the database knows."""

    async def require_place(self, store: "AsyncStore") -> None:
        """Raise WrongStore for another store, and StoreError where nobody can tell."""

    async def require_reaper(self, store: "AsyncStore") -> None:
        """Raise ReapedByAnother too: only one database deletes in a store."""


class AsyncStore:
    """The async face of one store: each call runs in a thread, and is given up at the deadline.

    A call that is given up goes on in its thread and may
    still take effect: callers treat it as an unknown outcome.
    """

    def __init__(self, name: str, store: Store, threads: ThreadSlots) -> None:
        self.name = name
        self.bucket = store.bucket
        self.place = store.place
        self.looks_itself = store.looks_itself
        self.expect = store.expect
        # Whoever has a database sets it; without one a store is taken for what it seems.
        self.guard: Guard | None = None
        self.url = store.url
        self._store = store
        self._threads = threads

    async def put(self, key: str, content: bytes, content_type: str, sha256: str) -> None:
        await self._require_place()
        await self._call(functools.partial(self._store.put, key, content, content_type, sha256))

    async def open(self, key: str) -> OpenObject:
        return await self._call(functools.partial(self._store.open, key))

    async def read(self, stream: BinaryIO, size_bytes: int) -> bytes:
        """Read up to this many bytes of an object that `open` returned."""
        return await self._call(functools.partial(stream.read, size_bytes))

    async def exists(self, key: str) -> bool:
        return await self._call(functools.partial(self._store.exists, key))

    async def signed_url(self, key: str, seconds: int) -> str:
        """As the store does: not as cheap as `url`, and a role's keys may have to be renewed."""
        return await self._call(functools.partial(self._store.signed_url, key, seconds))

    async def find(self, prefix: str) -> AsyncIterator[list[FoundObject]]:
        """List in batches of at most LISTING_BATCH; the deadline is each batch's own."""
        listing = self._store.find(prefix)
        while batch := await self._call(lambda: list(itertools.islice(listing, LISTING_BATCH))):
            yield batch

    @property
    def keeps_versions(self) -> bool:
        """Whether the store has answered a deletion so that it keeps what was deleted."""
        return self._store.keeps_versions

    async def delete(self, key: str, erases: bool = False) -> None:
        await self.require_reaper()
        await self._call(functools.partial(self._store.delete, key, erases))

    async def delete_many(
        self, keys: Sequence[str], erases: bool = False
    ) -> dict[str, DarkroomError]:
        """Remove any number of objects, in batches that fit into the deadline.

        Returns why for each key that could not be removed. Raises StoreError when every batch
        failed as a whole.
        """
        await self.require_reaper()
        size = self._store.batch_size(erases)
        batches = [keys[start : start + size] for start in range(0, len(keys), size)]
        turns = asyncio.Semaphore(DELETING_THREADS)

        async def delete(batch: Sequence[str]) -> dict[str, DarkroomError]:
            async with turns:
                return await self._call(functools.partial(self._store.delete_many, batch, erases))

        outcomes = await asyncio.gather(*map(delete, batches), return_exceptions=True)
        errors: dict[str, DarkroomError] = {}
        failures: list[StoreError] = []
        for batch, outcome in zip(batches, outcomes, strict=True):
            if isinstance(outcome, StoreError):
                failures.append(outcome)
                errors |= dict.fromkeys(batch, outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                errors |= outcome
        if failures and len(failures) == len(batches):
            raise failures[0]
        return errors

    async def begin_upload(self, key: str, content_type: str) -> str:
        await self._require_place()
        return await self._call(functools.partial(self._store.begin_upload, key, content_type))

    async def put_part(
        self, key: str, upload_id: str, number: int, content: bytes, sha256: str
    ) -> str:
        put = functools.partial(self._store.put_part, key, upload_id, number, content, sha256)
        return await self._call(put)

    async def complete_upload(self, key: str, upload_id: str, receipts: Sequence[str]) -> None:
        complete = self._store.complete_upload
        await self._call(functools.partial(complete, key, upload_id, receipts))

    async def abort_upload(self, key: str, upload_id: str) -> None:
        await self._call(functools.partial(self._store.abort_upload, key, upload_id))

    async def find_uploads(self, key: str) -> list[str]:
        return await self._call(functools.partial(self._store.find_uploads, key))

    async def remove_leftovers(self, older_than_seconds: float) -> None:
        await self._call(functools.partial(self._store.remove_leftovers, older_than_seconds))

    async def prepare(self) -> None:
        await self._call(self._store.prepare)

    async def prove(self) -> None:
        await self._call(self._store.prove)

    async def read_marker(self) -> bytes | None:
        return await self._call(self._store.read_marker)

    async def write_marker(self, content: bytes, *, is_first: bool) -> None:
        write = functools.partial(self._store.write_marker, content, is_first=is_first)
        await self._call(write)

    async def require_reaper(self) -> None:
        """Raise StoreError unless what is deleted here is ours to delete, and surely is here."""
        if self.guard is not None:
            await self.guard.require_reaper(self)

    async def _require_place(self) -> None:
        if self.guard is not None:
            await self.guard.require_place(self)

    async def _call(self, function: Callable[[], Result]) -> Result:
        deadline = time.monotonic() + STORE_DEADLINE_SECONDS
        try:
            call = await self._threads.start(function, STORE_DEADLINE_SECONDS)
        except TimeoutError as err:
            raise StoreUnavailable from err
        is_done = False
        try:
            await asyncio.wait({call}, timeout=deadline - time.monotonic())
            is_done = call.done()
        finally:
            if not is_done:  # given up, by us or by whoever cancelled us
                call.add_done_callback(_discard_late)
        if not is_done:
            raise StoreUnavailable
        try:
            return call.result()
        except StoreUnavailable as err:
            if _lacks_descriptors(err):
                raise OutOfDescriptors from err.__cause__
            raise


def _lacks_descriptors(err: BaseException | None) -> bool:
    """Whether behind a failure there is one of ours: this process or system has too much open."""
    while err is not None:
        if isinstance(err, OSError) and err.errno in (errno.EMFILE, errno.ENFILE):
            return True
        err = err.__cause__ or err.__context__
    return False


def _discard_late(call: "asyncio.Future[Result]") -> None:
    if call.cancelled() or call.exception() is not None:
        return
    logger.warning("a store call ended after it was given up")
    if isinstance(result := call.result(), OpenObject):
        result.stream.close()
