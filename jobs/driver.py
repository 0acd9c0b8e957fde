"""PgQueuer's way to the database: our own connections, each held for one statement.

Nothing listens on one, so a pooler in transaction mode may stand in between; whoever waits asks
again every second.
"""

import asyncio
from collections.abc import Mapping
from typing import Self

from pgqueuer.core.tm import TaskManager
from pgqueuer.ports.driver import NotifyCallback

from database import Database, Statement, Transaction


class _Written(Statement):
    """A statement of the engine's, with its arguments in their order."""

    def __init__(self, sql: str, arguments: tuple[object, ...]) -> None:
        self.sql = sql
        self._arguments = list(arguments)

    def bind(self, values: Mapping[str, object]) -> list[object]:
        return self._arguments


class Driver:
    """What PgQueuer calls a driver, over an application's connections or one transaction of ours.

    Whoever made either closes it.
    """

    def __init__(self, source: Database | Transaction) -> None:
        self.shutdown = asyncio.Event()
        self.tm = TaskManager()
        self._source = source
        self._listeners: list[NotifyCallback] = []

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        """Run a statement and return its rows. Raises DatabaseUnavailable."""
        rows = await self._source.fetch(_Written(query, args))
        return [dict(row) for row in rows]

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement; its status, which nobody asks for, is empty."""
        await self.fetch(query, *args)
        return ""

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        """Hear what this process notifies itself of, on the only channel that there is."""
        self._listeners.append(callback)

    async def notify(self, channel: str, payload: str) -> None:
        """Tell the listeners of this process."""
        for callback in self._listeners:
            callback(payload)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave the connections to whoever made them."""
