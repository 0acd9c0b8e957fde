"""The outbox of deletions: claim files, delete their objects, and only then forget their rows.

The row is the outbox, changed in the transaction that let go of the file; so a deletion survives
every crash and outage. Any number of instances share the work, and no connection is held while a
store is asked.
"""

import asyncio
import logging
from collections import defaultdict
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

# What needs a call of its own is deleted side by side: by half of what a store takes at once, so
# that uploads are not held up.
SIDE_BY_SIDE = 8

Errors = dict[int, DarkroomError]  # by the ids of files


@dataclass(frozen=True)
class Claimed:
    """A file whose object is ours to delete until the time of its next attempt."""

    row: Row
    stores: Stores

    @property
    def id(self) -> int:
        file_id: int = self.row["id"]
        return file_id

    @property
    def is_erased(self) -> bool:
        """Whether nothing at all may be left of it; a sweep's rows do not say so."""
        return bool(self.row.get("is_erased"))

    @property
    def may_have_uploads(self) -> bool:
        """Whether the store may have uploads of it to end, besides its object."""
        may_have_begun = self.row["tombstone_until"] and is_streamed(self.row["purpose"])
        return bool(self.row["upload_id"] or may_have_begun)

    async def delete_object(self) -> DarkroomError | None:
        """Ask the store to delete; what is not there is fine.

        Returns, and logs, why it could not be done.
        """
        try:
            store = self.stores.of(self.row["storage"], self.row["bucket"])
            await store.require_reaper()
            await self._abort_uploads(store)
            await store.delete(self.row["key"], self.is_erased)
        except ObjectNotFound:
            return None
        except Exception as err:
            return _note(err, self.row["key"], self.row["attempts"])
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


@dataclass(frozen=True)
class Purged:
    """What came of deleting claimed files."""

    gone: int
    is_store_away: bool  # as a whole: whatever else is asked of it would fail, too


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


async def purge(database: Database, claimed: Sequence[Claimed]) -> Purged:
    """Delete the objects of these claimed files, then forget the rows of those that are gone.

    The rows of the others keep why. Raises DatabaseUnavailable; then all of them come due again.
    """
    errors, is_store_away = await _delete_objects(claimed)
    faults.reached("object_deleted")
    gone = [file.id for file in claimed if file.id not in errors]
    if errors:
        codes = [err.code for err in errors.values()]
        await database.fetch(statements.NOTE_FAILURES, ids=list(errors), error_codes=codes)
    if gone:
        await database.fetch(statements.FORGET, ids=gone)
    if any(file.row["tombstone_until"] for file in claimed):
        await database.fetch(statements.REST, ids=gone)
    return Purged(len(gone), is_store_away)


async def _delete_objects(claimed: Sequence[Claimed]) -> tuple[Errors, bool]:
    """Delete objects, as many as possible together; return why some could not be deleted.

    Also returns whether a store as a whole is away.
    """
    together: dict[tuple[str, str, bool], list[Claimed]] = defaultdict(list)
    alone: list[Claimed] = []
    for file in claimed:
        if file.may_have_uploads:
            alone.append(file)
        else:
            place = (file.row["storage"], file.row["bucket"], file.is_erased)
            together[place].append(file)
    outcomes = await asyncio.gather(
        *(_delete_together(files) for files in together.values()), _delete_alone(alone)
    )
    errors: Errors = {}
    for found, _ in outcomes:
        errors |= found
    return errors, any(is_store_away for _, is_store_away in outcomes)


async def _delete_together(files: Sequence[Claimed]) -> tuple[Errors, bool]:
    """Delete objects of one store that need nothing else, in as few calls as the store takes."""
    first = files[0]
    if len(files) == 1:
        error = await first.delete_object()
        return ({first.id: error} if error else {}), False
    ids = {file.row["key"]: file.id for file in files}
    try:
        store = first.stores.of(first.row["storage"], first.row["bucket"])
        refused = await store.delete_many(list(ids), first.is_erased)
    except Exception as err:
        error = _note(err, f"{len(files)} files", first.row["attempts"])
        return dict.fromkeys(ids.values(), error), isinstance(err, StoreError)
    errors = {ids[key]: err for key, err in refused.items() if not isinstance(err, ObjectNotFound)}
    if errors:
        file_id, refusal = next(iter(errors.items()))
        what = f"{len(errors)} of {len(files)} files, such as {file_id},"
        _note(refusal, what, first.row["attempts"])
    return errors, False


async def _delete_alone(files: Sequence[Claimed]) -> tuple[Errors, bool]:
    """Delete objects one by one, each with what else the store has of it."""
    errors: Errors = {}
    turns = asyncio.Semaphore(SIDE_BY_SIDE)

    async def delete(file: Claimed) -> None:
        async with turns:
            error = await file.delete_object()
        if error is not None:
            errors[file.id] = error

    await asyncio.gather(*map(delete, files))
    return errors, False


def _note(err: Exception, what: str, attempt: int) -> DarkroomError:
    """Log why something could not be deleted, and return it as an error of ours."""
    if isinstance(err, StoreError | DatabaseUnavailable):
        logger.warning("deleting %s failed, attempt %d: %r", what, attempt, err.__cause__ or err)
        return err
    # A defect of ours must not hold up the others.
    logger.error("deleting %s failed", what, exc_info=err)
    return err if isinstance(err, DarkroomError) else DarkroomError()


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
