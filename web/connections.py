"""One connection: the heads of its requests are bounded in size and time, their bodies not copied.

It is uvicorn's own protocol with what that leaves open; another server around the application, such
as a bare `uvicorn main:app`, does without.
"""

import asyncio
import logging
import uuid
from typing import Any

import httptools
from fastapi import Request
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from config import KIB, Settings
from errors import (
    DarkroomError,
    HeadTooLarge,
    HeadTooSlow,
    MalformedRequest,
    TooManyConnections,
)
from web.addresses import find_client_address
from web.middleware import SECURITY_HEADERS
from web.problems import make_problem

logger = logging.getLogger(__name__)

# Of one request: its address and its header fields, or the fields behind a body in chunks. Every
# browser and proxy stays far below.
MOST_HEAD_BYTES = 32 * KIB
MOST_HEAD_FIELDS = 100
# From the first byte of a head, or the beginning of a connection, to the head's end.
HEAD_SECONDS = 10.0
# For so long what still comes is taken and thrown away behind a refusal: a client that sends all
# before it reads would lose the answer to the reset of a connection closed at once.
LINGER_SECONDS = 2.0
# Beyond the limit so many are told so at once; the others are closed without a word.
MOST_TURNED_AWAY = 50


class Connection(HttpToolsProtocol):
    """One connection of a client; a refusal ends it, once what was asked before is answered."""

    def __init__(self, *arguments: Any, settings: Settings, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._settings = settings
        self._address: str | None = None
        self._is_in_head = False
        self._head_bytes = 0
        self._head_fields = 0
        # What came since a head, a piece of a body or a request was complete.
        self._unfinished_bytes = 0
        self._timer: asyncio.TimerHandle | None = None  # of a head, or of lingering
        self._refusal: DarkroomError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = find_client_address({"client": self.client}, self._settings)
        excess = self._find_excess()
        if excess == 0:
            self._await_head()
        elif excess <= MOST_TURNED_AWAY:
            self._refuse(TooManyConnections())
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        self._unset_keepalive_if_required()
        self._unfinished_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # it is answered as if it had asked for no other protocol
        except httptools.HttpParserError:
            self._refuse(MalformedRequest())
        if self._refusal is not None:
            return
        if self._unfinished_bytes > MOST_HEAD_BYTES:
            self._refuse(HeadTooLarge())
        elif self._is_in_head and self._timer is None:
            self._await_head()

    def on_message_begin(self) -> None:
        self._is_in_head = True
        self._head_bytes = 0
        self._head_fields = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url), fields=0)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value), fields=1)
        # What stands behind a body in chunks is no header.
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._unfinished_bytes = 0
        self._stop_timer()
        super().on_headers_complete()
        if self._has_body():
            self.flow.pause_reading()  # until somebody receives it, who has memory for it

    def on_body(self, body: bytes) -> None:
        self._unfinished_bytes = 0
        arrived = self.cycle.body
        # Whoever receives them is given the bytes that came, unless more came meanwhile.
        if not arrived:
            self.cycle.body = b""  # type: ignore[assignment]
        elif isinstance(arrived, bytes):
            self.cycle.body = bytearray(arrived)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unfinished_bytes = 0
        super().on_message_complete()

    def _has_body(self) -> bool:
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
            for name, value in self.headers
        )

    def _count(self, new_bytes: int, fields: int) -> None:
        self._head_bytes += new_bytes
        self._head_fields += fields
        if self._head_bytes > MOST_HEAD_BYTES or self._head_fields > MOST_HEAD_FIELDS:
            self._refuse(HeadTooLarge())
            raise HeadTooLarge  # ends the parser's work

    def _find_excess(self) -> int:
        """Tell by how many there are too many connections, with this one."""
        in_all = len(self.connections) - self._settings.max_connections
        if self._address is None:
            return max(0, in_all)
        peers = sum(
            isinstance(each, Connection) and each._address == self._address
            for each in self.connections
        )
        return max(0, in_all, peers - self._settings.max_connections_per_address)

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._end_head)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_head(self) -> None:
        self._timer = None
        if self._is_in_head:
            self._refuse(HeadTooSlow())
        else:  # it never sent anything, and expects nothing
            self.transport.close()

    def _refuse(self, error: DarkroomError) -> None:
        """Answer with an error unless what was asked before is still being answered, and close."""
        if self._refusal is not None:
            return
        self._refusal = error
        self._stop_timer()
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._answer(error)
        elif not cycle.more_body:
            cycle.keep_alive = False  # it closes behind that answer
        elif cycle.response_started:
            self.transport.close()
        else:
            self._answer(error)
            cycle.disconnected = True
            cycle.message_event.set()

    def _answer(self, error: DarkroomError) -> None:
        request_id = uuid.uuid4().hex
        logger.info(
            "a connection is refused: %s",
            error.code,
            extra={"client": self.client[0] if self.client else None},
        )
        request = Request({"type": "http", "headers": [], "state": {"request_id": request_id}})
        problem = make_problem(request, error)
        body = bytes(problem.body)
        headers = {
            **SECURITY_HEADERS,
            "X-Request-ID": request_id,
            "Cache-Control": "no-store",
            "Connection": "close",
        }
        fields = [*self.server_state.default_headers, *problem.raw_headers]
        fields += [(name.encode(), value.encode()) for name, value in headers.items()]
        head = b"".join(b"%b: %b\r\n" % field for field in fields)
        self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[error.status], head, body))
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()
