"""Questions to a database, over a connection that is kept for the next one: 1 ms, not 20.

It is that of the database which was asked last, so that no test's server is left with many.
"""

import asyncio
import atexit
import contextlib
import threading
from dataclasses import dataclass
from typing import Self

import asyncpg

# Whatever holds a connection up, such as a proxy of a test: another one is opened then.
RESET_SECONDS = 2
BROKEN = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError)


@dataclass
class KeptConnection:
    """A connection and the loop it lives in, for one thread at a time."""

    url: str
    runner: asyncio.Runner
    connection: asyncpg.Connection

    @classmethod
    def open(cls, url: str) -> Self:
        runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        try:
            # Tests change tables: what is prepared once would not be right again.
            connection = runner.run(asyncpg.connect(url, statement_cache_size=0))
        except BaseException:
            runner.close()
            raise
        return cls(url, runner, connection)

    def is_as_new(self) -> bool:
        """Whether it is alive; nothing of what was set or locked in it is left."""
        try:
            self.runner.run(self.connection.reset(timeout=RESET_SECONDS))
        except BROKEN:
            return False
        return True

    def ask(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = self.runner.run(self.connection.fetch(statement, *arguments))
        return rows

    def close(self) -> None:
        with contextlib.suppress(*BROKEN):
            self.runner.run(self.connection.close(timeout=RESET_SECONDS))
        self.runner.close()


_changing = threading.Lock()
_kept: KeptConnection | None = None


def ask(url: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
    """Ask this database. For any number of threads, each of which has a connection of its own."""
    connection = _take(url) or KeptConnection.open(url)
    try:
        return connection.ask(statement, *arguments)
    finally:
        _keep(connection)


def _take(url: str) -> KeptConnection | None:
    found = _exchange(None)
    if found is None or (found.url == url and found.is_as_new()):
        return found
    found.close()
    return None


def _keep(connection: KeptConnection) -> None:
    before = _exchange(connection)
    if before is not None:
        before.close()


def _exchange(connection: KeptConnection | None) -> KeptConnection | None:
    global _kept
    with _changing:
        before = _kept
        _kept = connection
    return before


@atexit.register
def _end() -> None:
    kept = _exchange(None)
    if kept is not None:
        kept.close()
