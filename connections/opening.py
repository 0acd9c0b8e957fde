"""How connections are opened: which way leads to the server is seen, not set.

A pooler does not let us talk to one server all the time. It is known by the number of the server's
process, which it makes up, or by what it refuses to be told at the start of a connection.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from connections import driver
from connections.driver import (
    DatabaseConnection,
    MigratingConnection,
    PooledConnection,
    PoolerFound,
    PoolerFull,
)
from connections.watch import Watch
from postgres import connect

# On our side, should a server that is there answer nothing: above all of its own limits.
COMMAND_TIMEOUT_SECONDS = 20
# In session mode a pooler lends its connections for as long as ours last, and lets others wait.
LENT_SECONDS = 0.5
# Poolers pass this name on, or know it and forget it.
NAMED = {"application_name": "darkroom"}
# What a pooler says, as a protocol violation or an unknown feature, to settings that a session
# begins with: pgbouncer (unless it is told to ignore them), the proxy of RDS.
_REFUSED_SETTINGS = ("08P01", "0A000")

# What SQLAlchemy makes a connection with.
Creator = Callable[..., Awaitable[asyncpg.Connection]]


class Opening:
    """Opens the connections of an application's engines, all under one watch."""

    def __init__(self, note_pooler: Callable[[], None]) -> None:
        """Take what is told that there is a pooler, before PoolerFound is raised."""
        self._note_pooler = note_pooler
        self._arguments: dict[str, Any] = {}
        self._is_lent_out = False  # at times, though the server answers
        self._last_used: Creator = self.open_directly
        self.watch = Watch(self._ask)

    async def open_directly(self, **arguments: Any) -> DatabaseConnection:
        """Open a connection to a server, on which single statements are pinned like transactions.

        Raises PoolerFound where it ends at a pooler.
        """
        # Not default_transaction_read_only: hosts switch it on for a disk that is full.
        pinned = {
            "default_transaction_isolation": "read committed",
            "statement_timeout": str(driver.STATEMENT_TIMEOUT_MS),
            "lock_timeout": str(driver.LOCK_TIMEOUT_MS),
        }
        try:
            opened = await self._open(DatabaseConnection, arguments, pinned)
        except asyncpg.PostgresError as err:
            if err.sqlstate in _REFUSED_SETTINGS:
                self._note_pooler()
                raise PoolerFound from err
            raise
        try:
            pid = opened.get_server_pid()
            found = await opened.execute(f"SELECT WHERE pg_backend_pid() = {pid}")
        except BaseException:
            opened.terminate()
            raise
        if found != "SELECT 1":
            opened.terminate()
            self._note_pooler()
            raise PoolerFound
        return opened

    async def open_through_pooler(self, **arguments: Any) -> DatabaseConnection:
        """Open a connection that says nothing to a session and names no statement."""
        unnamed = {**arguments, "statement_cache_size": 0}
        self._last_used = self.open_through_pooler
        opened = await self._open(PooledConnection, unnamed, {})
        try:
            async with asyncio.timeout(LENT_SECONDS):
                await asyncpg.Connection.execute(opened, "SELECT")
        except TimeoutError as err:
            opened.terminate()
            is_heard = self.watch.heard_at > asyncio.get_running_loop().time() - 2 * LENT_SECONDS
            self._is_lent_out = self._is_lent_out or is_heard
            raise PoolerFull("all of the pooler's connections are lent") from err
        except BaseException:
            opened.terminate()
            raise
        return opened

    async def _open(
        self,
        connection_class: type[DatabaseConnection],
        arguments: dict[str, Any],
        settings: dict[str, str],
    ) -> DatabaseConnection:
        self._arguments = arguments
        now = asyncio.get_running_loop().time()
        left_seconds = driver.reach_by.get(now + driver.REACH_SECONDS) - now
        if left_seconds <= 0:
            raise TimeoutError
        opened: DatabaseConnection = await connect(
            **{
                **arguments,
                "timeout": left_seconds,
                "command_timeout": COMMAND_TIMEOUT_SECONDS,
                "server_settings": {**arguments.get("server_settings", {}), **NAMED, **settings},
                "connection_class": connection_class,
            }
        )
        opened.watch = self.watch
        return opened

    async def _ask(self) -> None:
        """Ask the server for anything, on a connection of its own."""
        try:
            opened = await self._last_used(**self._arguments)
        except PoolerFull:
            if self._is_lent_out:
                return  # which tells nothing of the server
            raise OSError("the pooler is there, but no server answers") from None
        try:
            await asyncpg.Connection.execute(opened, "SELECT")
        finally:
            opened.terminate()


async def open_for_migrations(**arguments: Any) -> asyncpg.Connection:
    """Open a connection for migrations, which speak as to a pooler wherever they are run."""
    return await connect(**arguments, connection_class=MigratingConnection, statement_cache_size=0)
