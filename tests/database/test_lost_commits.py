"""Proves what a change does when the answer to its COMMIT is lost.

The change runs in the process of the tests, so that the answer can get lost at will.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import select

from accounts import lock_account
from connections import driver
from errors import DatabaseUnavailable, OutcomeUnknown
from files import Backends, change, delete_account, remove_picture, replace_picture
from image_utils import process_profile_image
from models import User
from tests.support import rows
from tests.support.backends import open_backends
from tests.support.pictures import jpeg
from tests.support.services import SOMEONE_WAITS, START_SECONDS
from tests.support.stock import Stock

pytestmark = pytest.mark.backends

# What becomes of a COMMIT, told the connection it is sent on.
Commit = Callable[[asyncpg.Connection], Awaitable[object]]
REAL_EXECUTE = driver.DatabaseConnection.execute


@contextlib.contextmanager
def losing(commit: Commit) -> Iterator[None]:
    """Let every COMMIT become this, as long as the context lasts."""

    async def execute(self: asyncpg.Connection, query: str, *args: Any, **options: Any) -> Any:
        if query == "COMMIT":
            return await commit(self)
        return await REAL_EXECUTE(self, query, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver.DatabaseConnection, "execute", execute)
        yield


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
    return user_id, await replace(backends, user_id)


async def replace(backends: Backends, user_id: int, commit: Commit | None = None) -> int:
    """Replace the picture, with this in place of its COMMIT; return the new file's id."""
    with losing(commit) if commit else contextlib.nullcontext():
        account = await replace_picture(backends, user_id, process_profile_image(jpeg()))
    assert account.picture is not None, "the account is answered without its new picture"
    return account.picture.id


async def find_newest(beside: asyncpg.Connection) -> int:
    """The id of the file that was reserved last."""
    newest: int = await beside.fetchval("SELECT max(id) FROM stored_files")
    return newest


async def commits_and_loses_the_connection(connection: asyncpg.Connection) -> None:
    await REAL_EXECUTE(connection, "COMMIT")
    raise ConnectionResetError("the answer was lost")


async def commits_and_the_driver_complains(connection: asyncpg.Connection) -> None:
    await REAL_EXECUTE(connection, "COMMIT")
    raise asyncpg.InterfaceError("connection is closed")


async def commits_and_runs_out_of_time(connection: asyncpg.Connection) -> None:
    await REAL_EXECUTE(connection, "COMMIT")
    raise TimeoutError


async def commits_and_the_server_ends(connection: asyncpg.Connection) -> None:
    await REAL_EXECUTE(connection, "COMMIT")
    raise asyncpg.AdminShutdownError("terminating connection due to administrator command")


async def loses_the_connection_before(connection: asyncpg.Connection) -> None:
    raise ConnectionResetError("never arrived")


async def rolls_back(connection: asyncpg.Connection) -> None:
    await REAL_EXECUTE(connection, "ROLLBACK")
    raise asyncpg.ConnectionDoesNotExistError("server closed the connection")


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
    stock: Stock, commit: Commit
) -> None:
    async def story() -> None:
        async with open_beside(stock) as (backends, beside):
            user_id, old_id = await make_account_with_picture(backends, beside)
            file_id = await replace(backends, user_id, commit)
            states = dict(await beside.fetch("SELECT id, state FROM stored_files"))
            assert file_id != old_id and states[file_id] == "live"
            assert states.get(old_id) in (None, "deleting")
            key = await beside.fetchval("SELECT key FROM stored_files WHERE id = $1", file_id)
            assert key in stock.objects()

    asyncio.run(story())


@pytest.mark.parametrize("commit", [loses_the_connection_before, rolls_back])
def test_a_commit_of_unknown_outcome_deletes_nothing(stock: Stock, commit: Commit) -> None:
    async def story() -> None:
        async with open_beside(stock) as (backends, beside):
            user_id, old_id = await make_account_with_picture(backends, beside)
            with pytest.raises(OutcomeUnknown):
                await replace(backends, user_id, commit)
            await backends.tasks.wait_for_all(START_SECONDS)
            states = dict(await beside.fetch("SELECT id, state FROM stored_files"))
            assert states == {old_id: "live", await find_newest(beside): "pending"}
            assert await beside.fetchval("SELECT picture_id FROM users") == old_id
            keys = {row["key"] for row in await beside.fetch("SELECT key FROM stored_files")}
            assert set(stock.objects()) == keys and len(keys) == 2

    asyncio.run(story())


@pytest.mark.parametrize("commit", [commits_and_loses_the_connection, loses_the_connection_before])
def test_a_lost_removal_is_answered_as_what_became_of_it(stock: Stock, commit: Commit) -> None:
    async def story() -> None:
        async with open_beside(stock) as (backends, beside):
            user_id, old_id = await make_account_with_picture(backends, beside)
            shown_id: int | None = None
            if commit is loses_the_connection_before:
                shown_id = old_id
                with losing(commit), pytest.raises(OutcomeUnknown):
                    await remove_picture(backends, user_id)
            else:
                with losing(commit):
                    assert (await remove_picture(backends, user_id)).picture is None
            assert await beside.fetchval("SELECT picture_id FROM users") == shown_id
            assert len(stock.objects()) == (1 if shown_id else 0)

    asyncio.run(story())


@pytest.mark.parametrize("commit", [commits_and_loses_the_connection, loses_the_connection_before])
def test_a_lost_deletion_of_an_account_is_answered_as_what_became_of_it(
    stock: Stock, commit: Commit
) -> None:
    async def story() -> None:
        async with open_beside(stock) as (backends, beside):
            user_id, _ = await make_account_with_picture(backends, beside)
            is_lost = commit is loses_the_connection_before
            refusal = pytest.raises(OutcomeUnknown) if is_lost else contextlib.nullcontext()
            with losing(commit), refusal:
                await delete_account(backends, user_id)
            assert await beside.fetchval("SELECT count(*) FROM users") == int(is_lost)
            assert len(stock.objects()) == int(is_lost)

    asyncio.run(story())


@pytest.mark.parametrize("ends_with", ["COMMIT", "ROLLBACK"])
def test_the_answer_waits_for_a_lost_transaction_that_is_still_on_its_way(
    stock: Stock, ends_with: str
) -> None:
    """The lost commit takes effect only while the answer waits.

    Here it is replayed on a connection of the test's own.
    """

    async def story() -> int:
        async with open_beside(stock) as (backends, beside):
            user_id, old_id = await make_account_with_picture(backends, beside)
            lost = await connect(stock)
            ending: list[asyncio.Task[None]] = []

            async def end_once_waited_for() -> None:
                while not await beside.fetchval(SOMEONE_WAITS):
                    await asyncio.sleep(0.01)
                await lost.execute(ends_with)

            async def arrives_late(connection: asyncpg.Connection) -> None:
                await REAL_EXECUTE(connection, "ROLLBACK")
                set_state = "UPDATE stored_files SET state = $1 WHERE id = $2"
                await lost.execute("BEGIN")
                await lost.fetchval("SELECT id FROM users WHERE id = $1 FOR UPDATE", user_id)
                file_id = await find_newest(beside)
                await lost.execute(set_state, "live", file_id)
                await lost.execute(
                    "UPDATE users SET picture_id = $1 WHERE id = $2", file_id, user_id
                )
                await lost.execute(set_state, "deleting", old_id)
                ending.append(asyncio.create_task(end_once_waited_for()))
                raise ConnectionResetError("the answer was lost")

            try:
                shown_id = await replace(backends, user_id, arrives_late)
                assert shown_id == await find_newest(beside)
                return shown_id
            finally:
                await ending[0]
                await lost.close()

    if ends_with == "COMMIT":
        asyncio.run(story())
    else:
        with pytest.raises(OutcomeUnknown):
            asyncio.run(story())
        assert len(stock.objects()) == 2


def test_a_lost_transaction_that_does_not_end_makes_a_503_and_deletes_nothing(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with open_beside(stock) as (backends, beside):
            user_id, old_id = await make_account_with_picture(backends, beside)

            async def stays_open(connection: asyncpg.Connection) -> None:
                await REAL_EXECUTE(connection, "ROLLBACK")
                await beside.execute("BEGIN")
                await beside.fetchval("SELECT id FROM users WHERE id = $1 FOR UPDATE", user_id)
                raise ConnectionResetError("the answer was lost")

            monkeypatch.setattr(change, "OUTCOME_LOCK_TIMEOUT_MS", 100)
            with pytest.raises(OutcomeUnknown):
                await replace(backends, user_id, stays_open)
            await beside.execute("ROLLBACK")
            states = dict(await beside.fetch("SELECT id, state FROM stored_files"))
            assert states == {old_id: "live", await find_newest(beside): "pending"}
            assert len(stock.objects()) == 2

    asyncio.run(story())


def test_a_process_that_stops_inside_a_transaction_does_not_keep_its_locks(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        monkeypatch.setattr(driver, "TRANSACTION_TIMEOUT_MS", 300)
        async with open_beside(stock) as (backends, beside):
            user_id, _ = await make_account_with_picture(backends, beside)
            got = None
            with pytest.raises(DatabaseUnavailable):
                async with backends.database.session() as db:
                    await lock_account(db, user_id)
                    # Returns when the server has taken the lock
                    # from us, before any other limit does so.
                    sooner = driver.STATEMENT_TIMEOUT_MS / 1000 / 2
                    got = await beside.fetchval(
                        "SELECT id FROM users WHERE id = $1 FOR UPDATE", user_id, timeout=sooner
                    )
                    await db.execute(select(User.id))
            assert got == user_id

    ((version,),) = stock.service.sql("SHOW server_version_num")
    if int(version) < driver.TRANSACTION_TIMEOUT_SINCE * 10_000:
        pytest.skip("this Postgres has no transaction_timeout")
    assert driver.TRANSACTION_TIMEOUT_MS > driver.LOCK_TIMEOUT_MS + driver.STATEMENT_TIMEOUT_MS
    asyncio.run(story())
