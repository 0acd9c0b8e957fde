"""A file that a parser reads where it lies, whole or put together of sound parts."""

import io
from bisect import bisect_right
from itertools import accumulate
from typing import IO, TYPE_CHECKING, cast

from pictures.values import Content

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def open_view(*parts: Content) -> IO[bytes]:
    """Open the parts as one file."""
    return cast("IO[bytes]", FileView(*parts))


class FileView(io.RawIOBase):
    """The parts one behind the other: an io.BytesIO would begin with a copy of them."""

    def __init__(self, *parts: Content) -> None:
        super().__init__()
        self.parts = tuple(part for part in parts if len(part)) or (b"",)
        self._ends = tuple(accumulate(len(part) for part in self.parts))
        self._position = 0

    @property
    def size_bytes(self) -> int:
        return self._ends[-1]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        if len(self.parts) == 1:  # a GIF is read in thousands of pieces
            end = None if size is None or size < 0 else self._position + size
            piece = bytes(self.parts[0][self._position : end])
            self._position += len(piece)
            return piece
        left_bytes = max(0, self.size_bytes - self._position)
        wanted_bytes = left_bytes if size is None or size < 0 else min(size, left_bytes)
        first = self._find_piece(wanted_bytes)
        if len(first) == wanted_bytes:
            self._position += wanted_bytes
            return bytes(first)
        read = bytearray(wanted_bytes)
        self.readinto(read)
        return bytes(read)

    def readinto(self, buffer: "WriteableBuffer") -> int:
        target = memoryview(buffer).cast("B")
        filled_bytes = 0
        while filled_bytes < len(target):
            piece = self._find_piece(len(target) - filled_bytes)
            if not piece:
                break
            target[filled_bytes : filled_bytes + len(piece)] = piece
            filled_bytes += len(piece)
            self._position += len(piece)
        return filled_bytes

    def _find_piece(self, most_bytes: int) -> Content:
        """What comes next of the part that the position is in; empty at the end."""
        if self._position >= self.size_bytes:
            return b""
        number = bisect_right(self._ends, self._position)
        part = self.parts[number]
        offset = self._position - self._ends[number] + len(part)
        return part[offset : offset + most_bytes]

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        starts = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._position,
            io.SEEK_END: self.size_bytes,
        }
        position = starts[whence] + offset
        if position < 0:
            raise ValueError("a position before the beginning")
        self._position = position
        return position

    def tell(self) -> int:
        return self._position
