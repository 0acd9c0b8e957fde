"""A HEIC, of which one tile after the other is decoded and made smaller, if it is made of tiles."""

from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

from PIL import Image
from PIL.ImageFile import ImageFile
from pillow_heif.as_plugin import HeifImageFile

from pictures.file_view import open_view
from pictures.formats import Header, is_cut_short, make_truncated
from pictures.items import find_items
from pictures.lost import WHOLE, Arrival, LostPart, paint_white
from pictures.tiles import (
    Box,
    Rotation,
    Size,
    Tiling,
    Turn,
    find_tiling,
    list_tile_files,
)
from pictures.values import Content

# Its own types are not declared.
if TYPE_CHECKING:
    _Base = ImageFile
else:
    _Base = HeifImageFile
_open_heif: Callable[[IO[bytes]], ImageFile] = HeifImageFile
_UNREADABLE = (SyntaxError, ValueError, OSError, RuntimeError, EOFError)
_ROTATIONS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)


class HeifPicture(_Base):
    """A HEIC. Where its header has tiles, it can be decoded smaller, as a JPEG can."""

    arrival = WHOLE

    def __init__(self, content: Content, header: Header) -> None:
        self._content = content
        self._tiling: Tiling | None = None
        if header.tile_size is not None:
            self._tiling = find_tiling(find_items(memoryview(content)))
        self._factor = 1
        super().__init__(open_view(content))

    def draft(self, mode: str | None, size: Size | None) -> Any:
        """Have a picture of tiles decoded in so many pixels, a whole part of its own."""
        if self._tiling is None or size is None:
            return None
        self._factor = self.width // size[0]
        return self.mode, (0, 0, *self.size)

    def load(self) -> Any:
        if self._tiling is None:
            self._check_end()
            return super().load()
        if self._im is None:
            self._heif_file = None  # which holds the file
            self.im = self._put_together(self._tiling).im
            self._size = self.im.size
        # What is left to do where the pixels are there.
        return ImageFile.load(self)

    def _check_end(self) -> None:
        """Refuse what libheif would put together of tiles some of which never arrived: as green."""
        items = find_items(memoryview(self._content))
        if items.list_parts(items.primary_id) and is_cut_short(self._content):
            raise make_truncated(len(self._content))

    def _put_together(self, tiling: Tiling) -> Image.Image:
        """Decode each tile, make it smaller, turn it, and put it where it then lies."""
        factor = self._factor
        transposings = [_find_transposing(turn) for turn in tiling.turns]
        whole = Image.new(self.mode, (self.width // factor, self.height // factor))
        lost: list[LostPart] = []
        boxes = tiling.list_boxes()
        for file, box in zip(list_tile_files(self._content, tiling), boxes, strict=True):
            small = self._try_tile(file, tiling.tile_size, box)
            size = tiling.size
            for transposing in transposings:
                box, size = _transpose_box(box, size, transposing)
                small = small and small.transpose(transposing)
            if small is None:
                lost.append(LostPart(*box))
            else:
                whole.paste(small, (box[0] // factor, box[1] // factor))
        if lost:
            is_damaged = not is_cut_short(self._content)
            self.arrival = Arrival(True, tuple(lost), is_damaged)
            paint_white(whole, lost, factor)
        return whole

    def _try_tile(self, file: list[Content], tile_size: Size, box: Box) -> Image.Image | None:
        """Decode what a tile shows of this box, made smaller; None where it cannot be read.

        Nothing else of the tile is kept.
        """
        try:
            with _open_heif(open_view(*file)) as tile:
                tile.load()
                if tile.size != tile_size or tile.mode != self.mode:
                    return None
                return tile.reduce(self._factor, (0, 0, box[2] - box[0], box[3] - box[1]))
        except _UNREADABLE:
            return None


def _find_transposing(turn: Turn) -> Image.Transpose:
    if isinstance(turn, Rotation):
        return _ROTATIONS[turn.angles - 1]
    return Image.Transpose.FLIP_LEFT_RIGHT if turn.is_sideways else Image.Transpose.FLIP_TOP_BOTTOM


def _transpose_box(box: Box, size: Size, transposing: Image.Transpose) -> tuple[Box, Size]:
    """Find where a part of a picture of this size lies once that was turned; and its size then."""
    left, top, right, bottom = box
    width, height = size
    if transposing is Image.Transpose.FLIP_LEFT_RIGHT:
        return (width - right, top, width - left, bottom), size
    if transposing is Image.Transpose.FLIP_TOP_BOTTOM:
        return (left, height - bottom, right, height - top), size
    if transposing is Image.Transpose.ROTATE_180:
        return (width - right, height - bottom, width - left, height - top), size
    if transposing is Image.Transpose.ROTATE_90:
        return (top, width - right, bottom, width - left), (height, width)
    return (height - bottom, left, height - top, right), (height, width)
