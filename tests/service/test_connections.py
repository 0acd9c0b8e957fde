"""Heads of requests are bounded in size and time, connections in number; refusals are in our shape.

Over bare sockets: no client's library sends what is refused here.
"""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from config import KIB, MIB
from tests.support.databases import make_database
from tests.support.launched import launched
from tests.support.services import Service, get

# In place of ten.
HEAD_SECONDS = 1.0
# Far above what any answer takes.
PATIENCE_SECONDS = 20
MOST_PER_ADDRESS = 4
MOST_CONNECTIONS = 8
# It counts as an address of its own; 127.0.0.1 is nobody's.
STRANGER = "127.0.0.2"


@pytest.fixture(scope="module")
def served(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """One service for all, which ends heads and refuses connections sooner than by default."""
    service = launched(
        {
            "DATABASE_URL": make_database(postgres, template),
            "DATA_DIR": str(tmp_path_factory.mktemp("connections")),
            "SHARED_ADDRESSES": "127.0.0.1/32",
            "FORWARDED_ALLOW_IPS": "127.0.0.9",
            "MAX_CONNECTIONS": str(MOST_CONNECTIONS),
            "MAX_CONNECTIONS_PER_ADDRESS": str(MOST_PER_ADDRESS),
        },
        {"web.connections.HEAD_SECONDS": HEAD_SECONDS},
    )
    service.start()
    yield service
    service.stop()


@contextlib.contextmanager
def connected(service: Service, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    address = (service.host, service.port)
    with socket.create_connection(
        address, timeout=PATIENCE_SECONDS, source_address=(source, 0)
    ) as connection:
        yield connection


def read_answer(connection: socket.socket) -> HTTPResponse:
    answer = HTTPResponse(connection)
    answer.begin()
    return answer


def read_refusal(connection: socket.socket) -> dict[str, Any]:
    """Read an answer that must be a problem in our shape, with our headers, and the last one."""
    answer = read_answer(connection)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Connection"] == "close"
    problem: dict[str, Any] = json.loads(answer.read())
    assert problem["status"] == answer.status
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert connection.recv(1) == b""
    return problem


def send_all(connection: socket.socket, content: bytes) -> None:
    """Send what the service takes of it."""
    with contextlib.suppress(ConnectionError):
        connection.sendall(content)


def write_head(*fields: str, path: str = "/health/live") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(write_head("X-Long: " + "a" * 33 * KIB), id="a long field"),
        pytest.param(write_head(*[f"X-{number}: 1" for number in range(100)]), id="many fields"),
        pytest.param(write_head(path="/" + "a" * 33 * KIB), id="a long address"),
        pytest.param(b"GET / HTTP/1.1\r\nX-Endless: " + b"a" * 64 * MIB, id="a field without end"),
        pytest.param(b"GET /" + b"a" * 8 * MIB, id="an address without end"),
    ],
)
def test_a_head_beyond_the_limits_is_refused_with_431(served: Service, head: bytes) -> None:
    with connected(served) as connection:
        send_all(connection, head)
        problem = read_refusal(connection)
    assert (problem["status"], problem["code"]) == (431, "head_too_large")


@pytest.mark.parametrize("kind", ["multipart/form-data", "application/json"])
def test_a_long_content_type_is_refused_before_it_is_parsed(served: Service, kind: str) -> None:
    head = write_head(f"Content-Type: {kind}" + ";a=" * 400, "Content-Length: 2")
    with connected(served) as connection:
        send_all(connection, head.replace(b"GET", b"POST") + b"{}")
        answer = read_answer(connection)
        assert (answer.status, json.loads(answer.read())["code"]) == (431, "head_too_large")


def test_a_head_within_the_limits_is_answered(served: Service) -> None:
    fields = [f"X-{number}: {'a' * 300}" for number in range(99)]
    with connected(served) as connection:
        for _ in range(3):  # each counts anew
            send_all(connection, write_head(*fields))
            answer = read_answer(connection)
            assert answer.status == 200
            answer.read()


def test_fields_behind_a_body_in_chunks_are_bounded_and_are_no_headers(served: Service) -> None:
    begun = b"POST /users HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    with connected(served) as connection:
        send_all(connection, begun + b"X-Request-ID: of-the-trailer\r\n\r\n")
        answer = read_answer(connection)
        assert answer.status == 422
        assert answer.headers["X-Request-ID"] != "of-the-trailer"
        answer.read()
        send_all(connection, begun + b"X-Endless: " + b"a" * 16 * MIB)
        with contextlib.suppress(ConnectionError):
            while connection.recv(64 * KIB):
                pass  # it ends, which is what is waited for


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",  # of TLS
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /users HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n",
        # A proxy might believe the other of two lengths.
        b"POST /users HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /users HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_in_our_shape(served: Service, sent: bytes) -> None:
    with connected(served) as connection:
        send_all(connection, sent)
        problem = read_refusal(connection)
    assert (problem["status"], problem["code"]) == (400, "malformed_request")


def test_what_was_asked_before_is_answered(served: Service) -> None:
    with connected(served) as connection:
        send_all(connection, write_head() + b"\x00 is no request\r\n\r\n")
        answer = read_answer(connection)
        assert answer.status == 200
        assert json.loads(answer.read()) == {"status": "live"}
        assert connection.recv(1) == b""


def test_half_a_head_is_refused_with_408(served: Service) -> None:
    with connected(served) as connection:
        send_all(connection, write_head())
        read_answer(connection).read()
        send_all(connection, b"GET / HTTP/1.1\r\nHost:")
        problem = read_refusal(connection)
    assert (problem["status"], problem["code"]) == (408, "head_too_slow")


def test_bytes_that_come_one_by_one_do_not_move_the_end_of_a_head(served: Service) -> None:
    with connected(served) as connection:
        send_all(connection, b"GET / HTTP/1.1\r\nX-Slow: ")
        connection.settimeout(HEAD_SECONDS / 10)
        started = time.monotonic()
        begun = b""
        while not begun and time.monotonic() - started < PATIENCE_SECONDS:
            send_all(connection, b"a")
            with contextlib.suppress(TimeoutError):
                begun = connection.recv(12)
    assert begun == b"HTTP/1.1 408"


def test_a_connection_that_sends_nothing_is_closed_without_a_word(served: Service) -> None:
    with connected(served) as connection:
        assert connection.recv(1) == b""


def test_an_idle_connection_is_kept(served: Service) -> None:
    with connected(served) as connection:
        send_all(connection, write_head())
        read_answer(connection).read()
        time.sleep(2 * HEAD_SECONDS)
        send_all(connection, write_head())
        assert read_answer(connection).status == 200


def test_connections_of_one_address_are_bounded(served: Service) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_PER_ADDRESS):
            stack.enter_context(connected(served, STRANGER))
        with connected(served, STRANGER) as connection:
            problem = read_refusal(connection)
        assert (problem["status"], problem["code"]) == (503, "too_many_connections")
        # Whoever comes from elsewhere is answered.
        assert get(f"{served.url}/health/live").status_code == 200


def test_connections_are_bounded_in_all(served: Service) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS):
            stack.enter_context(connected(served))
        with connected(served) as connection:
            problem = read_refusal(connection)
    assert (problem["status"], problem["code"]) == (503, "too_many_connections")


def test_no_other_protocol_is_offered(served: Service) -> None:
    fields = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAA")
    with connected(served) as connection:
        send_all(connection, write_head(*fields, "Sec-WebSocket-Version: 13"))
        assert read_answer(connection).status == 200
    log = Path(served.log_path).read_text()
    assert "upgrade" not in log.lower()
