"""The engine, the sessions, and the migrations that make the schema.

A session never commits by itself: the handler does, before it answers. Any outage of the
database leaves here as DatabaseUnavailable; constraint violations and the like pass through.
"""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from fastapi import Depends, Request
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import NullPool

from errors import DatabaseUnavailable, StartupError

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

# SQLSTATE classes that mean "try again", from appendix A of the PostgreSQL manual: connection
# exception, invalid transaction state (read-only, or ended while idle), transaction rollback,
# insufficient resources, object not in prerequisite state (a lock that was not had), operator
# intervention.
_OUTAGE_CLASSES = ("08", "25", "40", "53", "55", "57")


class Base(DeclarativeBase):
    """What the tables derive from."""


class Database:
    """The engine of one process and its sessions; whoever made it disposes of it.

    Its sessions carry `session_info`: what rows need of their application (see models.py).
    """

    def __init__(
        self, url: str, pool_size: int, session_info: Mapping[str, object] | None = None
    ) -> None:
        self._engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_SECONDS,
            pool_pre_ping=True,
            # They are names, addresses and hashes, and have no place in a log.
            hide_parameters=True,
            connect_args={
                "timeout": CONNECT_TIMEOUT_SECONDS,
                "command_timeout": COMMAND_TIMEOUT_SECONDS,
                "server_settings": {
                    "application_name": "darkroom",
                    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
                    "lock_timeout": str(LOCK_TIMEOUT_MS),
                    "idle_in_transaction_session_timeout": str(STATEMENT_TIMEOUT_MS),
                },
            },
        )
        event.listen(
            self._engine.sync_engine,
            "connect",
            lambda connection, _: connection.run_async(_limit_transactions),
        )
        self._sessions = async_sessionmaker(
            self._engine, expire_on_commit=False, info=dict(session_info or {})
        )

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Open a session that rolls back unless committed.

        It holds a connection from its first statement to its end. Raises DatabaseUnavailable.
        """
        try:
            async with self._sessions() as opened:
                yield opened
        except (
            PoolTimeoutError,
            TimeoutError,
            OSError,
            asyncpg.InterfaceError,
            asyncpg.PostgresError,
        ) as err:
            raise DatabaseUnavailable from err
        except DBAPIError as err:
            if is_outage(err):
                raise DatabaseUnavailable from err
            raise

    async def dispose(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


async def _limit_transactions(connection: asyncpg.Connection) -> None:
    if connection.get_server_version().major >= TRANSACTION_TIMEOUT_SINCE:
        await connection.execute(f"SET transaction_timeout = {TRANSACTION_TIMEOUT_MS}")


async def commit(db: AsyncSession) -> bool:
    """Commit, and tell whether its answer came.

    Without one the transaction may have happened, may not have, or
    may still be on its way: nothing may rest on any of these. Whoever
    has to know reads anew, under the lock that the transaction held.
    """
    await db.flush()
    try:
        await db.commit()
    except (
        DBAPIError,
        DatabaseUnavailable,
        OSError,
        asyncpg.InterfaceError,
        asyncpg.PostgresError,
    ) as err:
        logger.warning("the answer to a commit was lost: %r", err)
        return False
    return True


def is_outage(err: DBAPIError) -> bool:
    """Whether the database, and not what we asked of it, is at fault."""
    sqlstate = getattr(err.orig, "sqlstate", None)
    if sqlstate is None:  # the driver's own complaint: the connection is closed, or closing
        return err.connection_invalidated or isinstance(
            err.orig.__cause__ if err.orig else None, asyncpg.InterfaceError
        )
    return str(sqlstate)[:2] in _OUTAGE_CLASSES


def _get_database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


# The database of the application that a request came to.
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
    engine = create_async_engine(
        url, poolclass=NullPool, connect_args={"timeout": CONNECT_TIMEOUT_SECONDS}
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade)
    except (
        DBAPIError,
        OSError,
        asyncpg.InterfaceError,
        asyncpg.PostgresError,
        CommandError,
    ) as err:
        cause = (str(getattr(err, "orig", None) or err).splitlines() or ["it does not answer"])[0]
        raise StartupError(
            f"The database {engine.url.render_as_string()} cannot be used: {cause}"
        ) from err


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option(
        "script_location", str(Path(__file__).parent / "alembic").replace("%", "%%")
    )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
