"""The async face of a store keeps its deadline and its bound on threads, and leaks nothing."""

import asyncio
import contextlib
import dataclasses
import hashlib
import io
import os
import resource
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.concurrency import run_in_threadpool

from concurrency import ThreadSlots
from config import Settings
from errors import (
    DarkroomError,
    ObjectExists,
    ObjectNotFound,
    OutOfDescriptors,
    StoreRefused,
    StoreUnavailable,
)
from storage import AsyncStore, OpenObject, Stores, async_store
from storage.contract import STORE_THREADS
from storage.memory import MemoryStore
from tests.support.pictures import jpeg
from tests.support.services import Account, Service, free_port

KEY = "profile_pics/x.jpg"
CONTENT = b"picture"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
# A deadline that has certainly passed while a gated call waits; no test measures it.
SOON_SECONDS = 0.1
PATIENCE_SECONDS = 30.0


class NotedStream(io.BytesIO):
    """A stream of which one can see where it was read."""

    read_in: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        self.read_in = threading.get_ident()
        return super().read(size)


class GatedStore(MemoryStore):
    """A store whose calls begin, wait at a gate, and then go on."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.begun = threading.Semaphore(0)
        self.threads: list[int] = []
        self.running = self.most_running = 0
        self.opened: list[NotedStream] = []
        self._counting = threading.Lock()

    def _wait(self) -> None:
        with self._counting:
            self.threads.append(threading.get_ident())
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        self.begun.release()
        assert self.gate.wait(PATIENCE_SECONDS)
        with self._counting:
            self.running -= 1

    def put(self, key: str, content: bytes, content_type: str, sha256: str) -> None:
        self._wait()
        super().put(key, content, content_type, sha256)

    def open(self, key: str) -> OpenObject:
        self._wait()
        found = super().open(key)
        self.opened.append(NotedStream(found.stream.read()))
        return dataclasses.replace(found, stream=self.opened[-1])

    def delete(self, key: str, erases: bool = False) -> None:
        self._wait()
        super().delete(key, erases)

    def remove_leftovers(self, older_than_seconds: float) -> None:
        self._wait()


@pytest.fixture
def store() -> GatedStore:
    return GatedStore()


def filled(store: GatedStore) -> GatedStore:
    MemoryStore.put(store, KEY, CONTENT, "image/jpeg", SHA256)
    return store


Face = Callable[[AsyncStore, ThreadSlots], Coroutine[Any, Any, None]]


def on_a_loop(store: MemoryStore, use: Face, permits: int = STORE_THREADS) -> None:
    """Use the face of a store on an event loop; afterwards every permit must be back."""

    async def run() -> None:
        threads = ThreadSlots(permits)
        await use(AsyncStore("tested", store, threads), threads)
        await take_all(threads, permits)

    asyncio.run(run())


async def take_all(threads: ThreadSlots, permits: int) -> None:
    """All of them can be had at once, and not one more."""
    gate = threading.Event()
    calls = [await threads.start(gate.wait, PATIENCE_SECONDS) for _ in range(permits)]
    are_taken = threads.are_taken
    gate.set()
    await asyncio.gather(*calls)
    assert are_taken


async def begun(store: GatedStore, calls: int = 1) -> None:
    for _ in range(calls):
        assert await asyncio.to_thread(store.begun.acquire, timeout=PATIENCE_SECONDS)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.005)


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_a_lack_of_descriptors_is_not_the_stores_fault(tmp_path: Path, kind: str) -> None:
    bucket = {"s3_bucket_name": "b", "s3_access_key_id": "a", "s3_secret_access_key": "s"}
    nowhere = {**bucket, "s3_endpoint_url": f"http://127.0.0.1:{free_port()}"}
    given: dict[str, Any] = {"storage": kind, "data_dir": tmp_path, **nowhere}
    store = Stores(Settings(**given)).current
    asyncio.run(store.prepare())

    async def put() -> None:
        await store.put(KEY, CONTENT, "image/jpeg", SHA256)

    async def use() -> None:
        with contextlib.suppress(StoreUnavailable):  # all that is opened once
            await put()
        await store.delete(KEY) if kind == "local" else None
        with no_descriptor_left(), pytest.raises(OutOfDescriptors) as refused:
            await put()
        assert refused.value.code == "overloaded" and "store" not in refused.value.detail
        with pytest.raises(StoreUnavailable) if kind == "s3" else contextlib.nullcontext() as later:
            await put()
        assert later is None or later.type is StoreUnavailable

    asyncio.run(use())


def test_every_verb_gives_what_the_store_gives(store: GatedStore) -> None:
    store.gate.set()

    async def use(face: AsyncStore, __: ThreadSlots) -> None:
        assert (face.name, face.bucket, face.url(KEY)) == (
            "tested",
            "memory",
            f"memory://memory/{KEY}",
        )
        await face.put(KEY, CONTENT, "image/jpeg", SHA256)
        with pytest.raises(ObjectExists):
            await face.put(KEY, CONTENT, "image/jpeg", SHA256)
        found = await face.open(KEY)
        assert (found.size_bytes, found.content_type) == (len(CONTENT), "image/jpeg")
        assert [await face.read(found.stream, 4), await face.read(found.stream, 4)] == [
            CONTENT[:4],
            CONTENT[4:],
        ]
        found.stream.close()
        await face.remove_leftovers(1)
        await face.delete(KEY)
        with pytest.raises(ObjectNotFound):
            await face.open(KEY)

    on_a_loop(store, use)


def test_no_call_runs_on_the_thread_of_the_event_loop(store: GatedStore) -> None:
    store.gate.set()

    async def use(face: AsyncStore, __: ThreadSlots) -> None:
        await face.put(KEY, CONTENT, "image/jpeg", SHA256)
        found = await face.open(KEY)
        await face.read(found.stream, 1)
        await face.remove_leftovers(1)
        await face.delete(KEY)

    on_a_loop(store, use)
    mine = threading.get_ident()  # asyncio.run kept the loop here
    assert len(store.threads) == 4
    assert mine not in [*store.threads, store.opened[0].read_in]
    assert store.opened[0].read_in is not None


async def upload(face: AsyncStore) -> tuple[str, str]:
    """Begin an upload and put its only part; return its id and the receipt."""
    upload_id = await face.begin_upload(KEY, "image/jpeg")
    return upload_id, await face.put_part(KEY, upload_id, 1, CONTENT, SHA256)


def test_the_verbs_of_uploads_give_what_the_store_gives() -> None:
    store = MemoryStore()

    async def use(face: AsyncStore, __: ThreadSlots) -> None:
        dropped, _ = await upload(face)
        kept, receipt = await upload(face)
        assert await face.find_uploads(KEY) == [dropped, kept]
        await face.abort_upload(KEY, dropped)
        await face.complete_upload(KEY, kept, [receipt])
        assert await face.find_uploads(KEY) == []
        assert await face.signed_url(KEY, 60) == store.signed_url(KEY, 60)

    on_a_loop(store, use)
    assert store.open(KEY).stream.read() == CONTENT


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("begin_upload", ["image/jpeg"]),
        ("put_part", ["id", 1, CONTENT, SHA256]),
        ("complete_upload", ["id", [""]]),
        ("abort_upload", ["id"]),
        ("find_uploads", []),
        ("signed_url", [60]),
    ],
)
def test_uploads_and_signing_leave_the_loop_and_are_given_up_at_the_deadline(
    store: GatedStore, monkeypatch: pytest.MonkeyPatch, verb: str, arguments: list[object]
) -> None:
    monkeypatch.setattr(async_store, "STORE_DEADLINE_SECONDS", SOON_SECONDS)
    monkeypatch.setattr(store, verb, lambda *_: store._wait())

    async def use(face: AsyncStore, threads: ThreadSlots) -> None:
        with pytest.raises(StoreUnavailable):
            await getattr(face, verb)(KEY, *arguments)
        store.gate.set()
        await until(lambda: not threads.are_taken)

    on_a_loop(store, use, permits=1)
    assert len(store.threads) == 1 and store.threads[0] != threading.get_ident()


def test_the_event_loop_goes_on_while_a_store_hangs(store: GatedStore) -> None:
    async def use(face: AsyncStore, __: ThreadSlots) -> None:
        call = asyncio.create_task(face.delete(KEY))
        await begun(store)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not call.done()
        store.gate.set()
        await call

    on_a_loop(store, use)


def test_a_call_past_the_deadline_is_given_up_and_may_still_take_effect(
    store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_store, "STORE_DEADLINE_SECONDS", SOON_SECONDS)

    async def use(face: AsyncStore, __: ThreadSlots) -> None:
        with pytest.raises(StoreUnavailable):
            await face.put(KEY, CONTENT, "image/jpeg", SHA256)
        assert (store.running, store.exists(KEY)) == (1, False)  # given up, not ended
        store.gate.set()
        await until(lambda: store.exists(KEY))

    on_a_loop(store, use)


def test_a_call_that_was_given_up_keeps_its_thread_until_it_ends(
    store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_store, "STORE_DEADLINE_SECONDS", SOON_SECONDS)

    async def use(face: AsyncStore, threads: ThreadSlots) -> None:
        with pytest.raises(StoreUnavailable):
            await face.delete(KEY)
        assert threads.are_taken
        # Nobody may begin, and waiting for a thread has the same deadline as the call.
        with pytest.raises(StoreUnavailable):
            await face.delete(KEY)
        assert len(store.threads) == 1
        store.gate.set()
        await until(lambda: not threads.are_taken)
        monkeypatch.setattr(async_store, "STORE_DEADLINE_SECONDS", PATIENCE_SECONDS)
        await face.delete(KEY)

    on_a_loop(store, use, permits=1)


def test_a_stream_that_is_opened_too_late_is_closed(
    store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_store, "STORE_DEADLINE_SECONDS", SOON_SECONDS)
    filled(store)

    async def use(face: AsyncStore, __: ThreadSlots) -> None:
        with pytest.raises(StoreUnavailable):
            await face.open(KEY)
        assert store.opened == []
        store.gate.set()
        await until(lambda: store.opened != [] and store.opened[0].closed)

    on_a_loop(store, use)


def test_a_stream_is_closed_when_whoever_wanted_it_was_cancelled(store: GatedStore) -> None:
    filled(store)

    async def use(face: AsyncStore, __: ThreadSlots) -> None:
        call = asyncio.create_task(face.open(KEY))
        await begun(store)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        store.gate.set()
        await until(lambda: store.opened != [] and store.opened[0].closed)

    on_a_loop(store, use)


def test_a_stream_that_comes_in_time_stays_open(store: GatedStore) -> None:
    filled(store)
    store.gate.set()

    async def use(face: AsyncStore, __: ThreadSlots) -> None:
        found = await face.open(KEY)
        await asyncio.sleep(0.01)
        assert not found.stream.closed
        found.stream.close()

    on_a_loop(store, use)


def test_a_failure_that_comes_too_late_disturbs_nobody(
    store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_store, "STORE_DEADLINE_SECONDS", SOON_SECONDS)
    complaints: list[dict[str, Any]] = []

    async def use(face: AsyncStore, threads: ThreadSlots) -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context)
        )
        with pytest.raises(StoreUnavailable):
            await face.open("profile_pics/missing.jpg")
        store.gate.set()
        await until(lambda: not threads.are_taken)

    on_a_loop(store, use, permits=1)
    assert complaints == []


def test_no_more_calls_run_at_once_than_there_are_threads_for(store: GatedStore) -> None:
    async def use(face: AsyncStore, threads: ThreadSlots) -> None:
        calls = [asyncio.create_task(face.remove_leftovers(1)) for _ in range(3 * STORE_THREADS)]
        await begun(store, STORE_THREADS)
        for _ in range(100):
            await asyncio.sleep(0)
        assert threads.are_taken
        assert (len(store.threads), store.running) == (STORE_THREADS, STORE_THREADS)
        store.gate.set()
        await asyncio.gather(*calls)

    on_a_loop(store, use)
    assert len(store.threads) == 3 * STORE_THREADS
    assert store.most_running == STORE_THREADS


def test_the_bound_leaves_threads_for_pictures_and_passwords(store: GatedStore) -> None:
    async def use(face: AsyncStore, __: ThreadSlots) -> None:
        calls = [asyncio.create_task(face.remove_leftovers(1)) for _ in range(3 * STORE_THREADS)]
        await begun(store, STORE_THREADS)
        # The same pool, while every call to the store hangs.
        assert await asyncio.wait_for(run_in_threadpool(lambda: "done"), PATIENCE_SECONDS) == "done"
        store.gate.set()
        await asyncio.gather(*calls)

    on_a_loop(store, use)


@pytest.mark.parametrize("turns", range(6))
def test_cancelling_leaks_no_permit_whenever_it_comes(store: GatedStore, turns: int) -> None:
    async def use(face: AsyncStore, __: ThreadSlots) -> None:
        calls = [asyncio.create_task(face.remove_leftovers(1)) for _ in range(5)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        store.gate.set()
        await asyncio.gather(*calls, return_exceptions=True)

    on_a_loop(store, use, permits=2)  # which asks for all permits at its end


def test_cancelling_while_waiting_for_a_thread_begins_nothing(store: GatedStore) -> None:
    async def use(face: AsyncStore, __: ThreadSlots) -> None:
        first = asyncio.create_task(face.remove_leftovers(1))
        await begun(store)
        second = asyncio.create_task(face.remove_leftovers(1))
        for _ in range(10):
            await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        store.gate.set()
        await first
        await face.remove_leftovers(1)
        assert len(store.threads) == 2

    on_a_loop(store, use, permits=1)


def test_cancelling_a_call_that_runs_frees_its_permit_only_at_its_end(store: GatedStore) -> None:
    async def use(face: AsyncStore, threads: ThreadSlots) -> None:
        call = asyncio.create_task(face.put(KEY, CONTENT, "image/jpeg", SHA256))
        await begun(store)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert threads.are_taken
        assert store.running == 1
        store.gate.set()
        await until(lambda: not threads.are_taken)
        assert store.exists(KEY)  # it went on, so its outcome was unknown

    on_a_loop(store, use, permits=1)


class BatchedStore(MemoryStore):
    """A store that takes two keys at once, and fails as a whole for the batches of some keys."""

    def __init__(self, *failing: str) -> None:
        super().__init__()
        self.failing = set(failing)
        self.batches: list[list[str]] = []

    def batch_size(self, erases: bool = False) -> int:
        return 1 if erases else 2

    def delete_many(self, keys: Sequence[str], erases: bool = False) -> dict[str, DarkroomError]:
        self.batches.append(list(keys))
        if self.failing.intersection(keys):
            raise StoreUnavailable
        return super().delete_many(keys, erases)


MANY = [f"profile_pics/{number}.jpg" for number in range(5)]


def test_many_are_deleted_in_batches_of_the_stores_size() -> None:
    store = BatchedStore()
    for key in MANY:
        store.put(key, CONTENT, "image/jpeg", SHA256)

    async def use(face: AsyncStore, __: ThreadSlots) -> None:
        assert await face.delete_many([]) == {}
        errors = await face.delete_many([*MANY, "../secret"])
        assert {key: type(error) for key, error in errors.items()} == {"../secret": ObjectNotFound}
        await face.delete_many(MANY[:2], erases=True)

    on_a_loop(store, use)
    assert list(store.find("")) == []
    assert sorted(map(len, store.batches)) == [1, 1, 2, 2, 2]


def test_a_batch_that_fails_as_a_whole_holds_up_no_other() -> None:
    store = BatchedStore(MANY[2])
    for key in MANY:
        store.put(key, CONTENT, "image/jpeg", SHA256)

    async def use(face: AsyncStore, __: ThreadSlots) -> None:
        errors = await face.delete_many(MANY)
        assert {key: type(error) for key, error in errors.items()} == {
            MANY[2]: StoreUnavailable,
            MANY[3]: StoreUnavailable,
        }
        with pytest.raises(StoreUnavailable):
            await face.delete_many(MANY[2:4])

    on_a_loop(store, use)
    assert sorted(found.key for found in store.find("")) == MANY[2:4]


def test_batches_leave_threads_to_uploads(
    store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "batch_size", lambda *_: 1)

    async def use(face: AsyncStore, threads: ThreadSlots) -> None:
        several = [f"many/{number}.jpg" for number in range(STORE_THREADS)]
        call = asyncio.create_task(face.delete_many(several))
        await begun(store, async_store.DELETING_THREADS)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not threads.are_taken
        store.gate.set()
        assert await call == {}

    on_a_loop(store, use)
    assert store.most_running == async_store.DELETING_THREADS < STORE_THREADS


def test_a_store_that_the_settings_do_not_know_is_refused() -> None:
    known = Stores(Settings())
    assert known.current is known.of("local", "")
    with pytest.raises(StoreRefused):
        known.of("gone", "bucket")
    with pytest.raises(StoreRefused):
        known.of("gone", "bucket")  # a refusal is not remembered as a store


def test_previous_stores_are_known_by_their_names() -> None:
    previous = {
        "older": {"storage": "s3", "bucket_name": "pictures", "endpoint_url": "http://127.0.0.1:9"}
    }
    known = Stores(Settings.model_validate({"storage": "local", "previous_stores": previous}))
    assert known.current.name == "local"
    assert known.of("older", "pictures").url(KEY) == f"http://127.0.0.1:9/pictures/{KEY}"
    assert known.of("older", "before").url(KEY) == f"http://127.0.0.1:9/before/{KEY}"
    assert known.of("older", "before").bucket == "before"
    assert known.of("older", "before") is known.of("older", "before")


def test_a_row_of_an_unknown_store_shows_the_default_picture(
    shared_service: Service, account: Account
) -> None:
    shared_service.patch_picture(account, jpeg())
    mine = "owner_id = $1"
    row = shared_service.sql(f"SELECT storage, key FROM stored_files WHERE {mine}", account.id)[0]
    shared_service.sql(f"UPDATE stored_files SET storage = 'gone' WHERE {mine}", account.id)
    with shared_service.client(account) as client:
        for path in ("/users/me", f"/users/{account.id}"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["image_path"]) == (
                200,
                "/static/profile_pics/default.jpg",
            )
    # It comes back with the settings that know it; and until then a new picture takes its place.
    shared_service.sql(
        f"UPDATE stored_files SET storage = $2 WHERE {mine}", account.id, row["storage"]
    )
    with shared_service.client() as client:
        path = client.get(f"/users/{account.id}").json()["image_path"]
    assert path.endswith(row["key"]) and shared_service.get_picture(path).status_code == 200
    shared_service.sql(f"UPDATE stored_files SET storage = 'gone' WHERE {mine}", account.id)
    answer = shared_service.patch_picture(account, jpeg())
    assert (
        answer.status_code,
        shared_service.get_picture(answer.json()["image_path"]).status_code,
    ) == (200, 200)
    # The old row waits for its store: it is neither forgotten nor the client's concern.
    left = shared_service.sql(
        f"SELECT state FROM stored_files WHERE {mine} AND storage = 'gone'", account.id
    )
    assert len(left) == 1 and left[0]["state"] in ("doomed", "deleting")
    shared_service.sql(f"DELETE FROM stored_files WHERE {mine} AND storage = 'gone'", account.id)
