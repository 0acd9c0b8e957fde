"""The statements of the heart, which are always the same: compiled once, one round trip each.

Whoever runs several of them in a transaction locks the account first, then files: one order, so
that no two changes wait for each other.
"""

from datetime import timedelta

from sqlalchemy import (
    any_,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    not_,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.types import BigInteger, Float

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

_are_given = StoredFile.id == any_(bindparam("ids", type_=ARRAY(BigInteger)))
_is_final = or_(StoredFile.tombstone_until.is_(None), StoredFile.tombstone_until <= func.now())

LOCK_OWNER = Statement(
    select(User.__table__).where(User.id == bindparam("owner_id")).with_for_update()
)
READ_FILE = Statement(select(StoredFile.__table__).where(StoredFile.id == bindparam("file_id")))

# A transaction of its own, durable by itself: RETURNING is evaluated before its commit. Returns no
# row where the key is taken; a pending row of the same owner is what a first try left whose answer
# was lost.
_reservation = insert(StoredFile)
_expiry = func.now() + func.make_interval(
    0, 0, 0, 0, 0, 0, bindparam("expiry_seconds", type_=Float)
)
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
# In the transaction that lets go of them: from the commit on they are this process's to delete,
# and the reaper's once the lease is over.
DETACH = Statement(
    update(StoredFile)
    .where(_are_given, StoredFile.state == FileState.LIVE)
    .values(
        state=FileState.DELETING,
        state_changed_at=func.now(),
        attempts=StoredFile.attempts + 1,
        next_attempt_at=func.now() + LEASE,
    )
    .returning(StoredFile.__table__)
)

# What is too much to be deleted at once is left to the reaper.
DOOM = Statement(
    update(StoredFile)
    .where(_are_given, StoredFile.state == FileState.LIVE)
    .values(state=FileState.DOOMED, state_changed_at=func.now(), next_attempt_at=func.now())
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
NOTE_FAILURE = Statement(
    update(StoredFile)
    .where(StoredFile.id == bindparam("file_id"))
    .values(last_error=bindparam("error_code"))
)

SHOW_PICTURE = Statement(
    update(User)
    .where(User.id == bindparam("owner_id"))
    .values(picture_id=bindparam("picture_id"))
    .returning(User.__table__)
)
LIST_OWNED = Statement(
    select(StoredFile.id).where(
        StoredFile.owner_id == bindparam("owner_id"), StoredFile.state == FileState.LIVE
    )
)
DELETE_OWNED_PHOTOS = Statement(delete(Photo).where(Photo.owner_id == bindparam("owner_id")))
DELETE_OWNED_THUMBNAILS = Statement(
    delete(SingleThumbnail).where(SingleThumbnail.owner_id == bindparam("owner_id"))
)
DELETE_OWNER = Statement(delete(User).where(User.id == bindparam("owner_id")))

_is_due = (StoredFile.state != FileState.LIVE) & (StoredFile.next_attempt_at <= func.now())
FIND_DUE_STORES = Statement(select(StoredFile.storage, StoredFile.bucket).where(_is_due).distinct())
# The next attempt of a deletion, doubling from half a minute (above STORE_DEADLINE_SECONDS, so
# that no claim comes due while it is worked on) to an hour, and spread so that instances do not
# come in step.
_BACKOFF = text(
    "make_interval(secs => least(3600, 30 * power(2, least(attempts, 12))) * (0.75 + random() / 2))"
)
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
                StoredFile.storage == bindparam("storage"),
                StoredFile.bucket == bindparam("bucket"),
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
    .returning(StoredFile.__table__, literal_column(RAISE_DURABILITY))
)
CLAIM_UNUSED = Statement(
    update(StoredFile)
    .where(StoredFile.id == bindparam("file_id"), StoredFile.state == FileState.PENDING)
    .values(**_CLAIM)
    .returning(StoredFile.__table__, literal_column(RAISE_DURABILITY))
)
