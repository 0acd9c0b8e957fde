"""The one parser that each kind of file is opened with, and what becomes of all that it raises.

Nothing is registered or guessed, and no other plugin loaded.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.WebPImagePlugin import WebPImageFile

from errors import BadCrop, BadPicture, BrokenPicture, TooLarge
from pictures.avif_picture import AvifPicture
from pictures.file_view import open_view
from pictures.formats import Header, is_cut_short, make_truncated
from pictures.gif_picture import GifPicture
from pictures.heif_picture import HeifPicture
from pictures.jpeg_picture import JpegPicture
from pictures.png_picture import PngPicture
from pictures.values import Content

_CUT_SHORT_IN_PILLOWS_WORDS = ("image file is truncated", "Truncated File Read")


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


def _open_webp(content: Content, _: Header) -> ImageFile:
    return WebPPicture(open_view(content))


# A phone's MPO is read as the JPEG that it begins with.
_PARSERS: dict[str, Callable[[Content, Header], ImageFile]] = {
    "JPEG": JpegPicture,
    "PNG": PngPicture,
    "GIF": GifPicture,
    "WEBP": _open_webp,
    "AVIF": AvifPicture,
    "HEIF": HeifPicture,
}
FORMATS = tuple(_PARSERS)


@contextmanager
def open_picture(content: Content, header: Header) -> Iterator[Image.Image]:
    """Open with the one parser.

    Whatever that raises, here or within the `with` block, becomes a BadPicture.
    """
    try:
        with _PARSERS[header.format](content, header) as picture:
            yield picture
    except (BadPicture, TooLarge, BadCrop, MemoryError):
        raise
    # OSError, SyntaxError, ValueError, struct.error, zlib.error ...: all of them a bad file.
    except Exception as err:
        if _is_cut_short(content, str(err)):
            raise make_truncated(len(content)) from err
        raise BrokenPicture from err


def _is_cut_short(content: Content, message: str) -> bool:
    return any(words in message for words in _CUT_SHORT_IN_PILLOWS_WORDS) or is_cut_short(content)
