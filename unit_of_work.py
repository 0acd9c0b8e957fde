"""Announce, put, swap, release: the only place where a stored file changes its state for a request.

The order is the promise: the row is committed before the first byte, the bytes are stored before a row points to them,
the old value is read under the row's lock, and an object is deleted only after the commit that let go of it. Killed
anywhere in between, what is left is a row that the reaper finishes. No connection is held while the store is asked.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Sequence
from typing import Self

from sqlalchemy import delete, func, or_, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import lazyload

from config import settings
from database import session
from errors import (
    DatabaseUnavailable,
    NoPicture,
    ObjectNotFound,
    OutcomeUnknown,
    StoreError,
    UploadExpired,
    UserNotFound,
)
from image_utils import ProcessedImage, new_filename
from models import PROFILE_PICTURE, FileState, StoredFile, User
from storage import stores

logger = logging.getLogger(__name__)

PROFILE_PICTURE_PREFIX = "profile_pics/"
# How long an answer waits for the deletion of what it replaced; the rest goes on behind it.
RELEASE_PATIENCE_SECONDS = 2.0
# A lost commit is over within milliseconds; whoever cannot know by then says so.
OUTCOME_LOCK_TIMEOUT_MS = 2_000
# One more attempt, under a new key: a store that failed twice in a row is away.
PUT_ATTEMPTS = 2

# The next attempt of a deletion, doubling from half a minute (above STORE_DEADLINE_SECONDS, so that no claim comes due
# while it is worked on) to an hour, and spread so that instances do not come in step.
_BACKOFF = text("make_interval(secs => least(3600, 30 * power(2, least(attempts, 12))) * (0.75 + random() / 2))")
_TOMBSTONE = text("interval '1 day'")

# Deletions that outlasted their answer; held here because the event loop keeps only weak references to tasks.
_releases: set[asyncio.Task[None]] = set()


class UnitOfWork:
    """One change of one account's stored files, from announcing the new to releasing the old.

    As a context it undoes what it announced when a refusal ends it; after an unknown outcome it deletes nothing.
    """

    def __init__(self, owner_id: int) -> None:
        self._owner_id = owner_id
        self._put: list[int] = []  # announced and stored here, not yet live
        self._doomed: list[int] = []  # let go by a commit of ours

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, UserNotFound | UploadExpired):
            await _release_behind(self._put)

    async def put_picture(self, picture: ProcessedImage) -> int:
        """Announce the picture and store it; return its file's id.

        Raises StoreError; then the row stays pending, for the bytes may yet arrive, and the reaper removes both.
        """
        for attempt in range(1, PUT_ATTEMPTS + 1):
            file = await _announce(self._owner_id, picture)
            try:
                store = stores().of(file.storage, file.bucket)
                await store.put(file.key, picture.content, picture.content_type, picture.sha256)
            except StoreError as err:
                logger.warning("put %d of %s failed: %r", attempt, file.key, err.__cause__ or err)
                if attempt == PUT_ATTEMPTS:
                    raise
                picture = dataclasses.replace(picture, filename=new_filename())
            else:
                break
        self._put.append(file.id)
        return file.id

    async def swap_picture(self, file_id: int) -> User:
        """Point the account to the stored file and doom its old picture, in one commit.

        Raises UserNotFound if the account is gone and UploadExpired if the reaper has claimed the file; both leave
        everything as it was. Raises OutcomeUnknown, or DatabaseUnavailable, if the commit's answer was lost.
        """
        async with session() as db:
            user = await lock_user(db, self._owner_id)
            file = await db.get(StoredFile, file_id, with_for_update=True)
            if file is None or file.state != FileState.PENDING:
                raise UploadExpired
            old = user.picture
            user.picture = file
            file.state, file.state_changed_at = FileState.LIVE, func.now()
            if old is not None:
                _doom(old)
            await db.flush()
            try:
                await db.commit()
            except (DBAPIError, DatabaseUnavailable, OSError) as err:
                logger.warning("the answer to a commit was lost: %r", err)
                lost = True
            else:
                lost = False
        if lost:
            return await _settle(self._owner_id, file_id)
        self._put.remove(file_id)
        if old is not None:
            self._doomed.append(old.id)
        return user

    async def remove_picture(self) -> User:
        """Take the picture away from the account. Raises NoPicture, or UserNotFound."""
        async with session() as db:
            user = await lock_user(db, self._owner_id)
            if user.picture is None:
                raise NoPicture
            self._doomed.append(user.picture.id)
            _doom(user.picture)
            user.picture = None
            await db.commit()
        return user

    async def delete_account(self) -> None:
        """Delete the account and doom all that it has, in one commit. Raises UserNotFound."""
        async with session() as db:
            user = await lock_user(db, self._owner_id)
            if user.picture is not None:
                self._doomed.append(user.picture.id)
                _doom(user.picture)
            await db.delete(user)
            await db.commit()

    async def release(self) -> None:
        """Delete what the commit let go of: now as far as two seconds reach, then behind the answer.

        Never fails: the doomed row is the guarantee, this is only the speed.
        """
        await _release_behind(self._doomed)


async def lock_user(db: AsyncSession, user_id: int) -> User:
    """Lock an account's row and read it with its picture; raises UserNotFound.

    Always before a file's row, so that no two changes wait for each other. Two statements: in a join that had to
    wait, Postgres reads the locked row anew but the joined one as it was before the wait, and the picture is missed.
    """
    unjoined = lazyload(User.picture)
    user = await db.get(User, user_id, options=[unjoined], with_for_update=True, populate_existing=True)
    if user is None:
        raise UserNotFound
    await db.refresh(user, ["picture"])
    return user


async def finish_releases(timeout_seconds: float) -> None:
    """Wait for deletions that outlasted their answers; what does not end in time is the reaper's."""
    if _releases:
        await asyncio.wait(set(_releases), timeout=timeout_seconds)


async def claim_due(limit: int) -> Sequence[StoredFile]:
    """Claim files whose time has come: the doomed, the expired, and those whose deletion failed or was cut off.

    Each is claimed by one instance only, and comes due again by itself should that instance die. One that was
    still pending becomes a tombstone: a process that was stopped may put its bytes after we have deleted them.
    """
    async with session() as db:
        due = select(StoredFile.id).where(StoredFile.state != FileState.LIVE, StoredFile.next_attempt_at <= func.now())
        due = due.order_by(StoredFile.next_attempt_at).limit(limit).with_for_update(skip_locked=True)
        ids = (await db.scalars(due)).all()
        await db.execute(
            update(StoredFile)
            .where(StoredFile.id.in_(ids), StoredFile.state == FileState.PENDING)
            .values(tombstone_until=func.now() + _TOMBSTONE)
        )
        claimed = await _claim(db, StoredFile.id.in_(ids))
        await db.commit()
    return claimed


async def remove(claimed: Sequence[StoredFile]) -> None:
    """Ask the stores to delete these claimed files, then let the rows of those that are gone go."""
    outcomes = await asyncio.gather(*(_remove_object(file) for file in claimed))
    gone = [file.id for file, is_gone in zip(claimed, outcomes, strict=True) if is_gone]
    if not gone:
        return
    async with session() as db:
        is_final = or_(StoredFile.tombstone_until.is_(None), StoredFile.tombstone_until <= func.now())
        mine = StoredFile.id.in_(gone) & (StoredFile.state == FileState.DELETING)
        await db.execute(delete(StoredFile).where(mine, is_final))
        await db.execute(update(StoredFile).where(mine).values(next_attempt_at=StoredFile.tombstone_until, attempts=0))
        await db.commit()


async def _release_behind(file_ids: Sequence[int]) -> None:
    if file_ids:
        task = asyncio.create_task(_release(file_ids))
        _releases.add(task)
        task.add_done_callback(_releases.discard)
        await asyncio.wait({task}, timeout=RELEASE_PATIENCE_SECONDS)


async def _release(file_ids: Sequence[int]) -> None:
    """Delete these doomed, or put and never used, files now; whatever fails is logged and left to the reaper."""
    try:
        async with session() as db:
            claimed = await _claim(db, StoredFile.id.in_(file_ids) & (StoredFile.state != FileState.DELETING))
            await db.commit()
        await remove(claimed)
    except DatabaseUnavailable as err:
        logger.warning("files %s are left to the reaper: %r", list(file_ids), err.__cause__)


async def _remove_object(file: StoredFile) -> bool:
    try:
        await stores().of(file.storage, file.bucket).delete(file.key)
    except ObjectNotFound:
        return True
    except StoreError as err:
        logger.warning("deleting %s failed, attempt %d: %r", file.key, file.attempts, err.__cause__ or err)
        return False
    return True


async def _claim(db: AsyncSession, which: object) -> Sequence[StoredFile]:
    """Mark as being deleted, skipping what another instance is at, and set the time of the next attempt."""
    free = select(StoredFile.id).where(which, StoredFile.state != FileState.LIVE)  # type: ignore[arg-type]
    statement = (
        update(StoredFile)
        .where(StoredFile.id.in_(free.with_for_update(skip_locked=True)))
        .values(
            state=FileState.DELETING,
            state_changed_at=func.now(),
            attempts=StoredFile.attempts + 1,
            next_attempt_at=func.now() + _BACKOFF,
        )
        .returning(StoredFile)
    )
    return (await db.scalars(statement)).all()


async def _announce(owner_id: int, picture: ProcessedImage) -> StoredFile:
    store = stores().current
    file = StoredFile(
        storage=store.name,
        bucket=store.bucket,
        key=PROFILE_PICTURE_PREFIX + picture.filename,
        purpose=PROFILE_PICTURE,
        state=FileState.PENDING,
        owner_id=owner_id,
        next_attempt_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, settings.pending_expiry_seconds),
        content_type=picture.content_type,
        size_bytes=len(picture.content),
        sha256=picture.sha256,
        width_px=picture.width_px,
        height_px=picture.height_px,
    )
    async with session() as db:
        db.add(file)
        await db.commit()
    return file


def _doom(file: StoredFile) -> None:
    file.state, file.state_changed_at, file.next_attempt_at = FileState.DOOMED, func.now(), func.now()


async def _settle(user_id: int, file_id: int) -> User:
    """Find out what became of a commit whose answer was lost: a locking read waits until that transaction is over."""
    async with session() as db:
        await db.execute(text(f"SET LOCAL lock_timeout = {OUTCOME_LOCK_TIMEOUT_MS}"))
        user = await lock_user(db, user_id)
        state = await db.scalar(select(StoredFile.state).where(StoredFile.id == file_id))
        if state not in (FileState.LIVE, FileState.DOOMED):
            raise OutcomeUnknown
        return user
