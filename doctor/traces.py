"""What the doctor has put into the bucket, remembered before it is sent, and removed at the end.

Every name of it shows what it is, so that the next run may remove what a killed one left.
"""

import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta

from errors import DarkroomError
from storage.s3 import S3Store

# What the last part of a key of ours begins with; a picture's has only hexadecimal digits.
NAME_BEGIN = "darkroom-check-"
# No run takes so long, whatever the clocks of two machines say.
LEFT_AFTER = timedelta(hours=1)


def name_key(prefix: str) -> str:
    """Name an object of the doctor's own."""
    return f"{prefix}{NAME_BEGIN}{uuid.uuid4().hex}.jpg"


class Traces:
    """The objects and unfinished uploads that may be in the bucket now because of us."""

    def __init__(self, store: S3Store) -> None:
        self._store = store
        self._keys: dict[str, None] = {}
        self._doubtful: dict[str, None] = {}
        self.late: str | None = None  # what was being put when nobody waited any more
        self._uploads: dict[tuple[str, str], None] = {}

    def expect(self, key: str) -> str:
        """Remember that this object may be there from now on; return its key."""
        self._keys[key] = None
        return key

    def doubt(self, key: str) -> None:
        """Say that the store has refused the object: it is hardly there."""
        self._keys.pop(key, None)
        self._doubtful[key] = None

    def expect_upload(self, key: str, upload_id: str) -> None:
        """Remember an unfinished upload."""
        self._uploads[key, upload_id] = None

    def cut_off(self) -> None:
        """Say that what was expected last may arrive after its deletion."""
        self.late = next(reversed(self._keys), None)

    def below(self, prefix: str) -> list[str]:
        """List the objects that may be there below a prefix."""
        return [key for key in self._keys if key.startswith(prefix)]

    def forget(self, key: str) -> None:
        """Say that the object is surely gone."""
        self._keys.pop(key, None)

    def forget_upload(self, key: str, upload_id: str) -> None:
        """Say that the upload was aborted."""
        self._uploads.pop((key, upload_id), None)

    def remove_all(self) -> dict[str, Exception]:
        """Remove what is there of all that; return what could not be, and why."""
        left: dict[str, Exception] = {}
        for key, upload_id in list(self._uploads):
            try:
                self._store.abort_upload(key, upload_id)
                self.forget_upload(key, upload_id)
            except DarkroomError as err:
                left[key] = err
        for key in self._doubtful:
            with suppress(DarkroomError):
                self._store.delete(key, erases=True)
        for key in list(self._keys):
            try:
                self._store.delete(key, erases=True)
                self.forget(key)
            except DarkroomError as err:
                left[key] = err
        return left


def remove_leftovers(store: S3Store, prefixes: Iterator[str], now: datetime) -> list[str]:
    """Remove what earlier runs left that were killed; return the keys. Raises StoreError."""
    removed = []
    for prefix in prefixes:
        for found in store.find(prefix + NAME_BEGIN):
            if now - found.modified_at > LEFT_AFTER:
                with suppress(DarkroomError):
                    store.delete(found.key, erases=True)
                    removed.append(found.key)
    return removed
