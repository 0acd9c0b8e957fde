"""Announce, put, swap, release: the one way in which a request changes an account's pictures.

The order is the promise: the row is committed before the first byte, the bytes are stored before a
row points to them, the old value is read under the row's lock, and an object is deleted only after
the commit that let go of it. Killed anywhere in between, what is left is a row that the reaper
finishes. No connection is held while the store is asked.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Sequence
from typing import Any, Self

from sqlalchemy import func, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import lazyload

import faults
from database import commit
from errors import (
    DatabaseUnavailable,
    NoPicture,
    OutcomeUnknown,
    StoreError,
    StoreUnavailable,
    UploadExpired,
    UserNotFound,
)
from files import deletions
from files.backends import Backends
from files.kinds import PROFILE_PICTURE
from models import FileState, StoredFile, User
from pictures import ProcessedImage, make_filename

logger = logging.getLogger(__name__)

# How long an answer waits for the deletion of what it replaced; the rest goes on behind it.
RELEASE_PATIENCE_SECONDS = 2.0
# A lost commit is over within milliseconds; whoever cannot know by then says so.
OUTCOME_LOCK_TIMEOUT_MS = 2_000
# One more attempt, under a new key: a store that failed twice in a row is away.
PUT_ATTEMPTS = 2
# For both attempts. A store that takes no connection (3
# seconds) or gives no answer (8) fails twice within it.
PUT_BUDGET_SECONDS = 20.0


class Change:
    """One change of one account's stored files, from announcing the new to releasing the old.

    As a context it undoes what it announced when a refusal
    ends it; after an unknown outcome it deletes nothing.
    """

    def __init__(self, backends: Backends, owner_id: int) -> None:
        self._backends = backends
        self._owner_id = owner_id
        self._put: list[StoredFile] = []  # announced and stored here, not yet live
        self._doomed: list[StoredFile] = []  # let go by a commit of ours

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, UserNotFound):
            await self._do_behind(self._purge(self._put))
        elif kind is not None and issubclass(kind, UploadExpired):
            # The reaper deleted it before our bytes came. It would
            # again in a day, but why wait; the row may stay.
            await self._do_behind(asyncio.gather(*map(deletions.delete_object, self._put)))

    async def put_picture(self, picture: ProcessedImage) -> int:
        """Announce the picture and store it; return its file's id.

        Raises StoreError within PUT_BUDGET_SECONDS; then the row stays
        pending, for the bytes may yet arrive, and the reaper removes both.
        """
        try:
            async with asyncio.timeout(PUT_BUDGET_SECONDS):
                file = await self._announce_and_put(picture)
        except TimeoutError as err:
            raise StoreUnavailable from err
        self._put.append(file)
        faults.reached("after_put")
        return file.id

    async def _announce_and_put(self, picture: ProcessedImage) -> StoredFile:
        for attempt in range(1, PUT_ATTEMPTS):
            file = await self._announce(picture)
            try:
                await _put(file, picture)
            except StoreError as err:
                logger.warning("put %d of %s failed: %r", attempt, file.key, err.__cause__ or err)
                picture = dataclasses.replace(picture, filename=make_filename())
            else:
                return file
        file = await self._announce(picture)
        await _put(file, picture)
        return file

    async def swap_picture(self, file_id: int) -> User:
        """Point the account to the stored file and doom its old picture, in one commit.

        Raises UserNotFound if the account is gone and UploadExpired if the reaper
        has claimed the file; both leave everything as it was. Raises OutcomeUnknown
        if the commit's answer was lost and so was the change, or nobody can tell.
        """
        async with self._backends.database.session() as db:
            user = await lock_user(db, self._owner_id)
            file = await db.get(StoredFile, file_id, with_for_update=True)
            if file is None or file.state != FileState.PENDING:
                raise UploadExpired
            old = user.picture
            user.picture = file
            file.state = FileState.LIVE
            file.state_changed_at = func.now()
            if old is not None:
                deletions.doom(old)
            await db.flush()
            faults.reached("inside_swap")
            is_answered = await commit(db)
        if not is_answered:
            user = await self._settle(file_id)
        self._put.clear()
        if old is not None:
            self._doomed.append(old)
        faults.reached("after_commit")
        return user

    async def remove_picture(self) -> User:
        """Take the picture away from the account.

        Raises NoPicture, UserNotFound or OutcomeUnknown.
        """
        async with self._backends.database.session() as db:
            user = await lock_user(db, self._owner_id)
            old = user.picture
            if old is None:
                raise NoPicture
            deletions.doom(old)
            user.picture = None
            await db.flush()
            faults.reached("inside_removal")
            is_answered = await commit(db)
        if not is_answered:
            user, _ = await self._reread(old.id)
            if user.picture is not None and user.picture.id == old.id:
                raise OutcomeUnknown
        self._doomed.append(old)
        return user

    async def delete_account(self) -> None:
        """Delete the account and doom all that it has, in one commit.

        Raises UserNotFound or OutcomeUnknown.
        """
        async with self._backends.database.session() as db:
            user = await lock_user(db, self._owner_id)
            old = user.picture
            if old is not None:
                deletions.doom(old)
            await db.delete(user)
            await db.flush()
            faults.reached("inside_account_deletion")
            is_answered = await commit(db)
        if not is_answered:
            try:
                await self._reread()
            except UserNotFound:
                pass
            else:
                raise OutcomeUnknown
        if old is not None:
            self._doomed.append(old)

    async def release(self) -> None:
        """Delete what the commit let go of: now as far
        as two seconds reach, then behind the answer.

        Never fails: the doomed row is the guarantee, this is only the speed.
        """
        await self._do_behind(self._purge(self._doomed))
        faults.reached("before_answer")

    async def _settle(self, file_id: int) -> User:
        """Find out what became of a swap whose answer was lost."""
        user, file = await self._reread(file_id)
        if user.picture is not None and user.picture.id == file_id:
            return user
        # What was live and is not any more was replaced since: doomed, then deleted.
        # What never was is still pending, or expired, which makes a tombstone.
        if file is not None and (
            file.state == FileState.PENDING or file.tombstone_until is not None
        ):
            raise OutcomeUnknown
        return user

    async def _reread(self, file_id: int | None = None) -> tuple[User, StoredFile | None]:
        """Read account and file under the account's lock,
        for which it waits until a lost transaction is over.
        """
        try:
            async with self._backends.database.session() as db:
                await db.execute(text(f"SET LOCAL lock_timeout = {OUTCOME_LOCK_TIMEOUT_MS}"))
                user = await lock_user(db, self._owner_id)
                return user, await db.get(StoredFile, file_id) if file_id is not None else None
        except DatabaseUnavailable as err:
            raise OutcomeUnknown from err

    async def _announce(self, picture: ProcessedImage) -> StoredFile:
        store = self._backends.stores.current
        file = StoredFile(
            storage=store.name,
            bucket=store.bucket,
            key=PROFILE_PICTURE.prefix + picture.filename,
            purpose=PROFILE_PICTURE.name,
            state=FileState.PENDING,
            owner_id=self._owner_id,
            next_attempt_at=func.now()
            + func.make_interval(0, 0, 0, 0, 0, 0, self._backends.settings.pending_expiry_seconds),
            content_type=picture.content_type,
            size_bytes=len(picture.content),
            sha256=picture.sha256,
            width_px=picture.width_px,
            height_px=picture.height_px,
            dominant_colour=picture.dominant_colour,
            thumbhash=picture.thumbhash,
        )
        faults.reached("before_announce")
        async with self._backends.database.session() as db:
            db.add(file)
            await db.commit()
        faults.reached("after_announce")
        return file

    async def _do_behind(self, work: Awaitable[Any]) -> None:
        """Wait two seconds for it; the rest goes on behind the answer."""
        await self._backends.tasks.wait_briefly(work, RELEASE_PATIENCE_SECONDS)

    async def _purge(self, files: Sequence[StoredFile]) -> None:
        """Delete these doomed, or put and never used, files now.

        Whatever fails is logged and left to the reaper.
        """
        ids = [file.id for file in files]
        if not ids:
            return
        database = self._backends.database
        try:
            async with database.session() as db:
                is_free = StoredFile.state != FileState.DELETING
                claimed = await deletions.claim(db, StoredFile.id.in_(ids) & is_free)
                await db.commit()
            faults.reached("release_claimed")
            await deletions.purge(database, claimed)
        except DatabaseUnavailable as err:
            logger.warning("files %s are left to the reaper: %r", ids, err.__cause__)


async def lock_user(db: AsyncSession, user_id: int) -> User:
    """Lock an account's row and read it with its picture; raises UserNotFound.

    Always before a file's row, so that no two changes wait for each other. Two
    statements: in a join that had to wait, Postgres reads the locked row anew
    but the joined one as it was before the wait, and the picture is missed.
    """
    unjoined = lazyload(User.picture)
    user = await db.get(
        User, user_id, options=[unjoined], with_for_update=True, populate_existing=True
    )
    if user is None:
        raise UserNotFound
    await db.refresh(user, ["picture"])
    return user


async def _put(file: StoredFile, picture: ProcessedImage) -> None:
    await file.store.put(file.key, picture.content, picture.content_type, picture.sha256)
