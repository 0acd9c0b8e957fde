"""The hash of a file while it arrives, and of its beginning: in threads, in the order it came."""

import asyncio
import hashlib
from dataclasses import dataclass

from concurrency import start_in_thread


@dataclass(frozen=True)
class Hashes:
    """The SHA-256 of a file, and of its beginning, in hexadecimal."""

    whole: str
    beginning: str


class FileHash:
    """Hashes what it is given behind what it was given before, while others go on."""

    def __init__(self) -> None:
        self._whole = hashlib.sha256()
        self._beginning: hashlib._Hash | None = None  # once all of it has been hashed
        self._hashed_bytes = 0
        self._last: asyncio.Task[None] | None = None

    def begin(self, content: bytearray, beginning_bytes: int | None) -> "asyncio.Task[None]":
        """Begin to hash the next bytes, which stay as they are until the task is done.

        `beginning_bytes` is the length of the file's beginning, known at the latest with its last
        byte; without one, the beginning is all of the file.
        """
        self._last = asyncio.create_task(self._hash_behind(self._last, content, beginning_bytes))
        return self._last

    async def finish(self) -> Hashes:
        """Wait for what was begun; tell the hashes."""
        if self._last is not None:
            await self._last
        whole = self._whole.hexdigest()
        return Hashes(whole, whole if self._beginning is None else self._beginning.hexdigest())

    async def _hash_behind(
        self,
        earlier: "asyncio.Task[None] | None",
        content: bytearray,
        beginning_bytes: int | None,
    ) -> None:
        if earlier is not None:
            await earlier
        await start_in_thread(lambda: self._hash(memoryview(content), beginning_bytes))

    def _hash(self, content: memoryview, beginning_bytes: int | None) -> None:
        end_bytes = self._hashed_bytes + len(content)
        if self._beginning is None and beginning_bytes is not None and beginning_bytes <= end_bytes:
            here_bytes = beginning_bytes - self._hashed_bytes
            self._whole.update(content[:here_bytes])
            self._beginning = self._whole.copy()
            content = content[here_bytes:]
        self._whole.update(content)
        self._hashed_bytes = end_bytes
