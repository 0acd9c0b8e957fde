"""What clients did to the photos of an account, and whether its gallery is what they were told.

A photo is known by its caption, which its client makes up: also one whose answer never came.
"""

import threading
from collections.abc import Iterator, Mapping
from typing import Any

from image_utils import make_master, make_renditions
from pictures import Rendition
from storage import PART_BYTES
from tests.crash.findings import Finding
from tests.crash.history import GONE, History
from tests.support.hashes import hash_file
from tests.support.pictures import encoded, numbered

# More than clients send between two comparisons.
PICTURES = 500
# A comparison reads the whole of each original, and there are two galleries.
MOST_PHOTOS = 3
# In two parts, the second of which is short: as few bytes as can be.
PADDED_BYTES = PART_BYTES + 100_000
MASTERS = {"public": "photo_rendition", "private": "private_photo_rendition"}
READ_PHOTOS = """
SELECT photos.*, original.sha256 AS original_sha256, master.sha256 AS master_sha256,
       master.purpose AS master_purpose
FROM photos
LEFT JOIN stored_files original ON original.id = photos.original_id
LEFT JOIN stored_files master ON master.id = photos.master_id
"""


class Photo:
    """A photo that a client added, or tried to, and what it may show by now."""

    def __init__(self, caption: str, visibility: str) -> None:
        self.caption = caption
        self.id: int | None = None  # once it was told
        self.url = ""  # of its master, as it was told last
        self.originals = History(None)  # checksums
        self.visibilities = History(visibility)
        self.alts = History("")
        self.thumbnail_urls: set[str] = set()  # of its master, while it is public

    def may_be_gone(self) -> bool:
        return not self.originals.possible().isdisjoint({None, GONE})

    def is_certain(self) -> bool:
        """Whether there is but one picture that it may show, to but one sort of people."""
        originals = self.originals.possible()
        is_there = len(originals) == 1 and originals.isdisjoint({None, GONE})
        return is_there and len(self.visibilities.possible()) == 1

    def note_thumbnail(self, url: str) -> None:
        """Keep where a thumbnail was, which is dead once the photo shows another, or is hidden."""
        if self.visibilities.possible() == {"public"}:
            self.thumbnail_urls.add(url)


class Gallery:
    """The photos of one account. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._photos: dict[str, Photo] = {}
        self._count = 0

    def begin(self, visibility: str) -> Photo:
        """Make the record of a photo that is about to be added."""
        with self._lock:
            self._count += 1
            photo = Photo(f"photo {self._count}", visibility)
            self._photos[photo.caption] = photo
            return photo

    def find_told(self) -> list[Photo]:
        """Find the photos that can be asked for: their ids were told, and they are not gone."""
        with self._lock:
            photos = list(self._photos.values())
        return [
            photo
            for photo in photos
            if photo.id is not None and photo.originals.possible() != {GONE}
        ]

    def compare(
        self, found: list[Mapping[str, Any]], masters: Mapping[str, str]
    ) -> Iterator[Finding]:
        """Say what of these rows no accepted request left, and go on from what is there.

        `masters` has the checksum of the master of each original.
        """
        rows = {row["caption"]: row for row in found}
        for caption in rows.keys() - self._photos.keys():
            yield Finding("wrong", f"{caption} is there, which nobody added")
        for caption, photo in list(self._photos.items()):
            if caption not in rows:
                if not photo.may_be_gone():
                    yield Finding("wrong", f"{caption} is not there, and nobody deleted it")
                del self._photos[caption]
                continue
            row = rows[caption]
            if row["original_sha256"] not in photo.originals.possible() - {None}:
                yield Finding("wrong", f"{caption} shows what no accepted request left")
            elif row["master_sha256"] != masters[row["original_sha256"]]:
                yield Finding("wrong", f"the master of {caption} is not of its original")
            if row["visibility"] not in photo.visibilities.possible():
                yield Finding("wrong", f"{caption} is {row['visibility']}, as no request left it")
            if row["master_purpose"] != MASTERS[row["visibility"]]:
                yield Finding("wrong", f"{caption} is {row['visibility']}, its master is not")
            if row["alt"] not in photo.alts.possible():
                yield Finding("wrong", f"{caption} says what no accepted request left")
            photo.id = row["id"]
            photo.originals.restart(row["original_sha256"])
            photo.visibilities.restart(row["visibility"])
            photo.alts.restart(row["alt"])


class Originals:
    """Small pictures unlike each other, made when they are first asked for. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Of each original, the checksum of its master.
        self.masters: dict[str, str] = {}
        self._contents: dict[str, bytes] = {}  # of masters, by their checksums
        self._rendered: dict[tuple[str, Rendition], str] = {}

    def make(self, number: int, is_padded: bool) -> tuple[bytes, str]:
        """Make one of them, with its checksum."""
        content = encoded(numbered(number % PICTURES, 200, 200), quality=90)
        master = make_master(content)
        if is_padded:
            content = content.ljust(PADDED_BYTES, b"\0")
        checksum = hash_file(content)
        with self._lock:
            self.masters[checksum] = master.sha256
            self._contents[master.sha256] = master.content
        return content, checksum

    def render(self, master_sha256: str, rendition: Rendition) -> str:
        """Return the checksum of what is made of a master."""
        key = (master_sha256, rendition)
        if key not in self._rendered:
            (picture,) = make_renditions(self._contents[master_sha256], [rendition])
            self._rendered[key] = picture.sha256
        return self._rendered[key]
