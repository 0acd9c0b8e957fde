"""Proves that memory for bodies is reserved in order, for a bounded time, and always given back."""

import asyncio
import contextlib
import random

import pytest

from config import FORM_OVERHEAD_BYTES, MIB, Settings
from errors import Busy
from tests.support.turns import PATIENCE_SECONDS, turns
from web.admission import SMALL_BODY_BYTES, Admission


async def all_is_free(admission: Admission, budget_bytes: int) -> bool:
    """Whether the whole budget can be had at once, now."""
    try:
        async with asyncio.timeout(0.05), admission.reserve(budget_bytes):
            return True
    except (TimeoutError, Busy):
        return False


class Holder:
    """A task that reserves, then holds until it is told to let go."""

    def __init__(self, admission: Admission, amount_bytes: int) -> None:
        self._admission = admission
        self._amount = amount_bytes
        self.is_in = False
        self._go = asyncio.Event()
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
        admission = Admission(100, wait_seconds=0.02 if seed % 2 else PATIENCE_SECONDS)
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
        admission = Admission(10, PATIENCE_SECONDS)
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
        admission = Admission(10, wait_seconds=0.05)
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
        admission = Admission(10, PATIENCE_SECONDS)
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
        admission = Admission(10, PATIENCE_SECONDS)
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
        admission = Admission(10, PATIENCE_SECONDS)
        holder = Holder(admission, 10)
        await turns()
        assert not await all_is_free(admission, 10)
        holder.task.cancel()
        await turns()
        assert await all_is_free(admission, 10)

    asyncio.run(use())


def test_what_is_small_passes_large_bodies_that_are_held_for_ever() -> None:
    async def use() -> None:
        admission = Admission(16 * MIB, PATIENCE_SECONDS, kept_bytes=2 * MIB)
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
        admission = Admission(16 * MIB, PATIENCE_SECONDS, kept_bytes=2 * MIB)
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


@pytest.mark.parametrize("size_bytes", [MIB, 5 * MIB, 64 * MIB, 1024 * MIB])
def test_the_default_budget_has_room_for_the_largest_upload_and_more(size_bytes: int) -> None:
    budget_bytes = Settings(max_upload_size_bytes=size_bytes).upload_budget_bytes
    assert budget_bytes >= max(
        Settings().upload_budget_bytes, size_bytes + FORM_OVERHEAD_BYTES + SMALL_BODY_BYTES
    )
    chosen_bytes = size_bytes + 2 * MIB
    chosen = Settings(max_upload_size_bytes=size_bytes, upload_budget_bytes=chosen_bytes)
    assert chosen.upload_budget_bytes == chosen_bytes
