"""The inventory of the stores: what lies in them, and which of it no row explains.

`check` and `sweep` share it. All goes in batches and only capped lists are kept, so that a million
objects take no more memory than a thousand, and no connection is held while a store is asked. Where
a store cannot be looked into the operator is told so in one sentence, by CannotLook.
"""

import asyncio
import functools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Select, String, any_, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute

from errors import ObjectNotFound, StoreError, WrongStore
from files import Backends, kinds
from models import StoredFile
from storage import AsyncStore, FoundObject
from storage.contract import check_key

# Half of what a store takes at once, so that a service beside us is not held up.
SIDE_BY_SIDE = 8
ROWS_AT_ONCE = 1000
LISTED_KEYS = 100  # keys in a report: more are counted, not shown
# One failure must not end a run of a million reads; a
# store that fails for longer, or in a listing, is away.
PAUSES_SECONDS = (0.2, 1.0)

FileRow = Row[*tuple[Any, ...]]  # columns of a stored file

Item = TypeVar("Item")
Result = TypeVar("Result")


class CannotLook(Exception):
    """A store cannot be looked into; the message is the one sentence that the operator is shown."""


@dataclass
class Keys:
    """Counts keys, and keeps the first of them."""

    most_kept: int = LISTED_KEYS
    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.count += 1
            if self.count <= self.most_kept:
                self.first.append(key)


@dataclass(frozen=True)
class Batch:
    """A part of a listing, and which of it no row explains."""

    objects: list[FoundObject]
    unexplained: list[FoundObject]
    explained_count: int


async def find_stores(backends: Backends) -> list[AsyncStore]:
    """Find the current store, and each store and bucket that rows name; raises CannotLook."""
    current = backends.stores.current
    async with backends.database.session() as db:
        rows = await db.execute(select(StoredFile.storage, StoredFile.bucket).distinct())
        names_and_buckets = {(name, bucket) for name, bucket in rows}
    names_and_buckets.add((current.name, current.bucket))
    unknown = sorted({name for name, _ in names_and_buckets} - backends.stores.names)
    if unknown:
        raise CannotLook(
            f"Rows name the store {unknown[0]}, which is not configured: add it to PREVIOUS_STORES."
        )
    return [backends.stores.of(name, bucket) for name, bucket in sorted(names_and_buckets)]


async def list_objects(
    backends: Backends, store: AsyncStore, stores: Sequence[AsyncStore]
) -> AsyncIterator[Batch]:
    """List what lies in one store below the prefixes of all kinds of files, in batches.

    An object is unexplained when no row has its key and it is still there after that was seen: a
    row comes before its object and goes after it. Rows of any of the `stores` count, for keys are
    random and two names may stand for one bucket.
    """
    for kind in kinds.KINDS:
        listing = store.find(kind.prefix)
        while True:
            with translate_errors(store):
                objects = await anext(listing, None)
            if objects is None:
                break
            explained = await _find_explained(backends, objects, stores)
            strangers = [found for found in objects if found.key not in explained]
            with translate_errors(store):
                are_there = await run_side_by_side(functools.partial(_is_there, store), strangers)
            unexplained = [
                stranger
                for stranger, is_there in zip(strangers, are_there, strict=True)
                if is_there
            ]
            yield Batch(objects, unexplained, len(objects) - len(strangers))


async def _find_explained(
    backends: Backends, objects: Sequence[FoundObject], stores: Sequence[AsyncStore]
) -> set[str]:
    keys = [found.key for found in objects if is_possible_key(found.key)]
    with_rows = select(StoredFile.key).where(
        StoredFile.storage.in_({store.name for store in stores}),
        StoredFile.bucket.in_({store.bucket for store in stores}),
        is_any_of(StoredFile.key, keys),
    )
    async with backends.database.session() as db:
        return set(await db.scalars(with_rows))


async def _is_there(store: AsyncStore, found: FoundObject) -> bool:
    if not is_possible_key(found.key):
        return True
    return await ask_patiently(functools.partial(store.exists, found.key))


async def read_files(
    backends: Backends, files: Select[*tuple[Any, ...]]
) -> AsyncIterator[Sequence[FileRow]]:
    """Read the rows of a query that has the column `id`, in batches.

    No connection is held between them.
    """
    last_id = 0
    while True:
        next_files = files.where(StoredFile.id > last_id).order_by(StoredFile.id)
        async with backends.database.session() as db:
            rows = (await db.execute(next_files.limit(ROWS_AT_ONCE))).all()
        if not rows:
            return
        yield rows
        last_id = rows[-1].id


def is_possible_key(key: str) -> bool:
    """Tell whether Darkroom could have made this key; no verb of a store takes another."""
    with suppress(ObjectNotFound):
        check_key(key)
        return True
    return False


def is_any_of(column: InstrumentedAttribute[str], values: Sequence[str]) -> ColumnElement[bool]:
    """Like IN, but with one parameter, however many the values."""
    return column == any_(literal(values, ARRAY(String)))


@contextmanager
def translate_errors(store: AsyncStore) -> Iterator[None]:
    """Turn a failure of the store into CannotLook, and the 404 of what is no store at all."""
    try:
        yield
    except WrongStore as err:
        name = describe_store(store)
        raise CannotLook(f"The store {name} is not the one that the database knows.") from err
    except (StoreError, ObjectNotFound) as err:
        cause = (str(err.__cause__ or "") or err.code).splitlines()[0].rstrip(".")
        name = describe_store(store)
        raise CannotLook(f"The store {name} cannot be looked into: {cause}.") from err


def describe_store(store: AsyncStore) -> str:
    """Say what an operator calls it."""
    return f"{store.name} (bucket {store.bucket})" if store.bucket else store.name


async def ask_patiently(ask: Callable[[], Awaitable[Result]]) -> Result:
    """Ask a store, and twice again after a pause should it fail."""
    for pause_seconds in PAUSES_SECONDS:
        try:
            return await ask()
        except StoreError:
            await asyncio.sleep(pause_seconds)
    return await ask()


async def run_side_by_side(
    work: Callable[[Item], Awaitable[Result]], items: Sequence[Item]
) -> list[Result]:
    """Do the work for all items, for at most SIDE_BY_SIDE at once."""
    gate = asyncio.Semaphore(SIDE_BY_SIDE)

    async def pass_gate(item: Item) -> Result:
        async with gate:
            return await work(item)

    return await asyncio.gather(*(pass_gate(item) for item in items))


@contextmanager
def show_progress(total: int, activity: str) -> Iterator[Callable[[int], object]]:
    """Show a bar on a terminal, nothing elsewhere; yields the function that advances it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from tqdm import tqdm  # here, because no other command and no service needs it

    with tqdm(total=total, desc=activity, unit=" objects", file=sys.stderr, leave=False) as bar:
        yield bar.update
