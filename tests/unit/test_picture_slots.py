"""Proves that pictures share slots and memory: in turn, within bounds, and with nothing lost."""

import asyncio
import threading
from collections.abc import Sequence
from functools import partial

import pytest

from concurrency import Amounts
from errors import BrokenPicture, Busy, ObjectNotFound
from pictures.costs import Cost
from pictures.slots import COSTLY_SECONDS, PASSED_FOR_TIMES_ITS_OWN, PictureSlots
from tests.support.turns import PATIENCE_SECONDS, turns

FREE = Cost(0, 0)


def test_as_many_pictures_are_worked_on_as_there_are_slots_and_no_more() -> None:
    async def use() -> None:
        slots = PictureSlots(3, 0, PATIENCE_SECONDS)
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
            *(slots.run(FREE, partial(work, number)) for number in range(21))
        ) == [*range(21)]
        assert most == 3

    asyncio.run(use())


def test_waiting_for_a_slot_is_bounded_and_slots_come_back_after_failures() -> None:
    async def use() -> None:
        slots = PictureSlots(2, 0, wait_seconds=0.05)

        def fail() -> None:
            raise ValueError("a broken picture")

        for _ in range(5):
            with pytest.raises(ValueError, match="a broken picture"):
                await slots.run(FREE, fail)
        go = threading.Event()
        holders = [
            asyncio.create_task(slots.run(FREE, partial(go.wait, PATIENCE_SECONDS)))
            for _ in range(2)
        ]
        await turns()
        with pytest.raises(Busy):
            await slots.run(FREE, bool)
        waiter = asyncio.create_task(slots.run(FREE, bool))
        await turns()
        waiter.cancel()
        await asyncio.wait({waiter})
        go.set()
        assert await asyncio.gather(*holders) == [True, True]
        assert await asyncio.gather(*(slots.run(FREE, lambda: 7) for _ in range(2))) == [7, 7]

    asyncio.run(use())


def test_a_slot_whose_request_was_cancelled_is_busy_until_its_thread_ends() -> None:
    async def use() -> None:
        slots = PictureSlots(1, 0, wait_seconds=0.1)
        started = threading.Event()
        go = threading.Event()

        def decode() -> None:
            started.set()
            go.wait(PATIENCE_SECONDS)

        try:
            cancelled = asyncio.create_task(slots.run(FREE, decode))
            await asyncio.to_thread(started.wait, PATIENCE_SECONDS)
            cancelled.cancel()
            await turns()
            with pytest.raises(Busy):
                await slots.run(FREE, bool)
        finally:
            go.set()
        await asyncio.wait({cancelled})
        await turns()
        assert await slots.run(FREE, lambda: 7) == 7

    asyncio.run(use())


class Decodes:
    """Pictures in work, each until it is told to end; the order in which they began."""

    def __init__(self, slots: PictureSlots) -> None:
        self._slots = slots
        self.begun: list[str] = []
        self._ends: dict[str, threading.Event] = {}

    def add(
        self, name: str, cost: Cost, failure: Exception | None = None, owners: Sequence[int] = ()
    ) -> "asyncio.Task[str]":
        self._ends[name] = threading.Event()

        def work() -> str:
            self.begun.append(name)
            assert self._ends[name].wait(PATIENCE_SECONDS)
            if failure is not None:
                raise failure
            return name

        return asyncio.create_task(self._slots.run(cost, work, owners))

    async def until(self, *names: str, in_order: bool = True) -> None:
        """Return when exactly these have begun; those let in at one moment begin in any order."""
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
        decodes = Decodes(PictureSlots(1, 100, PATIENCE_SECONDS))
        tasks = [decodes.add("in work", Cost(10, 0.01))]
        await decodes.until("in work")
        for name, cpu_seconds in (("slow", 1.0), ("quick", 0.001), ("next", 0.1)):
            tasks.append(decodes.add(name, Cost(10, cpu_seconds)))
            await turns()
        decodes.end("in work", "slow", "quick", "next")
        await asyncio.gather(*tasks)
        await decodes.until("in work", "quick", "next", "slow")

    asyncio.run(use())


def test_owners_are_served_by_turns_however_much_one_of_them_sends() -> None:
    async def use() -> None:
        decodes = Decodes(PictureSlots(1, 100, PATIENCE_SECONDS))
        quick = Cost(10, 0.3)
        tasks = [decodes.add("in work", quick, owners=[9])]
        await decodes.until("in work")
        for number in range(3):
            tasks.append(decodes.add(f"much {number}", quick, owners=[1]))
        for owner in (2, 3):
            tasks.append(decodes.add(f"little of {owner}", quick, owners=[owner]))
        await turns()
        names = ["in work", "much 0", "little of 2", "little of 3", "much 1", "much 2"]
        decodes.end(*names)
        await asyncio.gather(*tasks)
        await decodes.until(*names)

    asyncio.run(use())


def test_an_address_is_charged_for_all_its_accounts() -> None:
    async def use() -> None:
        decodes = Decodes(PictureSlots(1, 100, PATIENCE_SECONDS))
        tasks = [decodes.add("in work", FREE)]
        await decodes.until("in work")
        for account in range(3):
            owners = [account, -1]
            tasks.append(decodes.add(f"of the crowd {account}", Cost(10, 0.3), owners=owners))
        tasks.append(decodes.add("of another", Cost(10, 0.3), owners=[9, -2]))
        await turns()
        names = ["in work", "of the crowd 0", "of another", "of the crowd 1", "of the crowd 2"]
        decodes.end(*names)
        await asyncio.gather(*tasks)
        await decodes.until(*names)

    asyncio.run(use())


def test_an_owner_is_charged_by_what_its_pictures_cost() -> None:
    async def use() -> None:
        decodes = Decodes(PictureSlots(1, 100, PATIENCE_SECONDS))
        tasks = [decodes.add("in work", FREE)]
        await decodes.until("in work")
        for owner, cpu_seconds in ((1, 0.3), (2, 0.1)):
            for number in range(3):
                name = f"{number} of {owner}"
                tasks.append(decodes.add(name, Cost(10, cpu_seconds), owners=[owner]))
        await turns()
        for name in (
            "in work",
            *(f"{number} of {owner}" for owner in (1, 2) for number in range(3)),
        ):
            decodes.end(name)
        await asyncio.gather(*tasks)
        assert decodes.begun.index("2 of 2") < decodes.begun.index("1 of 1")

    asyncio.run(use())


def test_one_owners_costly_pictures_take_half_of_the_slots_at_most() -> None:
    async def use() -> None:
        decodes = Decodes(PictureSlots(4, 100, PATIENCE_SECONDS))
        costly = Cost(10, 2 * COSTLY_SECONDS)
        tasks = [decodes.add(f"costly {number}", costly, owners=[1]) for number in range(4)]
        await decodes.until("costly 0", "costly 1", in_order=False)
        tasks.append(decodes.add("quick", Cost(10, 0), owners=[1]))
        tasks.append(decodes.add("another's", costly, owners=[2]))
        await decodes.until("another's", "costly 0", "costly 1", "quick", in_order=False)
        decodes.end("costly 0", "costly 1", "costly 2", "costly 3", "quick", "another's")
        await asyncio.gather(*tasks)

    asyncio.run(use())


def test_a_slow_picture_is_not_passed_for_ever() -> None:
    async def use() -> None:
        decodes = Decodes(PictureSlots(1, 100, PATIENCE_SECONDS))
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
        decodes = Decodes(PictureSlots(4, 100, PATIENCE_SECONDS))
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
        decodes = Decodes(PictureSlots(4, 100, PATIENCE_SECONDS))
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
        slots = PictureSlots(2, 100, PATIENCE_SECONDS)
        decodes = Decodes(slots)
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
        assert await asyncio.gather(*(slots.run(Cost(50, 0), lambda: 7) for _ in range(2))) == [
            7,
            7,
        ]

    asyncio.run(use())


def test_half_of_the_slots_at_most_are_for_stored_pictures_which_are_fetched_in_them() -> None:
    async def use() -> None:
        slots = PictureSlots(4, 100, PATIENCE_SECONDS)
        fetching = 0
        most = 0
        go = asyncio.Event()

        async def fetch() -> bytes:
            nonlocal fetching, most
            fetching += 1
            most = max(most, fetching)
            await go.wait()
            fetching -= 1
            return b"stored"

        stored = [asyncio.create_task(slots.run_stored(Cost(10, 0), fetch, len)) for _ in range(6)]
        await turns()
        assert fetching == 2
        assert slots.cores.free.scarce == 80, "what is fetched has its memory set aside"
        assert await slots.run(FREE, lambda: "sent") == "sent"
        go.set()
        assert await asyncio.gather(*stored) == [6] * 6
        assert most == 2
        await turns()
        assert slots.cores.free.common == 4
        assert slots.cores.free.scarce == 100

    asyncio.run(use())


def test_a_single_core_takes_stored_pictures_too() -> None:
    async def use() -> None:
        slots = PictureSlots(1, 0, PATIENCE_SECONDS)

        async def fetch() -> bytes:
            return b"stored"

        assert await slots.run_stored(FREE, fetch, len) == 6

    asyncio.run(use())


@pytest.mark.parametrize("how", ["fetch fails", "fetch is cancelled", "no slot", "work is refused"])
def test_whatever_becomes_of_a_stored_picture_its_slots_come_back(how: str) -> None:
    async def use() -> None:
        slots = PictureSlots(2, 10, wait_seconds=0.05)
        go = threading.Event()

        async def fetch() -> bytes:
            if how == "fetch fails":
                raise ObjectNotFound
            if how == "fetch is cancelled":
                await asyncio.Event().wait()
            return b"stored"

        def work(content: bytes) -> int:
            if how == "work is refused":
                raise BrokenPicture
            return len(content)

        holders = [
            asyncio.create_task(slots.run(FREE, partial(go.wait, PATIENCE_SECONDS)))
            for _ in range(2 if how == "no slot" else 0)
        ]
        await turns()
        stored = asyncio.create_task(slots.run_stored(Cost(1, 0), fetch, work))
        await turns()
        if how == "fetch is cancelled":
            stored.cancel()
        await asyncio.wait({stored})
        if how == "fetch is cancelled":
            assert stored.cancelled()
        else:
            errors = {"fetch fails": ObjectNotFound, "no slot": Busy}
            assert isinstance(stored.exception(), errors.get(how, BrokenPicture))
        go.set()
        await asyncio.gather(*holders)
        await turns()
        assert slots._stored.free.common == 1
        assert slots.cores.free == Amounts(2, 10)

    asyncio.run(use())


def test_a_stored_picture_of_a_cancelled_request_holds_its_slot_until_its_thread_ends() -> None:
    async def use() -> None:
        slots = PictureSlots(2, 0, wait_seconds=PATIENCE_SECONDS)
        started = threading.Event()
        go = threading.Event()

        async def fetch() -> bytes:
            return b"stored"

        def decode(_: bytes) -> None:
            started.set()
            go.wait(PATIENCE_SECONDS)

        try:
            cancelled = asyncio.create_task(slots.run_stored(FREE, fetch, decode))
            await asyncio.to_thread(started.wait, PATIENCE_SECONDS)
            cancelled.cancel()
            await turns()
            assert cancelled.cancelled()
            assert slots._stored.free.common == 0
            assert slots.cores.free.common == 1
        finally:
            go.set()
        assert await slots.run_stored(FREE, fetch, len) == 6

    asyncio.run(use())
