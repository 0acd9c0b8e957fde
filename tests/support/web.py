"""A web server of a test's own, in a thread of this process, on a free port of loopback."""

import contextlib
import http.server
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


class QuietServer(http.server.ThreadingHTTPServer):
    """Serves until it is closed; says nothing of clients that are gone."""

    daemon_threads = True
    block_on_close = False
    # A storm's connections come all at once, and one that finds no room tries again only after a
    # second.
    request_queue_size = 128

    def __init__(self, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@dataclass(frozen=True)
class WebPage:
    """What is answered to a GET."""

    status: int
    content: bytes
    content_type: str


@contextlib.contextmanager
def serve_pages(get: Callable[[str], WebPage]) -> Iterator[str]:
    """Answer every GET with what is made of its path; yields the server's URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = get(self.path)
            self.send_response(page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.content)))
            self.end_headers()
            self.wfile.write(page.content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = QuietServer(Handler)
    server.start()
    try:
        yield server.url
    finally:
        server.close()
