"""A store of any number of objects, its rows, and how much memory it takes to go through both."""

import gc
import io
import threading
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import TypeVar

from concurrency import ThreadSlots
from files import Backends
from files.kinds import KINDS, PROFILE_PICTURE
from storage import AsyncStore, FoundObject, Guard, OpenObject, Store, Stores
from storage.contract import STORE_THREADS
from storage.memory import MemoryStore
from tests.support import rows
from tests.support.stock import Stock

Result = TypeVar("Result")

# Of kinds of which there are no rows and no objects.
OTHER_PREFIXES = {kind.prefix for kind in KINDS} - {PROFILE_PICTURE.prefix}


class ManyObjects(MemoryStore):
    """A store of any number of objects, each of which exists only while it is looked at."""

    content = b"a picture"
    modified_at = datetime(2020, 1, 1, tzinfo=UTC)

    def __init__(self, count: int = 0) -> None:
        super().__init__("")
        self.count = count
        self.asked: Callable[[], None] = lambda: None
        self.open_streams = 0
        self.most_open_streams = 0
        self._counting = threading.Lock()

    def find(self, prefix: str) -> Iterator[FoundObject]:
        if prefix in OTHER_PREFIXES:
            return
        for number in range(self.count):
            self.asked()
            yield FoundObject(f"{prefix}{number}.jpg", len(self.content), self.modified_at)

    def open(self, key: str) -> OpenObject:
        self.asked()
        with self._counting:
            self.open_streams += 1
            self.most_open_streams = max(self.open_streams, self.most_open_streams)
        return OpenObject(_CountedStream(self), len(self.content), "image/jpeg")

    def exists(self, key: str) -> bool:
        self.asked()
        return True


class _CountedStream(io.BytesIO):
    def __init__(self, store: ManyObjects) -> None:
        super().__init__(store.content)
        self._store = store

    def close(self) -> None:
        self._store.open_streams -= 1
        super().close()


class OneStore(Stores):
    """The stores of an application that has this one only, whatever its settings say."""

    def __init__(self, store: Store) -> None:
        self.current = AsyncStore("local", store, ThreadSlots(STORE_THREADS))

    def of(self, name: str, bucket: str) -> AsyncStore:
        return self.current

    def guard_with(self, guard: Guard) -> None:
        pass

    def on_disk(self) -> list[AsyncStore]:
        return []

    @property
    def names(self) -> set[str]:
        return {self.current.name}


def fill(stock: Stock, count: int, live: int) -> None:
    """Insert as many rows for the objects of ManyObjects; the first are pictures of accounts."""
    stock.service.sql("TRUNCATE stored_files, users RESTART IDENTITY CASCADE")
    content = ManyObjects.content
    rows.insert_numbered_files(stock.service, range(live), "live", content=content)
    rows.insert_numbered_files(stock.service, range(live, count), "pending", content=content)
    rows.insert_accounts_of_live_files(stock.service)


def measure_peak_bytes(
    stock: Stock, question: Callable[[Backends], Awaitable[Result]]
) -> tuple[int, Result]:
    """Ask the question; return the most memory that Python held meanwhile, and the answer."""
    gc.collect()
    tracemalloc.start()
    try:
        answer = stock.ask(question)
        _, peak_bytes = tracemalloc.get_traced_memory()
        return peak_bytes, answer
    finally:
        tracemalloc.stop()
