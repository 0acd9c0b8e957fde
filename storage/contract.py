"""The contract of a store: five verbs and a listing, written synchronous.

Every store keeps it alike, and every failure is one of ours; `tests/stores` runs it on each of
them. The application never calls a store itself, but its asynchronous face.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from errors import ObjectNotFound

# Calls to one store at once. The pool has as many threads more for each store, so
# that one that hangs takes none from pictures, passwords and the other stores.
STORE_THREADS = 16
# `folder/name.ext`. A part never starts with a dot,
# so no key leaves its folder or names a hidden file.
KEY_PATTERN = re.compile(r"[a-z0-9_]+(?:/[A-Za-z0-9][A-Za-z0-9._-]*)+")
# What the column of the key holds; S3 takes 1024.
LONGEST_KEY = 255
# How an object may be cached: a key is never reused, so what lies under it never changes.
CACHE_CONTROL = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class FoundObject:
    """One object as a listing shows it."""

    key: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True)
class OpenObject:
    """An object opened for reading at its first byte; whoever opened it closes `stream`."""

    stream: BinaryIO
    size_bytes: int
    content_type: str


def check_key(key: str) -> str:
    """Return the key if it is one of ours; raises ObjectNotFound: nothing lies under another."""
    if len(key) > LONGEST_KEY or not KEY_PATTERN.fullmatch(key):
        raise ObjectNotFound
    return key


class Store(Protocol):
    """What a store does.

    Every failure is a StoreError or ObjectNotFound of ours; vendor errors never get out.

    `bucket` is '' on disk; keys match KEY_PATTERN; `sha256` is in hexadecimal.
    """

    bucket: str

    def put(self, key: str, content: bytes, content_type: str, sha256: str) -> None:
        """Store durably before returning.

        Raises ObjectExists rather than overwrite, where the service can tell.

        Bytes that do not fit `sha256` are refused where they travel and the service checks them.
        """

    def open(self, key: str) -> OpenObject:
        """Open for reading; raises ObjectNotFound."""

    def exists(self, key: str) -> bool:
        """Tell whether there is an object under this very key."""

    def delete(self, key: str) -> None:
        """Remove durably; what is not there is fine."""

    def url(self, key: str) -> str:
        """Name the public URL that a browser loads; asks nobody."""

    def find(self, prefix: str) -> Iterator[FoundObject]:
        """List every object whose key starts so, in bounded memory and no order."""

    def remove_leftovers(self, older_than_seconds: float) -> None:
        """Remove what unfinished puts left; nothing to do where a put is all or nothing."""

    def in_bucket(self, bucket: str) -> "Store":
        """Give the same service with another bucket.

        Rows from before a bucket was changed are still served.
        """
