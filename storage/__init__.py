"""The contract of a store, its async face, and the configured stores.

A store is written synchronous, in a handful of verbs. The application
reaches it only through `AsyncStore`, which hops to the thread pool under
a deadline, so blocking code cannot land on the event loop by mistake.
"""

import asyncio
import functools
import itertools
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol, TypeVar

from starlette.concurrency import run_in_threadpool

from config import Settings, StoreSettings, settings
from errors import ObjectNotFound, StartupError, StoreRefused, StoreUnavailable

logger = logging.getLogger(__name__)

# Far below `pending_expiry_seconds`: what has not been put
# by then is given up, and the reaper removes what lands.
STORE_DEADLINE_SECONDS = 20.0
# Calls to one store at once. The pool has as many threads more for each store, so
# that one that hangs takes none from pictures, passwords and the other stores.
STORE_THREADS = 16
# What S3 lists at once, so that each batch of a listing is one request.
LISTING_BATCH = 1000
# `folder/name.ext`. A part never starts with a dot,
# so no key leaves its folder or names a hidden file.
KEY_PATTERN = re.compile(r"[a-z0-9_]+(?:/[A-Za-z0-9][A-Za-z0-9._-]*)+")
# What the column of the key holds; S3 takes 1024.
LONGEST_KEY = 255
# How an object may be cached: a key is never reused, so what lies under it never changes.
CACHE_CONTROL = "public, max-age=31536000, immutable"

Result = TypeVar("Result")


@dataclass(frozen=True)
class FoundObject:
    """One object as a listing shows it."""

    key: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True)
class OpenObject:
    """An object opened for reading at its first byte; whoever opened it closes `stream`."""

    stream: BinaryIO
    size_bytes: int
    content_type: str


def checked(key: str) -> str:
    """The key, if it is one of ours; raises ObjectNotFound, since nothing can lie under another."""
    if len(key) > LONGEST_KEY or not KEY_PATTERN.fullmatch(key):
        raise ObjectNotFound
    return key


class Store(Protocol):
    """What a store does.

    Every failure is a StoreError or ObjectNotFound of ours; vendor errors never get out.

    `bucket` is '' on disk; keys match KEY_PATTERN; `sha256` is in hexadecimal.
    """

    bucket: str

    def put(self, key: str, content: bytes, content_type: str, sha256: str) -> None:
        """Store durably before returning; raises ObjectExists
        rather than overwrite, where the service can tell.

        Bytes that do not fit `sha256` are refused where they travel and the service checks them.
        """

    def open(self, key: str) -> OpenObject:
        """Open for reading; raises ObjectNotFound."""

    def exists(self, key: str) -> bool:
        """Tell whether there is an object under this very key."""

    def delete(self, key: str) -> None:
        """Remove durably; what is not there is fine."""

    def url(self, key: str) -> str:
        """Name the public URL that a browser loads; asks nobody."""

    def find(self, prefix: str) -> Iterator[FoundObject]:
        """List every object whose key starts with these characters, in bounded memory and no order."""

    def remove_leftovers(self, older_than_seconds: float) -> None:
        """Remove what puts that never finished left behind;
        nothing to do where a put is all or nothing.
        """

    def in_bucket(self, bucket: str) -> "Store":
        """Give the same service with another bucket: rows
        from before a bucket was changed are still served.
        """


class AsyncStore:
    """The async face of one store: every call runs in
    the thread pool and is given up at the deadline.

    A call that is given up goes on in its thread and may
    still take effect: callers treat it as an unknown outcome.
    """

    def __init__(self, name: str, store: Store, threads: asyncio.Semaphore) -> None:
        self.name = name
        self.bucket = store.bucket
        self.url = store.url
        self._store = store
        self._threads = threads

    async def put(self, key: str, content: bytes, content_type: str, sha256: str) -> None:
        await self._call(functools.partial(self._store.put, key, content, content_type, sha256))

    async def open(self, key: str) -> OpenObject:
        return await self._call(functools.partial(self._store.open, key))

    async def read(self, stream: BinaryIO, size_bytes: int) -> bytes:
        """Read up to this many bytes of an object that `open` returned."""
        return await self._call(functools.partial(stream.read, size_bytes))

    async def exists(self, key: str) -> bool:
        return await self._call(functools.partial(self._store.exists, key))

    async def find(self, prefix: str) -> AsyncIterator[list[FoundObject]]:
        """List in batches of at most LISTING_BATCH; the deadline is each batch's own."""
        listing = self._store.find(prefix)
        while batch := await self._call(lambda: list(itertools.islice(listing, LISTING_BATCH))):
            yield batch

    async def delete(self, key: str) -> None:
        await self._call(functools.partial(self._store.delete, key))

    async def remove_leftovers(self, older_than_seconds: float) -> None:
        await self._call(functools.partial(self._store.remove_leftovers, older_than_seconds))

    async def _call(self, function: Callable[[], Result]) -> Result:
        deadline = time.monotonic() + STORE_DEADLINE_SECONDS
        try:
            async with asyncio.timeout(STORE_DEADLINE_SECONDS):
                await self._threads.acquire()
        except TimeoutError as err:
            raise StoreUnavailable from err
        call = asyncio.ensure_future(run_in_threadpool(function))
        call.add_done_callback(lambda _: self._threads.release())
        is_done = False
        try:
            await asyncio.wait({call}, timeout=deadline - time.monotonic())
            is_done = call.done()
        finally:
            if not is_done:  # given up, by us or by whoever cancelled us
                call.add_done_callback(_discard_late)
        if not is_done:
            raise StoreUnavailable
        return call.result()


def _discard_late(call: "asyncio.Future[Result]") -> None:
    if call.cancelled() or call.exception() is not None:
        return
    logger.warning("a store call ended after it was given up")
    if isinstance(result := call.result(), OpenObject):
        result.stream.close()


class Stores:
    """Every store that rows may name: `current` takes
    new objects, the others are read and deleted from.
    """

    def __init__(self, configured: Settings) -> None:
        self._known = configured.stores()
        self._stores = {name: _make_store(known) for name, known in self._known.items()}
        # A bound for each: a previous store that hangs takes nothing from the current one.
        self._threads = {name: asyncio.Semaphore(STORE_THREADS) for name in self._stores}
        self._faces: dict[tuple[str, str], AsyncStore] = {}
        name = configured.store_name
        if (folder := self._known[name].directory) is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as err:
                raise StartupError(f"The folder {folder} cannot be made: {err.strerror}.") from err
        self.current = self.of(name, self._stores[name].bucket)

    def of(self, name: str, bucket: str) -> AsyncStore:
        """The store that a row names; raises StoreRefused if the settings no longer know it."""
        if (name, bucket) not in self._faces:
            if name not in self._stores:
                logger.error(
                    "rows name the store %r, which is not configured: add it to PREVIOUS_STORES",
                    name,
                )
                raise StoreRefused
            store = self._stores[name].in_bucket(bucket)
            self._faces[name, bucket] = AsyncStore(name, store, self._threads[name])
        return self._faces[name, bucket]

    def on_disk(self) -> list[AsyncStore]:
        """The local stores, whose objects this service serves itself; the current one first."""
        names = [name for name, known in self._known.items() if known.storage == "local"]
        return [
            self.of(name, "") for name in sorted(names, key=lambda name: name != self.current.name)
        ]

    @property
    def threads(self) -> int:
        """How many threads all stores together may hold."""
        return STORE_THREADS * len(self._stores)


def _make_store(known: StoreSettings) -> Store:
    # Imported here, because boto3 costs a local installation
    # 20 MB and a third of a second for nothing.
    if known.storage == "s3":
        from storage.s3 import S3Store

        return S3Store(known)
    from storage.local import LocalStore

    assert known.directory is not None
    return LocalStore(known.directory)


@functools.cache
def stores() -> Stores:
    """The configured stores of this process; the first call, at start, makes the clients."""
    return Stores(settings)
