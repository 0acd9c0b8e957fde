"""The engine, sessions, transactions, and the migrations that make the schema.

Nothing commits by itself: the handler does, before it answers. Any outage of the database leaves
here as DatabaseUnavailable, a lost answer to a COMMIT as OutcomeUnknown; constraint violations and
the like pass through.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from fastapi import Depends, Request
from sqlalchemy import Connection, Executable
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
)
from sqlalchemy.orm import DeclarativeBase

from connections import (
    CONNECT_TIMEOUT_SECONDS,
    LOCK_TIMEOUT_MS,
    LOST,
    DatabaseConnection,
    Opening,
    PoolerFound,
    is_outage,
    is_said_to_be_pooled,
    is_too_many,
    make_direct_engine,
    make_migrating_engine,
    make_pooled_engine,
)
from connections import LOWER_DURABILITY as LOWER_DURABILITY  # for whoever writes statements
from connections import RAISE_DURABILITY as RAISE_DURABILITY
from errors import DatabaseUnavailable, OutcomeUnknown, StartupError
from postgres import explain_refusal, parse_postgres_url

logger = logging.getLogger(__name__)

# A COMMIT of a server that is well takes milliseconds. Whoever waits longer for its answer lets go
# of the connection and reads, under the lock that the transaction holds, what became of it.
COMMIT_PATIENCE_SECONDS = 2.0

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

    def __init__(self, driver: DatabaseConnection) -> None:
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
            with self._driver.give_up_after(COMMIT_PATIENCE_SECONDS):
                await self._driver.execute("COMMIT")
        except (*LOST, asyncpg.PostgresError) as err:
            logger.warning("the answer to a commit was lost: %r", err)
            self.is_lost = True
            raise OutcomeUnknown from err


class Database:
    """The engine of one process; whoever made it disposes of it.

    Its first use finds out whether a pooler stands before the server. Its sessions carry
    `session_info`: what rows need of their application (see models.py).
    """

    def __init__(
        self, url: str, pool_size: int, session_info: Mapping[str, object] | None = None
    ) -> None:
        opening = Opening(self._note_pooler)
        self._watch = opening.watch
        self._direct = make_direct_engine(url, pool_size, opening)
        self._single = self._direct.execution_options(isolation_level="AUTOCOMMIT")
        self._pooled = make_pooled_engine(url, pool_size, opening)
        self._is_pooled: bool | None = True if is_said_to_be_pooled(url) else None
        self._looking: asyncio.Future[None] | None = None  # which of both it is
        self._sessions = async_sessionmaker(expire_on_commit=False, info=dict(session_info or {}))

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Open a session that rolls back unless committed.

        It holds a connection from its first statement to its end. Raises DatabaseUnavailable.
        """
        with _name_outages():
            async with self._sessions(bind=await self._get_engine()) as opened:
                yield opened

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[AsyncSession]:
        """Open a session in which every statement is a transaction of its own.

        One that only reads costs one round trip; through a pooler it is one transaction for all of
        its statements. Raises DatabaseUnavailable.
        """
        with _name_outages():
            engine = await self._get_engine()
            if engine is self._direct:
                async with self._sessions(bind=self._single) as opened:
                    yield opened
            else:
                async with self._sessions(bind=engine) as opened:
                    yield opened
                    await opened.commit()

    @asynccontextmanager
    async def transaction(
        self, lock_timeout_ms: int = LOCK_TIMEOUT_MS
    ) -> AsyncIterator[Transaction]:
        """Open a transaction that rolls back unless committed. Raises DatabaseUnavailable."""
        with _name_outages():
            engine = await self._get_engine()
            async with engine.connect() as connection:
                driver = await _begin(connection, lock_timeout_ms)
                transaction = Transaction(driver)
                try:
                    yield transaction
                finally:
                    if transaction.is_lost or driver.is_closed():
                        await _drop(connection, driver)
                    elif driver.is_in_transaction():
                        await _roll_back(connection, driver)

    async def fetch(self, statement: Statement, **values: object) -> list[Row]:
        """Run a statement as a transaction of its own and return its rows.

        That is one round trip, but through a pooler. It is tried once more where the connection was
        dead, so it must have no effect, or none that a second time would add to. Raises
        DatabaseUnavailable.
        """
        with _name_outages():
            engine = await self._get_engine()
            if engine is self._pooled:
                return await self._fetch_in_transaction(statement, values)
            async with engine.connect() as connection:
                driver = await _get_driver(connection)
                try:
                    return await Transaction(driver).fetch(statement, **values)
                except LOST as err:
                    await _drop(connection, driver)
                    if isinstance(err, TimeoutError) or driver.is_given_up:
                        raise
            async with engine.connect() as connection:
                driver = await _get_driver(connection)
                return await Transaction(driver).fetch(statement, **values)

    async def dispose(self) -> None:
        """Close every connection."""
        self._watch.close()
        await self._direct.dispose()
        await self._pooled.dispose()

    async def _fetch_in_transaction(
        self, statement: Statement, values: Mapping[str, object]
    ) -> list[Row]:
        try:
            async with self.transaction() as transaction:
                rows = await transaction.fetch(statement, **values)
                await transaction.commit()
        except OutcomeUnknown as err:
            raise DatabaseUnavailable from err.__cause__
        return rows

    async def _get_engine(self) -> AsyncEngine:
        """Return the engine that speaks as the way to the server wants it."""
        if self._is_pooled is None:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.ensure_future(self._look())
            await asyncio.shield(self._looking)
        return self._pooled if self._is_pooled else self._direct

    async def _look(self) -> None:
        with suppress(PoolerFound):
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS), self._direct.connect():
                if self._is_pooled is None:
                    self._is_pooled = False

    def _note_pooler(self) -> None:
        """From now on there is one, whatever was before."""
        self._is_pooled = True


def lacks_connections(err: DatabaseUnavailable) -> bool:
    """Whether the server is there, and allows no more connections than there are."""
    cause = err.__cause__
    return is_too_many(cause.orig if isinstance(cause, DBAPIError) else cause)


@contextmanager
def _name_outages() -> Iterator[None]:
    try:
        yield
    except (PoolTimeoutError, PoolerFound, *LOST) as err:
        raise DatabaseUnavailable from err
    except (DBAPIError, asyncpg.PostgresError) as err:
        if is_outage(err):
            raise DatabaseUnavailable from err
        raise


async def _get_driver(connection: AsyncConnection) -> DatabaseConnection:
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, DatabaseConnection)
    return driver


async def _begin(connection: AsyncConnection, lock_timeout_ms: int) -> DatabaseConnection:
    """Open a transaction; what died while it was idle is replaced, for nothing was done on it."""
    driver = await _get_driver(connection)
    try:
        await driver.open_transaction(lock_timeout_ms)
    except LOST as err:
        await _drop(connection, driver)
        if isinstance(err, TimeoutError) or driver.is_given_up:
            raise
        driver = await _get_driver(connection)
        await driver.open_transaction(lock_timeout_ms)
    return driver


async def _roll_back(connection: AsyncConnection, driver: DatabaseConnection) -> None:
    try:
        await driver.execute("ROLLBACK")
    except (*LOST, asyncpg.PostgresError):
        await _drop(connection, driver)


async def _drop(connection: AsyncConnection, driver: DatabaseConnection) -> None:
    """Take a connection out of the pool, without the farewell to a server that may be away."""
    driver.terminate()
    await connection.invalidate()


async def commit(db: AsyncSession) -> None:
    """Commit, or raise OutcomeUnknown when the answer does not come.

    Then the transaction may have happened, may not have, or may still be on its way: nothing may
    rest on any of these. Whoever has to know reads anew, under the lock that the transaction held.
    """
    await db.flush()
    try:
        await db.commit()
    except (DBAPIError, asyncpg.PostgresError, *LOST) as err:
        logger.warning("the answer to a commit was lost: %r", err)
        raise OutcomeUnknown from err


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
    engine = make_migrating_engine(url)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade)
    except CommandError as err:
        raise StartupError(str(err)) from err  # in the words of alembic/env.py
    except (DBAPIError, asyncpg.PostgresError, *LOST) as err:
        raise StartupError(explain_refusal(err, parse_postgres_url(url))) from err


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option(
        "script_location", str(Path(__file__).parent / "alembic").replace("%", "%%")
    )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
