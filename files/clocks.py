"""Rows whose time is further off than anything of ours puts it: what a wrong clock has left.

The database's clock was ahead for a while, or is behind now. Such a row gets the time that its
state has from now on, and an upload that is under way no earlier one; so nothing is lost, whichever
of the two times was wrong.
"""

from datetime import timedelta

from sqlalchemy import Interval, case, func, literal_column, select, update

from config import Settings
from database import RAISE_DURABILITY, Database, Statement
from files.statements import IS_LET_GO, LONGEST_BACKOFF, TOMBSTONE, bind_seconds
from models import FileState, StoredFile

# Beyond what a state allows: a clock that is set right by minutes makes no row suspicious.
SLACK = timedelta(hours=1)
# Beyond the expiry, which processes that share a database may have set differently; and nothing is
# lost meanwhile.
PENDING_SLACK = timedelta(days=1)
# What is due is tried within seconds, and then has another time. This long it waits only where
# there is far too much, or nobody who deletes.
OVERDUE = timedelta(minutes=10)

_expiry = bind_seconds("expiry_seconds")
_grace = bind_seconds("grace_seconds")
_furthest = case(
    (StoredFile.state == FileState.PENDING, _expiry + PENDING_SLACK),
    (StoredFile.state == FileState.DOOMED, _grace + SLACK),
    (StoredFile.tombstone_until.is_not(None), TOMBSTONE + SLACK),
    else_=LONGEST_BACKOFF + SLACK,
)

# Its parameters are those of `list_limits`. What the index can tell comes first.
IS_FAR_OFF = (
    IS_LET_GO
    & (StoredFile.next_attempt_at > func.now() + SLACK)
    & (StoredFile.next_attempt_at > func.now() + _furthest)
)
IS_OVERDUE = IS_LET_GO & (StoredFile.next_attempt_at < func.now() - OVERDUE)
IS_IN_GRACE = (StoredFile.state == FileState.DOOMED) & (StoredFile.next_attempt_at > func.now())

_BRING_BACK = Statement(
    update(StoredFile)
    .where(
        # What somebody has locked is being changed: with whom, this must not wait for each other.
        StoredFile.id.in_(select(StoredFile.id).where(IS_FAR_OFF).with_for_update(skip_locked=True))
    )
    .values(
        next_attempt_at=func.now()
        + case(
            (StoredFile.state == FileState.PENDING, _expiry),
            (StoredFile.state == FileState.DOOMED, _grace),
            else_=literal_column("interval '0'", Interval),
        ),
        tombstone_until=case(
            (StoredFile.tombstone_until > func.now() + TOMBSTONE, func.now() + TOMBSTONE),
            else_=StoredFile.tombstone_until,
        ),
    )
    .returning(StoredFile.id, literal_column(RAISE_DURABILITY))
)


def list_limits(settings: Settings) -> dict[str, float]:
    """List how far off the settings put rows: the parameters of the expressions above."""
    return {
        "expiry_seconds": settings.pending_expiry_seconds,
        "grace_seconds": settings.old_picture_grace_seconds,
    }


async def bring_back(database: Database, settings: Settings) -> int:
    """Give the rows that are too far off the time that their state has from now on.

    Returns how many there were. Raises DatabaseUnavailable.
    """
    return len(await database.fetch(_BRING_BACK, **list_limits(settings)))
