"""A GIF as browsers show its first frame, of which whatever rows arrived are decoded.

What is missing is white, or filled in where it is interlaced. The memory of the frame is marked
before it is decoded; where its end still holds the mark, it is decoded once more with another one,
and what holds both did not arrive.
"""

from typing import Any, NamedTuple

from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from pictures.file_view import open_view
from pictures.formats import Header
from pictures.interlace import AT_ONCE, GIF_PASSES, MissingRows, Pass, fill_in
from pictures.lost import WHOLE, Arrival, LostPart, paint_white
from pictures.pillow import keep_what_arrived
from pictures.values import Content

# Indices that few palettes go up to.
_MARK = 251
_OTHER_MARK = 249
_END = b"\0;"


class _EndOfData(NamedTuple):
    """Where the first pixel lies that did not arrive: in which pass, and where on the screen."""

    pass_number: int
    row: int
    column: int


class GifPicture(GifImageFile):
    """A GIF, with what arrived of its first frame once it is loaded.

    Its screen is clear around the frame, where Pillow paints the first colour.
    """

    arrival = WHOLE
    drawn_box: tuple[int, int, int, int] | None = None
    _has_first_frame = False
    _is_cut_short = False

    def __init__(self, content: Content, _: Header | None = None, mark: int = _MARK) -> None:
        self._content = content
        self._mark = mark
        super().__init__(open_view(content))

    def _open(self) -> None:
        super()._open()
        extents = self.tile[0].extents
        if extents and extents != (0, 0, *self.size):
            self.drawn_box = extents
        cut_at = self._find_cut_block()
        if cut_at is not None:
            # Pillow decodes nothing of a block that is not whole.
            self._is_cut_short = True
            left = self._content[cut_at + 1 :]
            length = bytes((len(left),)) if len(left) else b""
            self.fp = open_view(self._content[:cut_at], length, left, _END)
            self._fp = self.fp

    def load(self) -> Any:
        if not self.tile or self._has_first_frame:
            return super().load()
        with keep_what_arrived():
            return super().load()

    def load_prepare(self) -> None:
        if self._has_first_frame:
            super().load_prepare()
            return
        _, frame_box, _, arguments = self.tile[0]
        assert frame_box is not None and isinstance(arguments, tuple)  # Pillow's reader has both
        self._frame_box = frame_box
        self._is_interlaced = bool(arguments[1])
        super().load_prepare()
        self.im.paste(self._mark, self._frame_box)

    def load_end(self) -> None:
        super().load_end()
        if self._has_first_frame:
            return
        self._has_first_frame = True
        if self._mark != _MARK:
            return
        end = self._find_end_of_data()
        self.arrival = Arrival(self._is_cut_short)
        if end is not None:
            self._make_up_for_missing(end)

    def _find_end_of_data(self) -> _EndOfData | None:
        """Find where the data ended before the frame did; None if it did not."""
        _, top, right, bottom = self._frame_box
        # The last of the four passes has the odd rows.
        last = bottom - 1 - (self._is_interlaced and bottom - top > 1 and (bottom - top) % 2)
        if self._find_mark(last) == right:
            return None
        other = GifPicture(self._content, mark=_OTHER_MARK)
        other.load()
        for number, each in enumerate(self._passes):
            for row in range(top + each.top, bottom, each.down):
                column = max(self._find_mark(row), other._find_mark(row))
                if column < right:
                    return _EndOfData(number, row, column)
        return None

    @property
    def _passes(self) -> tuple[Pass, ...]:
        return GIF_PASSES if self._is_interlaced else AT_ONCE

    def _make_up_for_missing(self, end: _EndOfData) -> None:
        """Fill in what later passes lack, and make white what nothing was there of."""
        left, top, right, bottom = self._frame_box
        ended, *later = self._passes[end.pass_number :]
        missing = [MissingRows(ended, end.row - top), *(MissingRows(each, 0) for each in later)]
        fill_in(self, self._frame_box, missing)
        lost: tuple[LostPart, ...] = ()
        if not end.pass_number:
            rest_top = min(end.row + ended.down, bottom)
            rest_of_row = LostPart(end.column, end.row, right, rest_top)
            lost = (rest_of_row, LostPart(left, rest_top, right, bottom))
        self.arrival = Arrival(is_cut_short=True, lost=lost)
        paint_white(self, lost)

    def _find_mark(self, row: int) -> int:
        """Find from where on a row holds nothing but the mark."""
        left, _, right, _ = self._frame_box
        pixels = Image.Image()._new(self.im.crop((left, row, right, row + 1))).tobytes()
        return left + len(pixels.rstrip(bytes((self._mark,))))

    def _find_cut_block(self) -> int | None:
        """Find the block of the frame's data that is not whole, or begins where the file ends.

        None if the blocks come to an end (GIF89a, 15 and 16).
        """
        position = self.tile[0].offset
        while position < len(self._content):
            length = self._content[position]
            if not length:
                return None
            if position + length >= len(self._content):
                break
            position += 1 + length
        return position
