"""Proves when a body is too slow: at its beginning, in a pause, and while memory is awaited."""

import asyncio
from collections.abc import Sequence

import pytest
from starlette.types import Message

from config import Settings
from errors import TooLarge, UploadStalled
from web import bodies
from web.admission import Admission, Reservation
from web.bodies import PacedReceive

SETTINGS = Settings(upload_stall_seconds=0.2, upload_lowest_bytes_per_second=1000)
LONGEST_BYTES = 1000


class SlowClient:
    """Sends pieces of so many bytes, each after so many seconds."""

    def __init__(self, pieces: Sequence[tuple[float, int]]) -> None:
        self._pieces = list(pieces)

    async def receive(self) -> Message:
        seconds, size_bytes = self._pieces.pop(0)
        await asyncio.sleep(seconds)
        return {"type": "http.request", "body": bytes(size_bytes), "more_body": bool(self._pieces)}


async def read(pieces: Sequence[tuple[float, int]], reservation: Reservation | None = None) -> int:
    receive = PacedReceive(
        SlowClient(pieces).receive,
        SETTINGS,
        longest_bytes=LONGEST_BYTES,
        too_large=TooLarge,
        reservation=reservation,
    )
    read_bytes = 0
    is_last = False
    while not is_last:
        piece, is_last = await receive.read_piece()
        read_bytes += len(piece)
    return read_bytes


class Shortage(Reservation):
    """A reservation that always fits, beside others that wait or not."""

    def __init__(self, *, is_short: bool, pause_seconds: float = 0.0) -> None:
        admission = Admission(LONGEST_BYTES, LONGEST_BYTES, 1, per_account=1, per_address=1)
        super().__init__(admission, [])
        self._is_short = is_short
        self._pause_seconds = pause_seconds

    @property
    def is_short(self) -> bool:
        return self._is_short

    async def grow_to(self, amount_bytes: int) -> None:
        await asyncio.sleep(self._pause_seconds)


def test_a_first_byte_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "FIRST_BYTE_SECONDS", 0.05)
    with pytest.raises(UploadStalled):
        asyncio.run(read([(0.15, 1), (0, 1)]))
    assert asyncio.run(read([(0, 1), (0.15, 1)])) == 2


def test_each_pause_is_bounded() -> None:
    assert asyncio.run(read([(0.05, 100)] * 3)) == 300
    with pytest.raises(UploadStalled):
        asyncio.run(read([(0, 100), (60, 100)]))


@pytest.mark.parametrize("is_short", [False, True])
def test_a_lowest_pace_holds_only_while_others_wait_for_memory(is_short: bool) -> None:
    trickle = read([(0.1, 1)] * 8, Shortage(is_short=is_short))
    if is_short:
        with pytest.raises(UploadStalled):
            asyncio.run(trickle)
    else:
        assert asyncio.run(trickle) == 8


def test_who_pauses_for_memory_loses_no_time() -> None:
    slow_for_us = Shortage(is_short=True, pause_seconds=0.15)
    assert asyncio.run(read([(0.01, 20)] * 5, slow_for_us)) == 100
