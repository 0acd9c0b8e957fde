"""The rows of jobs: PgQueuer's statements, with what it does not do itself.

An outage of the database loses no job, attempts that end with their worker count, and what the
engine notes of each job is soon forgotten.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from datetime import timedelta

from pgqueuer.adapters.persistence.qb import (
    QueryBuilderEnvironment,
    QueryQueueBuilder,
    QuerySchedulerBuilder,
)
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.domain.models import Job, TableChangedEvent, TracebackRecord, utc_now
from pgqueuer.domain.settings import DBSettings
from pgqueuer.domain.types import JOB_STATUS, Channel, JobId, QueueEntrypoint, QueueManagerId
from pgqueuer.ports.repository import EntrypointExecutionParameter

from database import Database, Transaction
from errors import DatabaseUnavailable
from jobs.driver import Driver

logger = logging.getLogger(__name__)

# All names are given, or the engine takes them from variables such as PREFIX and CHANNEL.
NAMES = DBSettings(
    prefix="",
    db_schema=None,
    channel=Channel("ch_pgqueuer"),
    function="fn_pgqueuer_changed",
    statistics_table="pgqueuer_statistics",
    queue_status_type="pgqueuer_status",
    queue_table="pgqueuer",
    queue_table_log="pgqueuer_log",
    trigger="tg_pgqueuer_changed",
    schedules_table="pgqueuer_schedules",
)
# As often as the reaper tries again.
OUTAGE_PAUSE_SECONDS = 5.0
# Long enough to look at what happened just now; our own log has it for longer.
LOG_KEPT = timedelta(hours=1)

# The engine takes up a stalled job as if it had never been begun.
COUNT_STALLED = """
UPDATE pgqueuer
SET status = 'queued', queue_manager_id = NULL, updated = now(), attempts = attempts + 1
WHERE status = 'picked' AND heartbeat < now() - $1::interval
"""
# What is due begins within seconds; this long it takes only where there is far too much, or nobody
# who does jobs.
LATE = timedelta(minutes=10)
COUNT_LATE = """
SELECT count(*) FROM pgqueuer WHERE status = 'queued' AND execute_after < now() - $1::interval
"""
FORGET_OLD_LOG = "DELETE FROM pgqueuer_log WHERE created < now() - $1::interval"


def is_ours(name: str | None, kind: str, parents: object) -> bool:
    """Whether Alembic compares a thing with our models: not a table of PgQueuer's."""
    return kind != "table" or name is None or not name.startswith("pgqueuer")


async def enqueue(
    transaction: Transaction, name: str, arguments: Mapping[str, object], *, is_once: bool = False
) -> None:
    """Let a worker call the handler of this name with these arguments, which JSON can hold.

    A worker sees the job when the transaction commits, and never if it does not. One that `is_once`
    is not added while the same one waits or is being done.
    """
    payload = json.dumps(arguments, sort_keys=True)
    await open_repository(transaction).enqueue(
        name,
        payload.encode(),
        dedupe_key=f"{name} {payload}" if is_once else None,
        on_conflict="skip",
    )


async def count_late(database: Database) -> int:
    """Count the jobs that have been due for ten minutes and that nobody has begun.

    Raises DatabaseUnavailable.
    """
    (row,) = await open_repository(database).driver.fetch(COUNT_LATE, LATE)
    count = row["count"]
    assert isinstance(count, int)
    return count


def open_repository(source: Database | Transaction) -> "Repository":
    """Open the rows of jobs; whoever made the source closes it."""
    return Repository(
        Driver(source),
        QueryBuilderEnvironment(NAMES),
        QueryQueueBuilder(NAMES),
        QuerySchedulerBuilder(NAMES),
    )


class Repository(Queries):
    """PgQueuer's queries, which outlive an outage of the database."""

    async def dequeue(
        self,
        batch_size: int,
        entrypoints: dict[QueueEntrypoint, EntrypointExecutionParameter],
        queue_manager_id: QueueManagerId,
        global_concurrency_limit: int | None,
        heartbeat_timeout: timedelta,
    ) -> list[Job]:
        """Take jobs that are due, those whose worker has died among them."""
        try:
            await self.driver.execute(COUNT_STALLED, heartbeat_timeout)
            return await super().dequeue(
                batch_size,
                entrypoints,
                queue_manager_id,
                global_concurrency_limit,
                heartbeat_timeout,
            )
        except DatabaseUnavailable as err:
            await self._wait_for_database(err)
            return []

    async def eligible_queued_work(self, entrypoints: list[QueueEntrypoint]) -> int:
        """Return 0: the engine asks how soon to ask again, and every second is soon enough."""
        return 0

    async def next_deferred_eta(self, entrypoints: list[QueueEntrypoint]) -> timedelta | None:
        """Return the latest time there is, for the same reason."""
        return timedelta.max

    async def log_jobs(
        self, job_status: list[tuple[Job, JOB_STATUS, TracebackRecord | None]]
    ) -> None:
        """Forget jobs that are over, however long that takes, and let the next ones begin."""
        while True:
            try:
                await super().log_jobs(job_status)
                break
            except DatabaseUnavailable as err:
                await self._wait_for_database(err)
        await self.wake()

    async def retry_job(
        self, job: Job, delay: timedelta, traceback_record: TracebackRecord | None
    ) -> None:
        """Let a job be done again after the delay.

        If that cannot be written the job counts as stalled soon, and is done again, too.
        """
        try:
            await super().retry_job(job, delay, traceback_record)
        except DatabaseUnavailable as err:
            logger.warning(
                "job %s %d is taken up when it has stalled: %r",
                job.entrypoint,
                job.id,
                err.__cause__,
            )

    async def update_heartbeat(self, job_ids: list[JobId]) -> None:
        """Say that these jobs are still being done; the next beat makes up for one that fails."""
        try:
            await super().update_heartbeat(job_ids)
        except DatabaseUnavailable as err:
            logger.warning("running jobs could not be marked as such: %r", err.__cause__)

    async def aggregate_logs(self) -> None:
        """Forget old lines of the engine's log, which it would only sum up and keep."""
        await self.driver.execute(FORGET_OLD_LOG, LOG_KEPT)

    async def wake(self) -> None:
        """Let the worker of this repository look for jobs now."""
        event = TableChangedEvent(
            channel=NAMES.channel,
            sent_at=utc_now(),
            type="table_changed_event",
            operation="update",
            table=NAMES.queue_table,
        )
        await self.driver.notify(NAMES.channel, event.model_dump_json())

    async def _wait_for_database(self, err: DatabaseUnavailable) -> None:
        logger.warning("jobs wait for the database: %r", err.__cause__)
        await asyncio.sleep(OUTAGE_PAUSE_SECONDS)
