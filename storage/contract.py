"""The contract of a store: five verbs, a listing and uploads in parts, written synchronous.

Every store keeps it alike, and every failure is one of ours; `tests/stores` runs it on each of
them. The application never calls a store itself, but its asynchronous face.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from errors import DarkroomError, ObjectNotFound
from storage import markers

# Calls to one store at once. The pool has as many threads more for each store, so
# that one that hangs takes none from pictures, passwords and the other stores.
STORE_THREADS = 16
# `folder/name.ext`. A part never starts with a dot,
# so no key leaves its folder or names a hidden file.
KEY_PATTERN = re.compile(r"[a-z0-9_]+(?:/[A-Za-z0-9][A-Za-z0-9._-]*)+")
# What the column of the key holds; S3 takes 1024.
LONGEST_KEY = 255
# Every part of an upload but the last has exactly this length: the least that
# S3 takes, so that whoever streams holds no more of a file than it has to.
PART_BYTES = 5 * 1024 * 1024
# What S3 deletes by one call. On disk as many take a second at most: each is a name that goes, and
# the folder is synced once for all of them.
DELETED_AT_ONCE = 1000
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
    is_possible = len(key) <= LONGEST_KEY and KEY_PATTERN.fullmatch(key)
    if not is_possible or key in markers.KEYS:
        raise ObjectNotFound
    return key


class Store(Protocol):
    """What a store does.

    Every failure is a StoreError or ObjectNotFound of ours; vendor errors never get out.

    `bucket` is '' on disk; keys match KEY_PATTERN; `sha256` is in hexadecimal.
    """

    bucket: str
    # Whether every verb tells by itself, once it expects a store, that this is another.
    looks_itself: bool

    @property
    def place(self) -> str:
        """Where it is, as an operator would say it."""

    def put(self, key: str, content: bytes, content_type: str, sha256: str) -> None:
        """Store durably before returning.

        Raises ObjectExists rather than overwrite, where the service can tell.

        Bytes that do not fit `sha256` are refused where they travel and the service checks them.
        """

    def open(self, key: str) -> OpenObject:
        """Open for reading; raises ObjectNotFound."""

    def exists(self, key: str) -> bool:
        """Tell whether there is an object under this very key."""

    @property
    def keeps_versions(self) -> bool:
        """Whether a deletion was answered so that the store keeps what was deleted."""

    def delete(self, key: str, erases: bool = False) -> None:
        """Remove durably; what is not there is fine.

        With `erases` also what a store that keeps versions has of it, where we may.
        """

    def delete_many(self, keys: Sequence[str], erases: bool = False) -> dict[str, DarkroomError]:
        """Remove up to `batch_size` objects durably; what is not there is fine.

        Returns why for each key that could not be removed: a StoreError, or ObjectNotFound for one
        that is none of ours. Empty, all are gone. Raises StoreError when the store as a whole
        failed, which may have removed any of them.
        """

    def batch_size(self, erases: bool = False) -> int:
        """Tell of how many keys a call of `delete_many` fits into its deadline.

        DELETED_AT_ONCE, or fewer where the store has to be asked for each of them.
        """

    def url(self, key: str) -> str:
        """Name the public URL that a browser loads; asks nobody."""

    def signed_url(self, key: str, seconds: int) -> str:
        """Name a URL that whoever has it may read until then, also of a private object.

        It leads to the service that checks the signature, never to a public address before it.
        """

    def find(self, prefix: str) -> Iterator[FoundObject]:
        """List every object whose key starts so, in bounded memory and no order."""

    def begin_upload(self, key: str, content_type: str) -> str:
        """Begin to store an object in parts; return the upload's id.

        Nothing lies under the key until the upload is completed. The parts that came meanwhile are
        kept until it is completed or aborted.
        """

    def put_part(self, key: str, upload_id: str, number: int, content: bytes, sha256: str) -> str:
        """Store one part, numbered from 1; return its receipt, which completing asks for.

        Parts may come in any order and side by side. All but the last have PART_BYTES. A receipt
        tells just these bytes from any others, and nobody but the store reads it. Bytes that do not
        fit `sha256` are refused as `put` refuses them, or when the upload is completed.
        """

    def complete_upload(self, key: str, upload_id: str, receipts: Sequence[str]) -> None:
        """Make the parts one object, durably before returning; there is at least one.

        `receipts` are of all parts in their order. Raises ObjectExists as `put` does, and
        StoreUnavailable where a part is not there, or is not the one of its receipt. After a
        failure the upload is still to be aborted.
        """

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts; what is not there is fine.

        A part that is on its way may outlast it on S3, until it is aborted once more.
        """

    def find_uploads(self, key: str) -> list[str]:
        """List the ids of this very key's unfinished uploads; empty on disk, where drafts expire.

        For an upload whose id nobody learned: the answer to `begin_upload` was lost.
        """

    def remove_leftovers(self, older_than_seconds: float) -> None:
        """Remove what unfinished puts and uploads left, where no other verb can find it."""

    def prepare(self) -> None:
        """Make what a first start needs: the folder on disk, which nothing else ever makes.

        Raises StartupError where it cannot keep pictures safe.
        """

    def prove(self) -> None:
        """Do once what every put rests on; raises StartupError where it cannot be done."""

    def expect(self, store_id: str) -> None:
        """Say which store this must be: whoever `looks_itself` raises WrongStore for another."""

    def read_marker(self) -> bytes | None:
        """Read the store's marker; None where there surely is none.

        Raises StoreRefused where we may not look, and StoreUnavailable.
        """

    def write_marker(self, content: bytes, *, is_first: bool) -> None:
        """Let the marker say this, durably; where it `is_first`, raise ObjectExists for another."""

    def in_bucket(self, bucket: str) -> "Store":
        """Give the same service with another bucket.

        Rows from before a bucket was changed are still served.
        """
