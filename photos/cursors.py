"""Cursors: where a page of a list ends, in a form that nobody is tempted to count with.

One is not secret, and not signed: whoever makes one up sees what any page shows.
"""

import base64
import struct
from enum import IntEnum

from errors import BadCursor

# A mark, so that a cursor of another list is none of ours; then the last id of the page.
_LAYOUT = struct.Struct("!Bq")
# Above every id.
_NEWEST = 2**63 - 1


class Listed(IntEnum):
    """What a list is of; its mark."""

    PHOTOS = 1
    SINGLE_THUMBNAILS = 2


def write_cursor(last_id: int, listed: Listed) -> str:
    """Write the cursor of the page that ends with this id."""
    return base64.urlsafe_b64encode(_LAYOUT.pack(listed, last_id)).decode()


def find_start(cursor: str | None, listed: Listed) -> int:
    """Return the id below which the page begins; raises BadCursor."""
    if cursor is None:
        return _NEWEST
    try:
        _, last_id = _LAYOUT.unpack(base64.urlsafe_b64decode(cursor))
    except (ValueError, struct.error) as err:
        raise BadCursor from err
    # Base64 can be written in several ways, and the mark may be another's.
    if write_cursor(last_id, listed) != cursor:
        raise BadCursor
    return int(last_id)
