"""A PNG of which faults beside the pixels are left out, and whatever rows arrived are decoded.

Of a row that did not arrive nothing tells but what its memory held before. So the last row is
marked before it is decoded; where the mark is still there the rows are counted, and what is missing
is white, or filled in where it is interlaced.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from pictures.animated_png import FirstFrame, find_first_frame
from pictures.file_view import open_view
from pictures.formats import Header
from pictures.interlace import MissingRows, fill_in
from pictures.lost import WHOLE, Arrival, LostPart, paint_white
from pictures.pillow import keep_what_arrived
from pictures.png_chunks import CodedPixels, leave_out_unsound, list_chunks
from pictures.scaling import PixelBox
from pictures.values import Content

_END = b"IEND"
# What a row holds until it is decoded: colours that few pictures have, and none all along a row.
_MARKS: dict[str, int | tuple[int, ...]] = {
    "1": 255,
    "L": 137,
    "LA": (137, 1),
    "P": 255,
    "I;16": 35_001,
    "RGB": (137, 7, 253),
    "RGBA": (137, 7, 253, 1),
}


class _Mark(NamedTuple):
    """A marked row: where it is, and what it holds."""

    box: tuple[int, int, int, int]
    content: bytes


class PngPicture(PngImageFile):
    """A PNG, with what arrived of it once it is loaded."""

    arrival = WHOLE
    drawn_box: tuple[int, int, int, int] | None = None

    def __init__(self, content: Content, header: Header) -> None:
        self._content = content
        self._header = header
        self._chunks = list(list_chunks(content))
        self._mark: _Mark | None = None
        frame = find_first_frame(content, self._chunks)
        self._frame = frame
        if frame is not None:
            self._content = frame.content
            self._chunks = list(list_chunks(frame.content))
        super().__init__(open_view(*leave_out_unsound(self._content, self._chunks)))
        if frame is not None:
            self._lay_on_canvas(frame)
        # EXIF that stands behind the pixels does not turn them.
        self.exif_before_pixels: bytes = self.info.get("exif", b"")

    def _lay_on_canvas(self, frame: FirstFrame) -> None:
        """Have the frame decoded where it lies on the canvas, which is clear around it."""
        self._size = frame.canvas_size
        self.tile = [tile._replace(extents=frame.box) for tile in self.tile]
        if frame.box != (0, 0, *frame.canvas_size):
            self.drawn_box = frame.box

    def load(self) -> Any:
        if not self.tile:
            return super().load()
        with keep_what_arrived():
            return super().load()

    def load_prepare(self) -> None:
        left, top, right, bottom = self.tile[0].extents or (0, 0, *self.size)
        super().load_prepare()
        # The last of Adam7's passes has the odd rows; where there are none, there is no mark.
        row = bottom - 1
        if self.info.get("interlace"):
            row -= (bottom - top) % 2
        if row >= top:
            box = (left, row, right, row + 1)
            self.im.paste(_MARKS[self.mode], box)
            self._mark = _Mark(box, self._read_pixels(box))

    def _read_pixels(self, box: tuple[int, int, int, int]) -> bytes:
        return Image.Image()._new(self.im.crop(box)).tobytes()

    def load_end(self) -> None:
        super().load_end()
        is_cut_short = self._chunks[-1].kind != _END
        if self._mark is not None and self._read_pixels(self._mark.box) != self._mark.content:
            self.arrival = Arrival(is_cut_short)
            return
        pixels = CodedPixels(self._content, self._chunks)
        missing = pixels.find_missing()
        if pixels.is_damaged and not missing:
            self._load_without_sum(pixels.find_sum())
        box = self.drawn_box or (0, 0, *self.size)
        fill_in(self, box, missing)
        lost = _find_lost(box, missing)
        is_damaged = pixels.is_damaged and not is_cut_short
        self.arrival = Arrival(is_cut_short or bool(missing), lost, is_damaged)
        paint_white(self, lost)

    def _load_without_sum(self, end: int) -> None:
        """Decode only what comes before the sum: the last row is lost with one that is wrong."""
        other = PngPicture(self._content[:end], self._header)
        if self._frame is not None:
            other._lay_on_canvas(self._frame)
        other.im = self.im  # so that the picture is not there twice
        other.load()
        if self.palette is not None:
            self.palette.dirty = 1


def _find_lost(box: PixelBox, missing: Sequence[MissingRows]) -> tuple[LostPart, ...]:
    """Find what not even the first pass has brought; the others come after it."""
    if not missing or missing[0].of.left or missing[0].of.top:
        return ()
    left, top, right, bottom = box
    return (LostPart(left, top + missing[0].first_row, right, bottom),)
