"""The statements of thumbnails: claimed, published, given up; compiled once, one round trip each.

A claim needs no lock of the owner's, a publication runs under it, as every change of files does.
Whatever locks several rows locks them in one order, so that no two wait for each other.
"""

from datetime import timedelta

from sqlalchemy import (
    ColumnElement,
    SmallInteger,
    Uuid,
    any_,
    bindparam,
    cast,
    collate,
    delete,
    func,
    literal_column,
    null,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.types import BigInteger, String

from database import LOWER_DURABILITY, Statement
from files.leases import LEASE_SECONDS
from models import Photo, StoredFile, Thumbnail

# What failed is left alone for a second, then two, four, ... a minute: a store that is away is not
# asked by every page that shows the photo.
_BACKOFF = text("make_interval(secs => least(60, power(2, least(failures, 6))))")

_lease_end = func.now() + timedelta(seconds=LEASE_SECONDS)
_is_of_master = (
    (Thumbnail.photo_id == bindparam("photo_id"))
    & (Thumbnail.master_id == bindparam("master_id"))
    & (Thumbnail.version == bindparam("version", type_=SmallInteger))
)
_are_given = _is_of_master & (
    Thumbnail.rendition == any_(bindparam("renditions", type_=ARRAY(String)))
)
_are_ours = (
    _is_of_master
    & (Thumbnail.claim == bindparam("claim", type_=Uuid))
    & Thumbnail.file_id.is_(None)
)


def _lock(which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Say that a row is one of these, which are locked in the order of claims (Python's)."""
    key = (Thumbnail.photo_id, Thumbnail.master_id, Thumbnail.rendition, Thumbnail.version)
    order = (Thumbnail.master_id, Thumbnail.version, collate(Thumbnail.rendition, "C"))
    locked = select(*key).where(which).order_by(*order).with_for_update().cte("locked")
    return tuple_(*key) == tuple_(*(locked.c[column.key] for column in key))


_asked = func.unnest(bindparam("renditions", type_=ARRAY(String))).column_valued("asked")
_claiming = insert(Thumbnail).from_select(
    ["photo_id", "master_id", "rendition", "version", "claim", "claimed_until"],
    select(
        Photo.id,
        Photo.master_id,
        _asked,
        cast(bindparam("version"), SmallInteger),
        cast(bindparam("claim"), Uuid),
        _lease_end,
    )
    .where(Photo.id == bindparam("photo_id"), Photo.master_id == bindparam("master_id"))
    # So that the photo is there until the rows are.
    .with_for_update(read=True, key_share=True, of=Photo),
)
# Its own claim is met where a first try was answered by nobody.
CLAIM = Statement(
    _claiming.on_conflict_do_update(
        constraint="thumbnails_pkey",
        set_={
            "claim": _claiming.excluded.claim,
            "claimed_until": _claiming.excluded.claimed_until,
        },
        where=Thumbnail.file_id.is_(None)
        & or_(
            Thumbnail.claim == _claiming.excluded.claim,
            or_(Thumbnail.claimed_until.is_(None), Thumbnail.claimed_until < func.now())
            & or_(Thumbnail.retry_at.is_(None), Thumbnail.retry_at <= func.now()),
        ),
    ).returning(Thumbnail.rendition, literal_column(LOWER_DURABILITY))
)
RENEW = Statement(
    update(Thumbnail)
    .where(_lock(_are_ours))
    .values(claimed_until=_lease_end)
    .returning(Thumbnail.rendition, literal_column(LOWER_DURABILITY))
)
GIVE_UP = Statement(
    update(Thumbnail)
    .where(_lock(_are_ours))
    .values(
        claim=null(),
        claimed_until=null(),
        failures=func.least(Thumbnail.failures + 1, 100),
        retry_at=func.now() + _BACKOFF,
    )
    .returning(Thumbnail.rendition, literal_column(LOWER_DURABILITY))
)
# For a session: the file as others know it. Built once, which takes longer than to be answered.
SELECT_FILE = (
    select(StoredFile)
    .join(Thumbnail, Thumbnail.file_id == StoredFile.id)
    .where(_is_of_master, Thumbnail.rendition == bindparam("rendition"))
)
READ = Statement(
    select(
        Thumbnail.file_id,
        func.coalesce(Thumbnail.retry_at > func.now(), False).label("is_resting"),
    ).where(_are_given)
)
_made = (
    func.unnest(
        bindparam("renditions", type_=ARRAY(String)), bindparam("file_ids", type_=ARRAY(BigInteger))
    )
    .table_valued("rendition", "file_id")
    .render_derived("made")
)
# Returns those that nobody else had published.
PUBLISH = Statement(
    update(Thumbnail)
    .where(
        _lock(_are_given & Thumbnail.file_id.is_(None)), Thumbnail.rendition == _made.c.rendition
    )
    .values(
        file_id=cast(_made.c.file_id, BigInteger),
        claim=null(),
        claimed_until=null(),
        failures=0,
        retry_at=null(),
    )
    .returning(Thumbnail.file_id)
)
DROP = Statement(
    delete(Thumbnail)
    .where(_lock(Thumbnail.photo_id == bindparam("photo_id")))
    .returning(Thumbnail.file_id)
)
