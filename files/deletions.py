"""The outbox of deletions: claim a doomed file, delete its object, and only then forget its row.

The row is the outbox, changed in the transaction that doomed the file;
so a deletion survives every crash and outage. Any number of instances
share the work, and no connection is held while a store is asked.
"""

import asyncio
import logging
from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, func, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

import faults
from database import Database
from errors import DarkroomError, ObjectNotFound, StoreError
from models import FileState, StoredFile

logger = logging.getLogger(__name__)

# The next attempt of a deletion, doubling from half a minute (above
# STORE_DEADLINE_SECONDS, so that no claim comes due while it is worked
# on) to an hour, and spread so that instances do not come in step.
_BACKOFF = text(
    "make_interval(secs => least(3600, 30 * power(2, least(attempts, 12))) * (0.75 + random() / 2))"
)
# Longer than anyone leaves a stopped process lying about before it is let go on or killed.
_TOMBSTONE = text("interval '1 day'")


def doom(file: StoredFile) -> None:
    """Let go of a live file: from the commit on it is due for deletion.

    Its owner's row is locked.
    """
    file.state = FileState.DOOMED
    file.state_changed_at = func.now()
    file.next_attempt_at = func.now()


async def claim(db: AsyncSession, which: ColumnElement[bool]) -> Sequence[StoredFile]:
    """Mark these as being deleted, and set the time of a next attempt.

    Passes over what is live, and what another instance is at. The caller commits before it asks a
    store. From here there is no way back.
    """
    free = (
        select(StoredFile.id)
        .where(which, StoredFile.state != FileState.LIVE)
        .with_for_update(skip_locked=True)
    )
    statement = (
        update(StoredFile)
        .where(StoredFile.id.in_(free))
        .values(
            state=FileState.DELETING,
            state_changed_at=func.now(),
            attempts=StoredFile.attempts + 1,
            next_attempt_at=func.now() + _BACKOFF,
        )
        .returning(StoredFile)
    )
    return (await db.scalars(statement)).all()


async def find_due_stores(database: Database) -> Sequence[tuple[str, str]]:
    """Find the stores in which some file's time has come: their names and buckets."""
    async with database.session() as db:
        due = select(StoredFile.storage, StoredFile.bucket).where(_is_due()).distinct()
        return [(name, bucket) for name, bucket in await db.execute(due)]


async def claim_due(
    database: Database, storage: str, bucket: str, limit: int
) -> Sequence[StoredFile]:
    """Claim files of one store that are due: doomed, expired, or with a deletion that failed.

    Each is claimed by one instance only, and comes due again by itself
    should that instance die. One that was still pending becomes a tombstone:
    a process that was stopped may put its bytes after we have deleted them.
    """
    async with database.session() as db:
        due = (
            select(StoredFile.id)
            .where(_is_due(), StoredFile.storage == storage, StoredFile.bucket == bucket)
            .order_by(StoredFile.next_attempt_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        ids = (await db.scalars(due)).all()
        await db.execute(
            update(StoredFile)
            .where(StoredFile.id.in_(ids), StoredFile.state == FileState.PENDING)
            .values(tombstone_until=func.now() + _TOMBSTONE)
        )
        claimed = await claim(db, StoredFile.id.in_(ids))
        await db.commit()
    return claimed


async def purge(database: Database, claimed: Sequence[StoredFile]) -> int:
    """Delete the objects of these claimed files, then forget the rows of those that are gone.

    Returns how many are. The rows of the others keep why. Raises DatabaseUnavailable; then all of
    them come due again.
    """
    errors = await asyncio.gather(*(delete_object(file) for file in claimed))
    faults.reached("object_deleted")
    failed = {
        file.id: error for file, error in zip(claimed, errors, strict=True) if error is not None
    }
    gone = [file.id for file in claimed if file.id not in failed]
    async with database.session() as db:
        is_final = or_(
            StoredFile.tombstone_until.is_(None), StoredFile.tombstone_until <= func.now()
        )
        mine = StoredFile.id.in_(gone) & (StoredFile.state == FileState.DELETING)
        await db.execute(delete(StoredFile).where(mine, is_final))
        rests = {"next_attempt_at": StoredFile.tombstone_until, "attempts": 0, "last_error": None}
        await db.execute(update(StoredFile).where(mine).values(rests))
        for file_id, error in failed.items():
            await db.execute(
                update(StoredFile).where(StoredFile.id == file_id).values(last_error=error.code)
            )
        await db.commit()
    return len(gone)


async def delete_object(file: StoredFile) -> DarkroomError | None:
    """Ask the store to delete; what is not there is fine.

    Returns, and logs, why it could not be done.
    """
    try:
        await file.store.delete(file.key)
    except ObjectNotFound:
        return None
    except StoreError as err:
        logger.warning(
            "deleting %s failed, attempt %d: %r", file.key, file.attempts, err.__cause__ or err
        )
        return err
    except Exception:
        logger.exception("deleting %s failed, attempt %d", file.key, file.attempts)
        return DarkroomError()  # a defect of ours must not hold up the others
    return None


def _is_due() -> ColumnElement[bool]:
    return (StoredFile.state != FileState.LIVE) & (StoredFile.next_attempt_at <= func.now())
