"""Cursors: where a page of a list ends, in a form that nobody is tempted to count with.

One is not secret, and not signed: whoever makes one up sees what any page shows.
"""

import base64
import struct

from errors import BadCursor

# A mark, so that a cursor of another list is none of ours; then the last id of the page.
_LAYOUT = struct.Struct("!Bq")
_MARK = 1


def write_cursor(last_id: int) -> str:
    """Write the cursor of the page that ends with this id."""
    return base64.urlsafe_b64encode(_LAYOUT.pack(_MARK, last_id)).decode()


def read_cursor(cursor: str) -> int:
    """Return the id that the page before ended with; raises BadCursor."""
    try:
        _, last_id = _LAYOUT.unpack(base64.urlsafe_b64decode(cursor))
    except (ValueError, struct.error) as err:
        raise BadCursor from err
    if write_cursor(last_id) != cursor:  # base64 can be written in several ways
        raise BadCursor
    return int(last_id)
