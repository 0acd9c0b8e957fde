"""A store in memory, for tests: what an object store promises and nothing else."""

import hashlib
import io
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock

from errors import DarkroomError, ObjectExists, ObjectNotFound, StoreUnavailable
from storage.contract import DELETED_AT_ONCE, FoundObject, OpenObject, check_key


@dataclass(frozen=True)
class _Object:
    content: bytes
    content_type: str
    modified_at: datetime


@dataclass(frozen=True)
class _Upload:
    key: str
    content_type: str
    parts: dict[int, bytes] = field(default_factory=dict)


class MemoryStore:
    """Objects in a dictionary, one for each bucket of the same service."""

    keeps_versions = False
    looks_itself = False

    def __init__(
        self, bucket: str = "memory", buckets: dict[str, dict[str, _Object]] | None = None
    ) -> None:
        self.bucket = bucket
        self.place = f"memory://{bucket}"
        self._buckets = {} if buckets is None else buckets
        self._objects = self._buckets.setdefault(bucket, {})
        self._uploads: dict[str, _Upload] = {}
        self._marker: bytes | None = None
        self._lock = Lock()

    def put(self, key: str, content: bytes, content_type: str, sha256: str) -> None:
        _check(content, sha256)
        with self._lock:
            self._add(key, content, content_type)

    def _add(self, key: str, content: bytes, content_type: str) -> None:
        if check_key(key) in self._objects:
            raise ObjectExists
        self._objects[key] = _Object(content, content_type, datetime.now(UTC))

    def open(self, key: str) -> OpenObject:
        found = self._objects.get(check_key(key))
        if found is None:
            raise ObjectNotFound
        return OpenObject(io.BytesIO(found.content), len(found.content), found.content_type)

    def exists(self, key: str) -> bool:
        return check_key(key) in self._objects

    def delete(self, key: str, erases: bool = False) -> None:
        self._objects.pop(check_key(key), None)

    def delete_many(self, keys: Sequence[str], erases: bool = False) -> dict[str, DarkroomError]:
        errors: dict[str, DarkroomError] = {}
        for key in keys:
            try:
                self.delete(key, erases)
            except DarkroomError as err:
                errors[key] = err
        return errors

    def batch_size(self, erases: bool = False) -> int:
        return DELETED_AT_ONCE

    def url(self, key: str) -> str:
        return f"memory://{self.bucket}/{key}"

    def signed_url(self, key: str, seconds: int) -> str:
        return f"{self.url(key)}?seconds={seconds}"

    def find(self, prefix: str) -> Iterator[FoundObject]:
        for key, found in list(self._objects.items()):
            if key.startswith(prefix):
                yield FoundObject(key, len(found.content), found.modified_at)

    def begin_upload(self, key: str, content_type: str) -> str:
        upload_id = uuid.uuid4().hex
        self._uploads[upload_id] = _Upload(check_key(key), content_type)
        return upload_id

    def put_part(self, key: str, upload_id: str, number: int, content: bytes, sha256: str) -> str:
        _check(content, sha256)
        with self._lock:
            # A copy, as whoever streams uses the memory of a part again.
            self._find_upload(key, upload_id).parts[number] = bytes(content)
        return sha256

    def complete_upload(self, key: str, upload_id: str, receipts: Sequence[str]) -> None:
        with self._lock:
            upload = self._find_upload(key, upload_id)
            for number, receipt in enumerate(receipts, 1):
                _check(upload.parts.get(number), receipt)
            parts = [upload.parts[number] for number in range(1, len(receipts) + 1)]
            self._add(key, b"".join(parts), upload.content_type)
            del self._uploads[upload_id]

    def abort_upload(self, key: str, upload_id: str) -> None:
        with self._lock:
            self._uploads.pop(upload_id, None)

    def find_uploads(self, key: str) -> list[str]:
        return [name for name, upload in list(self._uploads.items()) if upload.key == key]

    def _find_upload(self, key: str, upload_id: str) -> _Upload:
        upload = self._uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise StoreUnavailable
        return upload

    def remove_leftovers(self, older_than_seconds: float) -> None:
        pass

    def prepare(self) -> None:
        pass

    def prove(self) -> None:
        pass

    def expect(self, store_id: str) -> None:
        pass

    def read_marker(self) -> bytes | None:
        return self._marker

    def write_marker(self, content: bytes, *, is_first: bool) -> None:
        with self._lock:
            if is_first and self._marker is not None:
                raise ObjectExists
            self._marker = content

    def in_bucket(self, bucket: str) -> "MemoryStore":
        return MemoryStore(bucket, self._buckets)


def _check(content: bytes | None, sha256: str) -> None:
    """Raise StoreUnavailable for bytes that are missing, or not those that were meant."""
    if content is None or hashlib.sha256(content).hexdigest() != sha256:
        raise StoreUnavailable
