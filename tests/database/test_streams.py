"""A file streamed to its store in parts: bounded, patient, renewed while it comes, and ended."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from database import Row, Transaction
from errors import StoreError, StoreUnavailable, UploadExpired
from files import Backends, reaper
from files.change import Change
from files.hashing import Hashes
from files.kinds import PHOTO_ORIGINAL
from files.streams import MOST_IN_FLIGHT, STREAM_BYTES, Stream
from storage import PART_BYTES
from storage.memory import MemoryStore
from tests.support import rows
from tests.support.hashes import hash_file
from tests.support.many_objects import OneStore, measure_peak_bytes
from tests.support.stock import Stock

pytestmark = pytest.mark.backends

PIECE_BYTES = 256 * 1024
PATIENCE_SECONDS = 30.0
# So short that a renewal is due a moment after each write.
SHORT_EXPIRY_SECONDS = "0.2"
# Turns of the event loop in which a writer that need not wait would have written everything.
TURNS = 300
TYPE = "image/jpeg"


class WatchedStore(MemoryStore):
    """A store whose parts wait at a gate, or fail by plan; it knows what it was asked, in order."""

    def __init__(self, look: Callable[[str], object] = lambda key: None) -> None:
        super().__init__("")
        self.calls: list[str] = []
        self.seen: list[object] = []  # by `look`, before each part
        self.failures: Counter[int] = Counter()  # still to come, by the number of a part
        self.given_up: list[tuple[bytes, bytes]] = []  # the very bytes that failed, and a copy
        self.loses_begin = False
        self.gate = threading.Event()
        self.gate.set()
        self.running = self.most_running = 0
        self._look = look
        self._counting = threading.Lock()

    def begin_upload(self, key: str, content_type: str) -> str:
        upload_id = super().begin_upload(key, content_type)
        if self.loses_begin:
            raise StoreUnavailable
        return upload_id

    def put_part(self, key: str, upload_id: str, number: int, content: bytes, sha256: str) -> str:
        with self._counting:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        try:
            assert self.gate.wait(PATIENCE_SECONDS)
            self.seen.append(self._look(key))
            if self.failures[number]:
                self.failures[number] -= 1
                self.calls.append(f"part {number} fails")
                self.given_up.append((content, bytes(content)))
                raise StoreUnavailable
            receipt = self.keep_part(key, upload_id, number, content, sha256)
            self.calls.append(f"part {number}")
            return receipt
        finally:
            with self._counting:
                self.running -= 1

    def keep_part(self, key: str, upload_id: str, number: int, content: bytes, sha256: str) -> str:
        return super().put_part(key, upload_id, number, content, sha256)

    def abort_upload(self, key: str, upload_id: str) -> None:
        self.calls.append("abort")
        super().abort_upload(key, upload_id)

    def find_uploads(self, key: str) -> list[str]:
        self.calls.append("find")
        return super().find_uploads(key)


class ForgetfulStore(WatchedStore):
    """A store that keeps no part, so that what is held is held by whoever streams."""

    def keep_part(self, key: str, upload_id: str, number: int, content: bytes, sha256: str) -> str:
        return ""

    def complete_upload(self, *_: object) -> None:
        pass


@pytest.fixture
def store(local_stock: Stock) -> WatchedStore:
    found = WatchedStore()
    local_stock.replace_stores(OneStore(found))
    return found


@pytest.fixture
def owner_id(local_stock: Stock) -> int:
    return rows.account().run(local_stock.service)


def make_content(size_bytes: int) -> bytes:
    """Bytes of which no two parts are alike."""
    return random.Random(size_bytes).randbytes(size_bytes)


def describe(content: bytes) -> dict[str, object]:
    sizes = {"size_bytes": len(content), "dominant_colour": None, "thumbhash": None}
    return {name: value for name, value in rows.FACTS.items() if name != "sha256"} | sizes


async def write_all(stream: Stream, content: bytes) -> None:
    for start in range(0, len(content), PIECE_BYTES):
        await stream.write(content[start : start + PIECE_BYTES], TYPE)


async def wait_until(happened: Callable[[], object], what: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not happened():
            await asyncio.sleep(0.005)
    assert happened(), what


def find_row(stock: Stock) -> Any:
    ((key,),) = stock.service.sql("SELECT key FROM stored_files")
    return stock.read(key)


def test_parts_go_while_the_bytes_come_and_become_one_object(
    local_stock: Stock, store: WatchedStore, owner_id: int
) -> None:
    content = make_content(2 * PART_BYTES + 10)

    async def stream_all(backends: Backends) -> str:
        async with Stream(backends, owner_id, PHOTO_ORIGINAL) as stream:
            await write_all(stream, content[: PART_BYTES + 1])
            await wait_until(lambda: store.calls == ["part 1"], "the first part went at once")
            await write_all(stream, content[PART_BYTES + 1 :])
            file = await stream.finish(describe(content))
            assert file.late_facts == {**describe(content), "sha256": hash_file(content)}
            return file.key

    key = local_stock.ask(stream_all)
    assert store.open(key).stream.read() == content
    assert (sorted(store.calls), store.find_uploads(key)) == (["part 1", "part 2", "part 3"], [])


def test_what_fits_in_a_part_is_put_at_once_and_begins_no_upload(
    local_stock: Stock, store: WatchedStore, owner_id: int
) -> None:
    content = make_content(PART_BYTES)

    async def stream_all(backends: Backends) -> str:
        async with Stream(backends, owner_id, PHOTO_ORIGINAL) as stream:
            await write_all(stream, content)
            return (await stream.finish(describe(content))).key

    key = local_stock.ask(stream_all)
    assert (store.open(key).stream.read(), store.calls) == (content, [])
    assert local_stock.read(key)["upload_id"] is None


@pytest.mark.parametrize(
    "beginning_bytes",
    [None, 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES - 1, 3 * PART_BYTES + 10],
)
def test_a_file_and_its_beginning_are_hashed_while_they_go(
    local_stock: Stock, store: WatchedStore, owner_id: int, beginning_bytes: int | None
) -> None:
    content = make_content(3 * PART_BYTES + 10)
    end_bytes = len(content) if beginning_bytes is None else beginning_bytes

    async def stream_all(backends: Backends) -> Hashes:
        async with Stream(backends, owner_id, PHOTO_ORIGINAL) as stream:
            for start in range(0, len(content), PIECE_BYTES):
                piece = content[start : start + PIECE_BYTES]
                is_known = start + len(piece) >= end_bytes
                await stream.write(piece, TYPE, beginning_bytes if is_known else None)
            return await stream.hash()

    assert local_stock.ask(stream_all) == Hashes(
        whole=hash_file(content), beginning=hash_file(content[:end_bytes])
    )


def test_whoever_writes_waits_while_the_store_is_slow(
    local_stock: Stock, store: WatchedStore, owner_id: int
) -> None:
    content = make_content(5 * PART_BYTES)
    store.gate.clear()
    written_bytes = 0

    async def stream_all(backends: Backends) -> None:
        nonlocal written_bytes
        async with Stream(backends, owner_id, PHOTO_ORIGINAL) as stream:
            for start in range(0, len(content), PIECE_BYTES):
                await stream.write(content[start : start + PIECE_BYTES], TYPE)
                written_bytes += PIECE_BYTES
            await stream.finish(describe(content))

    async def look_while_it_waits(backends: Backends) -> None:
        streaming = asyncio.create_task(stream_all(backends))
        await wait_until(lambda: store.running == MOST_IN_FLIGHT, "all that may are under way")
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert not streaming.done()
        assert written_bytes <= (MOST_IN_FLIGHT + 1) * PART_BYTES
        store.gate.set()
        await streaming

    local_stock.ask(look_while_it_waits)
    assert store.most_running == MOST_IN_FLIGHT
    assert len(store.calls) == 5


def test_no_more_is_held_than_is_set_aside(local_stock: Stock, owner_id: int) -> None:
    store = ForgetfulStore()
    local_stock.replace_stores(OneStore(store))
    warm_bytes = 2 * 1024 * 1024  # of Python's own: connections, statements, threads

    async def stream_all(backends: Backends) -> None:
        async with Stream(backends, owner_id, PHOTO_ORIGINAL) as stream:
            for _ in range(12 * PART_BYTES // PIECE_BYTES):
                await stream.write(bytes(PIECE_BYTES), TYPE)
            await stream.finish(describe(b""))

    peak_bytes, _ = measure_peak_bytes(local_stock, stream_all)
    assert len(store.calls) == 12
    assert 2 * PART_BYTES < peak_bytes <= STREAM_BYTES + warm_bytes


def test_a_part_that_fails_is_put_once_more_under_its_number(
    local_stock: Stock, store: WatchedStore, owner_id: int
) -> None:
    content = make_content(6 * PART_BYTES)
    store.failures[2] = 1

    async def stream_all(backends: Backends) -> str:
        async with Stream(backends, owner_id, PHOTO_ORIGINAL) as stream:
            await write_all(stream, content)
            return (await stream.finish(describe(content))).key

    key = local_stock.ask(stream_all)
    assert store.open(key).stream.read() == content
    assert sorted(store.calls) == [
        *("part 1", "part 2", "part 2 fails"),
        *("part 3", "part 4", "part 5", "part 6"),
    ]
    ((failed, copied),) = store.given_up
    assert failed == copied, "what a call that was given up may still read was used again"


@pytest.mark.parametrize("number", [1, 5])
def test_a_part_that_fails_twice_ends_the_upload(
    local_stock: Stock, store: WatchedStore, owner_id: int, number: int
) -> None:
    content = make_content(5 * PART_BYTES)
    store.failures[number] = 2

    async def stream_all(backends: Backends) -> None:
        with pytest.raises(StoreError):
            async with Stream(backends, owner_id, PHOTO_ORIGINAL) as stream:
                await write_all(stream, content)
                await stream.finish(describe(content))
        await backends.tasks.wait_for_all(PATIENCE_SECONDS)

    local_stock.ask(stream_all)
    row = find_row(local_stock)
    assert store.calls.count(f"part {number} fails") == 2
    assert (store.calls[-1], store.find_uploads(row["key"])) == ("abort", [])
    assert row["state"] == "pending", "it expires by itself"


def test_a_client_that_goes_away_ends_the_upload_once_no_part_is_under_way(
    local_stock: Stock, store: WatchedStore, owner_id: int
) -> None:
    store.gate.clear()

    async def go_away(backends: Backends) -> None:
        with pytest.raises(ConnectionError):
            async with Stream(backends, owner_id, PHOTO_ORIGINAL) as stream:
                await write_all(stream, make_content(2 * PART_BYTES + 1))
                await wait_until(lambda: store.running == 2, "two parts are under way")
                raise ConnectionError
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert store.calls == [], "it was aborted under a part"
        store.gate.set()
        await backends.tasks.wait_for_all(PATIENCE_SECONDS)

    local_stock.ask(go_away)
    assert (sorted(store.calls[:2]), store.calls[2:]) == (["part 1", "part 2"], ["abort"])


def test_the_row_knows_the_upload_before_its_first_part_and_no_more_once_it_is_live(
    local_stock: Stock, owner_id: int
) -> None:
    store = WatchedStore(look=lambda key: local_stock.read(key)["upload_id"])
    local_stock.replace_stores(OneStore(store))
    content = make_content(PART_BYTES + 1)

    async def add(backends: Backends) -> str:
        async with Change(backends, owner_id) as change:
            async with Stream(backends, owner_id, PHOTO_ORIGINAL) as stream:
                await write_all(stream, content)
                file = await stream.finish(describe(content))
            change.add(file)
            await change.commit(refer_to_nothing, "inside_photo_swap")
        return file.key

    row = local_stock.read(local_stock.ask(add))
    assert None not in store.seen and len(set(store.seen)) == 1
    assert (row["state"], row["upload_id"]) == ("live", None)
    assert (row["size_bytes"], row["sha256"]) == (len(content), hash_file(content))


async def refer_to_nothing(_: Transaction, __: Row) -> list[int]:
    return []


def test_the_row_is_renewed_while_bytes_come_slowly(
    local_stock: Stock, store: WatchedStore, owner_id: int
) -> None:
    local_stock.settings["PENDING_EXPIRY_SECONDS"] = SHORT_EXPIRY_SECONDS

    async def trickle(backends: Backends) -> None:
        async with Stream(backends, owner_id, PHOTO_ORIGINAL) as stream:
            await write_all(stream, make_content(PART_BYTES + 1))
            expires_at = (await asyncio.to_thread(find_row, local_stock))["next_attempt_at"]
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (
                    expires_at
                    == (await asyncio.to_thread(find_row, local_stock))["next_attempt_at"]
                ):
                    await stream.write(b"x", TYPE)

    local_stock.ask(trickle)


def test_a_stream_whose_row_was_claimed_meanwhile_has_expired(
    local_stock: Stock, store: WatchedStore, owner_id: int
) -> None:
    local_stock.settings["PENDING_EXPIRY_SECONDS"] = SHORT_EXPIRY_SECONDS

    async def trickle(backends: Backends) -> None:
        async with Stream(backends, owner_id, PHOTO_ORIGINAL) as stream:
            await write_all(stream, make_content(PART_BYTES + 1))
            key = (await asyncio.to_thread(find_row, local_stock))["key"]
            await asyncio.to_thread(local_stock.make_due, key)
            assert await reaper.reap(backends) == 1
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    await stream.write(b"x", TYPE)
                    await asyncio.sleep(0.005)

    with pytest.raises(UploadExpired):
        local_stock.ask(trickle, pool_size=5)
    row = find_row(local_stock)
    assert (row["state"], store.find_uploads(row["key"])) == ("deleting", [])


def test_the_reaper_ends_an_upload_that_was_left_by_its_id(
    local_stock: Stock, store: WatchedStore, owner_id: int
) -> None:
    async def stream_and_die(backends: Backends) -> None:
        stream = Stream(backends, owner_id, PHOTO_ORIGINAL)
        await write_all(stream, make_content(PART_BYTES + 1))
        await wait_until(lambda: store.calls == ["part 1"], "the first part is there")

    local_stock.ask(stream_and_die)
    row = find_row(local_stock)
    assert MemoryStore.find_uploads(store, row["key"]) == [row["upload_id"]]
    local_stock.make_due(row["key"])
    assert local_stock.reap() == 1
    assert store.calls == ["part 1", "abort"], "it was searched for"
    assert store.find_uploads(row["key"]) == []


def test_the_reaper_searches_for_an_upload_whose_id_nobody_learned(
    local_stock: Stock, store: WatchedStore, owner_id: int
) -> None:
    store.loses_begin = True

    async def stream_all(backends: Backends) -> None:
        async with Stream(backends, owner_id, PHOTO_ORIGINAL) as stream:
            await write_all(stream, make_content(PART_BYTES + 1))

    with pytest.raises(StoreUnavailable):
        local_stock.ask(stream_all)
    row = find_row(local_stock)
    assert row["upload_id"] is None
    assert len(MemoryStore.find_uploads(store, row["key"])) == 1
    local_stock.make_due(row["key"])
    assert local_stock.reap() == 1
    assert store.calls == ["find", "abort"]
    assert MemoryStore.find_uploads(store, row["key"]) == []
