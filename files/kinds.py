"""The kinds of files, in one table: name, prefix, public or private, and who refers to them.

A new kind of file is a new row here. Nothing else knows a prefix: keys are made from it, `check`
and `sweep` look below it, `/media` and the bucket's policy open what is public.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import InstrumentedAttribute

from models import Photo, SingleThumbnail, Thumbnail, User


@dataclass(frozen=True)
class Kind:
    """One kind of file. Its prefix ends with a slash, so that no sibling's name begins with it."""

    name: str  # the `purpose` of its rows
    prefix: str  # of its keys
    is_public: bool  # whether anyone who knows a key may read the object
    referrers: tuple[InstrumentedAttribute[Any], ...]  # the columns that refer to its rows
    is_streamed: bool = False  # whether it may be stored in parts, while it arrives
    is_read: bool = False  # whether the service reads it again, or signs links to it


PROFILE_PICTURE = Kind(
    name="profile_picture",
    prefix="profile_pics/",
    is_public=True,
    referrers=(User.picture_id,),
)
# As it was sent, with all that it says of its sender.
PHOTO_ORIGINAL = Kind(
    name="photo_original",
    prefix="originals/",
    is_public=False,
    referrers=(Photo.original_id,),
    is_streamed=True,
    is_read=True,
)
# What is shown of photos: their masters, and thumbnails, which are made of those.
PHOTO_RENDITION = Kind(
    name="photo_rendition",
    prefix="photos/",
    is_public=True,
    referrers=(Photo.master_id, Thumbnail.file_id),
    is_read=True,
)
PRIVATE_PHOTO_RENDITION = Kind(
    name="private_photo_rendition",
    prefix="private_photos/",
    is_public=False,
    referrers=(Photo.master_id, Thumbnail.file_id),
    is_read=True,
)
# Of files of which nothing else is kept.
SINGLE_THUMBNAIL = Kind(
    name="single_thumbnail",
    prefix="thumbnails/",
    is_public=True,
    referrers=(SingleThumbnail.file_id,),
)
KINDS = (
    PROFILE_PICTURE,
    PHOTO_ORIGINAL,
    PHOTO_RENDITION,
    PRIVATE_PHOTO_RENDITION,
    SINGLE_THUMBNAIL,
)

# What a browser puts by itself, before it is looked at and becomes a file of some kind: private,
# referred to by nothing, and removed by the bucket after a day.
INCOMING_PREFIX = "incoming/"


def is_public(key: str) -> bool:
    """Tell whether anyone may read what lies under this key."""
    return any(kind.is_public and key.startswith(kind.prefix) for kind in KINDS)


def is_streamed(name: str) -> bool:
    """Tell whether files of this kind may be stored in parts."""
    return any(kind.is_streamed and kind.name == name for kind in KINDS)
