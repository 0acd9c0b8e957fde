"""The one parser that each kind of file is opened with, and what becomes of all that it raises.

Nothing is registered or guessed, and no other plugin loaded.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile
from pillow_heif.as_plugin import HeifImageFile

from errors import BadCrop, BadPicture, BrokenPicture, TooLarge
from pictures.formats import Header, is_cut_short, make_truncated
from pictures.metadata import EXIF_ITEM
from pictures.values import Content

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CUT_SHORT_IN_PILLOWS_WORDS = ("image file is truncated", "Truncated File Read")


class FileView(io.RawIOBase):
    """A file that is read where it lies: an io.BytesIO would begin with a copy of it."""

    def __init__(self, content: Content) -> None:
        super().__init__()
        self.content = content
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        end = None if size is None or size < 0 else self._position + size
        piece = bytes(self.content[self._position : end])
        self._position += len(piece)
        return piece

    def readinto(self, buffer: "WriteableBuffer") -> int:
        target = memoryview(buffer).cast("B")
        piece = self.content[self._position : self._position + len(target)]
        target[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        starts = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._position,
            io.SEEK_END: len(self.content),
        }
        position = starts[whence] + offset
        if position < 0:
            raise ValueError("a position before the beginning")
        self._position = position
        return position

    def tell(self) -> int:
        return self._position


class AvifPicture(AvifImageFile):
    """An AVIF. libavif refuses it for a broken EXIF block; then the block is hidden from it."""

    def _open(self) -> None:
        file = self.fp
        assert isinstance(file, FileView)
        try:
            super()._open()
        except Exception:
            hidden, count = EXIF_ITEM.subn(rb"\1none", bytes(file.content))
            if not count:
                raise
            self.fp = FileView(hidden)
            super()._open()


class GifPicture(GifImageFile):
    """A GIF. Its screen is clear around the first frame, where Pillow paints the first colour."""

    drawn_box: tuple[int, int, int, int] | None = None

    def _open(self) -> None:
        super()._open()
        extents = self.tile[0].extents
        if extents and extents != (0, 0, *self.size):
            self.drawn_box = extents


class WebPPicture(WebPImageFile):
    """A WebP of which the first frame is all that is ever wanted.

    Pillow keeps libwebp's decoder for the next frame, and with it two canvases of the whole
    picture, while it makes its own: eight of twenty bytes a pixel.
    """

    def _get_next(self) -> tuple[bytes, int, int]:
        try:
            return super()._get_next()
        finally:
            del self._decoder


# A phone's MPO is read as the JPEG that it begins with.
_PARSERS: dict[str, Callable[..., ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "GIF": GifPicture,
    "WEBP": WebPPicture,
    "AVIF": AvifPicture,
    "HEIF": HeifImageFile,
}
FORMATS = tuple(_PARSERS)


@contextmanager
def open_picture(content: Content, header: Header) -> Iterator[Image.Image]:
    """Open with the one parser.

    Whatever that raises, here or within the `with` block, becomes a BadPicture.
    """
    try:
        with _PARSERS[header.format](_open_file(content, header)) as picture:
            yield picture
    except (BadPicture, TooLarge, BadCrop, MemoryError):
        raise
    # OSError, SyntaxError, ValueError, struct.error, zlib.error ...: all of them a bad file.
    except Exception as err:
        if _is_cut_short(content, str(err)):
            raise make_truncated(len(content)) from err
        raise BrokenPicture from err


def _open_file(content: Content, header: Header) -> FileView | io.BufferedReader:
    # Pillow passes over what stands between a JPEG's segments a byte at a time.
    view = FileView(content)
    return io.BufferedReader(view) if header.format == "JPEG" else view


def _is_cut_short(content: Content, message: str) -> bool:
    return any(words in message for words in _CUT_SHORT_IN_PILLOWS_WORDS) or is_cut_short(content)
