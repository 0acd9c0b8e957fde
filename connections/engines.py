"""SQLAlchemy's engines: for a server, for a pooler before it, and for migrations through either.

Whoever makes one disposes of it.
"""

from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from connections.driver import DatabaseConnection
from connections.opening import Creator, Opening, open_for_migrations
from connections.pool import Pool
from connections.watch import Watch
from postgres import make_driver_options, says_pooler

# Of a start and of migrations, which are in no hurry.
CONNECT_TIMEOUT_SECONDS = 5


def make_direct_engine(url: str, pool_size: int, opening: Opening) -> AsyncEngine:
    """Make an engine for a server itself; it raises PoolerFound where there is a pooler."""
    return _make_engine(url, pool_size, opening.watch, opening.open_directly)


def make_pooled_engine(url: str, pool_size: int, opening: Opening) -> AsyncEngine:
    """Make an engine for a pooler; SQLAlchemy, too, keeps no statements for later."""
    creator = opening.open_through_pooler
    return _make_engine(url, pool_size, opening.watch, creator, prepared_statement_cache_size=0)


def _make_engine(
    url: str, pool_size: int, watch: Watch, creator: Creator, **options: object
) -> AsyncEngine:
    bare_url, arguments = make_driver_options(url)
    engine = create_async_engine(
        bare_url,
        poolclass=Pool,
        pool_size=pool_size,
        max_overflow=0,
        # They are names, addresses and hashes, and have no place in a log.
        hide_parameters=True,
        connect_args={**arguments, "async_creator_fn": creator, **options},
    )
    pool = engine.sync_engine.pool
    assert isinstance(pool, Pool)
    pool.watch = watch
    event.listen(engine.sync_engine, "checkout", _refuse_closed)

    # What sessions ask goes to the driver without us.
    def begin(connection: Connection, *_: object) -> None:
        watch.begin(_get_driver(connection))

    def end(connection: Connection, *_: object) -> None:
        watch.end(_get_driver(connection))

    def forget(connection: Any, *_: object) -> None:
        if connection is not None:
            watch.forget(connection.driver_connection)

    event.listen(engine.sync_engine, "before_cursor_execute", begin)
    event.listen(engine.sync_engine, "after_cursor_execute", end)
    event.listen(engine.sync_engine, "checkin", forget)
    return engine


def _get_driver(connection: Connection) -> DatabaseConnection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, DatabaseConnection)
    return driver


def _refuse_closed(connection: Any, *_: object) -> None:
    """Let the pool replace a connection that the server has closed while it was idle."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError("closed by the server")


def make_migrating_engine(url: str) -> AsyncEngine:
    """Make an engine whose connections may lead through a pooler.

    READ COMMITTED: whoever has waited for another's migration must see what that one did.
    """
    bare_url, arguments = make_driver_options(url)
    return create_async_engine(
        bare_url,
        poolclass=NullPool,
        isolation_level="READ COMMITTED",
        connect_args={
            **arguments,
            "async_creator_fn": open_for_migrations,
            "timeout": CONNECT_TIMEOUT_SECONDS,
            "prepared_statement_cache_size": 0,
        },
    )


def is_said_to_be_pooled(url: str) -> bool:
    """Whether a URL says so itself, by a word for it or in the way of SQLAlchemy."""
    return says_pooler(url) or make_url(url).query.get("prepared_statement_cache_size") == "0"
