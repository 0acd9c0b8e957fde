"""Check: what the rows say is compared with what the stores
hold, beside a running service; sweep.py builds on it.

All goes in batches and only capped lists are kept, so that a million objects
take no more memory than a thousand. No connection is held while a store is
asked, and what looks wrong is looked at again before it is reported.
"""

import asyncio
import functools
import hashlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Select, String, any_, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute

from config import MIB
from errors import ObjectNotFound, StoreError
from files import Backends
from files.kinds import KINDS
from models import FileState, StoredFile, User
from storage import AsyncStore, FoundObject
from storage.contract import check_key

# Below these everything is ours. Each ends with its
# slash, so that no sibling's name begins with it.
PREFIXES = tuple(kind.prefix for kind in KINDS)
# Half of what a store takes at once, so that a service beside us is not held up.
SIDE_BY_SIDE = 8
ROWS_AT_ONCE = 1000
LISTED = 100  # keys in a report: more are counted, not shown
CHUNK_BYTES = MIB
# One failure must not end a run of a million reads; a
# store that fails for longer, or in a listing, is away.
PAUSES_SECONDS = (0.2, 1.0)
FAILING_ATTEMPTS = 2  # once may be a hiccup

File = Row[*tuple[Any, ...]]  # columns of a stored file

_FACTS = (
    StoredFile.id,
    StoredFile.storage,
    StoredFile.bucket,
    StoredFile.key,
    StoredFile.size_bytes,
    StoredFile.sha256,
)
_FAILING = (StoredFile.state == FileState.DELETING) & (StoredFile.attempts >= FAILING_ATTEMPTS)

Item = TypeVar("Item")
Result = TypeVar("Result")


class CannotLook(Exception):
    """A store cannot be looked into; the message is the one sentence that the operator is shown."""


class Keys:
    """Counts keys, and keeps the first of them."""

    def __init__(self, kept: int = LISTED) -> None:
        self.count, self.first, self._kept = 0, list[str](), kept

    def add(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.count += 1
            if self.count <= self._kept:
                self.first.append(key)


async def check(backends: Backends) -> dict[str, Any]:
    """Compare every live row with its object, by size and checksum, and every object with its row.

    Changes nothing.

    Raises CannotLook, or DatabaseUnavailable.
    """
    kinds = ("missing", "wrong", "unreadable", "unexplained", "unreferenced", "dangling")
    found = {kind: Keys() for kind in kinds}
    places = await find_stores(backends)
    async with backends.database.session() as db:
        by_state = await db.execute(
            select(StoredFile.state, func.count()).group_by(StoredFile.state)
        )
        rows = dict.fromkeys(map(str, FileState), 0) | {
            str(state): count for state, count in by_state
        }
        failing = await db.scalar(select(func.count()).where(_FAILING))
    objects = size_bytes = 0
    with progress(sum(rows.values()), "listing") as advance:
        for store in places:
            async for batch in list_objects(backends, store, places):
                objects += len(batch.found)
                size_bytes += sum(one.size_bytes for one in batch.found)
                found["unexplained"].add(one.key for one in batch.unexplained)
                advance(len(batch.found))
    used = select(StoredFile.id, StoredFile.key).join(User)
    async for page in _pages(backends, used.where(StoredFile.state != FileState.LIVE)):
        found["dangling"].add(file.key for file in page)
    with progress(rows["live"], "reading") as advance:
        live = (
            select(*_FACTS, User.id.label("user_id"))
            .outerjoin(User)
            .where(StoredFile.state == FileState.LIVE)
        )
        async for page in _pages(backends, live):
            found["unreferenced"].add(file.key for file in page if file.user_id is None)
            for verdict, key in await _look_twice(backends, page, advance):
                found[verdict].add([key])
    return {
        "rows": rows,
        "objects": objects,
        "bytes": size_bytes,
        **{kind: keys.first for kind, keys in found.items()},
        "failing": failing,
        "counts": {kind: keys.count for kind, keys in found.items()},
        "ok": not any(keys.count for keys in found.values()),
    }


async def find_stores(backends: Backends) -> list[AsyncStore]:
    """The current store, and each place that rows name."""
    current = backends.stores.current
    async with backends.database.session() as db:
        rows = await db.execute(select(StoredFile.storage, StoredFile.bucket).distinct())
        named = {(current.name, current.bucket), *((name, bucket) for name, bucket in rows)}
    if unknown := sorted({name for name, _ in named} - backends.stores.names):
        raise CannotLook(
            f"Rows name the store {unknown[0]}, which is not configured: add it to PREVIOUS_STORES."
        )
    return [backends.stores.of(*place) for place in sorted(named)]


@dataclass(frozen=True)
class Batch:
    """A part of a listing, and which of it no row explains."""

    found: list[FoundObject]
    unexplained: list[FoundObject]
    explained: int


async def list_objects(
    backends: Backends, store: AsyncStore, places: Sequence[AsyncStore]
) -> AsyncIterator[Batch]:
    """List what lies below our prefixes, in batches.

    An object is unexplained when no row has its key and it is still there after
    that was seen: a row comes before its object and goes after it. Rows of any
    place count, for keys are random and two names may stand for one bucket.
    """
    for prefix in PREFIXES:
        found = store.find(prefix)
        while True:
            with asking(store):
                batch = await anext(found, None)
            if batch is None:
                break
            async with backends.database.session() as db:
                has_row = (
                    StoredFile.storage.in_({place.name for place in places}),
                    StoredFile.bucket.in_({place.bucket for place in places}),
                    is_one_of(StoredFile.key, [one.key for one in batch if can_be_ours(one.key)]),
                )
                explained = set(await db.scalars(select(StoredFile.key).where(*has_row)))
            strangers = [one for one in batch if one.key not in explained]
            with asking(store):
                are_there = await _side_by_side(functools.partial(_is_there, store), strangers)
            unexplained = [
                one for one, is_there in zip(strangers, are_there, strict=True) if is_there
            ]
            yield Batch(batch, unexplained, len(batch) - len(strangers))


def can_be_ours(key: str) -> bool:
    """Whether Darkroom could have made this key; no verb of a store takes another."""
    with suppress(ObjectNotFound):
        return bool(check_key(key))
    return False


def is_one_of(column: InstrumentedAttribute[str], values: Sequence[str]) -> ColumnElement[bool]:
    """Like IN, but with one parameter, however many the values."""
    return column == any_(literal(values, ARRAY(String)))


@contextmanager
def asking(store: AsyncStore) -> Iterator[None]:
    """Turn a failure of the store into CannotLook, and the 404 of what is no store at all."""
    try:
        yield
    except (StoreError, ObjectNotFound) as err:
        cause = (str(err.__cause__ or "") or err.code).splitlines()[0].rstrip(".")
        raise CannotLook(f"The store {named(store)} cannot be looked into: {cause}.") from err


def named(store: AsyncStore) -> str:
    """What an operator calls it."""
    return f"{store.name} (bucket {store.bucket})" if store.bucket else store.name


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal, nothing elsewhere; yields the function that advances it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from tqdm import tqdm  # here, because no other command and no service needs it

    with tqdm(total=total, desc=what, unit=" objects", file=sys.stderr, leave=False) as bar:
        yield bar.update


async def _look_twice(
    backends: Backends, files: Sequence[File], advance: Callable[[int], object]
) -> list[tuple[str, str]]:
    """What is wrong with the objects of those files that
    are still live after a second look, with their keys.
    """

    async def first_look(file: File) -> str | None:
        verdict = await _look(backends, file)
        advance(1)
        return verdict

    first = await _side_by_side(first_look, files)
    suspects = [file for file, verdict in zip(files, first, strict=True) if verdict]
    if not suspects:
        return []
    second = await _side_by_side(functools.partial(_look, backends), suspects)
    async with backends.database.session() as db:
        are_live = (
            StoredFile.id.in_([file.id for file in suspects]),
            StoredFile.state == FileState.LIVE,
        )
        live = set(await db.scalars(select(StoredFile.id).where(*are_live)))
    return [
        (verdict, file.key)
        for file, verdict in zip(suspects, second, strict=True)
        if verdict and file.id in live
    ]


async def _look(backends: Backends, file: File) -> str | None:
    store = backends.stores.of(file.storage, file.bucket)
    try:
        return None if await _patiently(lambda: _is_right(store, file)) else "wrong"
    except ObjectNotFound:
        return "missing"
    except StoreError:
        with asking(store):  # if the store answers at all, it is this one object
            return "unreadable" if await store.exists(file.key) else "missing"


async def _is_right(store: AsyncStore, file: File) -> bool:
    opened = await store.open(file.key)
    try:
        left = opened.size_bytes
        digest = hashlib.sha256()
        if left != file.size_bytes:
            return False
        while left and (chunk := await store.read(opened.stream, min(CHUNK_BYTES, left))):
            digest.update(chunk)
            left -= len(chunk)
        return bool(digest.hexdigest() == file.sha256)
    finally:
        opened.stream.close()


async def _is_there(store: AsyncStore, one: FoundObject) -> bool:
    return not can_be_ours(one.key) or await _patiently(lambda: store.exists(one.key))


async def _patiently(ask: Callable[[], Awaitable[Result]]) -> Result:
    for pause in PAUSES_SECONDS:
        try:
            return await ask()
        except StoreError:
            await asyncio.sleep(pause)
    return await ask()


async def _side_by_side(
    do: Callable[[Item], Awaitable[Result]], items: Sequence[Item]
) -> list[Result]:
    gate = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(item: Item) -> Result:
        async with gate:
            return await do(item)

    return await asyncio.gather(*(one(item) for item in items))


async def _pages(
    backends: Backends, files: Select[*tuple[Any, ...]]
) -> AsyncIterator[Sequence[File]]:
    """The rows of a query that has the column `id`, in batches; no connection is held between them."""
    last = 0
    while True:
        async with backends.database.session() as db:
            page = files.where(StoredFile.id > last).order_by(StoredFile.id).limit(ROWS_AT_ONCE)
            rows = (await db.execute(page)).all()
        if not rows:
            return
        yield rows
        last = rows[-1].id


async def find_failing(backends: Backends) -> AsyncIterator[dict[str, Any]]:
    """What keeps failing to be deleted.

    A tombstone that rests has no attempts, and is none of it.
    """
    tries = (
        StoredFile.attempts,
        StoredFile.next_attempt_at,
        StoredFile.last_error,
        StoredFile.owner_id,
    )
    async for page in _pages(
        backends,
        select(StoredFile.id, StoredFile.key, StoredFile.storage, StoredFile.bucket, *tries).where(
            _FAILING
        ),
    ):
        for file in page:
            yield file._asdict()


async def requeue(backends: Backends) -> int:
    """Make all of it due now, with its attempts forgotten; return how many."""
    async with backends.database.session() as db:
        due = update(StoredFile).where(_FAILING).values(next_attempt_at=func.now(), attempts=0)
        requeued = len((await db.scalars(due.returning(StoredFile.id))).all())
        await db.commit()
    return requeued
