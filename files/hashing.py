"""The hash of a file: SHA-256, and of one longer than a part that of its parts' hashes.

So no byte is hashed twice, whatever way it takes: what the store compares a part with is what the
row keeps, composed as S3 composes it ("Checking object integrity", checksums of type COMPOSITE).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from storage import PART_BYTES


@dataclass(frozen=True)
class Hashes:
    """The hash of a file, and that of its beginning."""

    whole: str
    beginning: str


@dataclass(frozen=True)
class PartHash:
    """The SHA-256 of a part, and of its first bytes where the file's beginning ends among them."""

    whole: bytes
    beginning: bytes | None

    @classmethod
    def of(cls, content: bytearray, beginning_bytes: int | None) -> "PartHash":
        """Hash a part whose first `beginning_bytes` end the beginning, if they are given."""
        part = hashlib.sha256()
        if beginning_bytes is None:
            part.update(content)
            return cls(part.digest(), None)
        part.update(memoryview(content)[:beginning_bytes])
        beginning = part.digest()
        part.update(memoryview(content)[beginning_bytes:])
        return cls(part.digest(), beginning)


def compose(parts: Sequence[PartHash]) -> Hashes:
    """Compose the hashes of a file and of its beginning from those of all parts, in their order."""
    whole = _compose([part.whole for part in parts])
    before: list[bytes] = []
    for part in parts:
        if part.beginning is not None:
            return Hashes(whole, _compose([*before, part.beginning]))
        before.append(part.whole)
    return Hashes(whole, whole)


def _compose(digests: Sequence[bytes]) -> str:
    if len(digests) == 1:
        return digests[0].hex()
    return f"{hashlib.sha256(b''.join(digests)).hexdigest()}-{len(digests)}"


class FileHash:
    """Hashes a file that is read from its first byte to its last, to compare with a row's hash."""

    def __init__(self) -> None:
        self._digests: list[bytes] = []
        self._part = hashlib.sha256()
        self._part_bytes = 0
        self._whole: hashlib._Hash | None = None

    @classmethod
    def like(cls, expected: str) -> "FileHash":
        """Hash as this was hashed: what was put at once was not composed, however long it is."""
        found = cls()
        if "-" not in expected:
            found._whole = hashlib.sha256()
        return found

    def update(self, content: bytes | bytearray) -> None:
        """Take the next bytes, of any number."""
        if self._whole is not None:
            self._whole.update(content)
            return
        left = memoryview(content)
        while left:
            if self._part_bytes == PART_BYTES:  # and more follows
                self._digests.append(self._part.digest())
                self._part = hashlib.sha256()
                self._part_bytes = 0
            taken = left[: PART_BYTES - self._part_bytes]
            self._part.update(taken)
            self._part_bytes += len(taken)
            left = left[len(taken) :]

    def text(self) -> str:
        """Write the hash as rows keep it: in hexadecimal, and composed of how many parts."""
        if self._whole is not None:
            return self._whole.hexdigest()
        return _compose([*self._digests, self._part.digest()])
