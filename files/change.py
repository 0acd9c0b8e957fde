"""The heart: reserve, put, one transaction, settle a lost answer, release; for every noun alike.

The order is the promise. A row is committed before the first byte, the bytes are stored before a
row points to them, what was there is read under the owner's lock, and an object is deleted only
after the commit that let go of it; killed anywhere in between, what is left is a row that the
reaper finishes. No connection is held while a store is asked.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

import faults
from database import Row, Transaction
from errors import (
    DarkroomError,
    DatabaseUnavailable,
    OutcomeUnknown,
    UploadExpired,
    UserNotFound,
)
from files import deletions, statements
from files.backends import Backends
from files.kinds import Kind
from files.puts import put_whole
from files.reservations import NewFile, list_facts
from models import FileState
from pictures import ProcessedImage

logger = logging.getLogger(__name__)

# How long an answer waits for the deletion of what it replaced; the rest goes on behind it.
RELEASE_PATIENCE_SECONDS = 2.0
# A lost commit is over within milliseconds; whoever cannot know by then says so.
OUTCOME_LOCK_TIMEOUT_MS = 2_000
# As many as are deleted within RELEASE_PATIENCE_SECONDS by a store that takes its time; the rest of
# a large gallery is the reaper's.
MOST_RELEASED = 100

# Refusals after which a new file may be live all the same.
IN_DOUBT = (OutcomeUnknown, DatabaseUnavailable)

# What a noun does in the transaction, told the locked row of `users`; it returns the ids of the
# files that nothing refers to any more.
Apply = Callable[[Transaction, Row], Awaitable[list[int]]]
# How a noun tells, from the owner as it is now or its absence, whether its change has happened.
HasHappened = Callable[[Transaction, Row | None], Awaitable[bool]]


async def _tell_nothing(_: Transaction, __: Row | None) -> bool:
    return False


class Change:
    """One change of what an owner has: new files come, others go, in one commit.

    As a context it ends what it began: it deletes what the commit let go of, or after a refusal
    what it stored in vain. After an unknown outcome it deletes nothing.
    """

    def __init__(self, backends: Backends, owner_id: int) -> None:
        self._backends = backends
        self._owner_id = owner_id
        self._new: list[NewFile] = []
        self._detached: list[deletions.Claimed] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self._release()
            faults.reached("before_answer")
        elif issubclass(kind, DarkroomError) and not issubclass(kind, IN_DOUBT):
            await self._delete_unused()

    def add(self, file: NewFile) -> None:
        """Add a file whose bytes are stored: it comes with this change, or goes."""
        self._new.append(file)

    async def store(self, kind: Kind, picture: ProcessedImage) -> NewFile:
        """Reserve a row for the picture, then store it; once more under a new key if need be.

        Raises StoreError or DatabaseUnavailable; then what may have been stored is the reaper's.
        """
        file = await put_whole(
            self._backends,
            self._owner_id,
            kind,
            picture.filename,
            picture.content,
            picture.content_type,
            picture.sha256,
            list_facts(picture),
        )
        self.add(file)
        faults.reached("after_put")
        return file

    async def commit(
        self,
        apply: Apply,
        fault_point: str,
        has_happened: HasHappened = _tell_nothing,
        *,
        has_grace: bool = False,
    ) -> bool:
        """Attach the new files and apply the change, in one commit under the owner's lock.

        With `has_grace` what was shown before may be read for as long as the settings say; a new
        file that is not kept goes at once all the same.

        Returns False if the answer to the commit was lost and the change has happened all the
        same; then the owner may have changed since. `has_happened` tells that from the owner as
        it is now, for changes without a new file. Raises UserNotFound if the owner is gone and
        UploadExpired if the reaper has claimed a new file; then nothing of the change is left.
        Raises OutcomeUnknown if it has not happened though it was sent, or nobody can tell.
        """
        detached: list[Row] = []
        is_answered = True
        try:
            async with self._backends.database.transaction() as transaction:
                owner = await transaction.fetch_row(statements.LOCK_OWNER, owner_id=self._owner_id)
                if owner is None:
                    raise UserNotFound
                if self._new:
                    await self._attach(transaction)
                detached_ids = await apply(transaction, owner)
                detached = await self._let_go(transaction, detached_ids, has_grace)
                faults.reached(fault_point)
                await transaction.commit()
        except OutcomeUnknown:
            is_answered = False
            await self._settle(has_happened)
        self._detached = [deletions.Claimed(row, self._backends.stores) for row in detached]
        faults.reached("after_commit")
        return is_answered

    async def _attach(self, transaction: Transaction) -> None:
        """Make the new files live. Raises UploadExpired if the reaper has claimed one."""
        for file in self._new:
            if file.late_facts is not None:
                await transaction.fetch(statements.DESCRIBE, file_id=file.id, **file.late_facts)
        ids = [file.id for file in self._new]
        if len(await transaction.fetch(statements.ATTACH, ids=ids)) < len(ids):
            raise UploadExpired

    async def _let_go(
        self, transaction: Transaction, ids: Sequence[int], has_grace: bool
    ) -> list[Row]:
        """Mark what nothing refers to any more; return what is this process's to delete now."""
        grace_seconds = self._backends.settings.old_picture_grace_seconds if has_grace else 0.0
        due_ids = ids
        if grace_seconds:
            new_ids = {file.id for file in self._new}
            shown_ids = [file_id for file_id in ids if file_id not in new_ids]
            await transaction.fetch(statements.DOOM, ids=shown_ids, grace_seconds=grace_seconds)
            due_ids = [file_id for file_id in ids if file_id in new_ids]
        detached: list[Row] = []
        if due_ids:
            detached = await transaction.fetch(statements.DETACH, ids=due_ids[:MOST_RELEASED])
        if left_ids := due_ids[MOST_RELEASED:]:
            await transaction.fetch(statements.DOOM, ids=left_ids, grace_seconds=0.0)
        return detached

    async def _settle(self, has_happened: HasHappened) -> None:
        """Find out what became of a commit whose answer was lost.

        Reads under the owner's lock, for which it waits until the lost transaction is over.
        """
        file = None
        try:
            async with self._backends.database.transaction(OUTCOME_LOCK_TIMEOUT_MS) as transaction:
                owner = await transaction.fetch_row(statements.LOCK_OWNER, owner_id=self._owner_id)
                if self._new:  # all came with the one commit, or none
                    file_id = self._new[0].id
                    file = await transaction.fetch_row(statements.READ_FILE, file_id=file_id)
                elif not await has_happened(transaction, owner):
                    raise OutcomeUnknown
        except DatabaseUnavailable as err:
            raise OutcomeUnknown from err
        if not self._new:
            return
        if owner is None:
            raise UserNotFound
        # What was live, and now is not or is gone, was replaced since. What never was live is
        # still pending, or has expired, which makes a tombstone.
        if file and (file["state"] == FileState.PENDING or file["tombstone_until"]):
            raise OutcomeUnknown

    async def _release(self) -> None:
        """Delete what the commit let go of: now as far as two seconds reach, the rest behind.

        Never fails: the row is the guarantee, this is only the speed.
        """
        faults.reached("release_claimed")
        work = deletions.purge_quietly(self._backends.database, self._detached)
        await self._backends.tasks.wait_briefly(work, RELEASE_PATIENCE_SECONDS)

    async def _delete_unused(self) -> None:
        """Delete what was stored for a change that is refused.

        Nobody refers to it, so the reaper would delete it anyway: but why wait.
        """
        backends = self._backends
        for file in self._new:
            work = deletions.delete_unused(backends.database, backends.stores, file.id)
            await backends.tasks.wait_briefly(work, RELEASE_PATIENCE_SECONDS)
