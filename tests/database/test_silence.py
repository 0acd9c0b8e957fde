"""Proves that waits for a silent database end soon, and that those for a slow one go on.

It may be slow for a lock, for its disk, or because it allows few connections.

The limits of time are a fraction of the real ones, and the margins wide.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import pytest
from sqlalchemy import select
from sqlalchemy.engine import make_url

import database
from connections import DatabaseConnection, watch
from database import Statement
from errors import DatabaseUnavailable, OutcomeUnknown
from files import Backends, change, replace_picture, statements
from image_utils import process_profile_image
from models import User
from tests.support import rows
from tests.support.accounts import make_account
from tests.support.backends import open_backends
from tests.support.pictures import jpeg
from tests.support.postgres import PostgresProxy
from tests.support.services import get
from tests.support.stock import Stock

# What the waits below take is a second or two; without their limits it is 20 at least.
WIDE_SECONDS = 10.0
POOL_SIZE = 3
UPLOADS = 20
ONE = Statement(select(1))
# Whatever commits such a change takes a second longer.
SLOW_DISK = (
    "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$",
    "CREATE CONSTRAINT TRIGGER wait AFTER UPDATE ON users"
    " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()",
)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "DOUBT_SECONDS", 0.3)
    monkeypatch.setattr(watch, "ASK_SECONDS", WIDE_SECONDS)
    monkeypatch.setattr(database, "COMMIT_PATIENCE_SECONDS", 0.4)


@pytest.fixture
def is_asked_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a server that does answer this is too little now and then, where all cores are busy."""
    monkeypatch.setattr(watch, "ASK_SECONDS", 0.5)


@pytest.fixture
def proxy(local_stock: Stock) -> Iterator[PostgresProxy]:
    with PostgresProxy(local_stock.settings["DATABASE_URL"]) as proxy:
        yield proxy


def run(
    stock: Stock, url: str, story: Callable[[Backends], Awaitable[None]], *, pool_size: int
) -> None:
    """Run a story on connections by this URL."""

    async def open_and_run() -> None:
        settings = stock.parsed_settings.model_copy(update={"database_url": url})
        async with open_backends(settings, stock.stores, pool_size=pool_size) as backends:
            async with asyncio.timeout(WIDE_SECONDS):
                await story(backends)

    asyncio.run(open_and_run())


async def replace(backends: Backends, user_id: int) -> int | None:
    account = await replace_picture(backends, user_id, process_profile_image(jpeg()))
    return account.picture.id if account.picture else None


async def use_every_way(backends: Backends) -> list[BaseException | None]:
    """Whatever comes of a statement, a transaction, a reader and a session at once."""

    async def fetch() -> None:
        await backends.database.fetch(ONE)

    async def begin() -> None:
        async with backends.database.transaction() as transaction:
            await transaction.fetch(ONE)

    async def read() -> None:
        async with backends.database.reader() as db:
            await db.execute(select(1))

    async def open_session() -> None:
        async with backends.database.session() as db:
            await db.execute(select(1))

    ways = [fetch, begin, read, open_session] * 2
    return list(await asyncio.gather(*(way() for way in ways), return_exceptions=True))


@pytest.mark.usefixtures("is_asked_briefly")
def test_silence_in_mid_commit_is_an_unknown_outcome_and_others_are_refused_soon(
    local_stock: Stock, proxy: PostgresProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_id = rows.account("eve").run(local_stock.service)
    silent = asyncio.Event()
    real_execute = DatabaseConnection.execute

    async def execute(self: DatabaseConnection, query: str, *args: object) -> str:
        if query == "COMMIT":
            proxy.silence(True)
            silent.set()
        return await real_execute(self, query, *args)

    async def story(backends: Backends) -> None:
        assert await use_every_way(backends) == [None] * 8
        monkeypatch.setattr(DatabaseConnection, "execute", execute)
        replacing = asyncio.create_task(replace(backends, user_id))
        await silent.wait()
        for refusal in await use_every_way(backends):
            assert isinstance(refusal, DatabaseUnavailable), refusal
        with pytest.raises(OutcomeUnknown):
            await replacing
        proxy.silence(False)
        assert await use_every_way(backends) == [None] * 8
        assert proxy.connections() <= POOL_SIZE

    run(local_stock, proxy.url, story, pool_size=POOL_SIZE)


@pytest.mark.usefixtures("is_asked_briefly")
@pytest.mark.parametrize("is_session", [False, True])
def test_a_statement_in_a_transaction_ends_when_the_server_falls_silent(
    local_stock: Stock, proxy: PostgresProxy, is_session: bool
) -> None:
    async def story(backends: Backends) -> None:
        with pytest.raises(DatabaseUnavailable):
            if is_session:
                async with backends.database.session() as db:
                    await db.execute(select(1))
                    proxy.silence(True)
                    await db.execute(select(1))
            else:
                async with backends.database.transaction() as transaction:
                    await transaction.fetch(ONE)
                    proxy.silence(True)
                    await transaction.fetch(ONE)

    run(local_stock, proxy.url, story, pool_size=1)


@pytest.mark.parametrize("is_session", [False, True])
def test_a_lock_is_waited_for_while_the_server_is_there(
    local_stock: Stock, is_session: bool
) -> None:
    user_id = rows.account("eve").run(local_stock.service)
    url = local_stock.settings["DATABASE_URL"]
    lock = "SELECT FROM users WHERE id = $1 FOR UPDATE"

    async def story(backends: Backends) -> None:
        holder = await asyncpg.connect(url.replace("+asyncpg", ""))
        await holder.execute("BEGIN")
        await holder.execute(lock, user_id)
        release = asyncio.get_running_loop().call_later(
            5 * watch.DOUBT_SECONDS, lambda: asyncio.ensure_future(holder.execute("ROLLBACK"))
        )
        if is_session:
            async with backends.database.session() as db:
                await db.execute(select(User.id).with_for_update())
        else:
            async with backends.database.transaction() as transaction:
                assert await transaction.fetch_row(statements.LOCK_OWNER, owner_id=user_id)
        assert release.when() < asyncio.get_running_loop().time()
        await holder.close()

    run(local_stock, url, story, pool_size=1)


def test_a_commit_of_a_slow_disk_is_answered_as_done_when_it_is(local_stock: Stock) -> None:
    user_id = rows.account("eve").run(local_stock.service)
    for statement in SLOW_DISK:
        local_stock.service.sql(statement)

    async def story(backends: Backends) -> None:
        shown_id = await replace(backends, user_id)
        (row,) = await backends.database.fetch(Statement(select(User.picture_id)))
        assert row["picture_id"] == shown_id

    assert change.OUTCOME_LOCK_TIMEOUT_MS > 1_000
    run(local_stock, local_stock.settings["DATABASE_URL"], story, pool_size=2)


def test_uploads_share_the_two_connections_that_a_database_allows(local_stock: Stock) -> None:
    database_name = make_url(local_stock.settings["DATABASE_URL"]).database
    service = local_stock.service
    service.start()
    try:
        accounts = [make_account(service, f"user{number}") for number in range(UPLOADS)]
        service.sql(f"ALTER DATABASE {database_name} CONNECTION LIMIT 2")
        with ThreadPoolExecutor(UPLOADS) as threads:
            answers = list(threads.map(lambda bob: service.patch_picture(bob, jpeg()), accounts))
        assert {answer.status_code for answer in answers} == {200}
        assert get(f"{service.url}/health/ready").status_code == 200
    finally:
        service.stop()
    assert service.log().count("DATABASE_POOL_SIZE=10") == 1
