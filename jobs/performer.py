"""How a job is done: with a deadline, again and later after each failure, but not for ever.

A job whose worker died is done again, so its handler is idempotent.
"""

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TypeAlias

from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Job

import faults
from errors import DarkroomError

logger = logging.getLogger(__name__)

# Called with the arguments of the job by their names.
Handler: TypeAlias = Callable[..., Awaitable[None]]
Handlers: TypeAlias = Mapping[str, Handler]

# A job takes a second or two; one that hangs must not hold its place for ever.
DEADLINE_SECONDS = 300.0
# With the pauses below, what fails for a quarter of an hour is done after all.
MOST_ATTEMPTS = 10
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 300.0


class Performer:
    """Does the jobs that one worker has taken, and can give them back."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers
        self._running: set[asyncio.Future[None]] = set()

    async def perform(self, job: Job) -> None:
        """Do a job. Raises RetryRequested if it is to be done again, or why it never will be."""
        if job.attempts >= MOST_ATTEMPTS:  # and the last ones did not live to say why they failed
            raise RuntimeError(f"given up after {job.attempts} attempts")
        handle = self._handlers[job.entrypoint]
        work = asyncio.ensure_future(_call(handle, job))
        self._running.add(work)
        try:
            await work
        except asyncio.CancelledError:
            raise RetryRequested(reason="its worker ends") from None
        except Exception as err:
            attempt = job.attempts + 1
            if attempt >= MOST_ATTEMPTS:
                raise
            pause_seconds = _choose_pause(job.attempts)
            cause = err.__cause__ if isinstance(err, DarkroomError) else None
            logger.warning(
                "job %s %d failed, attempt %d of %d, again in %.0f s: %r",
                job.entrypoint,
                job.id,
                attempt,
                MOST_ATTEMPTS,
                pause_seconds,
                cause or err,
            )
            raise RetryRequested(timedelta(seconds=pause_seconds), repr(err)) from err
        finally:
            self._running.discard(work)

    def give_back(self) -> None:
        """Interrupt what is being done, so that another worker does it."""
        for work in self._running:
            work.cancel()


async def _call(handle: Handler, job: Job) -> None:
    faults.reached("job_taken")
    async with asyncio.timeout(DEADLINE_SECONDS):
        await handle(**json.loads(job.payload or b"{}"))


def _choose_pause(attempts: int) -> float:
    """Choose how many seconds to wait: twice as long each time, spread a little."""
    pause_seconds = min(FIRST_PAUSE_SECONDS * float(2**attempts), LONGEST_PAUSE_SECONDS)
    return pause_seconds * random.uniform(0.75, 1.25)  # noqa: S311
