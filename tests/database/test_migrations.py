"""Proves that the migrations make the very schema that the models describe.

They do in both directions, however many run them at once.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import alembic.command
import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

import database
import models
from config import STARTUP_FAILURE_STATUS
from errors import StartupError
from jobs.repository import is_ours
from ops.postgres_cluster import SUPERUSER
from tests.support import rows
from tests.support.databases import execute, make_database
from tests.support.services import ROOT, SOMEONE_WAITS, Service, free_port

Result = TypeVar("Result")

# All that makes a schema, as Postgres itself writes it.
SCHEMA = """
SELECT 'column', attrelid::regclass::text, attname::text,
       concat_ws(
           ' ', format_type(atttypid, atttypmod), attnotnull, attidentity,
           pg_get_expr(adbin, adrelid)
       )
FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attnum > 0 AND NOT attisdropped AND attrelid IN (
    SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
)
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'index', indrelid::regclass::text, indexrelid::regclass::text, pg_get_indexdef(indexrelid)
FROM pg_index JOIN pg_class ON pg_class.oid = indrelid WHERE relnamespace = 'public'::regnamespace
ORDER BY 1, 2, 3
"""
LEFT_OVER = """
SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
UNION ALL
SELECT typname::text FROM pg_type
WHERE typnamespace = 'public'::regnamespace AND typrelid = 0 AND typelem = 0
UNION ALL
SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
ORDER BY 1
"""


@pytest.fixture
def empty_database(postgres: str) -> str:
    """The URL of a database without a single table."""
    return make_database(postgres, None)


def ask(url: str, question: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
    async def connected() -> Result:
        engine = create_async_engine(url, poolclass=NullPool)
        try:
            async with engine.begin() as connection:
                return await question(connection)
        finally:
            await engine.dispose()

    return asyncio.run(connected())


def fetch_rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Ask the database; rows that speak of Alembic's own table are left out."""

    async def fetch(connection: AsyncConnection) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await connection.execute(text(statement))]

    return [
        row
        for row in ask(url, fetch)
        if not any(str(part).startswith("alembic_version") for part in row)
    ]


def migrate(url: str) -> None:
    """As the service does at its start."""
    asyncio.run(database.migrate(url))


def downgrade(url: str, revision: str = "base") -> None:
    def run(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(ROOT / "alembic"))
        config.attributes["connection"] = connection
        alembic.command.downgrade(config, revision)

    async def connected(connection: AsyncConnection) -> None:
        await connection.run_sync(run)

    ask(url, connected)


@pytest.mark.backends
def test_the_migrations_make_the_schema_of_the_models(empty_database: str, postgres: str) -> None:
    migrate(empty_database)
    from_models = make_database(postgres, None)

    async def create(connection: AsyncConnection) -> None:
        await connection.run_sync(database.Base.metadata.create_all)

    ask(from_models, create)
    # PgQueuer's are compared with what it declares itself (test_jobs.py).
    migrated = [row for row in fetch_rows(empty_database, SCHEMA) if is_ours(row[1], "table", None)]
    assert migrated == fetch_rows(from_models, SCHEMA)
    assert (
        {row[1] for row in migrated}
        == set(database.Base.metadata.tables)
        >= {"users", "stored_files"}
    )


@pytest.mark.backends
def test_alembic_would_write_no_further_migration(new_database: Callable[[], str]) -> None:
    def compare(connection: Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": True, "include_name": is_ours}
        differences: list[Any] = compare_metadata(
            MigrationContext.configure(connection, opts=options), database.Base.metadata
        )
        return differences

    async def connected(connection: AsyncConnection) -> list[Any]:
        return await connection.run_sync(compare)

    assert ask(new_database(), connected) == []


@pytest.mark.backends
def test_down_leaves_its_name_alone_and_up_again_makes_the_same(empty_database: str) -> None:
    shown_id = "SELECT id FROM installation"
    assert fetch_rows(empty_database, LEFT_OVER) == []
    migrate(empty_database)
    schema = fetch_rows(empty_database, SCHEMA)
    migrate(empty_database)
    assert fetch_rows(empty_database, SCHEMA) == schema != []
    own_id = fetch_rows(empty_database, shown_id)
    downgrade(empty_database)
    assert fetch_rows(empty_database, LEFT_OVER) == [("installation",), ("installation_pkey",)]
    assert fetch_rows(empty_database, "SELECT version_num FROM alembic_version") == []
    migrate(empty_database)
    assert fetch_rows(empty_database, SCHEMA) == schema
    # Its stores are marked with it.
    assert fetch_rows(empty_database, shown_id) == own_id != []


def test_old_names_are_compared_as_they_show_unless_two_show_alike(
    new_database: Callable[[], str],
) -> None:
    url = new_database()
    # With what it was folded to, and what it is folded to now.
    names = {
        "Ann  Lee": ("ann  lee", "ann lee"),
        "Zoë ❤\ufe0f": ("zoë ❤\ufe0f", "zoë ❤"),
        "plain": ("plain", "plain"),
        "Straße": ("strasse", "strasse"),
        "ben": ("ben", "ben"),
        "ben\u3164": ("ben\u1160", "ben\u1160"),
    }
    downgrade(url, "0008")

    async def insert(connection: AsyncConnection) -> None:
        statement = text(
            "INSERT INTO users (username, username_folded, email, email_folded, password_hash)"
            " VALUES (:name, :folded, :name, :name, '')"
        )
        for name, (folded, _) in names.items():
            await connection.execute(statement, {"name": name, "folded": folded})

    ask(url, insert)
    migrate(url)
    found = "SELECT username, username_folded FROM users"
    assert dict(fetch_rows(url, found)) == {name: new for name, (_, new) in names.items()}
    downgrade(url, "0008")
    assert dict(fetch_rows(url, found)) == {name: old for name, (old, _) in names.items()}


def test_four_processes_that_migrate_at_once_do_no_harm(
    empty_database: str, new_database: Callable[[], str], tmp_path: Path
) -> None:
    environment = {**os.environ, "DATABASE_URL": empty_database, "DATA_DIR": str(tmp_path)}
    command = [sys.executable, str(ROOT / "cli.py"), "migrate"]
    processes: list[subprocess.Popen[str]] = []

    async def start_together() -> None:
        """All of them have looked at the empty database before any of them can make a table."""
        url = empty_database.replace("+asyncpg", "")
        holder = await asyncpg.connect(url, user=SUPERUSER)
        watcher = await asyncpg.connect(url)
        try:
            await holder.execute("BEGIN; LOCK TABLE pg_catalog.pg_class IN SHARE MODE")
            for _ in range(4):
                processes.append(
                    subprocess.Popen(
                        command,
                        cwd=tmp_path,
                        env=environment,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        text=True,
                    )
                )
            while await watcher.fetchval(SOMEONE_WAITS) < len(processes):
                assert all(process.poll() is None for process in processes), (
                    "one of them did not wait"
                )
                await asyncio.sleep(0.02)
        finally:
            await holder.close()
            await watcher.close()

    try:
        asyncio.run(start_together())
        for process in processes:
            said, _ = process.communicate(timeout=60)
            assert (process.returncode, said) == (0, "The schema is at its newest revision.\n")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert fetch_rows(empty_database, SCHEMA) == fetch_rows(new_database(), SCHEMA)
    assert len(fetch_rows(empty_database, "SELECT version_num FROM alembic_version")) == 1


COMMANDS = {"uvicorn": [], "main.py": [sys.executable, str(ROOT / "main.py")]}


@pytest.mark.parametrize(
    "trouble, start",
    [
        ("newer", "uvicorn"),
        ("newer", "main.py"),
        ("unreachable", "main.py"),
        ("missing", "uvicorn"),
    ],
)
def test_a_database_that_cannot_be_used_stops_the_service_with_one_sentence(
    new_database: Callable[[], str], tmp_path: Path, trouble: str, start: str
) -> None:
    url = new_database()
    if trouble == "newer":

        async def make_newer(connection: AsyncConnection) -> None:
            await connection.execute(text("UPDATE alembic_version SET version_num = 'f00d'"))

        ask(url, make_newer)
    elif trouble == "unreachable":
        url = f"postgresql://someone:their-password@127.0.0.1:{free_port()}/darkroom"
    else:
        url = url.replace("/test_", "/no_test_")
    settings = {"DATABASE_URL": url, "DATA_DIR": str(tmp_path), "STORAGE": "local"}
    service = Service(settings, command=COMMANDS[start])
    with pytest.raises(AssertionError, match="the service did not start"):
        service.start()
    assert service.stop() == STARTUP_FAILURE_STATUS
    said = service.log()
    assert "Traceback" not in said and "their-password" not in said, said
    sentence = "cannot be used"
    assert sum(sentence in line for line in said.splitlines()) == 1, said
    if trouble == "newer":
        assert "f00d" in said
        assert fetch_rows(url, "SELECT version_num FROM alembic_version") == [("f00d",)]


def assert_refused(
    url: str, constraint: str, story: Callable[[asyncpg.Connection], Awaitable[object]]
) -> None:
    """The story ends with a refusal by this very constraint."""

    async def run() -> None:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refusal:
                await story(connection)
            assert getattr(refusal.value, "constraint_name", None) == constraint
        finally:
            await connection.close()

    asyncio.run(run())


@pytest.mark.backends
@pytest.mark.parametrize("unknown", rows.FACTS)
def test_the_database_refuses_a_live_file_without_its_facts(
    shared_database: str, unknown: str
) -> None:
    facts = {name: value for name, value in rows.FACTS.items() if name != unknown}

    async def story(connection: asyncpg.Connection) -> None:
        waiting = await rows.stored_file("pending", facts=facts).run_on(connection)
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(
                "UPDATE stored_files SET state = 'live' WHERE id = $1", waiting
            )
        await rows.stored_file().run_on(connection)
        await rows.stored_file(facts=facts).run_on(connection)

    assert_refused(shared_database, "stored_files_live_check", story)


@pytest.mark.backends
def test_the_database_refuses_a_state_of_its_own_making(shared_database: str) -> None:
    async def story(connection: asyncpg.Connection) -> None:
        for state in models.FileState:
            await rows.stored_file(state).run_on(connection)
        await rows.stored_file("forgotten").run_on(connection)

    assert_refused(shared_database, "stored_files_state_check", story)


@pytest.mark.backends
def test_the_database_refuses_to_forget_a_picture_in_use(shared_database: str) -> None:
    async def story(connection: asyncpg.Connection) -> None:
        used = await rows.stored_file().run_on(connection)
        user = await rows.account(picture_id=used).run_on(connection)
        unused = await rows.stored_file("doomed", facts={}).run_on(connection)
        forget = "DELETE FROM stored_files WHERE id = $1"
        assert await connection.execute(forget, unused) == "DELETE 1"
        try:
            await connection.execute(forget, used)
        finally:
            shown = "SELECT picture_id FROM users WHERE id = $1"
            assert await connection.fetchval(shown, user) == used

    assert_refused(shared_database, "users_picture_id_fkey", story)


@pytest.mark.backends
def test_the_database_refuses_a_second_row_for_one_place(shared_database: str) -> None:
    key = rows.new_key()

    async def story(connection: asyncpg.Connection) -> None:
        await rows.stored_file("pending", key=key, facts={}).run_on(connection)
        await rows.stored_file("pending", key=key, facts={}, storage="another").run_on(connection)
        await rows.stored_file("deleting", key=key, facts={}).run_on(connection)

    assert_refused(shared_database, "stored_files_place_key", story)


@pytest.mark.backends
def test_each_database_has_one_name_of_its_own_and_refuses_a_second(
    empty_database: str, postgres: str
) -> None:
    databases = empty_database, make_database(postgres, None)
    for url in databases:
        migrate(url)
    (own,), (other,) = (fetch_rows(url, "SELECT id FROM installation") for url in databases)
    assert own != other  # and there is one in each
    second = "INSERT INTO installation VALUES "
    assert_refused(
        empty_database,
        "installation_pkey",
        lambda connection: connection.execute(second + "(true)"),
    )
    assert_refused(
        empty_database,
        "installation_is_only_check",
        lambda connection: connection.execute(second + "(false)"),
    )


@pytest.fixture(scope="module")
def shared_database(postgres: str, template: str) -> str:
    return make_database(postgres, template)


@pytest.mark.backends
def test_the_cure_for_tables_of_another_user_cures(
    postgres: str, new_database: Callable[[], str]
) -> None:
    """As after a restore by another role."""
    url = make_url(new_database())
    role = f"restored_{os.getpid()}"
    execute(postgres, f"CREATE ROLE {role} LOGIN")
    as_role = url.set(username=role).render_as_string(hide_password=False)
    with pytest.raises(StartupError, match=f"ALTER TABLE name OWNER TO {role} for each"):
        asyncio.run(database.migrate(as_role))

    async def cure() -> None:
        dsn = url.render_as_string(hide_password=False).replace("+asyncpg", "")
        connection = await asyncpg.connect(dsn, user=SUPERUSER)
        try:
            found = await connection.fetch(
                "SELECT tablename FROM pg_tables WHERE schemaname='public'"
            )
            for row in found:
                await connection.execute(f"ALTER TABLE {row['tablename']} OWNER TO {role}")
        finally:
            await connection.close()

    asyncio.run(cure())
    asyncio.run(database.migrate(as_role))
