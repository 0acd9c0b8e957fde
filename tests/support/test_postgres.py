"""Proves that the proxy before Postgres loses exactly the COMMITs that it is told to lose."""

import asyncio
import contextlib
import gc
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from tests.support.databases import make_database
from tests.support.pictures import jpeg
from tests.support.postgres import PostgresProxy
from tests.support.services import SOMEONE_WAITS, START_SECONDS, Service, wait_until

INSERT = text("INSERT INTO\n  notes (id) VALUES (:id)")
TABLES = (
    "CREATE TABLE notes (id integer PRIMARY KEY, more text)",
    "CREATE TABLE slow (id integer PRIMARY KEY)",
    "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END'",
    "CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION wait()",
)
LOST = (DBAPIError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)

OTHER_SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


@pytest.fixture(scope="module")
def database(postgres: str) -> str:
    """The URL of a database with empty tables."""
    url = make_database(postgres, None)
    for statement in TABLES:
        asyncio.run(ask(url, statement))
    return url


@pytest.fixture
def proxy(database: str) -> Iterator[PostgresProxy]:
    asyncio.run(ask(database, "TRUNCATE notes"))
    with PostgresProxy(database) as proxy:
        yield proxy


async def ask(url: str, statement: str) -> list[Any]:
    """The first column of the answer, over a connection of its own."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return [row[0] for row in await connection.fetch(statement)]
    finally:
        await connection.close()


def notes(database: str) -> list[int]:
    return asyncio.run(ask(database, "SELECT id FROM notes ORDER BY id"))


def other_sessions(database: str) -> int:
    """How many others the server serves in this database."""
    (count,) = asyncio.run(ask(database, OTHER_SESSIONS))
    return int(count)


async def insert(engine: AsyncEngine, number: int) -> None:
    async with engine.connect() as connection:
        await connection.execute(INSERT, {"id": number})
        await connection.commit()


def insert_and_lose(proxy: PostgresProxy) -> None:
    async def run() -> None:
        with pytest.raises(LOST):
            await insert(create_async_engine(proxy.url, poolclass=NullPool), 1)

    asyncio.run(run())


def test_a_lost_reply_means_committed_and_an_error_for_the_client(
    proxy: PostgresProxy, database: str
) -> None:
    seen: list[object] = []
    done = proxy.lose_reply(
        "insert into NOTES", then=lambda: seen.extend([notes(database), proxy.connections()])
    )
    insert_and_lose(proxy)
    assert done.wait(START_SECONDS)
    assert seen == [[1], 1], (
        "what is called in between finds the row committed and the client still waiting"
    )
    assert (notes(database), proxy.dropped, proxy.connections()) == ([1], 1, 0)


def test_a_lost_request_means_rolled_back_and_an_error_for_the_client(
    proxy: PostgresProxy, database: str
) -> None:
    seen: list[object] = []
    done = proxy.lose_request(
        "INSERT INTO notes", then=lambda: seen.extend([notes(database), proxy.connections()])
    )
    insert_and_lose(proxy)
    assert done.wait(START_SECONDS)
    assert seen == [[], 1]
    assert other_sessions(database) == 0, "the server has not let go of the transaction"
    assert (notes(database), proxy.dropped, proxy.connections()) == ([], 1, 0)


def test_a_late_commit_holds_its_locks_until_it_comes(proxy: PostgresProxy, database: str) -> None:
    done = proxy.late("INSERT INTO notes", seconds=1.0)
    insert_and_lose(proxy)
    assert (notes(database), proxy.connections(), proxy.cut_all()) == ([], 0, 0)
    with pytest.raises(asyncpg.UniqueViolationError):  # waits for the other one's end
        asyncio.run(ask(database, "INSERT INTO notes VALUES (1)"))
    assert done.wait(START_SECONDS)
    assert (notes(database), proxy.dropped) == ([1], 1)


def test_a_statement_that_was_prepared_before_counts_each_time_that_it_is_executed(
    proxy: PostgresProxy, database: str
) -> None:
    done = proxy.lose_reply("INSERT INTO notes", nth=3)

    async def insert_thrice() -> int:
        engine = create_async_engine(proxy.url, pool_size=1, max_overflow=0)
        await insert(engine, 1)
        async with engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            prepared = await driver.fetchval(
                "SELECT count(*) FROM pg_prepared_statements WHERE statement ~ '^INSERT'"
            )
        await insert(engine, 2)
        with pytest.raises(LOST):
            await insert(engine, 3)
        await insert(engine, 4)
        await engine.dispose()
        return int(prepared)

    assert asyncio.run(insert_thrice()) == 1, (
        "the statement was not kept by the server, so nothing is proven"
    )
    assert done.wait(START_SECONDS)
    assert (notes(database), proxy.dropped) == ([1, 2, 3, 4], 1)


def test_only_a_commit_of_the_statement_is_lost(proxy: PostgresProxy, database: str) -> None:
    done = proxy.lose_request("INSERT INTO notes (id) VALUES (")

    async def others() -> None:
        engine = create_async_engine(proxy.url, pool_size=1, max_overflow=0)
        async with engine.connect() as connection:
            await connection.execute(INSERT, {"id": 1})
            await connection.rollback()
            await connection.execute(text("SELECT id FROM notes"))
            await connection.commit()
            await connection.execute(text("INSERT INTO notes VALUES (2)"))
            await connection.commit()
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await connection.execute(text("SELECT id FROM notes"))  # begins a transaction
            await driver.prepare("INSERT INTO notes (id) VALUES (3)")  # and never executed
            await connection.commit()
        await engine.dispose()

    asyncio.run(others())
    assert (notes(database), proxy.dropped, done.is_set()) == ([2], 0, False)
    insert_and_lose(proxy)
    assert done.wait(START_SECONDS)
    assert notes(database) == [2]


def test_two_orders_for_one_commit_are_carried_out_one_after_the_other(
    proxy: PostgresProxy, database: str
) -> None:
    first = proxy.lose_request("INSERT INTO notes")
    second = proxy.lose_reply("notes")
    insert_and_lose(proxy)
    assert first.wait(START_SECONDS) and not second.is_set()
    assert notes(database) == []
    insert_and_lose(proxy)
    assert second.wait(START_SECONDS)
    assert (notes(database), proxy.dropped) == ([1], 2)


@pytest.mark.parametrize("order", ["lose_reply", "lose_request"])
def test_a_commit_by_the_extended_protocol_is_lost_as_well(
    proxy: PostgresProxy, database: str, order: str
) -> None:
    seen: list[list[int]] = []
    orders: list[threading.Event] = []

    async def commit() -> None:
        connection = await asyncpg.connect(proxy.url.replace("+asyncpg", ""))
        await connection.execute("SELECT 'before the transaction'")
        # What was said before a transaction is none of it.
        orders.append(proxy.lose_request("before the transaction"))
        lose = getattr(proxy, order)
        orders.append(lose("INSERT INTO notes", then=lambda: seen.append(notes(database))))
        await connection.execute("START TRANSACTION")
        await connection.execute("INSERT INTO notes VALUES ($1)", 7)
        with pytest.raises(LOST):
            await connection.fetch("COMMIT")

    asyncio.run(commit())
    before, done = orders
    assert done.wait(START_SECONDS) and not before.is_set()
    assert seen == [notes(database)] == [[7] if order == "lose_reply" else []]


@pytest.mark.parametrize("protocol", ["execute", "fetch"])  # the simple one, the extended one
@pytest.mark.parametrize("order", ["lose_reply", "lose_request", "late"])
def test_a_statement_outside_of_any_transaction_is_its_own_commit(
    proxy: PostgresProxy, database: str, order: str, protocol: str
) -> None:
    more = {"seconds": 0.0} if order == "late" else {}
    done = getattr(proxy, order)("INSERT INTO notes", nth=2, **more)

    async def insert_twice() -> None:
        connection = await asyncpg.connect(proxy.url.replace("+asyncpg", ""))
        await getattr(connection, protocol)("INSERT INTO notes VALUES (1)")
        await connection.execute("BEGIN")
        await connection.execute("SELECT id FROM notes")
        await connection.execute("ROLLBACK")
        with pytest.raises(LOST):
            await getattr(connection, protocol)("INSERT INTO notes VALUES (2)")

    asyncio.run(insert_twice())
    assert done.wait(START_SECONDS)
    assert notes(database) == ([1] if order == "lose_request" else [1, 2])


def test_what_is_to_happen_before_a_statement_happens_once_and_loses_nothing(
    proxy: PostgresProxy, database: str
) -> None:
    seen: list[list[int]] = []
    done = proxy.before("INSERT INTO notes", nth=2, then=lambda: seen.append(notes(database)))

    async def insert_thrice() -> None:
        engine = create_async_engine(proxy.url, poolclass=NullPool)
        for number in range(3):
            await insert(engine, number)

    asyncio.run(insert_thrice())
    assert done.is_set() and seen == [[0]]
    assert (notes(database), proxy.dropped) == ([0, 1, 2], 0)


def test_a_commit_is_passed_on_in_the_midst_of_a_crash(proxy: PostgresProxy, database: str) -> None:
    def wait_for_commit() -> None:
        wait_until(lambda: notes(database) == [1], "the COMMIT arrives")

    done = proxy.crash("INSERT INTO notes", seconds=0, then=wait_for_commit)
    insert_and_lose(proxy)
    assert done.wait(START_SECONDS)
    assert (notes(database), proxy.dropped, proxy.connections()) == ([1], 1, 0)


def test_each_message_that_is_waited_for_is_a_round_trip(proxy: PostgresProxy) -> None:
    async def ask_thrice() -> None:
        connection = await asyncpg.connect(proxy.url.replace("+asyncpg", ""))
        await connection.execute("BEGIN;  SELECT 1")
        for _ in range(2):  # prepared, and executed twice
            await connection.fetch("SELECT id FROM notes")
        await connection.execute("COMMIT")
        await connection.close()

    with proxy.record() as trips:
        asyncio.run(ask_thrice())
    asyncio.run(ask_thrice())
    found = [(trip.sql, trip.is_executed) for trip in trips]
    read = ("select id from notes", True)
    prepared = ("select id from notes", False)
    assert found == [("begin; select 1", True), prepared, read, read, ("commit", True)]
    assert [trip.begins for trip in trips] == [True, False, False, False, False]


def test_in_silence_connections_stay_and_nothing_passes(
    proxy: PostgresProxy, database: str
) -> None:
    async def ask_in_silence() -> None:
        url = proxy.url.replace("+asyncpg", "")
        connection = await asyncpg.connect(url)
        proxy.is_silent = True
        for asked in (
            connection.execute("INSERT INTO notes VALUES (1)", timeout=0.3),
            asyncpg.connect(url, timeout=0.3),
        ):
            with pytest.raises(TimeoutError):
                await asked
        await asyncio.to_thread(proxy.silence, False)
        assert await ask(proxy.url, "SELECT 1") == [1]

    asyncio.run(ask_in_silence())
    assert notes(database) == []


@pytest.mark.parametrize("protocol", ["execute", "fetch"])  # the simple one, the extended one
@pytest.mark.parametrize("order", ["lose_reply", "late"])
def test_a_commit_that_takes_long_is_waited_for(
    proxy: PostgresProxy, database: str, order: str, protocol: str
) -> None:
    """A trigger that fires at the commit waits for a lock of the test's own."""
    called = threading.Event()
    if order == "late":
        done = proxy.late("INSERT INTO slow", seconds=0)
    else:
        done = proxy.lose_reply("INSERT INTO slow", then=called.set)

    async def commit() -> None:
        client = await asyncpg.connect(proxy.url.replace("+asyncpg", ""))
        await client.execute("BEGIN")
        await client.execute("INSERT INTO slow VALUES (1)")
        with pytest.raises(LOST):
            await getattr(client, protocol)("COMMIT")

    async def hold() -> None:
        holder = await asyncpg.connect(database.replace("+asyncpg", ""))
        await holder.execute("SELECT pg_advisory_lock(1)")
        committing = asyncio.create_task(commit())
        while not await holder.fetchval(SOMEONE_WAITS):
            await asyncio.sleep(0.01)
        if order == "late":
            await committing
        gc.collect()  # of a late one nobody but the proxy holds on to anything
        await asyncio.sleep(0.1)
        assert not done.is_set() and not called.is_set()
        await holder.close()
        await committing

    asyncio.run(hold())
    assert done.wait(START_SECONDS)
    assert asyncio.run(ask(database, "DELETE FROM slow RETURNING id")) == [1]


def test_messages_in_pieces_and_large_ones_pass_whole(proxy: PostgresProxy, database: str) -> None:
    """A client that asks for TLS, is refused, and then sends byte by byte."""
    done = proxy.lose_reply("INSERT")
    port = int(proxy.url.rpartition(":")[2].partition("/")[0])
    name = database.rpartition("/")[2].partition("?")[0]
    start = struct.pack("!I", 196608) + f"user\0postgres\0database\0{name}\0\0".encode()
    queries = [b"BEGIN", b"INSERT INTO notes VALUES (9, 'x')", b"COMMIT"]
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(START_SECONDS)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(struct.pack("!II", 8, 80877103))
        assert client.recv(1) == b"N"
        sent = struct.pack("!I", len(start) + 4) + start
        for query in queries:
            for byte in sent:
                client.sendall(bytes([byte]))
            while not client.recv(4096).endswith((b"ZI", b"Z\0\0\0\5I", b"Z\0\0\0\5T")):
                pass
            sent = b"Q" + struct.pack("!I", len(query) + 5) + query + b"\0"
        client.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b"", "the reply was not lost"
    assert done.wait(START_SECONDS)
    assert notes(database) == [9]

    async def large() -> str | None:
        connection = await asyncpg.connect(proxy.url.replace("+asyncpg", ""))
        await connection.execute("INSERT INTO notes VALUES ($1, $2)", 10, "é" * 1_000_000)
        found: str | None = await connection.fetchval("SELECT more FROM notes WHERE id = 10")
        await connection.close()
        return found

    assert asyncio.run(large()) == "é" * 1_000_000


def test_cutting_and_refusing(proxy: PostgresProxy) -> None:
    url = proxy.url.replace("+asyncpg", "")

    async def cut() -> None:
        clients = [await asyncpg.connect(url) for _ in range(3)]
        sleeper = clients[0].get_server_pid()
        assert proxy.connections() == 3
        asking = asyncio.create_task(clients[0].execute("SELECT pg_sleep(60)"))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(proxy.cut_all) == 3
        for broken in (asking, clients[1].execute("SELECT 1"), clients[2].execute("SELECT 1")):
            with pytest.raises(LOST):
                await broken
        proxy.refuse(True)
        with pytest.raises(LOST):
            await asyncpg.connect(url)
        assert proxy.connections() == 0
        proxy.refuse(False)
        assert await ask(proxy.url, f"SELECT pg_terminate_backend({sleeper})") == [True]

    asyncio.run(cut())
    assert proxy.dropped == 0
    wait_until(lambda: proxy.connections() == 0, "a client that left counts no more")


def test_a_client_that_gives_up_can_cancel_its_statement(proxy: PostgresProxy) -> None:
    async def give_up() -> object:
        connection = await asyncpg.connect(proxy.url.replace("+asyncpg", ""))
        with pytest.raises(TimeoutError):
            await connection.execute("SELECT pg_sleep(90)", timeout=0.1)
        answer = await connection.fetchval("SELECT 1", timeout=START_SECONDS)
        await connection.close()
        return answer

    assert asyncio.run(give_up()) == 1


def test_the_server_learns_that_a_client_is_gone_and_the_client_that_the_server_is(
    proxy: PostgresProxy, database: str
) -> None:
    async def leave() -> None:
        connection = await asyncpg.connect(proxy.url.replace("+asyncpg", ""))
        await connection.execute("BEGIN; INSERT INTO notes VALUES (1)")
        connection.terminate()
        await asyncio.to_thread(
            wait_until, lambda: other_sessions(database) == 0, "the server ended the session"
        )
        connection = await asyncpg.connect(proxy.url.replace("+asyncpg", ""))
        pid = connection.get_server_pid()
        with pytest.raises(LOST):
            await asyncio.gather(
                connection.execute("SELECT pg_sleep(60)"),
                ask(database, f"SELECT pg_terminate_backend({pid})"),
            )

    asyncio.run(leave())
    assert notes(database) == []


def test_a_service_finds_out_what_became_of_its_swap(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    with PostgresProxy(new_database()) as proxy:
        service = Service(
            {"DATABASE_URL": proxy.url, "DATA_DIR": str(tmp_path), "STORAGE": "local"}
        )
        service.start()
        try:
            account = service.register()
            committed = proxy.lose_reply("UPDATE users SET picture_id")
            answer = service.patch_picture(account, jpeg())
            assert (answer.status_code, committed.wait(START_SECONDS)) == (200, True), answer.text
            first = answer.json()["image_file"]
            rolled_back = proxy.lose_request("UPDATE users SET picture_id")
            answer = service.patch_picture(account, jpeg())
            assert (answer.status_code, rolled_back.wait(START_SECONDS)) == (503, True), answer.text
            with service.client() as client:
                assert client.get(f"/users/{account.id}").json()["image_file"] == first
            late = proxy.late("UPDATE users SET picture_id", seconds=0.3)
            answer = service.patch_picture(account, jpeg())
            assert (answer.status_code, late.wait(START_SECONDS)) == (200, True), answer.text
            assert answer.json()["image_file"] != first
            assert proxy.dropped == 3
        finally:
            service.stop()
