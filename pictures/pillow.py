"""Every change to what Pillow and pillow_heif have only one of in a process.

`configure` makes them all. Nothing calls it when a module is imported: only the image step does,
and of the service's processes only decoders run that.
"""

import functools
from collections.abc import Callable

import pillow_heif.options
from PIL import AvifImagePlugin, Image, ImageFile, PngImagePlugin
from PIL.PngImagePlugin import PngStream

from pictures.colour import MAX_PROFILE_BYTES

_Read = Callable[[PngStream, int, int], bytes]


def configure() -> None:
    """Make the changes. Calling it again changes nothing more."""
    # Our own check knows two limits and names both numbers; Pillow's single one would come first.
    Image.MAX_IMAGE_PIXELS = None
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    # Decompressed: one text or a profile, and all texts together.
    PngImagePlugin.MAX_TEXT_CHUNK = MAX_PROFILE_BYTES
    PngImagePlugin.MAX_TEXT_MEMORY = MAX_PROFILE_BYTES
    # A picture slot is one thread; these would start one for each core in every slot.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    pillow_heif.options.DECODE_THREADS = 1
    # Only the picture itself is decoded, whatever else its file carries.
    pillow_heif.options.THUMBNAILS = False
    pillow_heif.options.DEPTH_IMAGES = False
    pillow_heif.options.AUX_IMAGES = False
    for name, read_chunk in _PNG_CHUNKS.items():
        setattr(PngStream, name, read_chunk)


def _keep_texts_apart(read: _Read) -> _Read:
    """Keep a PNG's texts in `text` alone.

    Pillow also puts them among what it knows of the picture, under keywords of the file's choice:
    one that is called `transparency` or `interlace` breaks the decoding.
    """

    @functools.wraps(read)
    def read_chunk(stream: PngStream, position: int, length: int) -> bytes:
        info = dict(stream.im_info)
        data = read(stream, position, length)
        stream.im_info.clear()
        stream.im_info.update(info)
        return data

    return read_chunk


def _pass_over_if_unreadable(read: _Read) -> _Read:
    """Pass over a profile that cannot be read: a picture without it is better than none."""

    @functools.wraps(read)
    def read_chunk(stream: PngStream, position: int, length: int) -> bytes:
        try:
            return read(stream, position, length)
        except (ValueError, SyntaxError, IndexError):
            assert stream.fp is not None
            stream.fp.seek(position)
            return stream.fp.read(length)  # for the chunk's checksum

    return read_chunk


# Made of Pillow's own readers once, so that however often they are set, they are wrapped once.
_PNG_CHUNKS = {
    "chunk_tEXt": _keep_texts_apart(PngStream.chunk_tEXt),
    "chunk_zTXt": _keep_texts_apart(PngStream.chunk_zTXt),
    "chunk_iTXt": _keep_texts_apart(PngStream.chunk_iTXt),
    "chunk_iCCP": _pass_over_if_unreadable(PngStream.chunk_iCCP),
}
