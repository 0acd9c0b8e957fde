"""The outbox of deletions: claim a file, delete its object, and only then forget its row.

The row is the outbox, changed in the transaction that let go of the file; so a deletion survives
every crash and outage. Any number of instances share the work, and no connection is held while a
store is asked.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import faults
from database import Database, Row
from errors import DarkroomError, DatabaseUnavailable, ObjectNotFound, StoreError
from files import statements
from files.kinds import is_streamed
from models import FileState
from storage import AsyncStore, Stores

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claimed:
    """A file whose object is ours to delete until the time of its next attempt."""

    row: Row
    stores: Stores

    async def delete_object(self) -> DarkroomError | None:
        """Ask the store to delete; what is not there is fine.

        Returns, and logs, why it could not be done.
        """
        try:
            store = self.stores.of(self.row["storage"], self.row["bucket"])
            await self._abort_uploads(store)
            await store.delete(self.row["key"])
        except ObjectNotFound:
            return None
        except StoreError as err:
            cause = err.__cause__ or err
            attempt = self.row["attempts"]
            logger.warning("deleting %s failed, attempt %d: %r", self.row["key"], attempt, cause)
            return err
        except Exception:
            logger.exception("deleting %s failed", self.row["key"])
            return DarkroomError()  # a defect of ours must not hold up the others
        return None

    async def _abort_uploads(self, store: AsyncStore) -> None:
        """End what was begun in parts; where the row was written before it, the store knows."""
        key = self.row["key"]
        upload_ids = [self.row["upload_id"]]
        if self.row["upload_id"] is None:
            may_have_begun = self.row["tombstone_until"] and is_streamed(self.row["purpose"])
            upload_ids = await store.find_uploads(key) if may_have_begun else []
        for upload_id in upload_ids:
            await store.abort_upload(key, upload_id)


async def find_due_stores(database: Database) -> Sequence[tuple[str, str]]:
    """Find the stores in which some file's time has come: their names and buckets."""
    rows = await database.fetch(statements.FIND_DUE_STORES)
    return [(row["storage"], row["bucket"]) for row in rows]


async def claim_due(
    database: Database, stores: Stores, storage: str, bucket: str, limit: int
) -> list[Claimed]:
    """Claim files of one store that are due: doomed, expired, or with a deletion that failed.

    Each is claimed by one instance only, and comes due again by itself should that instance die.
    One that was still pending becomes a tombstone: a process that was stopped may put its bytes
    after we have deleted them.
    """
    rows = await database.fetch(
        statements.CLAIM_DUE, storage=storage, bucket=bucket, most_files=limit
    )
    return [Claimed(row, stores) for row in rows]


async def purge(database: Database, claimed: Sequence[Claimed]) -> int:
    """Delete the objects of these claimed files, then forget the rows of those that are gone.

    Returns how many are. The rows of the others keep why. Raises DatabaseUnavailable; then all of
    them come due again.
    """
    errors = await asyncio.gather(*(file.delete_object() for file in claimed))
    faults.reached("object_deleted")
    gone = []
    for file, error in zip(claimed, errors, strict=True):
        if error is None:
            gone.append(file.row["id"])
        else:
            await database.fetch(
                statements.NOTE_FAILURE, file_id=file.row["id"], error_code=error.code
            )
    if gone:
        await database.fetch(statements.FORGET, ids=gone)
    if any(file.row["tombstone_until"] for file in claimed):
        await database.fetch(statements.REST, ids=gone)
    return len(gone)


async def purge_quietly(database: Database, claimed: Sequence[Claimed]) -> None:
    """Purge; whatever fails is logged and left to the reaper."""
    if not claimed:
        return
    try:
        await purge(database, claimed)
    except DatabaseUnavailable as err:
        keys = [file.row["key"] for file in claimed]
        logger.warning("files %s are left to the reaper: %r", keys, err.__cause__)


async def delete_unused(database: Database, stores: Stores, file_id: int) -> None:
    """Delete what was stored and never attached, now; its row may have been claimed already."""
    try:
        claimed = await database.fetch(statements.CLAIM_UNUSED, file_id=file_id)
        if claimed:
            await purge_quietly(database, [Claimed(row, stores) for row in claimed])
            return
        for row in await database.fetch(statements.READ_FILE, file_id=file_id):
            if row["state"] == FileState.DELETING:
                await Claimed(row, stores).delete_object()  # the row stays: it is a tombstone
    except DatabaseUnavailable as err:
        logger.warning("file %d is left to the reaper: %r", file_id, err.__cause__)
