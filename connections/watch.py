"""Tells a server that takes its time from one that says nothing any more.

The waits for the second end within two seconds, whatever they wait for; those for a lock or a slow
disk of the first go on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import asyncpg

logger = logging.getLogger(__name__)

# Most answers come within milliseconds, and any answer to anybody shows that the server is there.
DOUBT_SECONDS = 1.0
# A new connection, and an answer on it.
ASK_SECONDS = 1.0


class Watched(Protocol):
    """A connection, as far as it matters here."""

    def give_up(self) -> None:
        """Close it without a word."""

    def is_closed(self) -> bool:
        """Tell whether it is closed."""


class Watch:
    """Watches all connections of an engine that wait for an answer; belongs to one event loop.

    When nobody was answered for a second it asks whether the server is there at all, and if that is
    not answered within another, gives up those that waited.
    """

    def __init__(self, ask: Callable[[], Awaitable[None]]) -> None:
        """Take what asks the server anything on a connection of its own."""
        self._ask = ask
        self._waiting_since: dict[Watched, float] = {}
        self.heard_at = 0.0  # of the server, on the loop's clock
        self._alarm: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None

    @contextmanager
    def waiting(self, connection: Watched) -> Iterator[None]:
        """Watch the connection while the context lasts, in which it waits for one answer."""
        self.begin(connection)
        try:
            yield
        except asyncpg.PostgresConnectionError:
            self._waiting_since.pop(connection, None)
            raise
        except asyncpg.PostgresError:
            self.end(connection)
            raise
        except BaseException:
            self._waiting_since.pop(connection, None)
            raise
        else:
            self.end(connection)

    def begin(self, connection: Watched) -> None:
        """Note that the connection waits from now on."""
        loop = asyncio.get_running_loop()
        self._waiting_since[connection] = loop.time()
        if self._alarm is None and self._asking is None:
            self._alarm = loop.call_later(DOUBT_SECONDS, self._doubt)

    def end(self, connection: Watched) -> None:
        """Note that the connection was answered."""
        self._waiting_since.pop(connection, None)
        self.heard_at = asyncio.get_running_loop().time()

    def forget(self, connection: Watched) -> None:
        """Note that nobody waits on the connection any more."""
        self._waiting_since.pop(connection, None)

    def close(self) -> None:
        """Watch no more."""
        self._waiting_since.clear()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    def _doubt(self) -> None:
        self._alarm = None
        for connection in [each for each in self._waiting_since if each.is_closed()]:
            self.forget(connection)
        if not self._waiting_since:
            return
        loop = asyncio.get_running_loop()
        silent_since = max(self.heard_at, min(self._waiting_since.values()))
        left_seconds = silent_since + DOUBT_SECONDS - loop.time()
        if left_seconds > 0:
            self._alarm = loop.call_later(left_seconds, self._doubt)
        else:
            self._asking = asyncio.create_task(self._find_out(list(self._waiting_since)))

    async def _find_out(self, suspects: list[Watched]) -> None:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await self._ask()
            self.heard_at = loop.time()
        except asyncpg.PostgresError:
            self.heard_at = loop.time()  # a refusal is an answer
        except Exception as err:
            if self.heard_at < asked_at:
                self._give_up([each for each in suspects if each in self._waiting_since], err)
        self._asking = None
        self._doubt()

    def _give_up(self, silent: list[Watched], err: Exception) -> None:
        logger.warning("the database is silent, %d waits for it end: %r", len(silent), err)
        for connection in silent:
            self.forget(connection)
            connection.give_up()
