"""The engine, sessions, transactions, and the migrations that make the schema.

Nothing commits by itself: the handler does, before it answers. Any outage of the database leaves
here as DatabaseUnavailable, a lost answer to a COMMIT as OutcomeUnknown; constraint violations and
the like pass through.
"""

import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from fastapi import Depends, Request
from sqlalchemy import Connection, Executable, event
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import NullPool

from errors import DatabaseUnavailable, OutcomeUnknown, StartupError
from postgres import explain_refusal, make_driver_options, parse_postgres_url

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_SECONDS = 5
# How long a request waits for a free connection before
# it says 503; connections are held for milliseconds.
POOL_TIMEOUT_SECONDS = 10
# No statement of ours takes a tenth of this; longer means that something is stuck.
STATEMENT_TIMEOUT_MS = 15_000
LOCK_TIMEOUT_MS = 10_000
# A process that is stopped in the middle of a query keeps its locks, and none of the above ends
# it. Postgres 17 and later do, after the longest that a transaction of ours may wait and work.
TRANSACTION_TIMEOUT_MS = 30_000
TRANSACTION_TIMEOUT_SINCE = 17
COMMAND_TIMEOUT_SECONDS = 20  # the same on our side, should the server be gone without a word

# An expression that raises the durability of its transaction where it is off, and never lowers
# it: what was answered 200 must survive a crash of the server, and with all other values it does.
RAISE_DURABILITY = (
    "CASE current_setting('synchronous_commit')"
    " WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END"
)
# For what may be lost with the last half second before a power cut.
LOWER_DURABILITY = "set_config('synchronous_commit', 'off', true)"

# SQLSTATE classes that mean "try again", from appendix A of the PostgreSQL manual: connection
# exception, invalid transaction state (read-only, or ended while idle), transaction rollback,
# insufficient resources, object not in prerequisite state (a lock that was not had), operator
# intervention.
_OUTAGE_CLASSES = ("08", "25", "40", "53", "55", "57")
# What the driver raises when there is no server, or no connection to it any more. So, most often,
# is an "internal" error: the server has said its last word, but the connection is not yet closed.
_LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    TimeoutError,
)
_DIALECT = asyncpg_dialect()  # type: ignore[no-untyped-call]


class Base(DeclarativeBase):
    """What the tables derive from."""


Row: TypeAlias = asyncpg.Record  # its columns by name


class Statement:
    """A statement that is always the same, compiled once; its bound parameters have names."""

    def __init__(self, statement: Executable) -> None:
        compiled = statement.compile(dialect=_DIALECT)  # type: ignore[attr-defined]
        self.sql: str = compiled.string
        self._names: list[str] = compiled.positiontup or []
        self._constants: dict[str, Any] = compiled.params

    def bind(self, values: Mapping[str, object]) -> list[object]:
        """Put the values into the order in which the driver takes them."""
        return [values.get(name, self._constants[name]) for name in self._names]


class Transaction:
    """Statements on the driver's own connection, one round trip each once they are prepared."""

    def __init__(self, driver: asyncpg.Connection) -> None:
        self._driver = driver
        self.is_lost = False  # the connection, with the answer to a commit

    async def fetch(self, statement: Statement, **values: object) -> list[Row]:
        """Run a statement and return its rows."""
        rows: list[Row] = await self._driver.fetch(statement.sql, *statement.bind(values))
        return rows

    async def fetch_row(self, statement: Statement, **values: object) -> Row | None:
        """Run a statement that returns one row at most."""
        return await self._driver.fetchrow(statement.sql, *statement.bind(values))

    async def commit(self) -> None:
        """Commit. Raises OutcomeUnknown, as `commit` does."""
        try:
            await self._driver.execute("COMMIT")
        except (*_LOST, asyncpg.PostgresError) as err:
            logger.warning("the answer to a commit was lost: %r", err)
            self.is_lost = True
            raise OutcomeUnknown from err


class DatabaseConnection(asyncpg.Connection):  # type: ignore[misc]
    """A connection whose every transaction opens with one message that says all that holds in it.

    Nothing rests on what a session was told once: a pooler between us and the server forgets it,
    or lets it leak into another's session.
    """

    async def open_transaction(self, lock_timeout_ms: int = LOCK_TIMEOUT_MS) -> None:
        """Begin, with the limits that hold until the end and with durability."""
        limits = {
            "statement_timeout": STATEMENT_TIMEOUT_MS,
            "lock_timeout": lock_timeout_ms,
            "idle_in_transaction_session_timeout": STATEMENT_TIMEOUT_MS,
        }
        if self.get_server_version().major >= TRANSACTION_TIMEOUT_SINCE:
            limits["transaction_timeout"] = TRANSACTION_TIMEOUT_MS
        settings = "; ".join(f"SET LOCAL {name} = {value}" for name, value in limits.items())
        begin = "BEGIN ISOLATION LEVEL READ COMMITTED"
        await super().execute(f"{begin}; {settings}; SELECT {RAISE_DURABILITY}")

    async def execute(self, query: str, *args: object, **options: Any) -> str:
        """Execute a query; the BEGIN of a session is ours."""
        if query.startswith("BEGIN"):
            await self.open_transaction()
            return "BEGIN"
        return str(await super().execute(query, *args, **options))


class Database:
    """The engine of one process; whoever made it disposes of it.

    Its sessions carry `session_info`: what rows need of their application (see models.py).
    """

    def __init__(
        self, url: str, pool_size: int, session_info: Mapping[str, object] | None = None
    ) -> None:
        bare_url, options = make_driver_options(url)
        server_settings = {"application_name": "darkroom", **options.pop("server_settings", {})}
        self._engine = create_async_engine(
            bare_url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_SECONDS,
            # They are names, addresses and hashes, and have no place in a log.
            hide_parameters=True,
            connect_args={
                **options,
                "timeout": CONNECT_TIMEOUT_SECONDS,
                "command_timeout": COMMAND_TIMEOUT_SECONDS,
                "server_settings": server_settings,
                "connection_class": DatabaseConnection,
            },
        )
        event.listen(self._engine.sync_engine, "checkout", _refuse_closed)
        info = dict(session_info or {})
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False, info=info)
        self._readers = async_sessionmaker(
            self._engine.execution_options(isolation_level="AUTOCOMMIT"),
            expire_on_commit=False,
            info=info,
        )

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Open a session that rolls back unless committed.

        It holds a connection from its first statement to its end. Raises DatabaseUnavailable.
        """
        with _name_outages():
            async with self._sessions() as opened:
                yield opened

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[AsyncSession]:
        """Open a session in which every statement is a transaction of its own.

        One that only reads costs one round trip. Raises DatabaseUnavailable.
        """
        with _name_outages():
            async with self._readers() as opened:
                yield opened

    @asynccontextmanager
    async def transaction(
        self, lock_timeout_ms: int = LOCK_TIMEOUT_MS
    ) -> AsyncIterator[Transaction]:
        """Open a transaction that rolls back unless committed. Raises DatabaseUnavailable."""
        with _name_outages():
            async with self._engine.connect() as connection:
                driver = await _begin(connection, lock_timeout_ms)
                transaction = Transaction(driver)
                try:
                    yield transaction
                finally:
                    if transaction.is_lost or driver.is_closed():
                        await connection.invalidate()
                    elif driver.is_in_transaction():
                        await _roll_back(connection, driver)

    async def fetch(self, statement: Statement, **values: object) -> list[Row]:
        """Run a statement as a transaction of its own, in one round trip, and return its rows.

        It is tried once more where the connection was dead, so it must have no effect, or none
        that a second time would add to. Raises DatabaseUnavailable.
        """
        with _name_outages():
            async with self._engine.connect() as connection:
                driver = await _get_driver(connection)
                try:
                    return await Transaction(driver).fetch(statement, **values)
                except TimeoutError:
                    raise
                except _LOST:
                    await connection.invalidate()
            async with self._engine.connect() as connection:
                driver = await _get_driver(connection)
                return await Transaction(driver).fetch(statement, **values)

    async def dispose(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


@contextmanager
def _name_outages() -> Iterator[None]:
    try:
        yield
    except (PoolTimeoutError, *_LOST) as err:
        raise DatabaseUnavailable from err
    except (DBAPIError, asyncpg.PostgresError) as err:
        if is_outage(err):
            raise DatabaseUnavailable from err
        raise


async def _get_driver(connection: AsyncConnection) -> asyncpg.Connection:
    return (await connection.get_raw_connection()).driver_connection


async def _begin(connection: AsyncConnection, lock_timeout_ms: int) -> asyncpg.Connection:
    """Open a transaction; what died while it was idle is replaced, for nothing was done on it."""
    driver = await _get_driver(connection)
    try:
        await driver.open_transaction(lock_timeout_ms)
    except TimeoutError:
        raise
    except _LOST:
        await connection.invalidate()
        driver = await _get_driver(connection)
        await driver.open_transaction(lock_timeout_ms)
    return driver


async def _roll_back(connection: AsyncConnection, driver: asyncpg.Connection) -> None:
    try:
        await driver.execute("ROLLBACK")
    except (*_LOST, asyncpg.PostgresError):
        await connection.invalidate()


def _refuse_closed(connection: Any, *_: object) -> None:
    """Let the pool replace a connection that the server has closed while it was idle."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError("closed by the server")


async def commit(db: AsyncSession) -> None:
    """Commit, or raise OutcomeUnknown when the answer does not come.

    Then the transaction may have happened, may not have, or may still be on its way: nothing may
    rest on any of these. Whoever has to know reads anew, under the lock that the transaction held.
    """
    await db.flush()
    try:
        await db.commit()
    except (DBAPIError, asyncpg.PostgresError, *_LOST) as err:
        logger.warning("the answer to a commit was lost: %r", err)
        raise OutcomeUnknown from err


def is_outage(err: DBAPIError | asyncpg.PostgresError) -> bool:
    """Whether the database, and not what we asked of it, is at fault."""
    original = err.orig if isinstance(err, DBAPIError) else err
    sqlstate = getattr(original, "sqlstate", None)
    if sqlstate is not None:
        return str(sqlstate)[:2] in _OUTAGE_CLASSES
    # The driver's own complaint: the connection is closed, or closing.
    assert isinstance(err, DBAPIError)
    cause = original.__cause__ if original else None
    return err.connection_invalidated or isinstance(cause, asyncpg.InterfaceError)


def _get_database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


# A FastAPI dependency: the one on `request.app.state`.
RequestDatabase = Annotated[Database, Depends(_get_database)]


async def _open_session(database: RequestDatabase) -> AsyncIterator[AsyncSession]:
    async with database.session() as opened:
        yield opened


# "function": the session ends before the answer is sent, not after, so a slow client holds no
# connection.
Db = Annotated[AsyncSession, Depends(_open_session, scope="function")]


async def migrate(url: str) -> None:
    """Bring the schema to the newest revision.

    Any number of processes may do so at once: one does, the others wait.

    Raises StartupError when the database cannot be used.
    """
    # An engine of its own: to wait for another's migration, or
    # to change a large table, may take longer than a request.
    bare_url, options = make_driver_options(url)
    options["timeout"] = CONNECT_TIMEOUT_SECONDS
    engine = create_async_engine(bare_url, poolclass=NullPool, connect_args=options)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade)
    except CommandError as err:
        raise StartupError(str(err)) from err  # in the words of alembic/env.py
    except (DBAPIError, asyncpg.PostgresError, *_LOST) as err:
        raise StartupError(explain_refusal(err, parse_postgres_url(url))) from err


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option(
        "script_location", str(Path(__file__).parent / "alembic").replace("%", "%%")
    )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
