"""What a hostile client does that wants the service for itself; each attack goes on until its end.

A process of the lowest priority plays them: it stands for machines elsewhere, and takes no time
from the service that it asks.
"""

import asyncio
import io
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlencode

from PIL import Image

from benchmarks.load import Pipe
from config import KIB, MIB
from tests.support.services import BOUNDARY, FORM, form, part

LOWEST_PRIORITY = 19
POLL_SECONDS = 0.05
# Between two tries of one connection: a refusal is met with the next try at once.
PAUSE_SECONDS = 0.01


@dataclass(frozen=True)
class Target:
    """Whom an attack is aimed at, from which address, and with which accounts.

    An account is its id and token.
    """

    port: int
    source: str
    accounts: list[tuple[int, str]]
    login: tuple[str, str]  # an address and a password


Attack = Callable[[Target], Awaitable[None]]


async def _talk(target: Target, content: bytes, hold_seconds: float = 0.0) -> bytes:
    """Send this over a connection of its own, hold it for a while, and read what is answered."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", target.port, local_addr=(target.source, 0)
    )
    try:
        with suppress(ConnectionError):
            writer.write(content)
            await writer.drain()
        if hold_seconds:
            await asyncio.sleep(hold_seconds)
        return await reader.read(64 * KIB)
    finally:
        writer.close()


async def _repeat(count: int, make: Callable[[int], Awaitable[object]]) -> None:
    """Do it over and over, so many at once."""

    async def go_on(number: int) -> None:
        while True:
            with suppress(OSError, EOFError):
                await make(number)
            await asyncio.sleep(PAUSE_SECONDS)

    await asyncio.gather(*(go_on(number) for number in range(count)))


def _head(
    target: Target, number: int, length: int, content_type: str = FORM["Content-Type"]
) -> bytes:
    account_id, token = target.accounts[number % len(target.accounts)]
    lines = [
        f"PATCH /users/{account_id}/picture HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {token}",
        f"Content-Type: {content_type}",
        f"Content-Length: {length}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def send_endless_heads(target: Target) -> None:
    """Heads of 100 MB in one field."""
    content = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * (100 * MIB)
    await _repeat(4, lambda _: _talk(target, content))


async def open_idle_connections(target: Target) -> None:
    """1,100 connections that send nothing."""
    await _repeat(1100, lambda _: _talk(target, b""))


async def send_half_heads(target: Target) -> None:
    """500 heads that never end."""
    await _repeat(500, lambda _: _talk(target, b"GET / HTTP/1.1\r\nHost: local"))


async def send_hostile_types(target: Target) -> None:
    """Content types of many semicolons."""
    for_parsing = "multipart/form-data" + ";a=" * 9000
    await _repeat(8, lambda number: _talk(target, _head(target, number, 100, for_parsing)))


async def announce_and_send_nothing(target: Target) -> None:
    """250 uploads that announce 1 MiB and send nothing."""
    await _repeat(250, lambda number: _talk(target, _head(target, number, MIB)))


async def stop_half_way(target: Target) -> None:
    """250 uploads of 5 MiB that stop half-way."""
    begun = form(part(bytes(5 * MIB)))[: 5 * MIB // 2]
    await _repeat(250, lambda number: _talk(target, _head(target, number, 5 * MIB) + begun))


async def trickle(target: Target) -> None:
    """250 uploads at some KiB a second."""

    async def send(number: int) -> None:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", target.port, local_addr=(target.source, 0)
        )
        try:
            writer.write(_head(target, number, MIB) + f"--{BOUNDARY}\r\n".encode())
            while True:
                await asyncio.sleep(0.5)
                writer.write(b"a" * KIB)
                await writer.drain()
        finally:
            writer.close()

    await _repeat(250, send)


async def send_costly_pictures(target: Target) -> None:
    """WebPs of some bytes with 25 megapixels, 20 at once."""
    made = io.BytesIO()
    Image.new("RGB", (5000, 5000), "navy").save(made, "WEBP", lossless=True)
    await _send_pictures(target, made.getvalue(), at_once=20)


async def send_many_pictures(target: Target) -> None:
    """Pictures as fast as they are taken, 20 at once."""
    made = io.BytesIO()
    Image.effect_noise((2000, 1500), 60).convert("RGB").save(made, "JPEG")
    await _send_pictures(target, made.getvalue(), at_once=20)


async def _send_pictures(target: Target, content: bytes, at_once: int) -> None:
    body = form(part(content))
    await _repeat(at_once, lambda number: _talk(target, _head(target, number, len(body)) + body))


async def log_in(target: Target) -> None:
    """Logins, eight at once."""
    name, password = target.login
    body = urlencode({"username": name, "password": password}).encode()
    lines = [
        "POST /users/token HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    content = "\r\n".join([*lines, "", ""]).encode() + body
    await _repeat(8, lambda _: _talk(target, content))


# Without an account: there is only an address to count them by.
ANONYMOUS = ("endless heads", "idle connections", "half heads")
ATTACKS: dict[str, Attack] = {
    "endless heads": send_endless_heads,
    "idle connections": open_idle_connections,
    "half heads": send_half_heads,
    "hostile types": send_hostile_types,
    "announced only": announce_and_send_nothing,
    "half-way": stop_half_way,
    "trickling": trickle,
    "costly pictures": send_costly_pictures,
    "many pictures": send_many_pictures,
    "logins": log_in,
}


def play(pipe: Pipe, name: str, target: Target) -> None:
    """Play an attack until told to end."""
    os.nice(LOWEST_PRIORITY)

    async def play_until_told() -> None:
        attack = asyncio.ensure_future(ATTACKS[name](target))
        pipe.send("ready")
        while not pipe.poll() and not attack.done():
            await asyncio.sleep(POLL_SECONDS)
        attack.cancel()
        await asyncio.wait({attack})
        if not attack.cancelled():
            attack.result()

    asyncio.run(play_until_told())
    pipe.recv()
