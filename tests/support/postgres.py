"""The tests' Postgres as it fails: a proxy before a real one.

It loses a COMMIT, its reply, or every connection, refuses new ones or says nothing any more; and it
tells what clients waited for.
"""

import asyncio
import contextlib
import re
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from sqlalchemy.engine import make_url

from tests.support.connections import reset_when_closed
from tests.support.orders import Order, take_due

T = TypeVar("T")

_TLS = 80877103  # in place of a protocol version in a first message
_GSS = 80877104
_SYNC = b"S\0\0\0\4"
_WAITED_FOR = (b"Q", b"S", b"H")  # a query, Sync, Flush
_BEFORE = "before"  # the order that loses nothing


@dataclass(frozen=True)
class RoundTrip:
    """A message after which the client waits for the server, and the connection it came by."""

    connection: int
    sql: str  # in lower case, with single spaces
    is_executed: bool  # not only prepared

    @property
    def begins(self) -> bool:
        return self.sql.startswith(("begin", "start transaction"))

    @property
    def commits(self) -> bool:
        return self.sql.startswith(("commit", "end"))


class PostgresProxy:
    """Passes on between clients on loopback and a Postgres,
    message by message, and loses the COMMITs it is told to.

    A COMMIT counts for an order if its transaction executed a statement whose
    text contains `statement`, in whatever case and with whatever white space.
    A statement outside of any transaction is its own COMMIT.
    The returned Event is set when the server is done with that transaction.
    """

    def __init__(self, database_url: str) -> None:
        url = make_url(database_url)
        host = str(url.host or url.query["host"])
        port = int(url.port or str(url.query.get("port", 5432)))
        self._server: dict[str, Any] = {"host": host, "port": port}
        if host.startswith("/"):
            self._server = {"path": f"{host}/.s.PGSQL.{port}"}
        self.dropped = 0
        self.refusing = False
        self.is_silent = False
        self.round_trips: list[RoundTrip] | None = None
        self.orders: list[Order] = []
        self.links: set[_Link] = set()
        self._held: set[_Link] = (
            set()
        )  # with their tasks, to which the event loop keeps only weak references
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="postgres-proxy", daemon=True
        )
        self._thread.start()
        self._listener = self._run(asyncio.start_server(self._accept, "127.0.0.1", 0))
        port = self._listener.sockets[0].getsockname()[1]
        url = url.difference_update_query(["host", "port"]).set(host="127.0.0.1", port=port)
        self.url = url.render_as_string(hide_password=False)

    def lose_reply(
        self, statement: str, *, nth: int = 1, then: Callable[[], object] | None = None
    ) -> threading.Event:
        """The COMMIT is done, `then` is called, and instead of the reply both connections end."""
        return self._order(Order(statement, "reply", nth, then))

    def lose_request(
        self, statement: str, *, nth: int = 1, then: Callable[[], object] | None = None
    ) -> threading.Event:
        """The COMMIT never reaches the server: `then` is
        called, both connections end, the server rolls back.
        """
        return self._order(Order(statement, "request", nth, then))

    def late(self, statement: str, *, nth: int = 1, seconds: float) -> threading.Event:
        """The client's connection ends at once, the COMMIT
        reaches the server so much later, even after `cut_all`.
        """
        return self._order(Order(statement, "late", nth, seconds=seconds))

    def crash(
        self, statement: str, *, nth: int = 1, seconds: float, then: Callable[[], object]
    ) -> threading.Event:
        """`then` begins, and so much later the COMMIT is passed on in the midst of it.

        The Event is set when both connections have ended.
        """
        return self._order(Order(statement, "crash", nth, then, seconds))

    def before(
        self, statement: str, *, nth: int = 1, then: Callable[[], object]
    ) -> threading.Event:
        """`then` is called before the server is told to execute the statement; the Event is set
        after that.
        """
        return self._order(Order(statement, _BEFORE, nth, then))

    @contextlib.contextmanager
    def record(self) -> Iterator[list[RoundTrip]]:
        """Yields a list that gets every round trip from now on until the context ends."""
        self.round_trips = []
        try:
            yield self.round_trips
        finally:
            self.round_trips = None

    def silence(self, is_silent: bool) -> None:
        """While true, connections are taken and kept, but nothing passes in either direction.

        They are reset when it ends.
        """
        self.is_silent = is_silent
        if not is_silent:
            self.cut_all()

    def cut_all(self) -> int:
        """Reset every client's connection; return how many there were."""

        async def cut() -> int:
            cut = list(self.links)
            for link in cut:
                link.reset_client()
            return len(cut)

        return self._run(cut())

    def refuse(self, refusing: bool) -> None:
        """While true, a new connection is reset at once."""
        self.refusing = refusing

    def connections(self) -> int:
        """How many clients are connected now."""
        return len(self.links)

    def close(self) -> None:
        """End all connections and the proxy."""

        async def end() -> None:
            self._listener.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        if not self._loop.is_closed():
            self._run(end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _order(self, order: Order) -> threading.Event:
        self._loop.call_soon_threadsafe(self.orders.append, order)
        return order.done

    def _run(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self, reader, writer)
        self._held.add(link)
        try:
            if not self.refusing:
                if "path" in self._server:
                    await link.run(asyncio.open_unix_connection(**self._server))
                else:
                    await link.run(asyncio.open_connection(**self._server))
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # one side is gone, or the proxy is closed
        finally:
            link.reset_client()
            self._held.discard(link)


class _Link:
    """One client's connection, and the one to the server behind it."""

    def __init__(
        self, proxy: PostgresProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._from_client = reader
        self._to_client = writer
        self._statements: dict[bytes, str] = {}  # by name; asyncpg parses once and binds often
        self._portals: dict[bytes, str] = {}
        self._executed: list[str] = []  # since BEGIN
        self._is_in_transaction = False
        self._said: list[tuple[str, bool]] = []  # since the last Sync, and whether to execute it
        self._owed = (
            1  # how often the server has yet to say ReadyForQuery; first of all after its greeting
        )
        self._ready = asyncio.Event()  # none is owed, or the server is gone
        self._is_lost = False  # nothing more reaches the client
        self._task = asyncio.current_task()

    def reset_client(self) -> None:
        self._proxy.links.discard(self)
        if not self._to_client.transport.is_closing():
            reset_when_closed(self._to_client.get_extra_info("socket"))
        self._to_client.transport.abort()

    async def run(
        self, server: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    ) -> None:
        self._proxy.links.add(self)
        self._from_server, self._to_server = await server
        self._replies = asyncio.create_task(self._pass_replies())
        try:
            await self._pass_requests()
            await self._replies
        finally:
            self._replies.cancel()
            self._to_server.close()

    async def _pass_requests(self) -> None:
        while True:  # the first message has no type
            head = await self._from_client.readexactly(8)
            length, version = struct.unpack("!II", head)
            if version not in (_TLS, _GSS):
                break
            self._to_client.write(b"N")
        await self._send(head + await self._from_client.readexactly(length - 8))
        while True:
            message = await _message(self._from_client)
            sql = self._executed_by(message)
            if sql:
                await self._meet_before(sql)
            begins = bool(re.match(r"(begin|start)\b", sql))
            commits = bool(re.match(r"(commit|end)\b", sql))
            if begins or not self._is_in_transaction:
                self._executed.clear()
            if sql and not (begins or commits):
                self._executed.append(sql)
            if commits or (sql and not begins and not self._is_in_transaction):
                lost = self._take(is_before=False, executed=self._executed)
                if lost is not None:
                    return await self._lose(lost, message)
            self._record(message, sql)
            await self._send(message)

    def _take(self, *, is_before: bool, executed: list[str]) -> Order | None:
        """Take out the order that is due, of those that lose something or of the others."""
        of_this_sort = [
            order for order in self._proxy.orders if (order.fault == _BEFORE) == is_before
        ]
        due = take_due(of_this_sort, lambda text: any(_plain(text) in done for done in executed))
        if due is not None:
            self._proxy.orders.remove(due)
        return due

    async def _meet_before(self, sql: str) -> None:
        order = self._take(is_before=True, executed=[sql])
        if order is not None and order.then is not None:
            await asyncio.to_thread(order.then)
            order.done.set()

    def _record(self, message: bytes, sql: str) -> None:
        if message[:1] == b"P":
            self._said.append((_plain(message[5:].split(b"\0", 2)[1].decode()), False))
        elif sql:
            self._said.append((sql, True))
        if message[:1] in _WAITED_FOR:
            text, is_executed = self._said[-1] if self._said else ("", False)
            self._said.clear()
            if self._proxy.round_trips is not None:
                self._proxy.round_trips.append(RoundTrip(id(self), text, is_executed))

    def _executed_by(self, message: bytes) -> str:
        """The text of the statement that the message has the server execute, if any."""
        kind = message[:1]
        names = message[5:].split(b"\0", 2)
        if kind == b"P":
            self._statements[names[0]] = _plain(names[1].decode())
        elif kind == b"B":
            self._portals[names[0]] = self._statements.get(names[1], "")
        elif kind == b"E":
            return self._portals.get(names[0], "")
        return _plain(names[0].decode()) if kind == b"Q" else ""

    async def _send(self, message: bytes) -> None:
        if message[:1] in (b"Q", b"S"):
            self._owed += 1
            self._ready.clear()
        if self._proxy.is_silent:
            return
        self._to_server.write(message)
        await self._to_server.drain()

    async def _lose(self, lost: Order, commit: bytes) -> None:
        await self._ready.wait()
        self._is_lost = True
        if lost.fault == "crash":
            return await self._crash(lost, commit)
        if lost.fault == "late":
            self.reset_client()
            await asyncio.sleep(lost.seconds)
        if lost.fault != "request":
            await self._send(commit)
            if commit[:1] != b"Q":
                await self._send(_SYNC)
            await self._ready.wait()
        if lost.then is not None:
            await asyncio.to_thread(lost.then)
        self.reset_client()
        self._to_server.write_eof()
        await self._replies  # until the server has let go of the transaction
        self._proxy.dropped += 1
        lost.done.set()

    async def _crash(self, lost: Order, commit: bytes) -> None:
        assert lost.then is not None
        crashing = asyncio.create_task(asyncio.to_thread(lost.then))
        await asyncio.sleep(lost.seconds)
        with contextlib.suppress(OSError):
            await self._send(commit)
            await self._send(_SYNC)
        await crashing
        self.reset_client()
        with contextlib.suppress(OSError):
            self._to_server.write_eof()  # should the server have survived
        await self._replies
        self._proxy.dropped += 1
        lost.done.set()

    async def _pass_replies(self) -> None:
        try:
            while True:
                message = await _message(self._from_server)
                if message[:1] == b"Z":
                    self._is_in_transaction = message[5:6] != b"I"
                if not self._is_lost and not self._proxy.is_silent:
                    self._to_client.write(message)
                    await self._to_client.drain()
                if message[:1] == b"Z":
                    self._owed -= 1
                    if self._owed == 0:
                        self._ready.set()
        except (OSError, EOFError):
            pass  # one side is gone
        finally:
            self._ready.set()
            self._to_client.close()


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(int.from_bytes(head[1:], "big") - 4)


def _plain(sql: str) -> str:
    return " ".join(sql.lower().split())
