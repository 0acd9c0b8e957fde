"""Proves that what was answered survives a crash of Postgres, and that every wait for it ends."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.engine import make_url

from connections import driver
from database import Statement
from errors import DatabaseUnavailable, OutcomeUnknown
from files import Backends, replace_picture, statements
from image_utils import process_profile_image
from ops import embedded_postgres
from tests.support import rows
from tests.support.databases import execute, make_database
from tests.support.launched import launched
from tests.support.pictures import jpeg
from tests.support.postgres import PostgresProxy
from tests.support.postgres_server import kill_server
from tests.support.services import START_SECONDS, Account, Service, get, wait_until
from tests.support.stock import Stock

# Notes, at the very moment of its commit, how durable the change of a row is.
NOTING = (
    "CREATE TABLE noted (what text, durability text)",
    "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " INSERT INTO noted VALUES (TG_OP || ' ' || TG_TABLE_NAME,"
    " current_setting('synchronous_commit')); RETURN NULL; END $$",
    *(
        f"CREATE CONSTRAINT TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON {table}"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note()"
        for table in ("stored_files", "users")
    ),
)
DAY_SECONDS = 24 * 3600.0
RENAME = "UPDATE users SET username"
PASSWORD = "UPDATE users SET password_hash"
LOGOUT = "UPDATE users SET tokens_valid_after"


def tune(stock: Stock, durability: str) -> None:
    name = make_url(stock.settings["DATABASE_URL"]).database
    stock.service.sql(f"ALTER DATABASE {name} SET synchronous_commit = {durability}")
    for statement in NOTING:
        stock.service.sql(statement)


@pytest.mark.backends
@pytest.mark.parametrize(("tuned", "kept"), [("off", "on"), ("remote_apply", "remote_apply")])
def test_every_change_but_forgetting_is_durable_whatever_the_database_is_set_to(
    local_stock: Stock, tuned: str, kept: str
) -> None:
    tune(local_stock, tuned)
    service = local_stock.service
    service.settings["EMBEDDED_REAPER"] = "false"
    service.start()
    try:
        bob = service.register("bob")
        assert service.patch_picture(bob, jpeg()).status_code == 200
        assert service.patch_picture(bob, jpeg()).status_code == 200
        with service.client(bob) as client:
            assert client.delete(f"/users/{bob.id}/picture").status_code == 200
            assert client.patch(f"/users/{bob.id}", json={"username": "bobby"}).is_success
            assert client.delete(f"/users/{bob.id}").status_code == 204
    finally:
        service.stop()
    found = local_stock.service.sql("SELECT DISTINCT what, durability FROM noted")
    durable = {"INSERT users", "UPDATE users", "DELETE users"}
    durable |= {"INSERT stored_files", "UPDATE stored_files"}
    noted = {(row["what"], row["durability"]) for row in found}
    assert noted == {("DELETE stored_files", "off"), *((what, kept) for what in durable)}


@pytest.mark.backends
def test_claims_of_the_reaper_are_durable_whatever_the_database_is_set_to(
    local_stock: Stock,
) -> None:
    local_stock.row("pending", stored=False)
    local_stock.row("doomed")
    local_stock.row("doomed", due_in_seconds=365 * DAY_SECONDS)  # of a wrong clock, brought back
    local_stock.row("doomed", storage="unknown", stored=False)
    tune(local_stock, "off")
    assert local_stock.reap() == 4
    found = local_stock.service.sql("SELECT what, durability FROM noted")
    noted = [(row["what"], row["durability"]) for row in found]
    assert noted.count(("UPDATE stored_files", "on")) == 5
    assert noted.count(("DELETE stored_files", "off")) == 2


def test_what_was_answered_survives_a_kill_of_a_server_that_is_tuned_for_speed(
    tmp_path: Path,
) -> None:
    """It writes its log every ten seconds, so what does not wait for the disk is not there."""
    with embedded_postgres.running(tmp_path) as url:
        tuning = ("synchronous_commit = off", "wal_writer_delay = '10s'")
        execute(url, *(f"ALTER SYSTEM SET {setting}" for setting in tuning))
        execute(url, "SELECT pg_reload_conf()")
        with PostgresProxy(url) as proxy:
            settings = {"DATABASE_URL": proxy.url, "DATA_DIR": str(tmp_path), "STORAGE": "local"}
            service = Service({**settings, "EMBEDDED_REAPER": "false"})
            service.start()
            try:
                bob = service.register("bob")
                answer = service.patch_picture(bob, jpeg())
                kill_server(tmp_path)
                shown = answer.json()["image_file"]
                wait_until(lambda: read_shown(service, bob) == shown, "what was answered is there")
                killed = proxy.before("BEGIN ISOLATION LEVEL", then=lambda: kill_server(tmp_path))
                answer = service.patch_picture(bob, jpeg())
                assert (answer.status_code, killed.wait(START_SECONDS)) == (503, True)
                wait_until(lambda: read_shown(service, bob) == shown, "the server is back")
                states = service.sql("SELECT state FROM stored_files ORDER BY id")
                assert [row["state"] for row in states] == ["live", "pending"]
                assert len(service.objects()) == 2
            finally:
                service.stop()


def read_shown(service: Service, account: Account) -> str | None:
    """The name of the picture that the account shows; raises nothing while the server is away."""
    body: dict[str, str] = get(f"{service.url}/users/{account.id}", timeout=60).json()
    return body.get("image_file")


def test_the_embedded_server_keeps_what_it_has_committed(tmp_path: Path) -> None:
    async def ask(url: str) -> dict[str, str]:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            found = await connection.fetch(
                "SELECT name, setting FROM pg_settings WHERE name = ANY($1)",
                ["fsync", "full_page_writes", "synchronous_commit"],
            )
            return {row["name"]: row["setting"] for row in found}
        finally:
            await connection.close()

    with embedded_postgres.running(tmp_path) as url:
        kept = asyncio.run(ask(url))
    assert kept == dict.fromkeys(("fsync", "full_page_writes", "synchronous_commit"), "on")


@pytest.fixture(scope="module")
def proxy(postgres: str, template: str) -> Iterator[PostgresProxy]:
    with PostgresProxy(make_database(postgres, template)) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def behind(proxy: PostgresProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service behind the proxy that waits for no answer longer than a second."""
    settings = {"DATABASE_URL": proxy.url, "DATA_DIR": str(tmp_path_factory.mktemp("behind"))}
    limits = {"connections.watch.DOUBT_SECONDS": 0.5, "connections.watch.ASK_SECONDS": 0.5}
    service = launched({**settings, "STORAGE": "local", "EMBEDDED_REAPER": "false"}, limits)
    service.start()
    yield service
    proxy.silence(False)
    service.stop()


@pytest.mark.parametrize("is_committed", [True, False])
@pytest.mark.parametrize("change", ["registration", "rename", "password", "logout"])
def test_a_lost_commit_of_an_account_is_never_answered_as_done(
    behind: Service, proxy: PostgresProxy, change: str, is_committed: bool
) -> None:
    name = f"{change}-{is_committed}".lower()
    lose = proxy.lose_reply if is_committed else proxy.lose_request
    columns = "username, password_hash, tokens_valid_after"
    if change == "registration":
        before = []
        lost = lose("INSERT INTO users")
        given = {"username": name, "email": f"{name}@example.com", "password": "a-password"}
        with behind.client() as client:
            answer = client.post("/users", json=given)
        after = behind.sql("SELECT id FROM users WHERE username = $1", name)
    else:
        bob = behind.register(name)
        read = f"SELECT {columns} FROM users WHERE id = $1"
        before = behind.sql(read, bob.id)
        with behind.client(bob) as client:
            if change == "logout":
                lost = lose(LOGOUT)
                answer = client.delete("/users/token")
            elif change == "rename":
                lost = lose(RENAME)
                answer = client.patch(f"/users/{bob.id}", json={"username": f"{name}-new"})
            else:
                lost = lose(PASSWORD)
                given = {"password": "another-password", "current_password": bob.password}
                answer = client.patch(f"/users/{bob.id}", json=given)
        after = behind.sql(read, bob.id)
    assert lost.wait(START_SECONDS)
    assert (answer.status_code, answer.json()["code"]) == (503, "outcome_unknown"), answer.text
    assert (before != after) == is_committed


@pytest.mark.parametrize("is_connected", [True, False])
def test_a_server_that_says_nothing_any_more_makes_503s(
    behind: Service, proxy: PostgresProxy, is_connected: bool
) -> None:
    bob = behind.register(f"silent-{is_connected}".lower())
    if not is_connected:
        proxy.cut_all()
    proxy.silence(True)
    try:
        with behind.client(bob) as client:
            answers = [client.get(f"/users/{bob.id}"), client.get("/users/me")]
        answers.append(behind.patch_picture(bob, jpeg()))
    finally:
        proxy.silence(False)
    told = {(answer.status_code, answer.json()["code"]) for answer in answers}
    assert told == {(503, "database_unavailable")}
    wait_until(
        lambda: get(f"{behind.url}/users/{bob.id}", timeout=60).status_code == 200,
        "the service works again",
    )


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError,
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("cannot switch to state 15; another operation is in progress"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
    ],
)
def test_a_connection_that_died_costs_a_statement_nothing_and_a_transaction_a_503(
    stock: Stock, monkeypatch: pytest.MonkeyPatch, error: type[Exception] | Exception
) -> None:
    real_fetch = driver.DatabaseConnection.fetch
    is_dead = [True]

    async def fetch(self: asyncpg.Connection, *args: Any) -> object:
        if is_dead.pop():
            is_dead.append(False)
            raise error
        is_dead.append(False)
        return await real_fetch(self, *args)

    monkeypatch.setattr(driver.DatabaseConnection, "fetch", fetch)
    one = Statement(select(1))

    async def read(backends: Backends) -> None:
        assert await backends.database.fetch(one)

    async def read_in_transaction(backends: Backends) -> None:
        async with backends.database.transaction() as transaction:
            await transaction.fetch(one)

    stock.ask(read)
    is_dead[:] = [True]
    with pytest.raises(DatabaseUnavailable):
        stock.ask(read_in_transaction)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InternalClientError("cannot switch to state 15; another operation is in progress"),
        asyncpg.InterfaceError("connection is closed"),
        ConnectionResetError(),
    ],
)
def test_a_server_that_dies_while_a_connection_is_made_is_an_outage(
    stock: Stock, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def die(*_: object) -> str:
        raise error

    async def read(backends: Backends) -> None:
        with pytest.raises(DatabaseUnavailable):
            await backends.database.fetch(Statement(select(1)))

    monkeypatch.setattr(driver.DatabaseConnection, "execute", die)
    stock.ask(read)


@pytest.mark.backends
def test_the_server_ends_a_statement_and_a_wait_for_a_lock_that_take_too_long(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "STATEMENT_TIMEOUT_MS", 200)
    sleep = Statement(select(func.pg_sleep(START_SECONDS)))
    user_id = rows.account("eve").run(stock.service)

    async def sleep_long(backends: Backends) -> None:
        async with backends.database.transaction() as transaction:
            await transaction.fetch(sleep)

    with pytest.raises(DatabaseUnavailable) as refused:
        stock.ask(sleep_long)
    assert isinstance(refused.value.__cause__, asyncpg.QueryCanceledError)

    async def lock_twice(backends: Backends) -> None:
        async with backends.database.transaction() as first:
            await first.fetch(statements.LOCK_OWNER, owner_id=user_id)
            async with backends.database.transaction(lock_timeout_ms=100) as second:
                await second.fetch(statements.LOCK_OWNER, owner_id=user_id)

    with pytest.raises(DatabaseUnavailable) as refused:
        stock.ask(lock_twice, pool_size=2)
    assert isinstance(refused.value.__cause__, asyncpg.LockNotAvailableError)


@pytest.mark.backends
def test_the_server_ends_a_transaction_that_does_nothing(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "STATEMENT_TIMEOUT_MS", 200)
    user_id = rows.account("eve").run(stock.service)

    async def idle(backends: Backends) -> None:
        async with backends.database.transaction() as transaction:
            await transaction.fetch(statements.LOCK_OWNER, owner_id=user_id)
            beside = await asyncpg.connect(stock.settings["DATABASE_URL"].replace("+asyncpg", ""))
            try:
                # Before the limit of a whole transaction, which newer servers have as well.
                sooner = driver.TRANSACTION_TIMEOUT_MS / 1000 / 2
                await beside.execute("DELETE FROM users", timeout=sooner)
            finally:
                await beside.close()
            await transaction.commit()

    with pytest.raises(OutcomeUnknown):
        stock.ask(idle)


def test_all_is_read_committed_whatever_the_database_is_set_to(local_stock: Stock) -> None:
    name = make_url(local_stock.settings["DATABASE_URL"]).database
    user_id = rows.account("eve").run(local_stock.service)
    for default in ("isolation = 'serializable'", "deferrable = on"):
        local_stock.service.sql(f"ALTER DATABASE {name} SET default_transaction_{default}")
    level = text("SELECT current_setting('transaction_isolation') AS level")
    picture = process_profile_image(jpeg())

    async def story(backends: Backends) -> None:
        (alone,) = await backends.database.fetch(Statement(level))
        async with backends.database.reader() as db:
            read = await db.scalar(level)
        async with backends.database.session() as db:
            in_session = await db.scalar(level)
        assert {alone["level"], read, in_session} == {"read committed"}
        await asyncio.gather(*(replace_picture(backends, user_id, picture) for _ in range(10)))
        claim = Statement(text("UPDATE users SET username = username RETURNING id"))
        await asyncio.gather(*(backends.database.fetch(claim) for _ in range(20)))

    local_stock.ask(story, pool_size=5)
