"""An S3 server that fails by plan: refuses, hangs, cuts
the connection before or after it did what was asked.
"""

import contextlib
import http.server
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Literal

BUCKET = "planned"

# ok: do it · 500, 503, 403: refuse · reset: cut the connection · lost: do it, then cut
# the connection · hang: do it once the gate is open, unless the client gives up before
Step = Literal["ok", "500", "503", "403", "reset", "lost", "hang"]


class PlannedS3(http.server.ThreadingHTTPServer):
    """Just enough of S3 for PUT and DELETE; each request
    takes the next step of its method's plan, then `ok`.
    """

    daemon_threads = True
    request_queue_size = (
        128  # many connect at once, and one that finds no room tries again only after a second
    )

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.clear()

    def clear(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.plan: dict[str, deque[Step]] = {"PUT": deque(), "DELETE": deque()}
        self.always: dict[str, Step] = {"PUT": "ok", "DELETE": "ok"}
        self.hanging: set[str] = set()
        self.gate = threading.Event()
        self.after_put: Callable[[str], None] = lambda key: None

    def keys(self, method: str) -> list[str]:
        return [key for asked, key in list(self.requests) if asked == method]

    def settings(self) -> dict[str, str]:
        return {
            "STORAGE": "s3",
            "S3_BUCKET_NAME": BUCKET,
            "S3_ENDPOINT_URL": f"http://127.0.0.1:{self.server_address[1]}",
            "S3_ACCESS_KEY_ID": "test",
            "S3_SECRET_ACCESS_KEY": "test",
        }

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that are cut on purpose are no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PlannedS3

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self._take_step("PUT", lambda key: self.server.objects.__setitem__(key, content))

    def do_DELETE(self) -> None:
        self._take_step("DELETE", lambda key: self.server.objects.pop(key, None))

    def _take_step(self, method: str, act: Callable[[str], object]) -> None:
        key = self.path.removeprefix(f"/{BUCKET}/").partition("?")[0]
        planned = self.server.plan[method]
        step = planned.popleft() if planned else self.server.always[method]
        self.server.requests.append((method, key))
        if step in ("500", "503", "403"):
            code = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied"}[step]
            self._answer(
                int(step), f"<Error><Code>{code}</Code><Message>planned</Message></Error>".encode()
            )
            return
        if step == "hang" and not self._wait_for_gate(key):
            return
        if step != "reset":
            act(key)
            if method == "PUT":
                self.server.after_put(key)
        if step in ("reset", "lost"):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        self._answer(200 if method == "PUT" else 204, b"")

    def _wait_for_gate(self, key: str) -> bool:
        """False when the client gave up first: then its end of the connection is closed."""
        gate = self.server.gate
        self.server.hanging.add(key)
        try:
            while not gate.wait(0.02):
                if select.select([self.connection], [], [], 0)[0] and not self.connection.recv(
                    1, socket.MSG_PEEK
                ):
                    self.close_connection = True
                    return False
            return True
        finally:
            self.server.hanging.discard(key)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("ETag", '"planned"')
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def planned_s3() -> Iterator[PlannedS3]:
    """A server of its own, on loopback, until the context ends."""
    server = PlannedS3()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.gate.set()
        server.shutdown()
        server.server_close()
