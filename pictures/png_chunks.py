"""The chunks of a PNG that a decoder is shown, and how far its pixels go (PNG 3, 5 to 11).

A chunk beside the pixels that is unsound is left out, as PNG 3, 13.2 has it, so that it refuses no
picture; so is one that counts only before the pixels and stands behind them.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from pictures.interlace import ADAM7, AT_ONCE, MissingRows
from pictures.reading import MOST_STEPS
from pictures.values import Content

_SIGNATURE_BYTES = 8
_HEAD_BYTES = 8
_LENGTH_BYTES = 4
_CHECKSUM_BYTES = 4
# Behind the coded pixels, of what they were (RFC 1950, 2.2).
_STREAM_SUM_BYTES = 4
_HEAD_END = 29
PIXELS = b"IDAT"
_END = b"IEND"
# Behind the pixels these count for nothing (PNG 3, table 7).
_BEFORE_PIXELS = frozenset(
    b"PLTE tRNS bKGD hIST sBIT sPLT pHYs acTL cHRM gAMA iCCP sRGB cICP mDCV mDCv cLLI cLLi".split()
)
# By colour type (table 8).
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_MOST_FILTER = 4
# So much is decompressed at a time, of so much.
_PIECE_BYTES = 64 * 1024


class Chunk(NamedTuple):
    """A chunk, which may end behind the file."""

    kind: bytes
    start: int
    length: int

    @property
    def data_start(self) -> int:
        return self.start + _HEAD_BYTES

    @property
    def data_end(self) -> int:
        return self.data_start + self.length

    @property
    def end(self) -> int:
        return self.data_end + _CHECKSUM_BYTES

    @property
    def is_ancillary(self) -> bool:
        return bool(self.kind[0] & 0x20)


def list_chunks(content: Content) -> Iterator[Chunk]:
    """List the chunks up to the end, as far as there are any, and no more than pictures have."""
    position = _SIGNATURE_BYTES
    for _ in range(MOST_STEPS):
        head = bytes(content[position : position + _HEAD_BYTES])
        if len(head) < _HEAD_BYTES:
            return
        chunk = Chunk(head[4:], position, int.from_bytes(head[:4], "big"))
        yield chunk
        if chunk.kind == _END:
            return
        position = chunk.end


def leave_out_unsound(content: Content, chunks: Sequence[Chunk]) -> list[Content]:
    """Give the parts of the file without the chunks that its decoder must not see."""
    parts: list[Content] = []
    kept_from = 0
    have_pixels_begun = False
    are_pixels_over = False
    for chunk in chunks:
        is_late = have_pixels_begun and chunk.kind in _BEFORE_PIXELS
        if chunk.kind == PIXELS:
            # They end with the first chunk of another kind, as browsers have it.
            have_pixels_begun = True
            is_late = are_pixels_over
        elif have_pixels_begun:
            are_pixels_over = True
        if is_late or (chunk.is_ancillary and not _is_sound(content, chunk, have_pixels_begun)):
            parts.append(content[kept_from : chunk.start])
            kept_from = min(chunk.end, len(content))
    return [*parts, content[kept_from:]]


def _is_sound(content: Content, chunk: Chunk, have_pixels_begun: bool) -> bool:
    if chunk.end > len(content):
        return not have_pixels_begun  # before them the file is cut
    summed = content[chunk.start + _LENGTH_BYTES : chunk.data_end]
    return zlib.crc32(summed) == int.from_bytes(content[chunk.data_end : chunk.end], "big")


class CodedPixels:
    """The coded pixels of a PNG, which end with the first chunk behind them of another kind."""

    def __init__(self, content: Content, chunks: Sequence[Chunk]) -> None:
        self._head = content[:_HEAD_END]
        self._pieces: list[Content] = []
        self._starts: list[int] = []
        for chunk in chunks:
            if chunk.kind == PIXELS:
                self._starts.append(chunk.data_start)
                self._pieces.append(content[chunk.data_start : chunk.data_end])
            elif self._pieces:
                break
        self.is_damaged = False
        self._sound_bytes = 0

    def find_missing(self) -> tuple[MissingRows, ...]:
        """Find what is missing of each pass: decompress the pixels, and count their rows.

        After that `is_damaged` tells whether they end in nonsense.
        """
        width = int.from_bytes(self._head[16:20], "big")
        height = int.from_bytes(self._head[20:24], "big")
        depth_bits, colour_type, *_, is_interlaced = self._head[24:29]
        bits = depth_bits * _SAMPLES[colour_type]
        rows = _Rows(self._pieces)
        missing: list[MissingRows] = []
        for each in ADAM7 if is_interlaced else AT_ONCE:
            columns = -(-(width - each.left) // each.across)
            most_rows = -(-(height - each.top) // each.down)
            if columns <= 0 or most_rows <= 0:
                continue
            arrived_rows = rows.count(1 + -(-columns * bits // 8), most_rows)
            if arrived_rows < most_rows:
                missing.append(MissingRows(each, each.top + arrived_rows * each.down))
        self.is_damaged = rows.are_damaged
        self._sound_bytes = rows.sound_bytes
        return tuple(missing)

    def find_sum(self) -> int:
        """Find where in the file the sum of all rows stands, wrong where none is missing."""
        left_bytes = self._sound_bytes + 1 - _STREAM_SUM_BYTES
        for start, piece in zip(self._starts, self._pieces, strict=True):
            if left_bytes <= len(piece):
                return start + left_bytes
            left_bytes -= len(piece)
        raise AssertionError("more bytes were read than there are")


class _Rows:
    """The rows of coded pixels, of which a piece is decompressed at a time."""

    def __init__(self, pixels: Sequence[Content]) -> None:
        self._pieces: Iterator[Content] = (
            piece[at : at + _PIECE_BYTES]
            for piece in pixels
            for at in range(0, len(piece), _PIECE_BYTES)
        )
        self._stream = zlib.decompressobj()
        self._decompressed = bytearray()
        self._is_over = False
        self.are_damaged = False
        self.sound_bytes = 0  # of the coded ones, before the first that makes no sense

    def count(self, row_bytes: int, most_rows: int) -> int:
        """Count the next rows of this length, up to the first that is not whole or makes no sense.

        Behind that one there is none.
        """
        rows = 0
        position = 0
        while rows < most_rows and not self._is_over:
            if len(self._decompressed) - position < row_bytes:
                del self._decompressed[:position]
                position = 0
                self._is_over = not self._decompress()
            elif self._decompressed[position] > _MOST_FILTER:
                self._is_over = True
                self.are_damaged = True
            else:
                position += row_bytes
                rows += 1
        del self._decompressed[:position]
        return rows

    def _decompress(self) -> bool:
        """Decompress some more; tell whether there was any."""
        if self._stream.eof:
            return False
        data = self._stream.unconsumed_tail or next(self._pieces, b"")
        before = self._stream.copy()
        try:
            piece = self._stream.decompress(data, _PIECE_BYTES)
        except zlib.error:
            self._stream = before
            return self._decompress_up_to_fault(data)
        self._decompressed += piece
        self.sound_bytes += len(data) - len(self._stream.unconsumed_tail)
        return bool(data or piece)

    def _decompress_up_to_fault(self, data: Content) -> bool:
        """What comes before a fault is lost where all is decompressed at once."""
        self._pieces = iter(())
        self.are_damaged = True
        with suppress(zlib.error):
            for at in range(len(data)):
                self._decompressed += self._stream.decompress(data[at : at + 1])
                self.sound_bytes += 1
        self._stream = zlib.decompressobj()
        return True
