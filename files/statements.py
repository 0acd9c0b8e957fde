"""The statements of the heart, which are always the same: compiled once, one round trip each.

Whoever runs several of them in a transaction locks the account first, then files: one order, so
that no two changes wait for each other.
"""

from datetime import timedelta

from sqlalchemy import (
    Function,
    any_,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal_column,
    not_,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.types import BigInteger, Float, Interval, String

from database import LOWER_DURABILITY, RAISE_DURABILITY, Statement
from models import FileState, Photo, SingleThumbnail, StoredFile, User

# A deletion that was begun belongs to who began it for so long: above STORE_DEADLINE_SECONDS, so
# that nobody else takes it while the store is asked.
LEASE = timedelta(seconds=30)

_PLACE = ("storage", "bucket", "key", "purpose")
# What the row of a picture keeps of it.
FACTS = (
    "content_type",
    "size_bytes",
    "sha256",
    "width_px",
    "height_px",
    "dominant_colour",
    "thumbhash",
)


def bind_seconds(name: str) -> Function[timedelta]:
    """Make an interval of a parameter that is a number of seconds."""
    return func.make_interval(0, 0, 0, 0, 0, 0, bindparam(name, type_=Float), type_=Interval)


# Written out, or a plan for any state could not use the index of those that are due.
IS_LET_GO = StoredFile.state != literal_column("'live'")
_are_given = StoredFile.id == any_(bindparam("ids", type_=ARRAY(BigInteger)))
_is_final = or_(StoredFile.tombstone_until.is_(None), StoredFile.tombstone_until <= func.now())

# Of an account that is no more; nobody's are the rows of a sweep. No column says so: this holds for
# whatever state a row was in when its account went.
_is_erased = (StoredFile.owner_id > 0) & not_(exists().where(User.id == StoredFile.owner_id))
# A file to delete, as files/deletions.py takes it.
_CLAIMED = (StoredFile.__table__, _is_erased.label("is_erased"))

LOCK_OWNER = Statement(
    select(User.__table__).where(User.id == bindparam("owner_id")).with_for_update()
)
READ_FILE = Statement(select(*_CLAIMED).where(StoredFile.id == bindparam("file_id")))

# A transaction of its own, durable by itself: RETURNING is evaluated before its commit. Returns no
# row where the key is taken; a pending row of the same owner is what a first try left whose answer
# was lost.
_reservation = insert(StoredFile)
_expiry = func.now() + bind_seconds("expiry_seconds")
RESERVE = Statement(
    _reservation.values(
        state=FileState.PENDING,
        next_attempt_at=_expiry,
        **{name: bindparam(name) for name in (*_PLACE, "owner_id", *FACTS)},
    )
    .on_conflict_do_update(
        constraint="stored_files_place_key",
        set_={"next_attempt_at": _reservation.excluded.next_attempt_at},
        where=(StoredFile.state == FileState.PENDING)
        & (StoredFile.owner_id == _reservation.excluded.owner_id),
    )
    .returning(StoredFile.id, literal_column(RAISE_DURABILITY))
)
_is_pending = (StoredFile.id == bindparam("file_id")) & (StoredFile.state == FileState.PENDING)
RENEW = Statement(
    update(StoredFile)
    .where(_is_pending)
    .values(next_attempt_at=_expiry)
    .returning(StoredFile.id, literal_column(LOWER_DURABILITY))
)
# An upload in parts is known before its first part, so that it is ended with the row.
NOTE_UPLOAD = Statement(
    update(StoredFile)
    .where(_is_pending)
    .values(upload_id=bindparam("upload_id"))
    .returning(StoredFile.id, literal_column(RAISE_DURABILITY))
)
# Of a file that was reserved before its last byte had come; its upload is complete.
DESCRIBE = Statement(
    update(StoredFile)
    .where(_is_pending)
    .values(upload_id=None, **{name: bindparam(name) for name in FACTS})
)
ATTACH = Statement(
    update(StoredFile)
    .where(_are_given, StoredFile.state == FileState.PENDING)
    .values(state=FileState.LIVE, state_changed_at=func.now())
    .returning(StoredFile.id)
)
# What is let go of is live, or waits in its grace until its account goes. Written out, for the sake
# of the index that has just these.
_is_kept = text("stored_files.state IN ('live', 'doomed')")
# In the transaction that lets go of them: from the commit on they are this process's to delete,
# and the reaper's once the lease is over.
DETACH = Statement(
    update(StoredFile)
    .where(_are_given, _is_kept)
    .values(
        state=FileState.DELETING,
        state_changed_at=func.now(),
        attempts=StoredFile.attempts + 1,
        next_attempt_at=func.now() + LEASE,
    )
    .returning(*_CLAIMED)
)

# What may be read for a while yet, and what is too much to be deleted at once: the reaper's, then.
DOOM = Statement(
    update(StoredFile)
    .where(_are_given, _is_kept)
    .values(
        state=FileState.DOOMED,
        state_changed_at=func.now(),
        next_attempt_at=func.now() + bind_seconds("grace_seconds"),
    )
)

# Of objects that are gone. Lost in a power cut, it costs a second deletion, so nobody waits for
# the disk.
FORGET = Statement(
    delete(StoredFile)
    .where(_are_given, StoredFile.state == FileState.DELETING, _is_final)
    .returning(StoredFile.id, literal_column(LOWER_DURABILITY))
)
# A tombstone rests until its object is deleted once more.
REST = Statement(
    update(StoredFile)
    .where(_are_given, StoredFile.state == FileState.DELETING, not_(_is_final))
    .values(next_attempt_at=StoredFile.tombstone_until, attempts=0, last_error=None)
)
_failures = func.unnest(
    bindparam("ids", type_=ARRAY(BigInteger)), bindparam("error_codes", type_=ARRAY(String))
)
_failure = _failures.table_valued("file_id", "error_code", name="failure").render_derived()
NOTE_FAILURES = Statement(
    update(StoredFile)
    .where(StoredFile.id == _failure.c.file_id)
    .values(last_error=_failure.c.error_code)
)

SHOW_PICTURE = Statement(
    update(User)
    .where(User.id == bindparam("owner_id"))
    .values(picture_id=bindparam("picture_id"))
    .returning(User.__table__)
)
LIST_OWNED = Statement(
    select(StoredFile.id).where(StoredFile.owner_id == bindparam("owner_id"), _is_kept)
)
# What an owner has let go of that may be read for a while yet, of these kinds.
LIST_WAITING = Statement(
    select(StoredFile.id).where(
        StoredFile.owner_id == bindparam("owner_id"),
        _is_kept,
        StoredFile.state == FileState.DOOMED,
        StoredFile.purpose == any_(bindparam("purposes", type_=ARRAY(String))),
    )
)
DELETE_OWNED_PHOTOS = Statement(delete(Photo).where(Photo.owner_id == bindparam("owner_id")))
DELETE_OWNED_THUMBNAILS = Statement(
    delete(SingleThumbnail).where(SingleThumbnail.owner_id == bindparam("owner_id"))
)
DELETE_OWNER = Statement(delete(User).where(User.id == bindparam("owner_id")))

_is_due = IS_LET_GO & (StoredFile.next_attempt_at <= func.now())
FIND_DUE_STORES = Statement(select(StoredFile.storage, StoredFile.bucket).where(_is_due).distinct())
# The next attempt of a deletion, doubling from half a minute (above STORE_DEADLINE_SECONDS, so
# that no claim comes due while it is worked on) to an hour, and spread so that instances do not
# come in step.
_BACKOFF = text(
    "make_interval(secs => least(3600, 30 * power(2, least(attempts, 12))) * (0.75 + random() / 2))"
)
LONGEST_BACKOFF = timedelta(seconds=3600 * 1.25)
# Longer than anyone leaves a stopped process lying about before it is let go on or killed.
TOMBSTONE = timedelta(days=1)
_CLAIM = {
    "state": FileState.DELETING,
    "state_changed_at": func.now(),
    "attempts": StoredFile.attempts + 1,
    "next_attempt_at": func.now() + _BACKOFF,
}
CLAIM_DUE = Statement(
    update(StoredFile)
    .where(
        StoredFile.id.in_(
            select(StoredFile.id)
            .where(
                _is_due,
                # Not by the columns alone: where the planner knows nothing of the table yet, it
                # would take the index of places, and so read all live files of the store.
                StoredFile.storage + "" == bindparam("storage"),
                StoredFile.bucket + "" == bindparam("bucket"),
            )
            .order_by(StoredFile.next_attempt_at)
            .limit(bindparam("most_files", type_=BigInteger))
            .with_for_update(skip_locked=True)
        )
    )
    .values(
        **_CLAIM,
        tombstone_until=case(
            (StoredFile.state == FileState.PENDING, func.now() + TOMBSTONE),
            else_=StoredFile.tombstone_until,
        ),
    )
    .returning(*_CLAIMED, literal_column(RAISE_DURABILITY))
)
CLAIM_UNUSED = Statement(
    update(StoredFile)
    .where(StoredFile.id == bindparam("file_id"), StoredFile.state == FileState.PENDING)
    .values(**_CLAIM)
    .returning(*_CLAIMED, literal_column(RAISE_DURABILITY))
)
