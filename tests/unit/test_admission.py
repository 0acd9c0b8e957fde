"""Proves that seats and memory for bodies are shared fairly, for a bounded time, and come back."""

import asyncio
import random
from contextlib import AsyncExitStack, suppress

import pytest

from concurrency import Amounts, FairQueue
from config import FORM_OVERHEAD_BYTES, MIB, Settings
from errors import RETRY_AFTER_SECONDS, Busy, ShuttingDown
from files.streams import STREAM_BYTES
from tests.support.turns import PATIENCE_SECONDS, turns
from web.admission import LONGEST_RETRY_SECONDS, STEP_BYTES, Admission, Reservation

# Of one body at most, in these tests.
LARGEST_BYTES = 10 * STEP_BYTES


def make_admission(
    budget_bytes: int = 40 * STEP_BYTES,
    wait_seconds: float = PATIENCE_SECONDS,
    per_account: int = 1000,
    per_address: int = 1000,
) -> Admission:
    return Admission(
        budget_bytes,
        LARGEST_BYTES,
        wait_seconds,
        per_account=per_account,
        per_address=per_address,
    )


class Body:
    """A task that takes a seat, then grows to what it is told to, and ends when it is told to."""

    def __init__(self, admission: Admission, account_id: int, address: str | None = None) -> None:
        self._admission = admission
        self._owners = (account_id, address)
        self._targets: asyncio.Queue[int | None] = asyncio.Queue()
        self.reservation: Reservation | None = None
        self.grown_bytes = 0
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self._admission.admit(*self._owners) as self.reservation:
            while (target := await self._targets.get()) is not None:
                await self.reservation.grow_to(target)
                self.grown_bytes = target

    async def grow(self, target_bytes: int) -> bool:
        """Ask it to grow; tell whether it could at once."""
        self._targets.put_nowait(target_bytes)
        await turns()
        return self.grown_bytes == target_bytes

    async def end(self) -> None:
        self._targets.put_nowait(None)
        with suppress(Busy):
            await self.task
        await turns()


async def begin(
    admission: Admission, count: int, address: str | None = None, first_account_id: int = 0
) -> list[Body]:
    """Begin bodies of as many accounts."""
    bodies = []
    for number in range(count):
        bodies.append(Body(admission, first_account_id + number, address))
        await turns()
    return bodies


def test_a_body_holds_only_what_has_come_of_it() -> None:
    async def use() -> None:
        admission = make_admission()
        bodies = await begin(admission, 250)
        assert admission.reserved_bytes == 0
        assert await bodies[0].grow(1)
        assert admission.reserved_bytes == 1
        assert await bodies[0].grow(3 * STEP_BYTES)
        assert admission.reserved_bytes == 3 * STEP_BYTES
        assert await bodies[0].grow(2 * LARGEST_BYTES)
        assert admission.reserved_bytes == LARGEST_BYTES, "a longer one is never in memory whole"
        for body in bodies:
            await body.end()
        assert admission.reserved_bytes == 0

    asyncio.run(use())


def test_of_200_bodies_that_stop_half_way_each_gets_to_its_end() -> None:
    async def use() -> None:
        admission = make_admission(wait_seconds=PATIENCE_SECONDS)
        bodies = await begin(admission, 200)
        for body in bodies:
            await body.grow(LARGEST_BYTES // 2)
        assert admission.reserved_bytes <= admission.budget_bytes
        assert admission.waiting > 150
        for body in bodies:
            body._targets.put_nowait(LARGEST_BYTES)
        for body in bodies:  # none waits for one that began after it
            await turns()
            assert body.grown_bytes == LARGEST_BYTES
            await body.end()
        assert (admission.reserved_bytes, admission.waiting) == (0, 0)

    asyncio.run(use())


def test_two_bodies_of_one_account_may_be_let_go_of_before_either_ends() -> None:
    async def use() -> None:
        admission = make_admission()
        bodies = [Body(admission, 1) for _ in range(2)]
        await turns()
        for body in bodies:
            assert await body.grow(LARGEST_BYTES)
            assert body.reservation is not None
            body.reservation.release()
        for body in bodies:
            await body.end()
            assert body.task.exception() is None
        assert admission.reserved_bytes == 0

    asyncio.run(use())


def test_what_the_first_has_taken_of_the_reserve_is_not_given_twice() -> None:
    async def use() -> None:
        admission = make_admission()
        first, second, *others = await begin(admission, 8)
        for body in others:
            await body.grow(5 * STEP_BYTES)
        assert admission.reserved_bytes == 30 * STEP_BYTES
        assert await first.grow(7 * STEP_BYTES), "the reserve is for it"
        assert not await second.grow(STEP_BYTES)
        assert first.reservation is not None
        first.reservation.stop_growing()
        await turns()
        assert second.grown_bytes == STEP_BYTES, "the second is the first one now"
        assert not await second.grow(5 * STEP_BYTES)
        assert admission.reserved_bytes == admission.budget_bytes
        await first.end()
        assert second.grown_bytes == 5 * STEP_BYTES
        for body in (second, *others):
            await body.end()

    asyncio.run(use())


@pytest.mark.parametrize("of", ["account", "address"])
def test_one_account_and_one_address_leave_half_of_the_budget_to_others(of: str) -> None:
    async def use() -> None:
        admission = make_admission()
        if of == "account":
            greedy = [Body(admission, 1) for _ in range(12)]
        else:
            greedy = await begin(admission, 12, "203.0.113.9")
        await turns()
        for body in greedy:
            await body.grow(LARGEST_BYTES)
        assert admission.reserved_bytes <= admission.budget_bytes // 2
        assert any(body.grown_bytes < LARGEST_BYTES for body in greedy)
        honest = Body(admission, 99, "203.0.113.10")
        assert await honest.grow(LARGEST_BYTES // 2)
        assert honest.reservation is not None and not honest.reservation.is_short
        assert await honest.grow(LARGEST_BYTES)
        assert greedy[0].reservation is not None and greedy[0].reservation.is_short
        for body in (*greedy, honest):
            await body.end()
        assert admission.reserved_bytes == 0

    asyncio.run(use())


def test_a_pause_is_bounded_and_the_next_moves_up() -> None:
    async def use() -> None:
        admission = make_admission(wait_seconds=0.05)
        first, *others = await begin(admission, 7)
        for body in others[:5]:
            await body.grow(6 * STEP_BYTES)
        last = others[5]
        assert not await last.grow(STEP_BYTES)
        with pytest.raises(Busy):
            await last.task
        await others[0].end()
        assert await others[1].grow(7 * STEP_BYTES)
        assert await first.grow(LARGEST_BYTES)
        for body in (first, *others):
            await body.end()
        assert admission.reserved_bytes == 0

    asyncio.run(use())


def test_all_pauses_of_a_body_together_are_bounded() -> None:
    async def use() -> None:
        admission = make_admission(budget_bytes=2 * LARGEST_BYTES, wait_seconds=0.2)
        first, second, third = await begin(admission, 3)
        await second.grow(LARGEST_BYTES)
        for target in range(1, 4):
            assert not await third.grow(target * STEP_BYTES)
            await asyncio.sleep(0.08)
            if third.task.done():
                break
            await second.end()
            (second,) = await begin(admission, 1, first_account_id=10 + target)
            await second.grow(LARGEST_BYTES)
        with pytest.raises(Busy):
            await third.task
        await first.end()
        await second.end()

    asyncio.run(use())


@pytest.mark.parametrize("of", ["account", "address"])
def test_so_many_at_once_have_a_seat_and_the_next_waits_in_its_own_line(of: str) -> None:
    async def use() -> None:
        admission = make_admission(per_account=3, per_address=3)
        if of == "account":
            bodies = [Body(admission, 1) for _ in range(5)]
        else:
            bodies = await begin(admission, 5, "203.0.113.9")
        await turns()
        assert [body.reservation is not None for body in bodies] == [True] * 3 + [False] * 2
        assert admission.waiting == 2
        (other,) = await begin(admission, 1, "203.0.113.10", first_account_id=99)
        assert other.reservation is not None, "it waits for nobody of another line"
        await bodies[1].end()
        assert bodies[3].reservation is not None and bodies[4].reservation is None
        bodies[4].task.cancel()
        await turns()
        for body in (bodies[0], bodies[2], bodies[3], other):
            await body.end()
        again = [Body(admission, 1, "203.0.113.9") for _ in range(3)]
        await turns()
        assert all(body.reservation is not None for body in again), "every seat came back"
        for body in again:
            await body.end()

    asyncio.run(use())


def test_an_address_begins_no_more_than_an_account_while_somebody_waits_for_a_core() -> None:
    async def use() -> None:
        core = Amounts(1, 0)
        cores = FairQueue(core, PATIENCE_SECONDS)
        admission = Admission(
            *(40 * STEP_BYTES, LARGEST_BYTES, PATIENCE_SECONDS),
            per_account=3,
            per_address=12,
            cores=cores,
        )
        await cores.take(core)
        waiting = asyncio.create_task(cores.take(core))
        await turns()
        crowd = await begin(admission, 6, "203.0.113.9")
        assert [body.reservation is not None for body in crowd] == [True] * 3 + [False] * 3
        (another,) = await begin(admission, 1, "203.0.113.10", first_account_id=99)
        assert another.reservation is not None
        cores.give_back(core)
        await turns()
        assert waiting.done() and crowd[3].reservation is not None
        assert crowd[4].reservation is None, "the one before it may wait for a core again"
        cores.give_back(core)
        await turns()
        assert crowd[4].reservation is None, "the one before it is still under way"
        await crowd[3].end()
        assert crowd[4].reservation is not None
        crowd[5].task.cancel()
        await turns()
        for body in (*crowd[:5], another):
            await body.end()

    asyncio.run(use())


def test_whoever_waits_too_long_for_a_seat_is_told_when_to_come_back() -> None:
    async def use() -> None:
        admission = make_admission(wait_seconds=0.05, per_account=1)
        bodies = [Body(admission, 1) for _ in range(4)]
        await turns()
        told = []
        for body in bodies[1:]:
            with pytest.raises(Busy) as refused:
                await body.task
            headers = refused.value.headers
            assert headers is not None
            told.append(int(headers["Retry-After"]))
        assert all(RETRY_AFTER_SECONDS <= each <= LONGEST_RETRY_SECONDS for each in told)
        await bodies[0].end()

    asyncio.run(use())


def test_what_is_said_of_coming_back_grows_with_the_line_and_with_what_an_upload_takes() -> None:
    async def use() -> None:
        admission = make_admission(per_account=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(admission, "_usual_seconds", 3.0)
            alone = admission.make_busy().headers
            bodies = [Body(admission, 1) for _ in range(5)]
            await turns()
            behind_four = admission.make_busy().headers
            patch.setattr(admission, "_usual_seconds", 100.0)
            most = admission.make_busy().headers
        assert alone is not None and behind_four is not None and most is not None
        assert [each["Retry-After"] for each in (alone, behind_four, most)] == ["3", "15", "60"]
        for body in bodies:
            body.task.cancel()
        await turns()

    asyncio.run(use())


def test_once_closed_all_who_wait_are_turned_away_and_what_has_room_goes_on() -> None:
    async def use() -> None:
        admission = make_admission(per_account=6)
        bodies = [Body(admission, 1) for _ in range(7)]
        await turns()
        for body in bodies[:5]:
            await body.grow(LARGEST_BYTES)
        admission.close()
        await turns()
        with pytest.raises(ShuttingDown):
            await bodies[6].task  # for a seat
        assert bodies[0].grown_bytes == LARGEST_BYTES
        waiting = [body for body in bodies[:5] if body.task.done()]
        assert waiting and all(
            isinstance(body.task.exception(), ShuttingDown) for body in waiting
        ), "for room"
        with pytest.raises(ShuttingDown):
            async with admission.admit(2, None):
                pass
        for body in bodies[:6]:
            if not body.task.done():
                await body.end()

    asyncio.run(use())


@pytest.mark.parametrize("seed", range(5))
def test_the_budget_is_never_exceeded_and_all_of_it_comes_back(seed: int) -> None:
    async def use() -> None:
        rng = random.Random(seed)
        wait_seconds = 0.02 if seed % 2 else PATIENCE_SECONDS
        admission = make_admission(wait_seconds=wait_seconds, per_account=3, per_address=12)
        most_bytes = 0

        async def send(account_id: int, address: str | None) -> None:
            nonlocal most_bytes
            async with AsyncExitStack() as held:
                reservation = await held.enter_async_context(admission.admit(account_id, address))
                for _ in range(rng.randrange(8)):
                    await reservation.grow_to(rng.randrange(2 * LARGEST_BYTES))
                    most_bytes = max(most_bytes, admission.reserved_bytes)
                    assert admission.reserved_bytes <= admission.budget_bytes
                    await asyncio.sleep(rng.choice((0, 0, 0.001)))
                reservation.stop_growing()
                if rng.random() < 0.2:
                    raise ValueError("the form was malformed")

        tasks: list[asyncio.Task[None]] = []
        for _ in range(400):
            address = rng.choice((None, "203.0.113.1", "203.0.113.2"))
            tasks.append(asyncio.create_task(send(rng.randrange(40), address)))
            if rng.random() < 0.3:
                rng.choice(tasks).cancel()
            if rng.random() < 0.5:
                await asyncio.sleep(0)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        expected = {type(None), asyncio.CancelledError, ValueError}
        assert {type(outcome) for outcome in outcomes} <= expected | ({Busy} if seed % 2 else set())
        assert most_bytes > admission.budget_bytes // 2
        assert (admission.reserved_bytes, admission.waiting) == (0, 0)
        (last,) = await begin(admission, 1)
        assert await last.grow(LARGEST_BYTES)
        await last.end()

    asyncio.run(use())


@pytest.mark.parametrize("size_bytes", [MIB, 5 * MIB, 64 * MIB, 1024 * MIB])
def test_the_default_budget_has_room_for_the_largest_upload_and_more(size_bytes: int) -> None:
    settings = Settings(max_upload_size_bytes=size_bytes)
    admission = Admission.from_settings(settings, STREAM_BYTES)
    assert admission.reserve_bytes >= size_bytes + FORM_OVERHEAD_BYTES
    assert admission.budget_bytes >= max(
        Settings().upload_budget_bytes, admission.reserve_bytes + MIB
    )
    chosen_bytes = size_bytes + 2 * MIB
    chosen = Settings(max_upload_size_bytes=size_bytes, upload_budget_bytes=chosen_bytes)
    assert chosen.upload_budget_bytes == chosen_bytes
