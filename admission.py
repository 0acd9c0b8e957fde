"""Whether there is room for one more picture: the byte budget of request bodies, and the picture slots.

Memory for a body is reserved before its first byte is read and never grown while it is held; pictures are decoded by at
most as many threads as there are cores. Whoever waits too long is told to come back.
"""

import asyncio
import functools
import os
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool

from config import settings
from errors import Busy, DarkroomError, ShuttingDown

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Admission:
    """One byte budget and the picture slots of this process."""

    def __init__(self, budget_bytes: int, slots: int, wait_seconds: float) -> None:
        self._free_bytes = budget_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()  # in order of arrival
        self._slots = asyncio.Semaphore(slots)
        self._wait_seconds = wait_seconds
        self._is_closed = False

    @asynccontextmanager
    async def reserve(self, amount_bytes: int) -> AsyncIterator[None]:
        """Hold this much of the budget. Raises Busy when it does not become free in time, and ShuttingDown."""
        await self._acquire(amount_bytes)
        try:
            yield
        finally:
            self._free_bytes += amount_bytes
            self._admit_waiting()

    def close(self) -> None:
        """Turn away all who wait for the budget, and all who come; whoever holds some of it goes on."""
        self._is_closed = True
        while self._waiting:
            _, admitted = self._waiting.popleft()
            if not admitted.done():
                admitted.set_exception(ShuttingDown())

    async def in_picture_slot(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Run CPU work on a picture in the thread pool, at most as many at once as there are cores. Raises Busy."""
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._slots.acquire()
        except TimeoutError as err:
            raise Busy from err
        call = asyncio.ensure_future(run_in_threadpool(_apart, functools.partial(function, *args, **kwargs)))
        del args, kwargs
        call.add_done_callback(self._release_slot)
        done = await asyncio.shield(call)
        del call
        if isinstance(done, DarkroomError):
            try:
                raise done
            finally:
                del done  # else this frame and the refusal hold each other
        return done

    def _release_slot(self, call: "asyncio.Future[Any]") -> None:
        """Only now, when the thread has ended: whoever asked may have been cancelled long before."""
        self._slots.release()
        if not call.cancelled():
            call.exception()  # seen, so that asyncio does not complain of a failure that nobody waits for any more

    async def _acquire(self, amount_bytes: int) -> None:
        if self._is_closed:
            raise ShuttingDown
        if not self._waiting and amount_bytes <= self._free_bytes:
            self._free_bytes -= amount_bytes
            return
        admitted = asyncio.get_running_loop().create_future()
        entry = (amount_bytes, admitted)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await admitted
        except BaseException as err:
            if admitted.done() and not admitted.cancelled() and admitted.exception() is None:
                # admitted in the very moment of giving up
                self._free_bytes += amount_bytes
            elif entry in self._waiting:
                self._waiting.remove(entry)
            self._admit_waiting()
            if isinstance(err, TimeoutError):
                raise Busy from err
            raise

    def _admit_waiting(self) -> None:
        """Admit in order of arrival: a large body is not passed for ever by small ones."""
        while self._waiting and self._waiting[0][0] <= self._free_bytes:
            amount_bytes, admitted = self._waiting.popleft()
            if not admitted.done():
                self._free_bytes -= amount_bytes
                admitted.set_result(None)


def _apart(function: Callable[[], Result]) -> Result | DarkroomError:
    """Carry a refusal out of the thread as a value and without its frames.

    They hold the picture's bytes, and the futures that an exception passes on its way hold it in a circle.
    """
    try:
        return function()
    except DarkroomError as err:
        for each in (err, err.__cause__, err.__context__):
            if each is not None:
                traceback.clear_frames(each.__traceback__)
                each.__traceback__ = None
        return err


admission = Admission(settings.upload_budget_bytes, os.cpu_count() or 1, settings.upload_wait_seconds)
