"""Slots for work on pictures: as many at once as there are cores, and no more than memory allows.

What a picture's kind and size take is set aside before it is decoded, and charged to its owners, so
that these are served by turns. What is small is not starved by what is large, nor the large passed
for ever.
"""

import asyncio
import functools
import traceback
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import TypeVar

from concurrency import Amounts, FairQueue, Seats, start_in_thread
from errors import DarkroomError
from pictures.costs import Cost

# A picture may be passed by those that come within ten times the time that it takes itself.
PASSED_FOR_TIMES_ITS_OWN = 10
# What takes longer than this may cost far more than its bytes promise, and one owner's have half of
# the slots at most; most pictures of a telephone take less.
COSTLY_SECONDS = 0.4
# Far more than there are uploads under way.
MOST_WAITING = 1000

Result = TypeVar("Result")
Fetch = Callable[[], Awaitable[bytes]]
# Who is charged: an account, and the address that it comes from.
Owners = Sequence[Hashable]

_ONE_SLOT = Amounts(1, 0)


class PictureSlots:
    """The slots of one process, and the memory that they share."""

    def __init__(self, count: int, memory_bytes: int, wait_seconds: float) -> None:
        half = max(1, count // 2)
        # Turns at the cores and the memory; what else works as hard takes its turns here, too.
        self.cores = FairQueue(Amounts(count, memory_bytes), wait_seconds)
        # Of stored pictures, which are fetched in their slot: half of all, so that what a client
        # sends for its profile finds one whatever comes for the gallery.
        self._stored = FairQueue(Amounts(half, 0), wait_seconds)
        self._costly = Seats(half, MOST_WAITING)
        self._memory_bytes = memory_bytes
        self._wait_seconds = wait_seconds

    async def run(self, cost: Cost, work: Callable[[], Result], owners: Owners = ()) -> Result:
        """Run work on a picture in the thread pool once there is a slot. Raises Busy.

        What costs more memory than all slots share runs when nothing else does.
        """
        give_back = await self._take(cost, owners)
        call = start_in_thread(functools.partial(_keep_apart, work), give_back)
        # Else this frame and a refusal that passes through it hold each other, and the picture.
        answer = _wait_for(call)
        del work, call
        return await answer

    async def run_stored(
        self,
        cost: Cost,
        fetch: Fetch,
        function: Callable[[bytes], Result],
        owners: Owners = (),
    ) -> Result:
        """Fetch a stored picture once there is a slot, and run work on it in the thread pool.

        What is fetched is a part of the cost. Raises Busy, and what `fetch` raises.
        """
        await self._stored.take(_ONE_SLOT, 0.0, owners, cost.cpu_seconds)
        try:
            give_slot_back = await self._take(cost, owners)
        except BaseException:
            self._stored.give_back(_ONE_SLOT)
            raise

        def give_back() -> None:
            give_slot_back()
            self._stored.give_back(_ONE_SLOT)

        try:
            content = await fetch()
        except BaseException:
            give_back()
            raise
        work = functools.partial(function, content)
        call = start_in_thread(functools.partial(_keep_apart, work), give_back)
        answer = _wait_for(call)
        del content, work, call
        return await answer

    async def _take(self, cost: Cost, owners: Owners) -> Callable[[], None]:
        """Take a slot and memory; return what gives them back."""
        needs = Amounts(1, min(cost.memory_bytes, self._memory_bytes))
        # Half of the wait at most, or a large one would never have its turn while small ones come.
        lag_seconds = min(PASSED_FOR_TIMES_ITS_OWN * cost.cpu_seconds, self._wait_seconds / 2)
        seated: list[Hashable] = []

        def leave_seats() -> None:
            for owner in seated:
                self._costly.give_back(owner)

        try:
            if cost.cpu_seconds > COSTLY_SECONDS:
                for owner in owners:
                    await self._costly.take(owner, self._wait_seconds)
                    seated.append(owner)
            await self.cores.take(needs, lag_seconds, owners, cost.cpu_seconds)
        except BaseException:
            leave_seats()
            raise

        def give_back() -> None:
            self.cores.give_back(needs)
            leave_seats()

        return give_back


async def _wait_for(call: "asyncio.Future[Result | DarkroomError]") -> Result:
    """Wait for the work, which goes on if whoever waits is cancelled, and raise its refusal."""
    outcome = await asyncio.shield(call)
    del call
    if isinstance(outcome, DarkroomError):
        try:
            raise outcome
        finally:
            del outcome  # else this frame and the refusal hold each other
    return outcome


def _keep_apart(function: Callable[[], Result]) -> Result | DarkroomError:
    """Carry a refusal out of the thread as a value and without its frames.

    They hold the picture's bytes, and the futures that an exception passes on its way hold it in a
    circle.
    """
    try:
        return function()
    except DarkroomError as err:
        for error in (err, err.__cause__, err.__context__):
            if error is not None:
                traceback.clear_frames(error.__traceback__)
                error.__traceback__ = None
        return err
