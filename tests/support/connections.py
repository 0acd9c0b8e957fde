"""What a network does to a connection between two programs."""

import contextlib
import socket
import struct
import threading


def reset_when_closed(connection: socket.socket) -> None:
    """Let the other side be told RST at the end, as when a network or a machine fails."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class LateGoodbye:
    """A relay to a port of this machine that keeps back the service's closing of a connection.

    So every request that is sent over a connection which the service has closed meets what it meets
    rarely without: the closing was on its way.
    """

    def __init__(self, service_port: int) -> None:
        self._service = ("127.0.0.1", service_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.open: set[socket.socket] = set()  # as far as the service is concerned

    def __enter__(self) -> "LateGoodbye":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # A thread that waits in `accept` is woken by this, and not by `close` alone.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                service = socket.create_connection(self._service)
                self.open.add(service)
                for relay in (self._send_on, self._answer):
                    threading.Thread(target=relay, args=(client, service), daemon=True).start()

    def _answer(self, client: socket.socket, service: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := service.recv(65536):
                client.sendall(content)
        self.open.remove(service)

    def _send_on(self, client: socket.socket, service: socket.socket) -> None:
        with client, service, contextlib.suppress(OSError):
            while content := client.recv(65536):
                # Fails as soon as the service has answered that it has no such connection.
                service.sendall(content)
                if is_closed(service):
                    return
            # Wakes the other thread, which `close` alone does not.
            service.shutdown(socket.SHUT_RDWR)


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed the connection, all of whose bytes were read."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
