"""Proves of lists of photos that pages neither repeat nor skip, and how much a page reads."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

import photos
from database import Database
from files import Backends
from photos import Page
from tests.support import rows
from tests.support.backends import open_backends
from tests.support.photos import insert_many, photo
from tests.support.stock import Stock

VISIBILITIES = ("public", "private")
EXAMPLES = 25
# A scan that reads on until it has found enough reads ten times as much of the larger gallery.
FEW_PHOTOS = 1_000
MANY_PHOTOS = 15_000
PAGE_PHOTOS = 30
# Postgres plans the first five calls of a prepared statement for their values; then it may
# settle for a plan that has to do for any.
CALLS = 8
# Of each photo its row, its owner's, and those of the master and of the owner's picture: four
# walks down an index of two or three levels, and four blocks of rows. Nobody reads five times that.
MOST_BLOCKS = PAGE_PHOTOS * 20
# What this transaction has asked for, of each table and its indexes, in blocks of 8 KiB.
COUNT_BLOCKS = text(
    "SELECT sum(pg_stat_get_xact_blocks_fetched(oid)) FROM pg_class"
    " WHERE relname ~ '^(photos|stored_files|users)_?' AND relkind IN ('r', 'i')"
)

ReadPage = Callable[[AsyncSession, str | None], Awaitable[Page]]


@dataclass(frozen=True)
class Change:
    """What happens between two pages: a photo comes, or one of those that are there goes."""

    comes: bool
    number: int  # in which of four ways one comes, or which one goes


changes = st.builds(Change, st.booleans(), st.integers(0, 1000))
histories = st.lists(st.lists(changes, max_size=4), min_size=6, max_size=6)


class Gallery:
    """The photos of two accounts, 1 and 2, as the first of them sees them."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._all: list[int] = []
        self.visible: set[int] = set()

    async def change(self, change: Change) -> None:
        if change.comes:
            owner_id = 1 + change.number % 2
            visibility = VISIBILITIES[change.number // 2 % 2]
            photo_id = await photo(owner_id, visibility).run_on(self._connection)
            self._all.append(photo_id)
            if owner_id == 1 or visibility == "public":
                self.visible.add(photo_id)
        elif self._all:
            photo_id = self._all.pop(change.number % len(self._all))
            await self._connection.execute("DELETE FROM photos WHERE id = $1", photo_id)
            self.visible.discard(photo_id)


@pytest.fixture
def peopled_stock(local_stock: Stock) -> Stock:
    """A stock with the accounts 1 to 4."""
    for _ in range(4):
        rows.account().run(local_stock.service)
    return local_stock


def test_a_walk_shows_once_what_is_there_all_the_time(peopled_stock: Stock) -> None:
    url = peopled_stock.settings["DATABASE_URL"].replace("+asyncpg", "")
    opened = open_backends(peopled_stock.parsed_settings, peopled_stock.stores, pool_size=1)
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(url))
        backends = runner.run(opened.__aenter__())

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(histories, st.integers(1, 4))
        def check(history: list[list[Change]], limit: int) -> None:
            runner.run(check_walk(connection, backends.database, history, limit))

        try:
            check()
        finally:
            runner.run(connection.close())
            runner.run(opened.__aexit__(None, None, None))


async def check_walk(
    connection: asyncpg.Connection, database: Database, history: list[list[Change]], limit: int
) -> None:
    """Walk through the list of all photos, while the gallery changes between the pages."""
    await connection.execute("DELETE FROM photos")
    gallery = Gallery(connection)
    for number in range(12):
        await gallery.change(Change(True, number))
    stayed = set(gallery.visible)
    ever = set(gallery.visible)
    seen: list[int] = []
    cursor = None
    for between in [*history, *[[]] * 100]:
        async with database.reader() as db:
            page = await photos.list_all(db, 1, cursor, limit)
        assert len(page.photos) == limit or page.next_cursor is None
        seen += [shown.id for shown in page.photos]
        cursor = page.next_cursor
        if cursor is None:
            break
        for change in between:
            await gallery.change(change)
            stayed &= gallery.visible
            ever |= gallery.visible
    assert cursor is None
    assert seen == sorted(set(seen), reverse=True)
    assert stayed <= set(seen) <= ever


def test_a_page_reads_as_much_of_a_large_gallery_as_of_a_small_one(peopled_stock: Stock) -> None:
    lists: dict[str, ReadPage] = {
        "all, to anyone": list_all(None),
        "all, to who has private ones only": list_all(1),
        "all, to who has public ones only": list_all(2),
        "all, to who has none": list_all(4),
        "private ones only, to anyone": list_account(1, None),
        "private ones only, to its owner": list_account(1, 1),
        "public ones only, to its owner": list_account(2, 2),
        "a few among many, to anyone": list_account(3, None),
        "none, to its owner": list_account(4, 4),
    }
    counted: list[dict[str, float]] = []
    before = 0
    for count in (FEW_PHOTOS, MANY_PHOTOS):
        added = (count - before) // 2
        before = count
        insert_many(peopled_stock.service, 1, "private", added)
        insert_many(peopled_stock.service, 2, "public", added)
        insert_many(peopled_stock.service, 3, "public", 5)
        peopled_stock.service.sql("ANALYZE")
        counted.append(peopled_stock.ask(lambda backends: count_blocks(backends, lists)))
    few, many = counted
    assert max(many.values()) > PAGE_PHOTOS  # it does count
    for name in lists:
        assert many[name] <= MOST_BLOCKS, (name, counted)
        assert many[name] <= 2 * few[name] + PAGE_PHOTOS, (name, counted)


def list_all(viewer_id: int | None) -> ReadPage:
    async def read_page(db: AsyncSession, cursor: str | None) -> Page:
        return await photos.list_all(db, viewer_id, cursor, PAGE_PHOTOS)

    return read_page


def list_account(owner_id: int, viewer_id: int | None) -> ReadPage:
    async def read_page(db: AsyncSession, cursor: str | None) -> Page:
        return await photos.list_account(db, owner_id, viewer_id, cursor, PAGE_PHOTOS)

    return read_page


async def count_blocks(backends: Backends, lists: dict[str, ReadPage]) -> dict[str, float]:
    """Count how many blocks the dearest of some pages reads, one behind the other, of each list."""
    counted = {}
    for name, read_page in lists.items():
        async with backends.database.session() as db:
            cursor = None
            total = float(await db.scalar(COUNT_BLOCKS) or 0)
            read = []
            for _ in range(CALLS):
                db.expunge_all()
                page = await read_page(db, cursor)
                cursor = page.next_cursor
                so_far = float(await db.scalar(COUNT_BLOCKS) or 0)
                read.append(so_far - total)
                total = so_far
        counted[name] = max(read)
    return counted
