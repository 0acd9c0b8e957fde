"""Proves that the service needs nothing of a session: all of it works through Debian's pgbouncer.

As it comes, lending two connections, in both of its modes. Skipped without pgbouncer.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import select
from sqlalchemy.engine import make_url

from connections import Opening, PoolerFound
from database import Database, Statement, migrate
from jobs import Worker, enqueue
from tests.support.databases import make_database
from tests.support.pictures import jpeg
from tests.support.pooler import PGBOUNCER, pooled
from tests.support.postgres import PostgresProxy
from tests.support.services import Account, Service, wait_until
from tests.support.stock import Stock

JOBS = 40
WORKERS = 2
POOL_SIZE = 2
WAIT_SECONDS = 30.0
# Said of a session for as long as it lasts, save for what the pooler itself says to each.
SAID_TO_SESSION = """
SELECT name || ' = ' || setting FROM pg_settings WHERE source = 'session'
AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone',
                 'standard_conforming_strings')
UNION ALL SELECT 'prepared: ' || statement FROM pg_prepared_statements
"""

pytestmark = [
    pytest.mark.skipif(PGBOUNCER is None, reason="apt-get install pgbouncer"),
    pytest.mark.backends,
]


@pytest.fixture(params=["transaction", "session"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def plain(url: str) -> str:
    return url.replace("+asyncpg", "")


async def list_said_to_sessions(url: str) -> set[str]:
    """What the sessions that the pooler lends were told; all of them are asked at once."""
    connections = [
        await asyncpg.connect(plain(url), statement_cache_size=0) for _ in range(POOL_SIZE)
    ]
    said = set()
    try:
        for connection in connections:
            await connection.execute("BEGIN")  # and holds what it was lent
        for connection in connections:
            said |= {row[0] for row in await connection.fetch(SAID_TO_SESSION)}
    finally:
        for connection in connections:
            connection.terminate()
    return said


def use_all(service: Service, stock: Stock) -> Account:
    """Register, replace a picture, add a photo, wait for its thumbnails, delete an account."""
    bob = service.register("bob")
    eve = service.register("eve")
    for _ in range(2):
        answer = service.patch_picture(bob, jpeg())
        assert answer.status_code == 200, answer.text
    with service.client(bob) as client:
        answer = client.post("/photos", files={"file": ("boat.jpg", jpeg(400, 300))})
        assert answer.status_code == 201, answer.text
        photo_id = answer.json()["id"]
        assert client.patch(f"/users/{bob.id}", json={"username": "bobby"}).status_code == 200
        assert client.get("/users/me").json()["username"] == "bobby"
    made = "SELECT FROM thumbnails WHERE photo_id = $1 AND file_id IS NOT NULL"
    wait_until(lambda: stock.service.sql(made, photo_id), "the job makes thumbnails")
    with service.client(eve) as client:
        assert service.patch_picture(eve, jpeg()).status_code == 200
        assert client.delete(f"/users/{eve.id}").status_code == 204
        assert client.get("/users/me").status_code == 401
    return bob


@contextmanager
def interfering(url: str) -> Iterator[None]:
    """Let a client of the same pooler prepare statements without a name, and execute none."""
    end = threading.Event()

    async def interfere() -> None:
        connection = await asyncpg.connect(plain(url), statement_cache_size=0)
        while not end.is_set():
            await connection.prepare("SELECT 'what another client has asked'")
        connection.terminate()

    thread = threading.Thread(target=asyncio.run, args=(interfere(),))
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def test_the_whole_service_works_through_a_pooler_and_says_nothing_to_a_session(
    stock: Stock, mode: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(pooled(stock.settings["DATABASE_URL"], tmp_path, mode))
        proxy = stack.enter_context(PostgresProxy(url))
        through = {**stock.settings, "DATABASE_URL": proxy.url, "THUMBNAIL_WIDTHS": "[160]"}
        service = Service(through)
        service.start()
        stack.callback(service.stop)
        with interfering(url) if mode == "transaction" else nullcontext():
            bob = use_all(service, stock)
        with proxy.record() as trips:
            assert service.patch_picture(bob, jpeg()).status_code == 200
        print(f"{len(trips)} round trips for a picture in {mode} mode")
        assert "not handled" not in service.log()
        service.stop()
        for command in ("check", "reap"):
            done = Stock(through).run(command)
            assert done.returncode == 0, done.stdout + done.stderr
        assert asyncio.run(list_said_to_sessions(url)) == set()


def test_migrations_go_through_a_pooler_and_leave_nothing_in_a_session(
    postgres: str, mode: str, tmp_path: Path
) -> None:
    async def migrate_twice(url: str) -> None:
        await migrate(url)
        await migrate(url)
        assert await list_said_to_sessions(url) == set()
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        connection = await asyncpg.connect(plain(url), statement_cache_size=0)
        assert await connection.fetchval(held) == 0
        connection.terminate()

    with pooled(make_database(postgres, None), tmp_path, mode) as url:
        asyncio.run(asyncio.wait_for(migrate_twice(url), WAIT_SECONDS))


def test_a_pooler_that_comes_between_later_is_noticed(stock: Stock, tmp_path: Path) -> None:
    """Even one that is told to ignore what it does not know."""
    one = Statement(select(1))
    ignoring = "ignore_startup_parameters = " + ", ".join(
        ("default_transaction_isolation", "statement_timeout", "lock_timeout")
    )

    async def story(direct: str, through: str) -> None:
        way = Database(direct, 1)
        assert await way.fetch(one)
        await way.dispose()
        opening = Opening(lambda: None)
        parts = make_url(through)
        with pytest.raises(PoolerFound):
            await opening.open_directly(
                host=parts.host, port=parts.port, user=parts.username, database=parts.database
            )
        way = Database(through, 1)
        assert await way.fetch(one)
        await way.dispose()

    direct = stock.settings["DATABASE_URL"]
    with pooled(direct, tmp_path, "transaction", more=ignoring) as through:
        asyncio.run(story(direct, through))


def test_jobs_are_done_once_each(stock: Stock, tmp_path: Path) -> None:
    done: list[int] = []

    async def note(number: int) -> None:
        done.append(number)

    async def add(opened: Database, number: int) -> None:
        async with opened.transaction() as transaction:
            await enqueue(transaction, "note", {"number": number})
            await transaction.commit()

    async def story(url: str) -> None:
        databases = [Database(url, 5) for _ in range(WORKERS)]
        workers = [Worker(opened, {"note": note}) for opened in databases]
        for worker in workers:
            worker.start()
        await asyncio.gather(*(add(databases[n % WORKERS], n) for n in range(JOBS)))
        while len(done) < JOBS:
            await asyncio.sleep(0.05)
        for worker in workers:
            await worker.stop(WAIT_SECONDS)
        for opened in databases:
            await opened.dispose()

    with pooled(stock.settings["DATABASE_URL"], tmp_path, "transaction") as url:
        asyncio.run(asyncio.wait_for(story(url), WAIT_SECONDS))
    assert sorted(done) == list(range(JOBS))
