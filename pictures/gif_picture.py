"""A GIF as browsers show its first frame, of which whatever rows arrived are decoded.

What is missing is white. The memory of the frame is marked before it is decoded; where its end
still holds the mark, it is decoded once more with another one, and what holds both did not arrive.
"""

from typing import Any

from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from pictures.file_view import open_view
from pictures.formats import Header
from pictures.lost import WHOLE, Arrival, LostPart, paint_white
from pictures.pillow import keep_what_arrived
from pictures.values import Content

# Indices that few palettes go up to.
_MARK = 251
_OTHER_MARK = 249
_END = b"\0;"


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
        lost = self._find_lost()
        self.arrival = Arrival(bool(lost) or self._is_cut_short, lost)
        paint_white(self, lost)

    def _find_lost(self) -> tuple[LostPart, ...]:
        _, top, right, bottom = self._frame_box
        # The last of the four passes has the odd rows (GIF89a, appendix E).
        last = bottom - 1 - (self._is_interlaced and bottom - top > 1 and (bottom - top) % 2)
        if self._find_mark(last) == right:
            return ()
        other = GifPicture(self._content, mark=_OTHER_MARK)
        other.load()
        lost: list[LostPart] = []
        for row in range(top, bottom):
            left = max(self._find_mark(row), other._find_mark(row))
            if left == right:
                continue
            if lost and (lost[-1].left, lost[-1].bottom) == (left, row):
                lost[-1] = lost[-1]._replace(bottom=row + 1)
            else:
                lost.append(LostPart(left, row, right, row + 1))
        return tuple(lost)

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
