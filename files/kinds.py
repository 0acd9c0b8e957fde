"""The kinds of files, in one table: name, prefix, public or private, and who refers to them.

A new kind of file is a new row here. Nothing else knows a prefix: keys are made from it, `check`
and `sweep` look below it, `/media` and the bucket's policy open what is public.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import InstrumentedAttribute

from models import User


@dataclass(frozen=True)
class Kind:
    """One kind of file. Its prefix ends with a slash, so that no sibling's name begins with it."""

    name: str  # the `purpose` of its rows
    prefix: str  # of its keys
    is_public: bool  # whether anyone who knows a key may read the object
    referrers: tuple[InstrumentedAttribute[Any], ...]  # the columns that refer to its rows


PROFILE_PICTURE = Kind(
    name="profile_picture",
    prefix="profile_pics/",
    is_public=True,
    referrers=(User.picture_id,),
)
KINDS = (PROFILE_PICTURE,)


def is_public(key: str) -> bool:
    """Tell whether anyone may read what lies under this key."""
    return any(kind.is_public and key.startswith(kind.prefix) for kind in KINDS)
