"""What changes an account's files: replacing its picture, removing it, deleting the account."""

import logging

from database import Row, Transaction
from errors import NoPicture, UserNotFound
from files import statements
from files.answers import read_changed
from files.backends import Backends
from files.change import Change
from files.kinds import PROFILE_PICTURE
from files.reservations import list_facts
from logs import Event
from models import StoredFile, User
from pictures import ProcessedImage

logger = logging.getLogger(__name__)


async def replace_picture(backends: Backends, user_id: int, picture: ProcessedImage) -> User:
    """Store the picture, show it and let go of the old one; return the account.

    Raises StoreError, UserNotFound, UploadExpired, OutcomeUnknown or DatabaseUnavailable.
    """
    shown: list[Row] = []
    async with Change(backends, user_id) as change:
        file = await change.store(PROFILE_PICTURE, picture)

        async def show(transaction: Transaction, user: Row) -> list[int]:
            values = {"owner_id": user_id, "picture_id": file.id}
            shown[:] = await transaction.fetch(statements.SHOW_PICTURE, **values)
            return _list_picture(user)

        is_answered = await change.commit(show, "inside_swap", has_grace=True)
    if not is_answered:
        return await read_changed(backends, User, user_id, UserNotFound)
    account = User(**shown[0])  # not read anew: the answer is the same if the database goes away
    account.picture = StoredFile(
        id=file.id,
        storage=file.store.name,
        bucket=file.store.bucket,
        key=file.key,
        **list_facts(picture),
    )
    account.know(backends.stores)
    account.picture.know(backends.stores)
    return account


async def remove_picture(backends: Backends, user_id: int) -> User:
    """Take the picture away; return the account.

    Raises NoPicture, UserNotFound, OutcomeUnknown or DatabaseUnavailable.
    """
    removed: list[int] = []
    shown: list[Row] = []

    async def remove(transaction: Transaction, user: Row) -> list[int]:
        removed[:] = _list_picture(user)
        if not removed:
            raise NoPicture
        values = {"owner_id": user_id, "picture_id": None}
        shown[:] = await transaction.fetch(statements.SHOW_PICTURE, **values)
        return removed

    async def is_removed(_: Transaction, user: Row | None) -> bool:
        return user is None or user["picture_id"] not in removed

    async with Change(backends, user_id) as change:
        is_answered = await change.commit(remove, "inside_removal", is_removed, has_grace=True)
    if not is_answered:
        return await read_changed(backends, User, user_id, UserNotFound)
    account = User(**shown[0])
    account.know(backends.stores)
    return account


async def delete_account(backends: Backends, user_id: int) -> None:
    """Delete the account with all that it has, and what of it waits in its grace.

    Raises UserNotFound, OutcomeUnknown or DatabaseUnavailable.
    """

    async def delete(transaction: Transaction, user: Row) -> list[int]:
        owned = await transaction.fetch(statements.LIST_OWNED, owner_id=user_id)
        await transaction.fetch(statements.DELETE_OWNED_PHOTOS, owner_id=user_id)
        await transaction.fetch(statements.DELETE_OWNED_THUMBNAILS, owner_id=user_id)
        await transaction.fetch(statements.DELETE_OWNER, owner_id=user_id)
        return [file["id"] for file in owned]

    async def is_gone(_: Transaction, user: Row | None) -> bool:
        return user is None

    async with Change(backends, user_id) as change:
        await change.commit(delete, "inside_account_deletion", is_gone)
        logger.info("account deleted", extra={"event": Event.ACCOUNT_DELETED, "about": user_id})


def _list_picture(user: Row) -> list[int]:
    """The account's picture, if it has one."""
    return [user["picture_id"]] if user["picture_id"] is not None else []
