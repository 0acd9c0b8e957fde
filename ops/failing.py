"""What keeps failing to be deleted: listed for the operator, and made due anew.

What a wrong clock has put too far off is made due with it.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update

from files import Backends, clocks
from models import FileState, StoredFile
from ops.inventory import read_files

FAILING_ATTEMPTS = 2  # once may be a hiccup

# A tombstone that rests has no attempts, and is none of it.
IS_FAILING = (StoredFile.state == FileState.DELETING) & (StoredFile.attempts >= FAILING_ATTEMPTS)


@dataclass(frozen=True)
class FailingFile:
    """A file that could not be deleted: where it is, what was tried, and why it failed."""

    id: int
    key: str
    storage: str
    bucket: str
    attempts: int
    next_attempt_at: datetime
    last_error: str | None
    owner_id: int


async def find_failing(backends: Backends) -> AsyncIterator[FailingFile]:
    """Yield each such file."""
    failing = select(
        StoredFile.id,
        StoredFile.key,
        StoredFile.storage,
        StoredFile.bucket,
        StoredFile.attempts,
        StoredFile.next_attempt_at,
        StoredFile.last_error,
        StoredFile.owner_id,
    ).where(IS_FAILING)
    async for files in read_files(backends, failing):
        for file in files:
            yield FailingFile(**file._asdict())


async def requeue(backends: Backends) -> int:
    """Make all of it due now, with its attempts forgotten, and bring back what is too far off.

    Returns how many there were. An upload that is under way keeps its time.
    """
    brought_back = await clocks.bring_back(backends.database, backends.settings)
    due = update(StoredFile).where(IS_FAILING).values(next_attempt_at=func.now(), attempts=0)
    async with backends.database.session() as db:
        requeued = (await db.scalars(due.returning(StoredFile.id))).all()
        await db.commit()
    return brought_back + len(requeued)
