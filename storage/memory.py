"""A store in memory, for tests: what an object store promises and nothing else."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock

from errors import ObjectExists, ObjectNotFound, StoreUnavailable
from storage.contract import FoundObject, OpenObject, check_key


@dataclass(frozen=True)
class _Object:
    content: bytes
    content_type: str
    modified_at: datetime


class MemoryStore:
    """Objects in a dictionary, one for each bucket of the same service."""

    def __init__(
        self, bucket: str = "memory", buckets: dict[str, dict[str, _Object]] | None = None
    ) -> None:
        self.bucket = bucket
        self._buckets = {} if buckets is None else buckets
        self._objects = self._buckets.setdefault(bucket, {})
        self._lock = Lock()

    def put(self, key: str, content: bytes, content_type: str, sha256: str) -> None:
        if hashlib.sha256(content).hexdigest() != sha256:
            raise StoreUnavailable
        with self._lock:
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

    def delete(self, key: str) -> None:
        self._objects.pop(check_key(key), None)

    def url(self, key: str) -> str:
        return f"memory://{self.bucket}/{key}"

    def find(self, prefix: str) -> Iterator[FoundObject]:
        for key, found in list(self._objects.items()):
            if key.startswith(prefix):
                yield FoundObject(key, len(found.content), found.modified_at)

    def remove_leftovers(self, older_than_seconds: float) -> None:
        pass

    def in_bucket(self, bucket: str) -> "MemoryStore":
        return MemoryStore(bucket, self._buckets)
