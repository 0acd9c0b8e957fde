"""The tests' S3 server: keeps objects itself or passes on to a real one, and fails as it is told.

A fault comes by plan (the nth request of a method), at a rate, always, or by a script of whole
answers. It holds just enough of S3 for PUT and DELETE, also of many objects in one call; what else
is asked needs a script, or a real server behind it.
"""

import hashlib
import http.client
import http.server
import random
import select
import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from files.meeting import OLD_CLAIM
from storage.markers import BUCKET_KEY
from tests.support.connections import reset_when_closed
from tests.support.orders import Order, take_due
from tests.support.s3_messages import (
    HEADERS,
    OF_THE_HOP,
    Answer,
    Request,
    is_of_many,
    key_of,
    render,
    render_deleted,
    render_error,
)
from tests.support.web import QuietServer

# ok: done and answered · 500, 503, 403: refused · reset: not done, reset after half of the body was
# read · lost: done, then reset · cut_answer: done, half of the answer, then reset · timeout: done,
# then silence until the client gives up · hang: done once the gate is open, unless the client gives
# up before · dribble: done, then the answer comes byte by byte, for longer than a client waits
Fault = Literal[
    "ok", "500", "503", "403", "reset", "lost", "cut_answer", "timeout", "hang", "dribble"
]

BUCKET = "planned"
# A timeout costs its client READ_TIMEOUT_SECONDS of storage/s3_client.py, so it is one in ten.
RANDOM_FAULTS: dict[Fault, int] = {
    "500": 18,
    "503": 18,
    "lost": 18,
    "reset": 18,
    "cut_answer": 18,
    "timeout": 10,
}
_CUT_OFF = ("lost", "timeout", "cut_answer", "dribble")
_REFUSALS = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied"}
_POLL_SECONDS = 0.02
# Between two bytes of an answer that dribbles: no wait for one of them is long.
_DRIBBLE_SECONDS = 0.5


class FakeS3:
    """One server, until it is closed; as a context it closes itself.

    With an `endpoint` it passes requests on to that server, and keeps neither objects nor a list of
    what was asked; `detour` gives them another path there. With a `rate` each PUT and DELETE of an
    object meets a random fault with this probability, if no planned one. While `away` every
    connection is reset.
    """

    def __init__(self, endpoint: str | None = None, *, rate: float = 0.0, seed: int = 0) -> None:
        self.endpoint = endpoint
        self.rate = rate
        self.away = False
        self.is_closed = False
        self.marker: bytes | None = None
        self.marker_reads = 0
        self.knows_create_only = True  # for the marker
        self.detour: Callable[[str], str] = lambda path: path
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.clear()
        self._server = _Server(self)
        self.url = self._server.url
        self._server.start()

    def clear(self) -> None:
        """Forget objects, requests, plans and scripts."""
        self.objects: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.always: dict[str, Fault] = {"PUT": "ok", "DELETE": "ok"}
        self.faults: Counter[str] = Counter()  # how often each was met
        self.hanging: set[str] = set()  # keys of requests that wait for the gate
        self.gate = threading.Event()
        self._orders: list[Order] = []
        self._script: list[Answer | Fault] = []

    def plan(
        self, method: str, fault: Fault, *, nth: int = 1, then: Callable[[], object] | None = None
    ) -> threading.Event:
        """The nth request for an object by this method from now on meets this fault.

        `then` is called when the store has done or not done its part and before the client learns.
        The Event is set when the client has been answered or cut off (at `timeout` and `dribble`:
        when its wait begins).
        """
        order = Order(method, fault, nth, then)
        with self._lock:
            self._orders.append(order)
        return order.done

    def say(self, *script: Answer | Fault) -> None:
        """Answer every request by the script from now on, one after another, the last for ever."""
        with self._lock:
            self._script = list(script)

    def keys(self, method: str) -> list[str]:
        """The keys of all requests of this method, in their order.

        A deletion of many objects counts as one DELETE of each.
        """
        found = [
            request
            for request in list(self.requests)
            if request.method == method or (method == "DELETE" and request.is_deletion)
        ]
        return [key for request in found for key in request.keys]

    def settings(self) -> dict[str, str]:
        """The settings of a service that keeps its objects here."""
        return {
            "STORAGE": "s3",
            "S3_BUCKET_NAME": BUCKET,
            "S3_ENDPOINT_URL": self.url,
            "S3_ACCESS_KEY_ID": "test",
            "S3_SECRET_ACCESS_KEY": "test",
        }

    def close(self) -> None:
        """End the server; who waits in silence or at the gate is let go."""
        if not self.is_closed:
            self.is_closed = True
            self.gate.set()
            self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take_scripted(self) -> Answer | Fault | None:
        """What the script says to the next request, if there is one."""
        with self._lock:
            if len(self._script) > 1:
                return self._script.pop(0)
            return self._script[0] if self._script else None

    def take_order(self, method: str, key: str) -> Order:
        """What this request meets; one that is not for an object meets nothing.

        A deletion of many objects is one request by DELETE.
        """
        if not key and method != "DELETE":
            return Order(method, "ok")
        with self._lock:
            order = take_due(self._orders, lambda planned: planned == method)
            if order is None and method in ("PUT", "DELETE") and self._random.random() < self.rate:
                kinds = list(RANDOM_FAULTS)
                kind = self._random.choices(kinds, list(RANDOM_FAULTS.values()))[0]
                order = Order(method, kind)
            if order is not None:
                self.faults[order.fault] += 1
        return order or Order(method, self.always.get(method, "ok"))

    def keep(self, request: Request) -> bytes:
        """Do what is asked to the objects here, and return the answer."""
        if request.method == "PUT":
            if request.key:
                self.objects[request.key] = request.body
            return render(200, list(HEADERS.items()), b"")
        if request.method == "DELETE":
            self.objects.pop(request.key, None)
            return render(204, [], b"")
        if request.is_deletion:
            for key in request.keys:
                self.objects.pop(key, None)
            return render(200, [], render_deleted(request.keys))
        return render(501, [], render_error("NotImplemented"))

    def pass_on(self, request: Request) -> bytes:
        """Ask the server behind; return its whole answer, or nothing if there was none."""
        assert self.endpoint is not None
        connection = http.client.HTTPConnection(urlsplit(self.endpoint).netloc, timeout=60)
        try:
            connection.putrequest(
                request.method, self.detour(request.path), skip_host=True, skip_accept_encoding=True
            )
            for name, value in request.headers.items():
                if name not in OF_THE_HOP:
                    connection.putheader(name, value)  # Host as the client signed it
            if request.body or request.method in ("PUT", "POST"):
                connection.putheader("Content-Length", str(len(request.body)))
            connection.endheaders(request.body)
            found = connection.getresponse()
            content = found.read()
            length = found.getheader("Content-Length") if request.method == "HEAD" else None
            return render(found.status, found.getheaders(), content, length)
        except (OSError, http.client.HTTPException):
            return b""
        finally:
            connection.close()


def etag_of(content: bytes | None) -> str:
    """What S3 calls an object's ETag."""
    return f'"{hashlib.md5(content or b"", usedforsecurity=False).hexdigest()}"'


class _Server(QuietServer):
    def __init__(self, s3: FakeS3) -> None:
        self.s3 = s3
        super().__init__(_Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle_one_request(self) -> None:
        if self.server.s3.away:
            self._reset()
        else:
            super().handle_one_request()

    def _respond(self) -> None:
        s3 = self.server.s3
        if s3.away:  # since this connection was made
            return self._reset()
        if key_of(self.path) in (BUCKET_KEY, OLD_CLAIM):
            self._answer_of_marker()
            return
        scripted = s3.take_scripted()
        if isinstance(scripted, Answer):
            self._say(scripted)
        elif scripted is not None:
            self._meet(Order(self.command, scripted))
        else:
            is_deletion = self.command == "POST" and is_of_many(self.path)
            method = "DELETE" if is_deletion else self.command
            self._meet(s3.take_order(method, key_of(self.path)))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = _respond

    def _answer_of_marker(self) -> None:
        """What says which store this is meets no fault, and is in no list."""
        s3 = self.server.s3
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, self._read_body(is_cut=False))
        if s3.endpoint is not None:
            answer = s3.pass_on(request)
        elif request.method == "PUT":
            if "if-none-match" in headers and not s3.knows_create_only:
                answer = render(501, [], render_error("NotImplemented"))
            elif "if-none-match" in headers and s3.marker is not None:
                answer = render(412, [], render_error("PreconditionFailed"))
            else:
                s3.marker = request.body
                answer = render(200, [("ETag", etag_of(s3.marker))], b"")
        elif request.key == OLD_CLAIM or s3.marker is None:
            answer = render(404, [], render_error("NoSuchKey"))
        else:
            s3.marker_reads += 1
            answer = render(200, [("ETag", etag_of(s3.marker))], s3.marker)
        self.connection.sendall(answer)

    def _meet(self, order: Order) -> None:
        """Do what is asked as the fault has it, and answer or not."""
        s3 = self.server.s3
        request = self._read_request(is_cut=order.fault == "reset")
        if order.fault == "hang" and not self._wait_at_gate(request.key):
            self.close_connection = True
            order.done.set()
            return
        if order.fault in _REFUSALS:
            answer = render(int(order.fault), [], render_error(_REFUSALS[order.fault]))
        elif order.fault == "reset":
            answer = b""
        else:
            answer = s3.pass_on(request) if s3.endpoint is not None else s3.keep(request)
        if order.then is not None:
            order.then()
        if order.fault == "timeout":
            order.done.set()
            self._wait_until_client_is_gone()
        if order.fault == "dribble":
            order.done.set()
            self._dribble(answer)
        if order.fault == "cut_answer":
            self.connection.sendall(answer[: len(answer) // 2])
        if answer and not s3.away and order.fault not in _CUT_OFF:
            self.connection.sendall(answer)
        else:
            self._reset()
        order.done.set()

    def _say(self, answer: Answer) -> None:
        self._read_request(is_cut=False)
        self.connection.sendall(answer.render(self.command))
        if answer.stalls:
            self._wait_until_client_is_gone()
        self.close_connection = answer.raw is not None or answer.length is not None

    def _read_request(self, is_cut: bool) -> Request:
        s3 = self.server.s3
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, self._read_body(is_cut))
        if s3.endpoint is None:
            s3.requests.append(request)
        return request

    def _read_body(self, is_cut: bool) -> bytes:
        """The body without its transfer encoding; of a cut one, the first half or chunk."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            length = int(self.headers.get("Content-Length", 0))
            return self._read(length // 2 if is_cut else length)
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0] or b"-1", 16):
            body += self._read(size)
            self.rfile.readline()
            if is_cut:
                return body
        while self.rfile.readline().strip():  # trailers
            pass
        return body

    def _read(self, size: int) -> bytes:
        content = self.rfile.read(size) if size >= 0 else b""
        if len(content) != size:
            raise ConnectionResetError("the client is gone; half a body must not be stored")
        return content

    def _wait_at_gate(self, key: str) -> bool:
        """False when the client gave up first: then its end of the connection is closed."""
        s3 = self.server.s3
        gate = s3.gate
        s3.hanging.add(key)
        try:
            while not gate.wait(_POLL_SECONDS):
                if s3.away or self._is_client_gone():
                    return False
            return True
        finally:
            s3.hanging.discard(key)

    def _wait_until_client_is_gone(self) -> None:
        s3 = self.server.s3
        while not (s3.is_closed or s3.away or self._is_client_gone(_POLL_SECONDS)):
            pass

    def _dribble(self, answer: bytes) -> None:
        for byte in answer:
            if self.server.s3.is_closed or self._is_client_gone(_DRIBBLE_SECONDS):
                return
            self.connection.sendall(bytes([byte]))

    def _is_client_gone(self, wait_seconds: float = 0) -> bool:
        is_readable = bool(select.select([self.connection], [], [], wait_seconds)[0])
        return is_readable and not self.connection.recv(1, socket.MSG_PEEK)

    def _reset(self) -> None:
        reset_when_closed(self.connection)
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass
