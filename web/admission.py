"""Whether there is room for one more picture: the byte
budget of request bodies, and slots and memory for decoding.

Memory for a body is reserved before its first byte is read, and what a picture's kind and
size take before it is decoded; neither grows while it is held. Whoever waits too long is told
to come back; what is small is not starved by what is large, nor the large passed for ever.
"""

import asyncio
import functools
import os
import traceback
from bisect import insort
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool

from config import FORM_OVERHEAD_BYTES, MIB, settings
from errors import Busy, DarkroomError, ShuttingDown
from pictures.costs import Cost

# What most avatars fit in. A part of the budget is kept for
# bodies up to this size, whoever sends large ones slowly.
SMALL_BODY_BYTES = MIB
SMALL_SHARE = 8
# A picture may be passed by those that come within ten times the time that it takes itself.
PASSED_FOR_TIMES_ITS_OWN = 10

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@dataclass(order=True)
class _Waiter:
    turn: float  # on the loop's clock: when it came, and later the more it asks for
    needs: tuple[int, int] = field(compare=False)
    admitted: "asyncio.Future[None]" = field(compare=False)


class _Line:
    """Two amounts that are shared out by turns.

    Who lacks only the second holds up nobody that needs none of it.
    """

    def __init__(self, first: int, second: int, wait_seconds: float) -> None:
        self.free = (first, second)
        self.waiting: list[_Waiter] = []  # in the order of their turns
        self._wait_seconds = wait_seconds
        self._is_closed = False

    async def take(self, needs: tuple[int, int], lag_seconds: float = 0.0) -> None:
        """Wait for both amounts.

        Raises Busy when they do not become free in time, and ShuttingDown.
        """
        if self._is_closed:
            raise ShuttingDown
        loop = asyncio.get_running_loop()
        waiter = _Waiter(loop.time() + lag_seconds, needs, loop.create_future())
        insort(self.waiting, waiter)
        self._admit()
        try:
            async with asyncio.timeout(self._wait_seconds):
                await waiter.admitted
        except BaseException as err:
            if (
                waiter.admitted.done()
                and not waiter.admitted.cancelled()
                and waiter.admitted.exception() is None
            ):
                self.give_back(needs)  # admitted in the very moment of giving up
            elif waiter in self.waiting:
                self.waiting.remove(waiter)
                self._admit()
            if isinstance(err, TimeoutError):
                raise Busy from err
            raise

    def give_back(self, needs: tuple[int, int]) -> None:
        self.free = (self.free[0] + needs[0], self.free[1] + needs[1])
        self._admit()

    def close(self) -> None:
        """Turn away all who wait and all who come; whoever has its share goes on."""
        self._is_closed = True
        for waiter in self.waiting:
            if not waiter.admitted.done():
                waiter.admitted.set_exception(ShuttingDown())
        self.waiting.clear()

    def _admit(self) -> None:
        is_second_awaited = False
        for waiter in list(self.waiting):
            first, second = waiter.needs
            if waiter.admitted.done():  # cancelled, and about to leave
                continue
            if second > self.free[1] or (second and is_second_awaited):
                is_second_awaited = True
                continue
            if first > self.free[0]:
                return
            self.free = (self.free[0] - first, self.free[1] - second)
            self.waiting.remove(waiter)
            waiter.admitted.set_result(None)


class Admission:
    """The room of this process: a budget for bodies, part of
    it for small ones only, and slots with decoding memory.
    """

    def __init__(
        self,
        budget_bytes: int,
        slots: int,
        wait_seconds: float,
        kept_bytes: int = 0,
        decode_bytes: int = 0,
    ) -> None:
        self._bodies = _Line(budget_bytes, budget_bytes - kept_bytes, wait_seconds)
        self._decoding = _Line(slots, decode_bytes, wait_seconds)
        self._decode_bytes = decode_bytes
        self._wait_seconds = wait_seconds

    @asynccontextmanager
    async def reserve(self, amount_bytes: int) -> AsyncIterator[None]:
        """Hold this much of the budget.

        Raises Busy when it does not become free in time, and ShuttingDown.
        """
        needs = (amount_bytes, amount_bytes if amount_bytes > SMALL_BODY_BYTES else 0)
        await self._bodies.take(needs)
        try:
            yield
        finally:
            self._bodies.give_back(needs)

    def close(self) -> None:
        """Turn away all who wait for the budget, and
        all who come; whoever holds some of it goes on.
        """
        self._bodies.close()

    async def in_picture_slot(
        self,
        cost: Cost,
        function: Callable[Parameters, Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """Run work on a picture from the thread pool, at most as many at once as there are cores.

        Raises Busy.

        What costs more memory than there is for decoding runs when nothing else does.
        """
        needs = (1, min(cost.memory_bytes, self._decode_bytes))
        # Half of the wait at most, or a large one would never have its turn while small ones come.
        lag_seconds = min(PASSED_FOR_TIMES_ITS_OWN * cost.cpu_seconds, self._wait_seconds / 2)
        await self._decoding.take(needs, lag_seconds)
        call = asyncio.ensure_future(
            run_in_threadpool(_apart, functools.partial(function, *args, **kwargs))
        )
        del args, kwargs
        call.add_done_callback(functools.partial(self._end_slot, needs))
        done = await asyncio.shield(call)
        del call
        if isinstance(done, DarkroomError):
            try:
                raise done
            finally:
                del done  # else this frame and the refusal hold each other
        return done

    def _end_slot(self, needs: tuple[int, int], call: "asyncio.Future[Any]") -> None:
        """Only now, when the thread has ended: whoever asked may have been cancelled long before."""
        self._decoding.give_back(needs)
        if not call.cancelled():
            # seen, so that asyncio does not complain of a failure that nobody waits for any more
            call.exception()


def _apart(function: Callable[[], Result]) -> Result | DarkroomError:
    """Carry a refusal out of the thread as a value and without its frames.

    They hold the picture's bytes, and the futures that
    an exception passes on its way hold it in a circle.
    """
    try:
        return function()
    except DarkroomError as err:
        for each in (err, err.__cause__, err.__context__):
            if each is not None:
                traceback.clear_frames(each.__traceback__)
                each.__traceback__ = None
        return err


admission = Admission(
    settings.upload_budget_bytes,
    os.cpu_count() or 1,
    settings.upload_wait_seconds,
    kept_bytes=min(
        settings.upload_budget_bytes // SMALL_SHARE,
        settings.upload_budget_bytes - settings.max_upload_size_bytes - FORM_OVERHEAD_BYTES,
    ),
    decode_bytes=settings.decode_budget_bytes,
)
