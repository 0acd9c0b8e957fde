"""What clients did to the single thumbnails of an account, and whether they are what was told.

One is known by its checksum, for no two files of a lane are alike: also one whose answer never
came.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from image_utils import make_thumbnail
from tests.crash.findings import Finding
from tests.crash.history import GONE, History
from tests.support.pictures import encoded, numbered

# What `numbered` can write in a row, in round figures.
ROW = 1000
# A comparison reads all of them.
MOST_SINGLES = 4
READ_SINGLES = """
SELECT single_thumbnails.*, files.sha256, files.purpose, files.owner_id AS file_owner_id
FROM single_thumbnails
JOIN stored_files files ON files.id = single_thumbnails.file_id
"""


def make_file(number: int) -> tuple[bytes, str]:
    """Make a small file, with the checksum of its thumbnail, which is no other number's."""
    picture = numbered(number % ROW, 240, 180)
    picture.paste(numbered(number // ROW, 240, 90), (0, 90))
    content = encoded(picture, quality=90)
    return content, make_thumbnail(content).sha256


class Single:
    """A thumbnail that a client had made, or tried to."""

    def __init__(self) -> None:
        self.id: int | None = None  # once it was told
        self.history = History(None)  # of its checksum

    def may_be_gone(self) -> bool:
        return not self.history.possible().isdisjoint({None, GONE})


class Singles:
    """The single thumbnails of one account. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._singles: dict[str, Single] = {}

    def begin(self, sha256: str) -> Single:
        """Make the record of one that is about to be made."""
        with self._lock:
            self._singles[sha256] = Single()
            return self._singles[sha256]

    def find_told(self) -> list[Single]:
        """Find those that can be deleted: their ids were told, and they are not gone."""
        with self._lock:
            singles = list(self._singles.values())
        return [
            single
            for single in singles
            if single.id is not None and single.history.possible() != {GONE}
        ]

    def compare(self, found: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
        """Say what of these rows no accepted request left, and go on from what is there."""
        rows = {row["sha256"]: row for row in found}
        if len(rows) < len(found):
            yield Finding("wrong", "a single thumbnail is there twice, and was made once")
        for sha256 in rows.keys() - self._singles.keys():
            yield Finding("wrong", f"the thumbnail {sha256} is there, which nobody had made")
        for sha256, single in list(self._singles.items()):
            if sha256 not in rows:
                if not single.may_be_gone():
                    yield Finding("wrong", f"the thumbnail {sha256} is gone, as nobody wanted")
                del self._singles[sha256]
                continue
            row = rows[sha256]
            if single.history.possible() <= {None, GONE}:
                yield Finding("wrong", f"the thumbnail {sha256} is there, as no request left it")
            if (row["purpose"], row["file_owner_id"]) != ("single_thumbnail", row["owner_id"]):
                yield Finding("wrong", f"the file of the thumbnail {sha256} is another's")
            single.id = row["id"]
            single.history.restart(sha256)
