"""Every change to what Pillow and pillow_heif have only one of in a process.

`configure` makes them all. Nothing calls it when a module is imported: only the image step does,
and of the service's processes only decoders run that.
"""

import functools
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pillow_heif.options
from PIL import AvifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngStream

from pictures.colour import MAX_PROFILE_BYTES

_Read = Callable[[PngStream, int, int], bytes]


# What Pillow's readers of chunks raise for what they cannot read. For texts that decompress to more
# than any picture has it is ValueError; then the file is refused.
_FAULTS_OF_TEXTS = (SyntaxError, IndexError, struct.error)
_FAULTS = (*_FAULTS_OF_TEXTS, ValueError)


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
    segments: dict[int, Any] = JpegImagePlugin.MARKER
    for marker in _JPEG_SEGMENTS:
        name, description, _ = segments[marker]
        segments[marker] = (name, description, _read_jpeg_segment)


@contextmanager
def keep_what_arrived() -> Iterator[None]:
    """Keep the rows that were decoded before data ended or made no sense, and raise nothing."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


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


def _read_first(read: _Read, name: str) -> _Read:
    """Of several chunks that say the same let the first count, as browsers do."""

    @functools.wraps(read)
    def read_chunk(stream: PngStream, position: int, length: int) -> bytes:
        first = stream.im_info.get(name)
        data = read(stream, position, length)
        if first is not None:
            stream.im_info[name] = first
        return data

    return read_chunk


def _pass_over_if_unreadable(read: _Read, faults: tuple[type[Exception], ...] = _FAULTS) -> _Read:
    """Pass over a chunk that cannot be read: a picture without it is better than none."""

    @functools.wraps(read)
    def read_chunk(stream: PngStream, position: int, length: int) -> bytes:
        try:
            return read(stream, position, length)
        except faults:
            assert stream.fp is not None
            stream.fp.seek(position)
            return stream.fp.read(length)  # for the chunk's checksum

    return read_chunk


def _read_transparency(stream: PngStream, position: int, length: int) -> bytes:
    """Read what a PNG says of transparent colours, as browsers do.

    Of a palette it counts only behind that, and no longer than one can be.
    """
    before = stream.im_info.get("transparency")
    data = _PNG_TRANSPARENCY(stream, position, length)
    is_nonsense = stream.im_palette is None or length > _MOST_COLOURS
    if stream.im_mode == "P" and before is None and is_nonsense:
        stream.im_info.pop("transparency", None)
    return data


_MOST_COLOURS = 256
# Made of Pillow's own readers once, so that however often they are set, they are wrapped once.
_PNG_TRANSPARENCY = PngStream.chunk_tRNS
_UNREADABLE_CHUNKS = ("acTL", "cHRM", "fcTL", "fdAT", "gAMA", "iCCP", "pHYs", "sRGB")
_PNG_CHUNKS: dict[str, _Read] = {
    f"chunk_{name}": _pass_over_if_unreadable(getattr(PngStream, f"chunk_{name}"))
    for name in _UNREADABLE_CHUNKS
}
_PNG_CHUNKS["chunk_tRNS"] = _pass_over_if_unreadable(
    _read_first(_read_transparency, "transparency")
)
_PNG_CHUNKS["chunk_eXIf"] = _read_first(PngStream.chunk_eXIf, "exif")
for _name in ("tEXt", "zTXt", "iTXt"):
    _PNG_CHUNKS[f"chunk_{_name}"] = _pass_over_if_unreadable(
        _keep_texts_apart(getattr(PngStream, f"chunk_{_name}")), _FAULTS_OF_TEXTS
    )


def _read_jpeg_segment(picture: JpegImageFile, marker: int) -> None:
    """Read a segment beside the pixels; of one that cannot be read nothing is kept but its bytes.

    Of several with EXIF the first counts.
    """
    exif = picture.info.get("exif")
    with suppress(IndexError, struct.error):
        JpegImagePlugin.APP(picture, marker)
    if exif is not None and len(exif) > _EXIF_HEAD_BYTES:
        picture.info["exif"] = exif
    picture.icclist = [piece for piece in picture.icclist if len(piece) > _ICC_HEAD_BYTES]


# A name, which of how many pieces it is (ICC.1:2022, B.4).
_ICC_HEAD_BYTES = 14
# Behind it the first block may be empty; then the next one is the first.
_EXIF_HEAD_BYTES = 6
_JPEG_SEGMENTS = range(0xFFE0, 0xFFF0)
