"""Proves what a change does when the answer to its COMMIT is lost.

The change runs in the process of the tests, so that the answer can get lost at will.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

import database
from errors import DatabaseUnavailable, OutcomeUnknown
from files import Backends, Change, change, lock_user
from image_utils import process_profile_image
from models import User
from tests.support import rows
from tests.support.backends import open_backends
from tests.support.pictures import jpeg
from tests.support.services import SOMEONE_WAITS, START_SECONDS
from tests.support.stock import Stock

Commit = Callable[[AsyncSession], Awaitable[None]]
REAL_COMMIT: Commit = AsyncSession.commit


async def connect(stock: Stock) -> asyncpg.Connection:
    """Connect to the stock's database, beside the application; whoever connects closes it."""
    return await asyncpg.connect(stock.settings["DATABASE_URL"].replace("+asyncpg", ""))


@contextlib.asynccontextmanager
async def open_beside(stock: Stock) -> AsyncIterator[tuple[Backends, asyncpg.Connection]]:
    """What a change needs, and a connection of the test's own beside it."""
    async with open_backends(stock.parsed_settings, stock.stores) as backends:
        beside = await connect(stock)
        try:
            yield backends, beside
        finally:
            await beside.close()


async def make_account_with_picture(
    backends: Backends, beside: asyncpg.Connection
) -> tuple[int, int]:
    """Return the ids of a new account and of its picture's file."""
    user_id = await rows.account("eve").run_on(beside)
    async with Change(backends, user_id) as replacement:
        file_id = await replacement.put_picture(process_profile_image(jpeg()))
        await replacement.swap_picture(file_id)
    return user_id, file_id


async def commits_and_loses_the_connection(db: AsyncSession) -> None:
    await REAL_COMMIT(db)
    raise OSError("the answer was lost")


async def commits_and_the_driver_complains(db: AsyncSession) -> None:
    await REAL_COMMIT(db)
    raise DBAPIError("COMMIT", None, Exception("connection is closed"), connection_invalidated=True)


async def commits_and_runs_out_of_time(db: AsyncSession) -> None:
    await REAL_COMMIT(db)
    raise TimeoutError


async def commits_and_the_server_ends(db: AsyncSession) -> None:
    await REAL_COMMIT(db)
    raise DatabaseUnavailable


async def loses_the_connection_before(db: AsyncSession) -> None:
    raise OSError("never arrived")


async def rolls_back(db: AsyncSession) -> None:
    await db.rollback()
    raise DBAPIError(
        "COMMIT", None, Exception("server closed the connection"), connection_invalidated=True
    )


@pytest.mark.parametrize(
    "commit",
    [
        commits_and_loses_the_connection,
        commits_and_the_driver_complains,
        commits_and_runs_out_of_time,
        commits_and_the_server_ends,
    ],
)
def test_a_commit_that_happened_is_answered_as_done_though_its_answer_was_lost(
    stock: Stock, monkeypatch: pytest.MonkeyPatch, commit: Commit
) -> None:
    async def story() -> None:
        async with open_beside(stock) as (backends, beside):
            user_id, old_id = await make_account_with_picture(backends, beside)
            async with Change(backends, user_id) as replacement:
                file_id = await replacement.put_picture(process_profile_image(jpeg()))
                with monkeypatch.context() as lossy:
                    lossy.setattr(AsyncSession, "commit", commit)
                    changed = await replacement.swap_picture(file_id)
                await replacement.release()
            assert changed.picture is not None and changed.picture.id == file_id
            states = dict(await beside.fetch("SELECT id, state FROM stored_files"))
            assert states[file_id] == "live"
            assert states.get(old_id) in (None, "doomed", "deleting")
            key = await beside.fetchval("SELECT key FROM stored_files WHERE id = $1", file_id)
            assert key in stock.objects()

    asyncio.run(story())


@pytest.mark.parametrize("commit", [loses_the_connection_before, rolls_back])
def test_a_commit_of_unknown_outcome_deletes_nothing(
    stock: Stock, monkeypatch: pytest.MonkeyPatch, commit: Commit
) -> None:
    async def story() -> None:
        async with open_beside(stock) as (backends, beside):
            user_id, old_id = await make_account_with_picture(backends, beside)
            with pytest.raises(OutcomeUnknown):
                async with Change(backends, user_id) as replacement:
                    file_id = await replacement.put_picture(process_profile_image(jpeg()))
                    with monkeypatch.context() as lossy:
                        lossy.setattr(AsyncSession, "commit", commit)
                        await replacement.swap_picture(file_id)
            await backends.tasks.wait_for_all(START_SECONDS)
            states = dict(await beside.fetch("SELECT id, state FROM stored_files"))
            assert states == {old_id: "live", file_id: "pending"}
            assert await beside.fetchval("SELECT picture_id FROM users") == old_id
            keys = {row["key"] for row in await beside.fetch("SELECT key FROM stored_files")}
            assert set(stock.objects()) == keys and len(keys) == 2

    asyncio.run(story())


@pytest.mark.parametrize("ends_with", ["COMMIT", "ROLLBACK"])
def test_the_answer_waits_for_a_lost_transaction_that_is_still_on_its_way(
    stock: Stock, monkeypatch: pytest.MonkeyPatch, ends_with: str
) -> None:
    """The lost commit takes effect only while the answer waits.

    Here it is replayed on a connection of the test's own.
    """

    async def story() -> User | None:
        async with open_beside(stock) as (backends, beside):
            user_id, old_id = await make_account_with_picture(backends, beside)
            lost = await connect(stock)
            ending: list[asyncio.Task[None]] = []

            async def end_once_waited_for() -> None:
                while not await beside.fetchval(SOMEONE_WAITS):
                    await asyncio.sleep(0.01)
                await lost.execute(ends_with)

            async def arrives_late(db: AsyncSession) -> None:
                await db.rollback()
                await lost.execute("BEGIN")
                await lost.fetchval("SELECT id FROM users WHERE id = $1 FOR UPDATE", user_id)
                await lost.execute("UPDATE stored_files SET state = 'live' WHERE id = $1", file_id)
                await lost.execute(
                    "UPDATE users SET picture_id = $1 WHERE id = $2", file_id, user_id
                )
                await lost.execute("UPDATE stored_files SET state = 'doomed' WHERE id = $1", old_id)
                ending.append(asyncio.create_task(end_once_waited_for()))
                raise OSError("the answer was lost")

            try:
                async with Change(backends, user_id) as replacement:
                    file_id = await replacement.put_picture(process_profile_image(jpeg()))
                    with monkeypatch.context() as lossy:
                        lossy.setattr(AsyncSession, "commit", arrives_late)
                        changed = await replacement.swap_picture(file_id)
                assert changed.picture is not None, (
                    "the account is answered without its new picture"
                )
                assert changed.picture.id == file_id
                return changed
            finally:
                await ending[0]
                await lost.close()
                assert len(stock.objects()) == 2

    if ends_with == "COMMIT":
        assert asyncio.run(story()) is not None
    else:
        with pytest.raises(OutcomeUnknown):
            asyncio.run(story())


def test_a_lost_transaction_that_does_not_end_makes_a_503_and_deletes_nothing(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with open_beside(stock) as (backends, beside):
            user_id, old_id = await make_account_with_picture(backends, beside)

            async def stays_open(db: AsyncSession) -> None:
                await db.rollback()
                await beside.execute("BEGIN")
                await beside.fetchval("SELECT id FROM users WHERE id = $1 FOR UPDATE", user_id)
                raise OSError("the answer was lost")

            monkeypatch.setattr(change, "OUTCOME_LOCK_TIMEOUT_MS", 100)
            with pytest.raises(OutcomeUnknown):
                async with Change(backends, user_id) as replacement:
                    file_id = await replacement.put_picture(process_profile_image(jpeg()))
                    with monkeypatch.context() as lossy:
                        lossy.setattr(AsyncSession, "commit", stays_open)
                        await replacement.swap_picture(file_id)
            await beside.execute("ROLLBACK")
            states = dict(await beside.fetch("SELECT id, state FROM stored_files"))
            assert states == {old_id: "live", file_id: "pending"} and len(stock.objects()) == 2

    asyncio.run(story())


def test_a_process_that_stops_inside_a_transaction_does_not_keep_its_locks(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        monkeypatch.setattr(database, "TRANSACTION_TIMEOUT_MS", 300)
        async with open_beside(stock) as (backends, beside):
            user_id, _ = await make_account_with_picture(backends, beside)
            got = None
            with pytest.raises(DatabaseUnavailable):
                async with backends.database.session() as db:
                    await lock_user(db, user_id)
                    # Returns when the server has taken the lock
                    # from us, before any other limit does so.
                    sooner = database.STATEMENT_TIMEOUT_MS / 1000 / 2
                    got = await beside.fetchval(
                        "SELECT id FROM users WHERE id = $1 FOR UPDATE", user_id, timeout=sooner
                    )
                    await db.execute(select(User.id))
            assert got == user_id

    ((version,),) = stock.service.sql("SHOW server_version_num")
    if int(version) < database.TRANSACTION_TIMEOUT_SINCE * 10_000:
        pytest.skip("this Postgres has no transaction_timeout")
    assert (
        database.TRANSACTION_TIMEOUT_MS > database.LOCK_TIMEOUT_MS + database.STATEMENT_TIMEOUT_MS
    )
    asyncio.run(story())
