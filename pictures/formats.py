"""What a file is and how large its picture is, read from its first bytes.

Nothing is decoded and no library is asked: plain reading, of a bounded number of steps, tells
whether a parser may see the file at all, and which one, and names what is refused. The file may
still be arriving (reading.py). Pure functions without settings.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

from errors import BrokenPicture, EmptyFile, NotAPicture, TruncatedPicture
from pictures.boxes import is_box_cut_short, read_properties
from pictures.foreign import PICTURES_TAKEN, SEARCHED_BYTES, refuse_if_foreign
from pictures.jpeg_file import find_jpeg_end, read_jpeg
from pictures.reading import LONGEST_SEARCH_BYTES, MOST_STEPS, TAIL, Reading, Stretch, read_whole
from pictures.values import Content, Header

__all__ = [
    "DEAREST_BYTES_PER_PIXEL",
    "LONGEST_SEARCH_BYTES",
    "MOST_STEPS",
    "PICTURES_TAKEN",
    "CutShort",
    "Extent",
    "Header",
    "is_cut_short",
    "make_truncated",
    "measure_extent",
    "read_header",
    "read_png_depth",
    "read_start",
]

# What a decoder and Pillow hold at once for each pixel, measured by
# tests/process/test_decoding_memory.py, rounded up.
_BYTES_PER_PIXEL = {"GIF": 3.0, "WEBP": 12.5, "AVIF": 17.5, "HEIF": 20.5}
# Of HEIC with at most ten bits, without transparency, by its chroma (boxes.py): as phones write it,
# and as cameras do.
HEIC_BYTES_PER_PIXEL = {0: 10.0, 1: 10.0, 2: 14.5}
# PNG by its colour type (PNG 3, table 8); Pillow keeps colour in four bytes. Transparency is worked
# on in strips.
_PNG_BYTES_PER_PIXEL = {0: 2, 2: 4, 3: 1, 4: 4, 6: 4}
DEAREST_BYTES_PER_PIXEL = max(_BYTES_PER_PIXEL.values())
_PNG_HEAD_BYTES = 33
_GIF_HEAD_BYTES = 13
_WEBP_HEAD_BYTES = 30
_GIF_FRAME_BYTES = 10
_BRANDS_BYTES = 256
_PNG_END = b"IEND"
_JPEG_END = b"\xff\xd9"
# Of a JPEG's signature; of the others' but a HEIF's; of that one's, in which 30 brands may stand
# before the one that counts.
_SIGNATURE_BYTES = (3, 16, 132)

ByteOrder = Literal["big", "little"]


class CutShort(Exception):
    """The file ends before its header does."""


class Extent(NamedTuple):
    """How far a picture goes, and what of a PNG can be counted only as far as that."""

    picture_bytes: int | None = None  # None: to the end of the file
    pixel_bytes: int = 0  # as a PNG's chunks announce them
    pixels_end: int = 0  # which may lie behind the file's

    def complete(self, header: Header, file_bytes: int) -> Header:
        """Complete the header with what a PNG of this length carries beside its pixels."""
        if header.format != "PNG":
            return header
        missing_bytes = max(0, self.pixels_end - file_bytes)
        metadata_bytes = file_bytes - (self.pixel_bytes - missing_bytes)
        return replace(header, metadata_bytes=metadata_bytes)


def read_header(content: Content) -> Header:
    """Tell what the file is.

    Raises EmptyFile, NotAPicture, UnsupportedFormat, TruncatedPicture or BrokenPicture.
    """
    try:
        header = read_whole(read_start(), content)
    except CutShort as err:
        raise make_truncated(len(content)) from err
    if header.format != "PNG":
        return header
    return read_whole(measure_extent(header), content).complete(header, len(content))


def read_start() -> Reading[Header]:
    """Read what the file is; of a PNG without what it carries beside its pixels.

    Raises EmptyFile, NotAPicture, UnsupportedFormat, CutShort or BrokenPicture.
    """
    for length in _SIGNATURE_BYTES:
        beginning = yield Stretch(0, length, length)
        if not beginning:
            raise EmptyFile
        for signature, read in _READERS:
            if signature.match(beginning):
                return (yield from read())
    beginning = yield Stretch(0, SEARCHED_BYTES, SEARCHED_BYTES)
    refuse_if_foreign(beginning)
    raise NotAPicture


def measure_extent(header: Header) -> Reading[Extent]:
    """Measure how far the picture goes of which this is the header; read on behind that."""
    if header.format == "JPEG":
        end = yield from find_jpeg_end(header.metadata_bytes)
        return Extent(picture_bytes=end)
    if header.format == "PNG":
        return (yield from _count_png_pixel_bytes())
    return Extent()


def make_truncated(file_bytes: int) -> TruncatedPicture:
    """Make the refusal of a file that ends too early, after so many bytes."""
    return TruncatedPicture.with_numbers(file_bytes=file_bytes)


def is_cut_short(content: Content) -> bool:
    """Whether a file announces more than it has, or its format's own end is missing."""
    if content[:3] == b"GIF":
        return False
    if content[:4] == b"RIFF":
        return _read_uint(content, 4, 4, "little") + 8 > len(content)
    if content[4:8] == b"ftyp":
        return read_whole(is_box_cut_short(0), content)
    end_mark = _PNG_END if content[:4] == b"\x89PNG" else _JPEG_END
    return end_mark not in bytes(content[-LONGEST_SEARCH_BYTES:])


def _read_jpeg() -> Reading[Header]:
    header = yield from read_jpeg()
    if header is None:
        yield from _refuse_by_end(_JPEG_END)
        raise BrokenPicture
    return header


def _refuse_by_end(end_mark: bytes) -> Reading[None]:
    """Raise CutShort where the file lacks its format's own end."""
    tail = yield TAIL
    if end_mark not in bytes(tail):
        raise CutShort


def _read_png() -> Reading[Header]:
    head = yield Stretch(0, _PNG_HEAD_BYTES, _PNG_HEAD_BYTES)
    is_whole = head[12:16] == b"IHDR" and len(head) == _PNG_HEAD_BYTES
    colour_type = head[25] if is_whole else None
    if colour_type not in _PNG_BYTES_PER_PIXEL:
        yield from _refuse_by_end(_PNG_END)
        raise BrokenPicture
    return Header(
        "PNG",
        width_px=_read_uint(head, 16),
        height_px=_read_uint(head, 20),
        bytes_per_pixel=_PNG_BYTES_PER_PIXEL[colour_type],
    )


def read_png_depth(content: Content) -> int:
    """Read how many bits a sample of a PNG has, whose header was read before."""
    return content[24]


def _count_png_pixel_bytes() -> Reading[Extent]:
    """Count what the chunks hold that hold pixels (PNG 3, 5.3)."""
    pixel_bytes = 0
    pixels_end = 0
    position = _PNG_HEAD_BYTES
    for _ in range(MOST_STEPS):
        head = yield Stretch(position, 8, 8)
        length = _read_uint(head, 0)
        if head[4:8] == b"IDAT":
            pixel_bytes += length
            pixels_end = position + length
        if len(head) < 8:
            break
        position += 12 + length
    return Extent(pixel_bytes=pixel_bytes, pixels_end=pixels_end)


def _read_gif() -> Reading[Header]:
    """Read the size of the screen and of the first frame, as Pillow takes it.

    The first frame counts where it reaches beyond the screen (GIF89a, 18 and 20).
    """
    head = yield Stretch(0, _GIF_HEAD_BYTES, _GIF_HEAD_BYTES)
    if len(head) < _GIF_HEAD_BYTES:
        raise BrokenPicture
    width_px = _read_uint(head, 6, 2, "little")
    height_px = _read_uint(head, 8, 2, "little")
    flags = head[10]
    position = _GIF_HEAD_BYTES
    if flags & 0x80:
        position += 3 << (flags & 7) + 1  # the table of colours
    is_in_extension = False
    for _ in range(MOST_STEPS):
        block = yield Stretch(position, _GIF_FRAME_BYTES, _GIF_FRAME_BYTES)
        kind = bytes(block[:1])
        if not kind:
            break
        if is_in_extension:
            is_in_extension = kind != b"\0"
            position += 1 + kind[0]
        elif kind == b"!":
            is_in_extension = True
            position += 2 + _count_first_gif_block(block)
        elif kind == b",":
            left_px, top_px, frame_width_px, frame_height_px = (
                _read_uint(block, at, 2, "little") for at in (1, 3, 5, 7)
            )
            right_px = left_px + frame_width_px
            bottom_px = top_px + frame_height_px
            return Header(
                "GIF", max(width_px, right_px), max(height_px, bottom_px), _BYTES_PER_PIXEL["GIF"]
            )
        else:
            position += 1
    raise BrokenPicture


def _count_first_gif_block(extension: Content) -> int:
    """Count the bytes of the first block of this extension, its length included.

    Pillow reads on behind an empty first block, but for a comment.
    """
    if extension[1:2] == b"\xfe":
        return 0
    return 1 + _read_uint(extension, 2, 1)


def _read_webp() -> Reading[Header]:
    """Read the canvas, from whichever of the three kinds of first chunk there is (RFC 9649)."""
    head = yield Stretch(0, _WEBP_HEAD_BYTES, _WEBP_HEAD_BYTES)
    if len(head) < _WEBP_HEAD_BYTES:
        if _read_uint(head, 4, 4, "little") + 8 > len(head):
            raise CutShort
        raise BrokenPicture
    chunk = head[12:16]
    if chunk == b"VP8X":
        width_px = 1 + _read_uint(head, 24, 3, "little")
        height_px = 1 + _read_uint(head, 27, 3, "little")
    elif chunk == b"VP8L":
        both = _read_uint(head, 21, 4, "little")
        width_px = 1 + (both & 0x3FFF)
        height_px = 1 + (both >> 14 & 0x3FFF)
    else:
        width_px = _read_uint(head, 26, 2, "little") & 0x3FFF
        height_px = _read_uint(head, 28, 2, "little") & 0x3FFF
    return Header("WEBP", width_px, height_px, _BYTES_PER_PIXEL["WEBP"])


def _read_heif() -> Reading[Header]:
    """Read the largest of the sizes that the file declares, of whichever codec they are."""
    brands = yield Stretch(0, _BRANDS_BYTES, _BRANDS_BYTES)
    codec = _tell_codec(brands)
    declared, position = yield from read_properties()
    if declared.size is None:
        if (yield from is_box_cut_short(position)):
            raise CutShort
        raise BrokenPicture
    bytes_per_pixel = _BYTES_PER_PIXEL[codec]
    if codec == "HEIF" and declared.chroma is not None:
        bytes_per_pixel = HEIC_BYTES_PER_PIXEL.get(declared.chroma, bytes_per_pixel)
    tile_size = None
    if codec == "HEIF" and declared.chroma is not None and declared.tiling is not None:
        tile_size = declared.tiling.tile_size
    return Header(codec, *declared.size, bytes_per_pixel, tile_size=tile_size)


def _tell_codec(content: Content) -> str:
    """Tell AVIF from HEIF by the file's brands, the first of which counts most."""
    first = bytes(content[8:12])
    end = min(_read_uint(content, 0), _BRANDS_BYTES)
    brands = {first, *(bytes(content[at : at + 4]) for at in range(16, end, 4))}
    return "AVIF" if brands & _AVIF_BRANDS and first not in _HEIC_BRANDS else "HEIF"


def _read_uint(content: Content, at: int, length: int = 4, order: ByteOrder = "big") -> int:
    return int.from_bytes(content[at : at + length], order)


_Reader = Callable[[], Reading[Header]]
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_HEIF_SIGNATURE = (
    rb".{4}ftyp(?:.{4}){0,30}?"  # the brand that counts may stand behind others
    rb"(?:avif|avis|hei[cxms]|hev[cx]|mif1|msf1|miaf)"
)
_READERS: tuple[tuple[re.Pattern[bytes], _Reader], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _read_jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _read_png),
    (re.compile(rb"GIF8[79]a"), _read_gif),
    (re.compile(rb"RIFF.{4}WEBPVP8[ LX]", re.DOTALL), _read_webp),
    (re.compile(_HEIF_SIGNATURE, re.DOTALL), _read_heif),
)
