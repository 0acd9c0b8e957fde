"""Proves that no two statements about thumbnails wait for each other: all lock in one order."""

import asyncio

import asyncpg
import pytest

from database import Transaction
from photos import VERSION, thumbnail_statements
from tests.support import rows
from tests.support.photos import store_photo
from tests.support.services import SOMEONE_WAITS, START_SECONDS
from tests.support.stock import Stock

pytestmark = pytest.mark.backends

FIRST = "160x120:inside:jpeg"
LAST = "80x60:inside:jpeg"
INSERT = """
INSERT INTO thumbnails (photo_id, master_id, rendition, version, claim, claimed_until)
SELECT id, master_id, unnest($2::varchar[]), $3, gen_random_uuid(), now() FROM photos WHERE id = $1
RETURNING photo_id, master_id, version, claim
"""


@pytest.mark.parametrize("name", ["RENEW", "GIVE_UP", "PUBLISH", "DROP"])
def test_rows_are_locked_in_the_order_in_which_claims_lock_them(stock: Stock, name: str) -> None:
    photo_id = store_photo(stock.service, rows.account().run(stock.service), master=b"a master")
    # They lie in the other order, which is that of whoever takes them as they come.
    row, _ = stock.service.sql(INSERT, photo_id, [LAST, FIRST], VERSION)
    stock.service.sql("UPDATE thumbnails SET claim = $1", row["claim"])
    files = stock.service.sql("SELECT id FROM stored_files ORDER BY id")
    values = dict(row) | {"renditions": [FIRST, LAST], "file_ids": [file["id"] for file in files]}

    async def story() -> None:
        url = stock.settings["DATABASE_URL"].replace("+asyncpg", "")
        holding = await asyncpg.connect(url)
        asking = await asyncpg.connect(url)
        looking = await asyncpg.connect(url)
        await asking.execute("SET enable_indexscan = off; SET enable_bitmapscan = off")
        async with holding.transaction():
            await holding.execute("UPDATE thumbnails SET failures = 1 WHERE rendition = $1", LAST)
            statement = getattr(thumbnail_statements, name)
            running = asyncio.create_task(Transaction(asking).fetch(statement, **values))
            while not await looking.fetchval(SOMEONE_WAITS):
                await asyncio.sleep(0.01)
            free = await looking.fetch("SELECT rendition FROM thumbnails FOR UPDATE SKIP LOCKED")
            assert [row["rendition"] for row in free] == [], "the first one was passed over"
        assert len(await running) == 2
        for connection in (holding, asking, looking):
            await connection.close()

    asyncio.run(asyncio.wait_for(story(), START_SECONDS))
