"""Proves that memory for uploads is reserved before it is
used, in order, for a bounded time, and always given back.
"""

import asyncio
import contextlib
import http.client
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from config import FORM_OVERHEAD_BYTES, MIB, Settings
from errors import BrokenPicture, Busy
from pictures.costs import Cost
from tests.support.pictures import corners, jpeg
from tests.support.services import ROOT, Account, Bucket, Service
from web.admission import PASSED_FOR_TIMES_ITS_OWN, SMALL_BODY_BYTES, Admission

FREE = Cost(0, 0)

PATIENCE_SECONDS = 30.0
# Nothing can be written: neither below /tmp nor in a shared memory file.
SANDBOX = (
    *("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--remount-ro", "/dev", "--proc", "/proc"),
    *("--unshare-pid", "--die-with-parent"),
)


async def all_is_free(admission: Admission, budget_bytes: int) -> bool:
    """Whether the whole budget can be had at once, now."""
    try:
        async with asyncio.timeout(0.05), admission.reserve(budget_bytes):
            return True
    except (TimeoutError, Busy):
        return False


async def turns(count: int = 10) -> None:
    """Let every other task of the loop run until it waits."""
    for _ in range(count):
        await asyncio.sleep(0)


class Holder:
    """A task that reserves, then holds until it is told to let go."""

    def __init__(self, admission: Admission, amount_bytes: int) -> None:
        self._admission = admission
        self._amount = amount_bytes
        self.is_in, self._go = False, asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self._admission.reserve(self._amount):
            self.is_in = True
            await self._go.wait()

    async def let_go(self) -> None:
        self._go.set()
        await self.task


@pytest.mark.parametrize("seed", range(5))
def test_the_budget_is_never_exceeded_and_all_of_it_comes_back(seed: int) -> None:
    async def use() -> None:
        rng = random.Random(seed)
        admission = Admission(100, 2, wait_seconds=0.02 if seed % 2 else PATIENCE_SECONDS)
        used = 0
        most = 0
        busy = 0

        async def hold(amount: int) -> None:
            nonlocal used, most, busy
            try:
                async with admission.reserve(amount):
                    used += amount
                    most = max(most, used)
                    assert used <= 100
                    try:
                        for _ in range(rng.randrange(6)):
                            await asyncio.sleep(rng.choice((0, 0, 0.001)))
                        if rng.random() < 0.2:
                            raise ValueError("the form was malformed")
                    finally:
                        used -= amount
            except Busy:
                busy += 1
            except ValueError:
                pass

        tasks: list[asyncio.Task[None]] = []
        for _ in range(400):
            tasks.append(asyncio.create_task(hold(rng.choice((1, 5, 20, 60, 100)))))
            if rng.random() < 0.3:
                rng.choice(tasks).cancel()
            if rng.random() < 0.5:
                await asyncio.sleep(0)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} <= {type(None), asyncio.CancelledError}
        assert busy == 0 or seed % 2
        assert used == 0 and most > 60
        assert await all_is_free(admission, 100)

    asyncio.run(use())


def test_a_large_body_is_not_passed_by_small_ones() -> None:
    async def use() -> None:
        admission = Admission(10, 1, PATIENCE_SECONDS)
        first = Holder(admission, 6)
        large = Holder(admission, 8)
        small = Holder(admission, 2)
        await turns()
        assert (first.is_in, large.is_in, small.is_in) == (True, False, False), (
            "four are free, but the large one waits"
        )
        await first.let_go()
        await turns()
        assert (large.is_in, small.is_in) == (True, True), "together they fit"
        await large.let_go()
        await small.let_go()
        assert await all_is_free(admission, 10)

    asyncio.run(use())


def test_waiting_is_bounded_and_the_next_in_line_moves_up() -> None:
    async def use() -> None:
        admission = Admission(10, 1, wait_seconds=0.05)
        first = Holder(admission, 6)
        await turns()
        large = Holder(admission, 8)
        await asyncio.sleep(0.03)
        small = Holder(admission, 2)
        with pytest.raises(Busy):
            await large.task
        await turns()
        assert small.is_in
        await first.let_go()
        await small.let_go()
        assert await all_is_free(admission, 10)

    asyncio.run(use())


def test_who_is_cancelled_while_waiting_leaves_the_queue() -> None:
    async def use() -> None:
        admission = Admission(10, 1, PATIENCE_SECONDS)
        first = Holder(admission, 6)
        large = Holder(admission, 8)
        small = Holder(admission, 2)
        await turns()
        large.task.cancel()
        await turns()
        assert large.task.cancelled() and small.is_in
        await first.let_go()
        await small.let_go()
        assert await all_is_free(admission, 10)

    asyncio.run(use())


def test_who_is_cancelled_in_the_moment_of_being_admitted_gives_the_place_back() -> None:
    async def use() -> None:
        admission = Admission(10, 1, PATIENCE_SECONDS)
        inside = contextlib.AsyncExitStack()
        await inside.enter_async_context(admission.reserve(10))
        second = Holder(admission, 10)
        third = Holder(admission, 10)
        await turns()
        await inside.aclose()  # admits the second, which has not run yet
        second.task.cancel()
        await turns()
        assert second.task.cancelled() and not second.is_in
        assert third.is_in, "the place went to the next"
        await third.let_go()
        assert await all_is_free(admission, 10)

    asyncio.run(use())


def test_who_is_cancelled_while_holding_gives_all_back() -> None:
    async def use() -> None:
        admission = Admission(10, 1, PATIENCE_SECONDS)
        holder = Holder(admission, 10)
        await turns()
        assert not await all_is_free(admission, 10)
        holder.task.cancel()
        await turns()
        assert await all_is_free(admission, 10)

    asyncio.run(use())


def test_as_many_pictures_are_worked_on_as_there_are_slots_and_no_more() -> None:
    async def use() -> None:
        admission = Admission(10, 3, PATIENCE_SECONDS)
        together = threading.Barrier(3)
        lock = threading.Lock()
        now = 0
        most = 0

        def work(number: int) -> int:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            together.wait(PATIENCE_SECONDS)  # passes only when all three slots are in use
            with lock:
                now -= 1
            return number

        assert await asyncio.gather(
            *(admission.in_picture_slot(FREE, work, number) for number in range(21))
        ) == [*range(21)]
        assert most == 3

    asyncio.run(use())


def test_waiting_for_a_slot_is_bounded_and_slots_come_back_after_failures() -> None:
    async def use() -> None:
        admission = Admission(10, 2, wait_seconds=0.05)

        def fail() -> None:
            raise ValueError("a broken picture")

        for _ in range(5):
            with pytest.raises(ValueError, match="a broken picture"):
                await admission.in_picture_slot(FREE, fail)
        go = threading.Event()
        holders = [
            asyncio.create_task(admission.in_picture_slot(FREE, go.wait, PATIENCE_SECONDS))
            for _ in range(2)
        ]
        await turns()
        with pytest.raises(Busy):
            await admission.in_picture_slot(FREE, bool)
        waiter = asyncio.create_task(admission.in_picture_slot(FREE, bool))
        await turns()
        waiter.cancel()
        await asyncio.wait({waiter})
        go.set()
        assert await asyncio.gather(*holders) == [True, True]
        assert await asyncio.gather(
            *(admission.in_picture_slot(FREE, lambda: 7) for _ in range(2))
        ) == [7, 7]

    asyncio.run(use())


def test_a_slot_whose_request_was_cancelled_is_busy_until_its_thread_ends() -> None:
    async def use() -> None:
        admission = Admission(10, 1, wait_seconds=0.1)
        started = threading.Event()
        go = threading.Event()

        def decode() -> None:
            started.set()
            go.wait(PATIENCE_SECONDS)

        try:
            cancelled = asyncio.create_task(admission.in_picture_slot(FREE, decode))
            await asyncio.to_thread(started.wait, PATIENCE_SECONDS)
            cancelled.cancel()
            await turns()
            with pytest.raises(Busy):
                await admission.in_picture_slot(FREE, bool)
        finally:
            go.set()
        await asyncio.wait({cancelled})
        await turns()
        assert await admission.in_picture_slot(FREE, lambda: 7) == 7

    asyncio.run(use())


def test_what_is_small_passes_large_bodies_that_are_held_for_ever() -> None:
    async def use() -> None:
        admission = Admission(16 * MIB, 1, PATIENCE_SECONDS, kept_bytes=2 * MIB)
        held = [Holder(admission, 7 * MIB) for _ in range(2)]
        waiting = [Holder(admission, 2 * MIB) for _ in range(3)]
        await turns()
        assert all(each.is_in for each in held) and not any(each.is_in for each in waiting)
        for _ in range(50):
            small = [Holder(admission, SMALL_BODY_BYTES) for _ in range(2)]
            await turns()
            assert all(each.is_in for each in small), "two fit into what is kept"
            third = Holder(admission, SMALL_BODY_BYTES)
            await turns()
            assert not third.is_in
            for each in (*small, third):
                await each.let_go()
        assert not any(each.is_in for each in waiting)
        for each in (*held, *waiting):
            await each.let_go()
        assert await all_is_free(admission, 14 * MIB)

    asyncio.run(use())


def test_a_large_body_is_not_passed_for_ever_by_small_ones() -> None:
    async def use() -> None:
        admission = Admission(16 * MIB, 1, PATIENCE_SECONDS, kept_bytes=2 * MIB)
        first = Holder(admission, 12 * MIB)
        large = Holder(admission, 10 * MIB)
        small = [Holder(admission, SMALL_BODY_BYTES) for _ in range(20)]
        await turns()
        assert not large.is_in and [each.is_in for each in small] == [True] * 4 + [False] * 16
        await first.let_go()
        await turns()
        assert large.is_in, "those that passed it leave room"
        for each in small[:4]:
            await each.let_go()
        second = Holder(admission, 14 * MIB)
        for each in (large, *small[4:]):
            await each.let_go()
            small.append(Holder(admission, SMALL_BODY_BYTES))
        for each in small[20:24]:
            await each.let_go()
        await turns()
        assert second.is_in
        for each in (second, *small[24:]):
            await each.let_go()
        assert await all_is_free(admission, 14 * MIB)

    asyncio.run(use())


class Decodes:
    """Pictures in work, each until it is told to end; the order in which they began."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.begun: list[str] = []
        self._ends: dict[str, threading.Event] = {}

    def add(self, name: str, cost: Cost, failure: Exception | None = None) -> "asyncio.Task[str]":
        self._ends[name] = threading.Event()

        def work() -> str:
            self.begun.append(name)
            assert self._ends[name].wait(PATIENCE_SECONDS)
            if failure is not None:
                raise failure
            return name

        return asyncio.create_task(self._admission.in_picture_slot(cost, work))

    async def until(self, *names: str, in_order: bool = True) -> None:
        """Return when exactly these have begun; those
        that are let in at one moment do so in any order.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.begun) < len(names):
                await asyncio.sleep(0.001)
        await turns()
        assert (self.begun if in_order else sorted(self.begun)) == [*names]

    def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()


def test_a_quick_picture_goes_before_a_slow_one_that_came_a_moment_earlier() -> None:
    async def use() -> None:
        decodes = Decodes(Admission(10, 1, PATIENCE_SECONDS, decode_bytes=100))
        tasks = [decodes.add("in work", Cost(10, 0.01))]
        await decodes.until("in work")
        for name, cpu_seconds in (("slow", 1.0), ("quick", 0.001), ("next", 0.1)):
            tasks.append(decodes.add(name, Cost(10, cpu_seconds)))
            await turns()
        decodes.end("in work", "slow", "quick", "next")
        await asyncio.gather(*tasks)
        await decodes.until("in work", "quick", "next", "slow")

    asyncio.run(use())


def test_a_slow_picture_is_not_passed_for_ever() -> None:
    async def use() -> None:
        decodes = Decodes(Admission(10, 1, PATIENCE_SECONDS, decode_bytes=100))
        slow_seconds = 0.002
        tasks = [decodes.add("in work", Cost(10, 0)), decodes.add("slow", Cost(10, slow_seconds))]
        await decodes.until("in work")
        await asyncio.sleep(2 * PASSED_FOR_TIMES_ITS_OWN * slow_seconds)
        tasks += [decodes.add(f"quick {number}", Cost(10, 0)) for number in range(3)]
        await turns()
        decodes.end("in work", "slow", "quick 0", "quick 1", "quick 2")
        await asyncio.gather(*tasks)
        await decodes.until("in work", "slow", "quick 0", "quick 1", "quick 2")

    asyncio.run(use())


def test_pictures_share_the_memory_for_decoding_and_what_needs_more_waits_for_it() -> None:
    async def use() -> None:
        decodes = Decodes(Admission(10, 4, PATIENCE_SECONDS, decode_bytes=100))
        tasks = [
            decodes.add(name, Cost(size, 0))
            for name, size in (("a", 40), ("b", 40), ("c", 30), ("d", 10))
        ]
        await decodes.until("a", "b", in_order=False)
        decodes.end("a")
        await decodes.until("a", "b", "c", "d", in_order=False)
        decodes.end("b", "c", "d")
        assert await asyncio.gather(*tasks) == ["a", "b", "c", "d"]

    asyncio.run(use())


def test_a_picture_that_costs_more_than_all_memory_for_decoding_is_decoded_alone() -> None:
    async def use() -> None:
        decodes = Decodes(Admission(10, 4, PATIENCE_SECONDS, decode_bytes=100))
        tasks = [
            decodes.add("before", Cost(1, 0)),
            decodes.add("giant", Cost(500, 0)),
            decodes.add("after", Cost(1, 0)),
        ]
        await decodes.until("before")
        decodes.end("before")
        await decodes.until("before", "giant")
        decodes.end("giant")
        await decodes.until("before", "giant", "after")
        decodes.end("after")
        assert await asyncio.gather(*tasks) == ["before", "giant", "after"]

    asyncio.run(use())


def test_slots_and_memory_come_back_after_cancellation_and_failure() -> None:
    async def use() -> None:
        admission = Admission(10, 2, PATIENCE_SECONDS, decode_bytes=100)
        decodes = Decodes(admission)
        broken = decodes.add("broken", Cost(50, 0), BrokenPicture())
        await decodes.until("broken")
        failed = decodes.add("failed", Cost(50, 0), ValueError("of ours"))
        await decodes.until("broken", "failed")
        decodes.end("broken", "failed")
        outcomes = await asyncio.gather(broken, failed, return_exceptions=True)
        assert [type(each) for each in outcomes] == [BrokenPicture, ValueError]
        begun = decodes.add("left", Cost(100, 0))
        waiting = decodes.add("never begun", Cost(100, 0))
        await decodes.until("broken", "failed", "left")
        for task in (begun, waiting):
            task.cancel()
        last = decodes.add("last", Cost(100, 0))
        await turns()
        assert begun.cancelled() and waiting.cancelled()
        await decodes.until("broken", "failed", "left")  # its thread still has all the memory
        decodes.end("left")
        await decodes.until("broken", "failed", "left", "last")
        decodes.end("last")
        assert await last == "last"
        assert await asyncio.gather(
            *(admission.in_picture_slot(Cost(50, 0), lambda: 7) for _ in range(2))
        ) == [7, 7]

    asyncio.run(use())


@pytest.mark.parametrize("size_bytes", [MIB, 5 * MIB, 64 * MIB, 1024 * MIB])
def test_the_default_budget_has_room_for_the_largest_upload_and_more(size_bytes: int) -> None:
    budget_bytes = Settings(max_upload_size_bytes=size_bytes).upload_budget_bytes
    assert budget_bytes >= max(
        Settings().upload_budget_bytes, size_bytes + FORM_OVERHEAD_BYTES + SMALL_BODY_BYTES
    )
    chosen_bytes = size_bytes + 2 * MIB
    chosen = Settings(max_upload_size_bytes=size_bytes, upload_budget_bytes=chosen_bytes)
    assert chosen.upload_budget_bytes == chosen_bytes


@contextlib.contextmanager
def stalled_upload(service: Service, account: Account, *, length: int | None) -> Iterator[None]:
    """An upload that sends its head and a few bytes,
    and then nothing for as long as the context lasts.
    """
    connection = http.client.HTTPConnection(service.host, service.port)
    connection.putrequest("PATCH", f"/users/{account.id}/picture")
    connection.putheader("Authorization", account.headers["Authorization"])
    connection.putheader("Content-Type", "multipart/form-data; boundary=b")
    begin = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n\xff\xd8'
    if length is None:
        connection.putheader("Transfer-Encoding", "chunked")
        begin = f"{len(begin):x}\r\n".encode() + begin + b"\r\n"
    else:
        connection.putheader("Content-Length", str(length))
    connection.endheaders(begin)
    try:
        yield
    finally:
        connection.close()


def padded(size_bytes: int) -> bytes:
    """A good JPEG of exactly this many bytes: what follows its end is not looked at."""
    content = jpeg()
    return content + bytes(size_bytes - len(content))


def in_chunks(service: Service, account: Account, content: bytes) -> httpx.Response:
    """Send the picture without announcing a length."""
    form = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
        + content
        + b"\r\n--b--\r\n"
    )
    with service.client(account) as client:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        return client.patch(f"/users/{account.id}/picture", content=iter([form]), headers=headers)


@pytest.fixture(scope="module")
def narrow_settings() -> dict[str, str]:
    """Room for one upload of the largest size and a little
    more; nobody waits long, and stalling is no crime here.
    """
    return {
        "UPLOAD_BUDGET_BYTES": str(6 * MIB),
        "UPLOAD_WAIT_SECONDS": "0.5",
        "UPLOAD_STALL_SECONDS": "60",
    }


def test_a_stalled_upload_holds_only_its_own_memory_and_frees_it_when_it_goes_away(
    start_service: Callable[..., Service], narrow_settings: dict[str, str]
) -> None:
    service = start_service(**narrow_settings)
    alice = service.register("alice")
    bob = service.register("bob")
    assert service.patch_picture(bob, padded(5 * MIB)).status_code == 200
    shown = service.patch_picture(bob, jpeg()).json()["image_file"]
    for length in (5 * MIB, None):
        with stalled_upload(service, alice, length=length):
            answer = first_refusal(lambda: service.patch_picture(bob, padded(2 * MIB)))
            assert answer.json()["code"] == "busy" and int(answer.headers["retry-after"]) >= 1
            assert in_chunks(service, bob, jpeg()).json()["code"] == "busy", (
                "an unknown length counts as the largest"
            )
            with service.client(bob) as client:
                assert client.get("/users/me").status_code == 200
            assert service.patch_picture(bob, jpeg()).status_code == 200, "what still fits is taken"
        assert service.patch_picture(bob, padded(5 * MIB)).status_code == 200, (
            "its memory is free again"
        )
        assert in_chunks(service, bob, jpeg()).status_code == 200
    with service.client(bob) as client:
        assert client.get("/users/me").json()["image_file"] not in (None, shown)
    assert len(service.objects()) == 1
    assert "Traceback" not in service.log()


def first_refusal(send: Callable[[], httpx.Response]) -> httpx.Response:
    """The first answer that is not 200: the stalled
    upload counts from when the service has read its head.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (answer := send()).status_code == 200:
        assert time.monotonic() < deadline, "the stalled upload holds no memory"
    assert answer.status_code == 503, answer.text
    return answer


def test_an_upload_that_announces_too_much_is_refused_though_the_budget_is_in_use(
    shared_service: Service, account: Account
) -> None:
    with shared_service.client(account) as client:
        answer = client.patch(
            f"/users/{account.id}/picture", files={"file": ("a.jpg", bytes(6 * MIB))}
        )
    assert (answer.status_code, answer.json()["code"]) == (413, "file_too_large")


def can_sandbox() -> bool:
    return (
        shutil.which("bwrap") is not None
        and subprocess.run([*SANDBOX, "true"], capture_output=True).returncode == 0
    )


@pytest.mark.skipif(
    not can_sandbox(), reason="bwrap is not installed, or may not make namespaces here"
)
def test_a_large_upload_works_where_nothing_can_be_written(
    new_database: Callable[[], str], moto: str, tmp_path: Path
) -> None:
    written = subprocess.run(
        [*SANDBOX, "touch", str(tmp_path / "x"), "/dev/shm/x"], capture_output=True
    )
    assert written.returncode != 0 and not (tmp_path / "x").exists(), (
        "the sandbox lets something be written"
    )
    settings = {
        "DATABASE_URL": new_database(),
        "DATA_DIR": str(tmp_path),
        "SECRET_KEY": os.urandom(32).hex(),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": "/nonexistent",
        **Bucket.make(moto).settings(),
    }
    service = Service(settings)
    service.command = [
        *(*SANDBOX, sys.executable, "-m", "uvicorn", "main:app", "--app-dir", str(ROOT)),
        *("--host", service.host, "--port", str(service.port)),
    ]
    service.start()
    try:
        alice = service.register()
        answer = service.patch_picture(alice, padded(5 * MIB))
        assert answer.status_code == 200, answer.text
        (served,) = service.objects().values()
        assert corners(served) == ["red", "green", "blue", "white"]
        assert in_chunks(service, alice, padded(5 * MIB)).status_code == 200
        assert len(service.objects()) == 1
    finally:
        service.stop()
    assert [path.name for path in tmp_path.iterdir()] == ["service.log"]
