"""Requests that are sent again under one Idempotency-Key: done once, answered alike.

A key is claimed before the body is read, kept while it is worked on, and completed in the very
transaction that makes what was asked for. The claim of a process that died runs out by itself.
"""

import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Uuid, bindparam, delete, func, literal_column, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from database import LOWER_DURABILITY, Statement, Transaction
from errors import DatabaseUnavailable, StillInProgress
from files.backends import Backends
from files.leases import LEASE_SECONDS, renew_lease
from models import IdempotencyKey

logger = logging.getLogger(__name__)

# For how long a repeated request is known; clients give up far earlier.
MEMORY = timedelta(hours=24)

_is_given = (IdempotencyKey.owner_id == bindparam("owner_id")) & (
    IdempotencyKey.key == bindparam("key")
)
_is_ours = (
    _is_given
    & (IdempotencyKey.claim == bindparam("claim", type_=Uuid))
    & IdempotencyKey.made_id.is_(None)
)
_lease_end = func.now() + timedelta(seconds=LEASE_SECONDS)
_claiming = insert(IdempotencyKey).values(
    owner_id=bindparam("owner_id"),
    key=bindparam("key"),
    claim=bindparam("claim", type_=Uuid),
    claimed_until=_lease_end,
)
# Its own claim is met where a first try was answered by nobody.
CLAIM = Statement(
    _claiming.on_conflict_do_update(
        constraint="idempotency_keys_pkey",
        set_={
            "claim": _claiming.excluded.claim,
            "claimed_until": _claiming.excluded.claimed_until,
            "created_at": func.now(),
            "made_id": None,
            "fingerprint": None,
        },
        where=or_(
            IdempotencyKey.claim == _claiming.excluded.claim,
            IdempotencyKey.made_id.is_(None) & (IdempotencyKey.claimed_until < func.now()),
            IdempotencyKey.created_at < func.now() - MEMORY,
        ),
    ).returning(IdempotencyKey.claim)
)
READ = Statement(select(IdempotencyKey.__table__).where(_is_given))
RENEW = Statement(
    update(IdempotencyKey)
    .where(_is_ours)
    .values(claimed_until=_lease_end)
    .returning(IdempotencyKey.claim, literal_column(LOWER_DURABILITY))
)
COMPLETE = Statement(
    update(IdempotencyKey)
    .where(_is_ours)
    .values(made_id=bindparam("made_id"), fingerprint=bindparam("fingerprint"))
    .returning(IdempotencyKey.claim)
)
RELEASE = Statement(delete(IdempotencyKey).where(_is_ours))
FORGET_OLD = Statement(
    delete(IdempotencyKey).where(IdempotencyKey.created_at < func.now() - MEMORY)
)


@dataclass(frozen=True)
class Done:
    """What a key stands for: what was made for a request of this content."""

    made_id: int
    fingerprint: str


@dataclass(frozen=True)
class Claim:
    """A key that is ours to complete, as long as nobody could think that we are dead."""

    owner_id: int
    key: str
    claim: uuid.UUID

    async def complete(self, transaction: Transaction, made_id: int, fingerprint: str) -> None:
        """Let the key stand for what was made from the commit on.

        Raises StillInProgress where another request has taken the key over.
        """
        values = {"made_id": made_id, "fingerprint": fingerprint}
        if not await transaction.fetch(COMPLETE, **vars(self), **values):
            raise StillInProgress


@asynccontextmanager
async def claim_key(backends: Backends, owner_id: int, key: str) -> AsyncIterator[Claim | Done]:
    """Claim a key for as long as the context lasts, or tell what it stands for already.

    A key that was not completed is free again after the context. Raises StillInProgress where
    another request is at work on it, and DatabaseUnavailable.
    """
    claim = Claim(owner_id, key, uuid.uuid4())
    if not await backends.database.fetch(CLAIM, **vars(claim)):
        rows = await backends.database.fetch(READ, owner_id=owner_id, key=key)
        if not rows or rows[0]["made_id"] is None:
            raise StillInProgress
        yield Done(rows[0]["made_id"], rows[0]["fingerprint"])
        return
    try:
        async with renew_lease(backends.database, RENEW, vars(claim)):
            yield claim
    finally:
        backends.tasks.start(_release(backends, claim))


async def _release(backends: Backends, claim: Claim) -> None:
    try:
        await backends.database.fetch(RELEASE, **vars(claim))
    except DatabaseUnavailable as err:
        logger.warning("a key stays claimed for a while: %r", err.__cause__)
