"""A proxy before an S3 server that refuses, cuts off,
keeps silent, and says so only to those who count.
"""

import http.client
import http.server
import random
import select
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from tests.support.postgres_proxy import RESET_ON_CLOSE, Armed, due

# 500, 503: refused, not forwarded · lost: done, then reset · timeout: done, then silence until
# the client gives up · reset: reset after half of the body was read, not forwarded · cut_answer:
# done, half of the answer, then reset · by plan only: pass: done and answered · half: as `reset`
Fault = Literal["500", "503", "lost", "timeout", "reset", "cut_answer", "pass", "half"]

# A timeout costs its client READ_TIMEOUT_SECONDS of storage/s3.py, so it is one in ten.
_RANDOM_FAULTS: dict[Fault, int] = {
    "500": 18,
    "503": 18,
    "lost": 18,
    "reset": 18,
    "cut_answer": 18,
    "timeout": 10,
}
_REFUSALS = {"500": "InternalError", "503": "SlowDown"}
# Headers that are about one connection and not about what goes over it.
_OF_THE_HOP = {
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "content-length",
    "expect",
}


class StoreProxy:
    """Passes on between clients on loopback and an S3 server,
    with faults in requests for objects (/bucket/key).

    With a `rate` each PUT and DELETE meets a random fault with this probability. A planned fault
    comes before those; its `then` is called when the store has done or not done its part and before
    the client learns, and its Event is set when the client has been answered or cut off (at
    `timeout`: when the silence begins).
    """

    def __init__(self, endpoint: str, *, rate: float = 0.0, seed: int = 0) -> None:
        self.endpoint = endpoint
        self.rate = rate
        self.faults: Counter[str] = Counter()
        self.away = False
        self.is_closed = False
        self._random = random.Random(seed)
        self._armed: list[Armed] = []
        self._lock = threading.Lock()
        self._server = _StoreServer(self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="store-proxy", daemon=True
        ).start()

    def plan(
        self, method: str, fault: Fault, *, nth: int = 1, then: Callable[[], None] | None = None
    ) -> threading.Event:
        """The nth request for an object by this method from now on meets this fault."""
        armed = Armed(method, fault, nth, then)
        with self._lock:
            self._armed.append(armed)
        return armed.done

    def close(self) -> None:
        """End the proxy; who waits in silence is let go."""
        if not self.is_closed:
            self.is_closed = True
            self._server.shutdown()
            self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def next_fault(self, method: str, path: str) -> Armed | None:
        """What this request meets."""
        bucket, _, key = path.partition("?")[0].strip("/").partition("/")
        if not bucket or not key:
            return None
        with self._lock:
            fault = due(self._armed, lambda planned: planned == method)
            if fault is None and method in ("PUT", "DELETE") and self._random.random() < self.rate:
                kind = self._random.choices(list(_RANDOM_FAULTS), list(_RANDOM_FAULTS.values()))[0]
                fault = Armed(method, kind, 1)
            if fault is not None:
                self.faults[fault.kind] += 1
        return fault


class _StoreServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # a storm's connections come all at once

    def __init__(self, proxy: StoreProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _StoreHandler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that is gone is no news
            super().handle_error(request, client_address)


class _StoreHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _StoreServer

    def handle_one_request(self) -> None:
        if self.server.proxy.away:
            self._reset()
        else:
            super().handle_one_request()

    def _pass(self) -> None:
        proxy = self.server.proxy
        if proxy.away:  # since this connection was made
            return self._reset()
        fault = proxy.next_fault(self.command, self.path) or Armed(self.command, "pass", 1)
        is_cut = fault.kind in ("reset", "half")
        body = self._read_body(is_cut)
        if fault.kind in _REFUSALS:
            answer = _answer(
                int(fault.kind), [], f"<Error><Code>{_REFUSALS[fault.kind]}</Code></Error>".encode()
            )
        else:
            answer = b"" if is_cut else self._forward(body)
        if fault.then is not None:
            fault.then()
        if fault.kind == "timeout":
            fault.done.set()
            self._wait_until_client_is_gone()
        if fault.kind == "cut_answer":
            self.connection.sendall(answer[: len(answer) // 2])
        if answer and not proxy.away and fault.kind not in ("lost", "timeout", "cut_answer"):
            self.connection.sendall(answer)
        else:
            self._reset()
        fault.done.set()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = _pass

    def _read_body(self, is_cut: bool) -> bytes:
        """The body without its transfer encoding; of one
        that is cut the first half, or the first chunk.
        """
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

    def _forward(self, body: bytes) -> bytes:
        """Ask the server; return its whole answer, or nothing if there was none."""
        connection = http.client.HTTPConnection(
            urlsplit(self.server.proxy.endpoint).netloc, timeout=60
        )
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in _OF_THE_HOP:
                    connection.putheader(name, value)  # Host as the client signed it
            if body or self.command in ("PUT", "POST"):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            found = connection.getresponse()
            content = found.read()
            length = found.getheader("Content-Length") if self.command == "HEAD" else None
            return _answer(found.status, found.getheaders(), content, length)
        except (OSError, http.client.HTTPException):
            return b""
        finally:
            connection.close()

    def _wait_until_client_is_gone(self) -> None:
        proxy = self.server.proxy
        while not (proxy.is_closed or proxy.away):
            if select.select([self.connection], [], [], 0.05)[0] and not self.connection.recv(
                1, socket.MSG_PEEK
            ):
                break

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _answer(
    status: int, headers: list[tuple[str, str]], content: bytes, length: str | None = None
) -> bytes:
    lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, '')}"]
    lines += [f"{name}: {value}" for name, value in headers if name.lower() not in _OF_THE_HOP]
    if status != 204:
        lines.append(f"Content-Length: {length or len(content)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content
