"""Tests and the services that they fork reach loopback, and nothing else."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import warm
from tests.support.loopback import OutsideWorld

# Reserved for documentation: nothing answers there, whatever is tried.
ELSEWHERE = "192.0.2.1"
ELSEWHERE_V6 = "2001:db8::1"
PORT = 9  # discard


def connect(family: int, address: tuple[str, int]) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(1)
        connection.connect(address)


def send(address: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets:
        packets.sendto(b"x", address)


def send_message(address: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets:
        packets.sendmsg([b"x"], [], 0, address)


OUTSIDE: dict[str, Callable[[], object]] = {
    "connect": lambda: connect(socket.AF_INET, (ELSEWHERE, PORT)),
    "connect, IPv6": lambda: connect(socket.AF_INET6, (ELSEWHERE_V6, PORT)),
    "asyncio": lambda: asyncio.run(asyncio.open_connection(ELSEWHERE, PORT)),
    "sendto": lambda: send((ELSEWHERE, PORT)),
    "sendmsg": lambda: send_message((ELSEWHERE, PORT)),
    "look up": lambda: socket.getaddrinfo("a.example", PORT),
    "look up bytes": lambda: socket.getaddrinfo(b"a.example", PORT),
    "look up, the old way": lambda: socket.gethostbyname("a.example"),
}


@pytest.mark.parametrize("way", OUTSIDE)
def test_the_outside_world_is_refused(way: str) -> None:
    with pytest.raises(OutsideWorld, match=r"192|2001|example"):
        OUTSIDE[way]()


def test_loopback_and_sockets_in_the_file_system_are_not(tmp_path: Path) -> None:
    assert socket.getaddrinfo("localhost", PORT) and socket.getaddrinfo("127.0.0.1", PORT)
    assert socket.getaddrinfo(None, PORT) and socket.getaddrinfo(ELSEWHERE, PORT)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, listener.getsockname()[1]), 1).close()
        send(("127.0.0.1", PORT))
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        client.connect(str(tmp_path / "socket"))
    with contextlib.suppress(ConnectionRefusedError):
        connect(socket.AF_INET6, ("::1", PORT))


def test_a_forked_process_is_refused_too() -> None:
    program = f"import socket; socket.create_connection(({ELSEWHERE!r}, {PORT}), 1)"
    ended = warm.run("-c", program, env={})
    assert ended.returncode == 1 and f"A test may not reach {ELSEWHERE}" in ended.stderr
