"""Tasks that outlive a request, bounded calls in threads, and turns and seats for what is shared.

Nothing here knows what it is used for. Everything belongs to one event loop.
"""

import asyncio
import logging
from bisect import insort
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from errors import Busy, ShuttingDown

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Tasks:
    """What was begun for a request and may go on after it: the event loop alone would forget it."""

    def __init__(self) -> None:
        self._running: set[asyncio.Future[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Awaitable[Result]) -> "asyncio.Future[Result]":
        """Begin the work and hold it until its end."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def finish(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run to the end, even when whoever waits here is cancelled."""
        task = self.start(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_end)
            raise

    async def wait_briefly(
        self, work: Awaitable[Result], patience_seconds: float
    ) -> "asyncio.Future[Result]":
        """Wait so long at most and return the work, done or not; if not, it goes on by itself."""
        task = self.start(work)
        await asyncio.wait({task}, timeout=patience_seconds)
        if not task.done():
            task.add_done_callback(_log_end)
        return task

    async def wait_for_all(self, timeout_seconds: float) -> None:
        """Wait until nothing is left, or the time is over."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while self._running:
            left_seconds = deadline - asyncio.get_running_loop().time()
            if left_seconds <= 0:
                return
            await asyncio.wait(set(self._running), timeout=left_seconds)  # one may begin another


def _log_end(task: "asyncio.Future[Any]") -> None:
    if not task.cancelled():
        outcome = task.exception() or "done"
        logger.info("what was begun for a request that ended early is over: %r", outcome)


def start_in_thread(
    function: Callable[[], Result], when_over: Callable[[], None] = lambda: None
) -> "asyncio.Future[Result]":
    """Call a function in the thread pool; call `when_over` once its thread has ended.

    No thread can be stopped, so what it occupies is given back then, and not when whoever asked
    has been cancelled. A failure that nobody waits for any more is no news.
    """

    def end(call: "asyncio.Future[Result]") -> None:
        when_over()
        if not call.cancelled():
            call.exception()  # marks it as seen

    call = asyncio.ensure_future(run_in_threadpool(function))
    call.add_done_callback(end)
    return call


class ThreadSlots:
    """At most so many calls of one sort in the thread pool at once."""

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)

    @property
    def are_taken(self) -> bool:
        """Whether the next call has to wait."""
        return self._free.locked()

    async def start(
        self, function: Callable[[], Result], wait_seconds: float
    ) -> "asyncio.Future[Result]":
        """Call the function once there is a slot. Raises TimeoutError when none becomes free."""
        async with asyncio.timeout(wait_seconds):
            await self._free.acquire()
        return start_in_thread(function, self._free.release)


@dataclass(frozen=True)
class Amounts:
    """What is shared: something that everybody needs, and something that only some need."""

    common: int
    scarce: int

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(self.common + other.common, self.scarce + other.scarce)

    def __sub__(self, other: "Amounts") -> "Amounts":
        return Amounts(self.common - other.common, self.scarce - other.scarce)

    def __mul__(self, times: int) -> "Amounts":
        return Amounts(self.common * times, self.scarce * times)


@dataclass(order=True)
class _Waiter:
    turn: float  # on the loop's clock: when it came, and later the more is asked for
    needs: Amounts = field(compare=False)
    admitted: "asyncio.Future[None]" = field(compare=False)


class FairQueue:
    """Shares two amounts by turns: first come, first served, with two exceptions.

    When the common amount does not suffice for whoever is first, all others wait too, so that a
    large need is met in the end. When only the scarce amount does not suffice, those behind who
    need nothing of it go ahead. And what an owner has been given lately puts off its next turn, so
    that those who ask for much and those who ask for little are served by turns.
    """

    def __init__(self, total: Amounts, wait_seconds: float) -> None:
        self.free = total
        self.waiting: list[_Waiter] = []  # in the order of their turns
        self._wait_seconds = wait_seconds
        self._is_closed = False
        self._next_turns: dict[Hashable, float] = {}  # of owners
        self._standing_back: deque[asyncio.Future[None]] = deque()
        self._is_one_going_on = False  # of those that stood back

    async def take(
        self,
        needs: Amounts,
        lag_seconds: float = 0.0,
        owners: Sequence[Hashable] = (),
        charge_seconds: float = 0.0,
        wait_seconds: float | None = None,
    ) -> None:
        """Wait for both amounts, in a turn that is `lag_seconds` behind those who come now.

        The next turn of each owner is put off by the charge, though never beyond half of the wait;
        who has several comes in the last of their turns. Raises Busy when the amounts do not become
        free in time, and ShuttingDown.
        """
        if self._is_closed:
            raise ShuttingDown
        loop = asyncio.get_running_loop()
        turn = self._find_turn(loop.time(), owners, charge_seconds)
        waiter = _Waiter(turn + lag_seconds, needs, loop.create_future())
        insort(self.waiting, waiter)
        self._admit()
        try:
            async with asyncio.timeout(wait_seconds or self._wait_seconds):
                await waiter.admitted
        except BaseException as err:
            self._leave(waiter)
            if isinstance(err, TimeoutError):
                raise Busy from err
            raise

    @asynccontextmanager
    async def stand_back(self, patience_seconds: float) -> AsyncIterator[None]:
        """Begin only once nobody waits for a turn, or the patience is over.

        Of those who had to wait here one works at a time, for it may be the next who takes a turn.
        """
        if not self.waiting:
            yield
            return
        going_on = asyncio.get_running_loop().create_future()
        self._standing_back.append(going_on)
        try:
            await asyncio.wait({going_on}, timeout=patience_seconds)
            yield
        finally:
            if going_on.done():
                self._is_one_going_on = False
                self._admit()
            else:
                self._standing_back.remove(going_on)

    def give_back(self, amounts: Amounts) -> None:
        self.free += amounts
        self._admit()

    def close(self) -> None:
        """Turn away all who wait and all who come; whoever has its share goes on."""
        self._is_closed = True
        for waiter in self.waiting:
            if not waiter.admitted.done():
                waiter.admitted.set_exception(ShuttingDown())
        self.waiting.clear()
        while self._standing_back:
            self._standing_back.popleft().set_result(None)

    def _find_turn(self, now: float, owners: Sequence[Hashable], charge_seconds: float) -> float:
        """Find whose turn is when, and charge for it."""
        for other in [each for each, turn in self._next_turns.items() if turn <= now]:
            del self._next_turns[other]  # it is as if it had never come
        latest = now + self._wait_seconds / 2
        turns = [self._next_turns.get(owner, now) for owner in owners]
        for owner, turn in zip(owners, turns, strict=True):
            self._next_turns[owner] = min(turn + charge_seconds, latest)
        return max(turns, default=now)

    def _leave(self, waiter: _Waiter) -> None:
        future = waiter.admitted
        if future.done() and not future.cancelled() and future.exception() is None:
            self.give_back(waiter.needs)  # admitted in the very moment of giving up
        elif waiter in self.waiting:
            self.waiting.remove(waiter)
            self._admit()

    def _admit(self) -> None:
        self._admit_waiting()
        if self._standing_back and not self.waiting and not self._is_one_going_on:
            self._is_one_going_on = True
            self._standing_back.popleft().set_result(None)

    def _admit_waiting(self) -> None:
        is_scarce_one_awaited = False
        for waiter in list(self.waiting):
            needs = waiter.needs
            if waiter.admitted.done():  # cancelled, and about to leave
                continue
            is_behind = needs.scarce > 0 and is_scarce_one_awaited
            if needs.scarce > self.free.scarce or is_behind:
                is_scarce_one_awaited = True
                continue
            if needs.common > self.free.common:
                return
            self.free -= needs
            self.waiting.remove(waiter)
            waiter.admitted.set_result(None)


class Seats:
    """So many at once of each owner; whoever comes beyond waits in the line of its owner.

    An owner of None has as many as it likes.
    """

    def __init__(self, each: int, most_waiting: int) -> None:
        """Take how many each owner has, and how many may wait in all."""
        self._each = each
        self._most_waiting = most_waiting
        self._taken: Counter[Hashable] = Counter()
        self._lines: dict[Hashable, deque[asyncio.Future[None]]] = {}

    @property
    def waiting(self) -> int:
        """How many wait, in all lines."""
        return sum(map(len, self._lines.values()))

    def count_taken(self, owner: Hashable) -> int:
        """Tell how many seats the owner has taken."""
        return self._taken[owner]

    @asynccontextmanager
    async def hold(self, owner: Hashable, wait_seconds: float) -> AsyncIterator[None]:
        """Take a seat and give it back. Raises what `take` raises."""
        await self.take(owner, wait_seconds)
        try:
            yield
        finally:
            self.give_back(owner)

    async def take(self, owner: Hashable, wait_seconds: float) -> None:
        """Wait for a seat.

        Raises Busy where none becomes free in time, or too many wait; and ShuttingDown.
        """
        if owner is None:
            return
        if self._taken[owner] < self._each:
            self._taken[owner] += 1
            return
        if self.waiting >= self._most_waiting:
            raise Busy
        try:
            async with asyncio.timeout(wait_seconds):
                await self._wait(owner)
        except TimeoutError as err:
            raise Busy from err

    def give_back(self, owner: Hashable) -> None:
        """Pass the seat to whoever of its owner has waited longest."""
        if owner is None:
            return
        for seat in self._lines.get(owner, ()):
            if not seat.done():
                seat.set_result(None)
                return
        self._taken[owner] -= 1
        if self._taken[owner] == 0:
            del self._taken[owner]

    def close(self) -> None:
        """Turn away all who wait; whoever has a seat goes on."""
        for line in self._lines.values():
            for waiting in line:
                if not waiting.done():
                    waiting.set_exception(ShuttingDown())

    async def _wait(self, owner: Hashable) -> None:
        seat = asyncio.get_running_loop().create_future()
        line = self._lines.setdefault(owner, deque())
        line.append(seat)
        try:
            await seat
        except BaseException:
            if seat.done() and not seat.cancelled() and seat.exception() is None:
                self.give_back(owner)  # it was given in the very moment of giving up
            raise
        finally:
            if seat in line:
                line.remove(seat)
            if not line:
                self._lines.pop(owner, None)
