"""The worker: does jobs beside requests or in a process of its own; any number share the work."""

import asyncio
import logging
from datetime import timedelta

from pgqueuer.core.qm import QueueManager

from database import Database
from errors import DarkroomError
from jobs.performer import Handlers, Performer
from jobs.repository import NAMES, OUTAGE_PAUSE_SECONDS, open_repository

logger = logging.getLogger(__name__)

# Who waits for a job sees it begin within this; an idle worker asks two questions each time.
POLL_SECONDS = 1.0
# Far above a pause of the event loop; a killed worker's job is taken up within half a minute.
STALLED_AFTER_SECONDS = 30.0
# The least that the engine allows. What takes cores has slots of its own (pictures/slots.py).
MOST_JOBS_AT_ONCE = 2
CLEANING_SECONDS = 60.0
# For writing down which jobs go back.
GIVE_BACK_SECONDS = 1.0


class Worker:
    """Takes jobs from its start until it is closed; belongs to one event loop."""

    def __init__(self, database: Database, handlers: Handlers) -> None:
        self._database = database
        self._handlers = handlers
        self._performer = Performer(handlers)
        self._closing = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take jobs, if there are any that can be done."""
        if self._handlers:
            self._running = asyncio.create_task(self._run())

    def close(self) -> None:
        """Take no more jobs; those that have begun go on."""
        self._closing.set()

    async def stop(self, patience_seconds: float) -> None:
        """Take no more jobs, wait so long for those that have begun, and give back the others."""
        self.close()
        if self._running is None:
            return
        hurrying = asyncio.create_task(self._hurrying.wait())
        await asyncio.wait(
            {self._running, hurrying},
            timeout=patience_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        hurrying.cancel()
        if not self._running.done():
            self._performer.give_back()
            await asyncio.wait({self._running}, timeout=GIVE_BACK_SECONDS)

    def hurry(self) -> None:
        """Give back at once what `stop` waits for, or would wait for."""
        self._hurrying.set()

    async def _run(self) -> None:
        while not self._closing.is_set():
            try:
                await self._take_jobs()
            except DarkroomError as err:
                logger.warning("jobs will be taken again: %s %r", err.code, err.__cause__)
                await asyncio.sleep(OUTAGE_PAUSE_SECONDS)
            except Exception:
                logger.exception("jobs will be taken again")
                await asyncio.sleep(OUTAGE_PAUSE_SECONDS)

    async def _take_jobs(self) -> None:
        manager = QueueManager(open_repository(self._database), NAMES.channel)
        manager.shutdown = self._closing
        for name in self._handlers:
            manager.entrypoint(name)(self._performer.perform)
        await manager.run(
            dequeue_timeout=timedelta(seconds=POLL_SECONDS),
            batch_size=1,
            max_concurrent_tasks=MOST_JOBS_AT_ONCE,
            heartbeat_timeout=timedelta(seconds=STALLED_AFTER_SECONDS),
            log_aggregation_interval=timedelta(seconds=CLEANING_SECONDS),
        )
