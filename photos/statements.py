"""The statements of changes to photos: compiled once, one round trip each.

All of them run under the lock of the photo's owner, so that no two change one photo at once.
"""

from sqlalchemy import String, Text, bindparam, delete, func, insert, select, update

from database import Statement
from models import Photo

_is_given = (Photo.id == bindparam("photo_id")) & (Photo.owner_id == bindparam("owner_id"))
# What a photo says of itself beside its files.
WORDS = ("filename", "caption", "alt", "visibility")
# What it keeps of the file that was sent.
_SENT = ("content_type", "size_bytes", "removed_metadata", "notes")
_FILES = ("original_id", "master_id")

INSERT_PHOTO = Statement(
    insert(Photo)
    .values({name: bindparam(name) for name in ("owner_id", *WORDS, *_SENT, *_FILES)})
    .returning(Photo.__table__)
)
# Locked before its thumbnails are, as a claim of one does: else each may wait for the other.
READ_PHOTO = Statement(select(Photo.__table__).where(_is_given).with_for_update())
REPLACE_FILES = Statement(
    update(Photo)
    .where(_is_given)
    .values({name: bindparam(name) for name in ("filename", *_SENT, *_FILES)})
)
SHOW_MASTER = Statement(update(Photo).where(_is_given).values(master_id=bindparam("master_id")))
# What is NULL stays as it is.
CHANGE_WORDS = Statement(
    update(Photo)
    .where(_is_given)
    .values(
        caption=func.coalesce(bindparam("caption", type_=Text), Photo.caption),
        alt=func.coalesce(bindparam("alt", type_=Text), Photo.alt),
        visibility=func.coalesce(bindparam("visibility", type_=String), Photo.visibility),
    )
    .returning(Photo.id)
)
DELETE_PHOTO = Statement(delete(Photo).where(_is_given))
