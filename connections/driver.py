"""How a connection speaks: to a server directly, or to a pooler that stands before it.

Either way nothing rests on what a session was told once: a pooler forgets it, or lets it leak into
another's session. Every transaction opens with one message that says all that holds in it.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import asyncpg

from connections.watch import Watch

# How long anybody waits, in all, for a connection, its being made, and its first answer: below what
# clients and proxies wait, far above what a server takes that is there at all.
REACH_SECONDS = 2.0
# Of which the first answer may always take this much.
FIRST_ANSWER_SECONDS = 0.5
# The longest wait for a COMMIT whose outcome nobody reads again. It ends without a cancellation: a
# server told to cancel one that waits for its standby would take it for done.
COMMIT_SECONDS = 10.0
# No statement of ours takes a tenth of this; longer means that something is stuck.
STATEMENT_TIMEOUT_MS = 15_000
LOCK_TIMEOUT_MS = 10_000
# A process that is stopped in the middle of a query keeps its locks, and none of the above ends
# it. Postgres 17 and later do, after the longest that a transaction of ours may wait and work.
TRANSACTION_TIMEOUT_MS = 30_000
TRANSACTION_TIMEOUT_SINCE = 17

# An expression that raises the durability of its transaction where it is off, and never lowers
# it: what was answered 200 must survive a crash of the server, and with all other values it does.
RAISE_DURABILITY = (
    "CASE current_setting('synchronous_commit')"
    " WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END"
)
# For what may be lost with the last half second before a power cut.
LOWER_DURABILITY = "set_config('synchronous_commit', 'off', true)"

# On the loop's clock, when whoever asked for a connection in this task gives it up.
reach_by: ContextVar[float] = ContextVar("reach_by")


class PoolerFound(Exception):
    """A connection that was to lead to a server directly ends at a pooler."""


class PoolerFull(asyncpg.TooManyConnectionsError):  # type: ignore[misc]
    """A pooler took a connection, but has none of a server to lend it."""


class DatabaseConnection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that leads to a server directly: its statements are prepared once.

    Whoever opens it gives it a watch, which ends its waits for a server that has fallen silent.
    """

    watch: Watch
    is_given_up = False  # by us: nobody said that it is closed

    def give_up(self) -> None:
        """Close it without a word, so that whoever waits on it is told that it is lost.

        Nothing is cancelled: what the server has begun it ends as if nothing had happened.
        """
        self.is_given_up = True
        self.terminate()

    @contextmanager
    def give_up_after(self, seconds: float) -> Iterator[None]:
        """Give the connection up should the context last longer."""
        alarm = asyncio.get_running_loop().call_later(seconds, self.give_up)
        try:
            yield
        finally:
            alarm.cancel()

    async def open_transaction(self, lock_timeout_ms: int | None = None) -> None:
        """Begin, with the limits that hold until the end and with durability."""
        limits = {
            "statement_timeout": STATEMENT_TIMEOUT_MS,
            "lock_timeout": LOCK_TIMEOUT_MS if lock_timeout_ms is None else lock_timeout_ms,
            "idle_in_transaction_session_timeout": STATEMENT_TIMEOUT_MS,
        }
        if self.get_server_version().major >= TRANSACTION_TIMEOUT_SINCE:
            limits["transaction_timeout"] = TRANSACTION_TIMEOUT_MS
        settings = "; ".join(f"SET LOCAL {name} = {value}" for name, value in limits.items())
        begin = "BEGIN ISOLATION LEVEL READ COMMITTED"
        now = asyncio.get_running_loop().time()
        left_seconds = reach_by.get(now + REACH_SECONDS) - now
        with self.give_up_after(max(left_seconds, FIRST_ANSWER_SECONDS)):
            await super().execute(f"{begin}; {settings}; SELECT {RAISE_DURABILITY}")

    async def execute(self, query: str, *args: object, **options: Any) -> str:
        """Execute a query; the BEGIN of a session is ours."""
        if query.startswith("BEGIN"):
            await self.open_transaction()
            return "BEGIN"
        if not query.startswith("COMMIT"):
            with self.watch.waiting(self):
                return str(await super().execute(query, *args, **options))
        with self.watch.waiting(self), self.give_up_after(COMMIT_SECONDS):
            return str(await super().execute(query, *args, **options))

    async def fetch(self, query: str, *args: object, **options: Any) -> list[asyncpg.Record]:
        """Run a statement and return its rows."""
        with self.watch.waiting(self):
            rows: list[asyncpg.Record] = await super().fetch(query, *args, **options)
            return rows

    async def fetchrow(self, query: str, *args: object, **options: Any) -> asyncpg.Record | None:
        """Run a statement and return its first row."""
        with self.watch.waiting(self):
            return await super().fetchrow(query, *args, **options)


class _WithoutTraces:
    """What a connection does that leaves nothing in a session which others are lent after it.

    Its statements have no names (statement_cache_size = 0): one would be known to a single server,
    and perhaps be another's there.
    """

    async def _introspect_types(self, *args: Any) -> Any:
        """Ask for types as asyncpg does, which says to the session how to compile meanwhile."""
        types = await super()._introspect_types(*args)  # type: ignore[misc]
        await asyncpg.Connection.execute(self, "RESET jit")
        return types


class PooledConnection(_WithoutTraces, DatabaseConnection):
    """A connection that leads to a pooler."""


class MigratingConnection(_WithoutTraces, asyncpg.Connection):  # type: ignore[misc]
    """A connection for migrations, wherever it leads: they may wait and take longer."""
