"""How long a call to S3 may take in its thread: all of it, however slowly its bytes come and go.

The limits of botocore are those of one read or write, and a service that dribbles a byte every two
seconds would hold a thread for minutes. Here every operation of a socket has only what is left of
its call; when that is over, the connection is closed and the thread is free.
"""

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Below STORE_DEADLINE_SECONDS, at which whoever waits has gone. A part of 5 MiB
# gets through in it at a third of a megabyte in a second.
CALL_SECONDS = 15.0

_thread = threading.local()


@contextmanager
def limit_call() -> Iterator[None]:
    """Give what this thread asks of S3 inside CALL_SECONDS in all, or what an outer limit left."""
    outer: float | None = getattr(_thread, "ends_at", None)
    ends_at = time.monotonic() + CALL_SECONDS
    _thread.ends_at = ends_at if outer is None else min(outer, ends_at)
    try:
        yield
    finally:
        _thread.ends_at = outer


def _find_left_seconds() -> float:
    """Tell how long the call of this thread may still take. Raises TimeoutError."""
    ends_at: float | None = getattr(_thread, "ends_at", None)
    left_seconds = CALL_SECONDS if ends_at is None else ends_at - time.monotonic()
    if left_seconds <= 0:
        raise TimeoutError("the call took too long in all")
    return left_seconds


class _LimitedReader(io.RawIOBase):
    """What comes from a socket, each read of it within what is left of the call."""

    def __init__(self, sock: "_LimitedSocket", reader: io.RawIOBase) -> None:
        self._socket = sock
        self._reader = reader

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self._socket.limit()
        return self._reader.readinto(buffer)

    def close(self) -> None:
        self._reader.close()
        super().close()


class _LimitedSocket:
    """A connected socket, with or without TLS, no operation of which outlasts its call."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._timeout_seconds = sock.gettimeout()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def settimeout(self, seconds: float | None) -> None:
        self._timeout_seconds = seconds

    def limit(self) -> None:
        left_seconds = _find_left_seconds()
        if self._timeout_seconds is not None:
            left_seconds = min(left_seconds, self._timeout_seconds)
        self._socket.settimeout(left_seconds)

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Send piece by piece: a line that moves slowly has its time-out for each of them."""
        rest = memoryview(data).cast("B")
        while rest:
            self.limit()
            rest = rest[self._socket.send(rest) :]

    def makefile(self, mode: str, buffering: int = -1) -> io.RawIOBase | io.BufferedReader:
        """Give what http.client reads an answer from, and botocore what comes before it."""
        reader = self._socket.makefile(cast(Any, mode), buffering=0)
        limited = _LimitedReader(self, cast(io.RawIOBase, reader))
        return io.BufferedReader(limited) if buffering else limited


class _Limited:
    """What a connection of botocore's is mixed with to be made and used within a call."""

    def connect(self) -> None:
        connection = cast(Any, self)
        cast(Any, super()).connect()
        connection.sock = _LimitedSocket(connection.sock)

    def _new_conn(self) -> socket.socket:
        """Try each address of the host's name, which together have no longer than the call."""
        connection = cast(Any, self)
        name: str = connection._dns_host
        timeout_seconds: float = connection.timeout
        failure: Exception | None = None
        try:
            for address in _find_addresses(connection, name):
                connection._dns_host = address
                connection.timeout = min(timeout_seconds, _find_left_seconds())
                try:
                    return cast(socket.socket, cast(Any, super())._new_conn())
                except (ConnectTimeoutError, NewConnectionError) as err:
                    failure = err
        finally:
            connection._dns_host = name
            connection.timeout = timeout_seconds
        raise failure or NewConnectionError(connection, f"{name} has no address")


def _find_addresses(connection: Any, name: str) -> list[str]:
    try:
        found = socket.getaddrinfo(name.strip("[]"), connection.port, type=socket.SOCK_STREAM)
    except socket.gaierror as err:
        raise NameResolutionError(name, connection, err) from err
    return [str(address[0]) for *_, address in found]


class _HTTPConnection(_Limited, AWSHTTPConnection):  # type: ignore[misc]
    pass


class _HTTPSConnection(_Limited, AWSHTTPSConnection):  # type: ignore[misc]
    pass


class _HTTPPool(AWSHTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(AWSHTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


def limit_connections(client: "S3Client") -> None:
    """Let all connections of the client, also those by way of a proxy, keep the limits of calls."""
    session = cast(Any, client)._endpoint.http_session
    pools = {"http": _HTTPPool, "https": _HTTPSPool}
    session._pool_classes_by_scheme = pools  # for proxies, whose managers are made later
    session._manager.pool_classes_by_scheme = pools
