"""What a file is and how large its picture is, read from its first bytes.

Nothing is decoded and no library is asked: plain reading, of a bounded number of steps, tells
whether a parser may see the file at all, and which one, and names what is refused. Pure functions
without settings.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from errors import BrokenPicture, EmptyFile, NotAPicture, TruncatedPicture
from pictures.foreign import PICTURES_TAKEN, refuse_if_foreign
from pictures.values import Content

__all__ = [
    "DEAREST_BYTES_PER_PIXEL",
    "LONGEST_SEARCH_BYTES",
    "MOST_STEPS",
    "PICTURES_TAKEN",
    "Header",
    "is_cut_short",
    "make_truncated",
    "read_header",
    "read_png_depth",
]

# Of header reading: real files have a few hundred segments or boxes. Ten times more is a file made
# to keep us busy.
MOST_STEPS = 4096
LONGEST_SEARCH_BYTES = 64 * 1024

# What a decoder and Pillow hold at once for each pixel, measured by
# tests/process/test_decoding_memory.py, rounded up.
_BYTES_PER_PIXEL = {"GIF": 3.0, "WEBP": 12.5, "AVIF": 17.5, "HEIF": 20.5}
# PNG by its colour type (PNG 3, table 8); Pillow keeps colour in four bytes. Transparency is worked
# on in strips.
_PNG_BYTES_PER_PIXEL = {0: 2, 2: 4, 3: 1, 4: 4, 6: 4}
DEAREST_BYTES_PER_PIXEL = max(_BYTES_PER_PIXEL.values())
# Of a JPEG that cannot be decoded line by line: its coefficients are kept, two bytes each.
_COEFFICIENT_BYTES = 2
_MARKER = re.compile(rb"\xff")

ByteOrder = Literal["big", "little"]


@dataclass(frozen=True)
class Header:
    """What the first bytes say; `format` is Pillow's name of the one parser that may see the file.

    `bytes_per_pixel` is what decoding holds for each pixel of the file, beside the reduced picture
    of a JPEG.
    """

    format: str
    width_px: int
    height_px: int
    bytes_per_pixel: float
    metadata_bytes: int = 0  # what a JPEG or a PNG carries beside its pixels
    is_baseline: bool = False  # a JPEG that can be decoded line by line


def read_header(content: Content) -> Header:
    """Tell what the file is.

    Raises EmptyFile, NotAPicture, UnsupportedFormat, TruncatedPicture or BrokenPicture.
    """
    if not content:
        raise EmptyFile
    for signature, read in _READERS:
        if signature.match(content):
            return _read_or_refuse(read, content)
    refuse_if_foreign(content)
    raise NotAPicture


def _read_or_refuse(read: "_Reader", content: Content) -> Header:
    header = read(content)
    if header is not None:
        return header
    if is_cut_short(content):
        raise make_truncated(content)
    raise BrokenPicture


def make_truncated(content: Content) -> TruncatedPicture:
    """Make the refusal of a file that ends too early, with how far it got."""
    return TruncatedPicture.with_numbers(file_bytes=len(content))


def is_cut_short(content: Content) -> bool:
    """Whether a file announces more than it has, or its format's own end is missing."""
    if content[:3] == b"GIF":
        return False
    if content[:4] == b"RIFF":
        return _read_uint(content, 4, 4, "little") + 8 > len(content)
    if content[4:8] == b"ftyp":
        return any(box.end > len(content) for box in _walk_boxes(content, 0, len(content)))
    end_mark = b"IEND" if content[:4] == b"\x89PNG" else b"\xff\xd9"
    return end_mark not in bytes(content[-LONGEST_SEARCH_BYTES:])


@dataclass(frozen=True)
class _Frame:
    """A JPEG's frame header (ITU T.81, B.2.2), behind its length."""

    marker: int
    body: Content

    def read_samplings(self) -> list[tuple[int, int]]:
        """Read how many samples across and down each component has in a block."""
        count = self.body[5] if len(self.body) > 5 else 0
        return [divmod(both, 16) for both in self.body[7 : 6 + 3 * count : 3]]


def _read_jpeg(content: Content) -> Header | None:
    """Read the frame header, and whether one scan holds all components (ITU T.81, B.2)."""
    position = 2
    frame: _Frame | None = None
    for _ in range(MOST_STEPS):
        # Junk is passed over, as libjpeg does.
        found = _MARKER.search(content, position, position + LONGEST_SEARCH_BYTES)
        if found is None or found.start() + 4 > len(content):
            return None
        position = found.start()
        marker = content[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD9:  # these have no length
            position += 2
            continue
        length = _read_uint(content, position + 2, 2)
        body = content[position + 4 : position + 2 + length]
        if marker == 0xDA:
            components_in_scan = body[0] if body else 0
            return None if frame is None else _tell_jpeg(frame, components_in_scan, position)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = _Frame(marker, body)
        position += 2 + max(2, length)
    return None


def _tell_jpeg(frame: _Frame, components_in_scan: int, metadata_bytes: int) -> Header | None:
    samplings = frame.read_samplings()
    if not samplings or not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in samplings):
        return None
    height_px = _read_uint(frame.body, 1, 2)
    width_px = _read_uint(frame.body, 3, 2)
    is_sequential = frame.marker in (0xC0, 0xC1)  # and Huffman's
    if is_sequential and components_in_scan == len(samplings):
        return Header("JPEG", width_px, height_px, 0, metadata_bytes, is_baseline=True)
    # Each component is kept at its own sampling.
    largest = max(h for h, _ in samplings) * max(v for _, v in samplings)
    coefficients_per_pixel = sum(h * v for h, v in samplings) / largest
    bytes_per_pixel = _COEFFICIENT_BYTES * coefficients_per_pixel
    return Header("JPEG", width_px, height_px, bytes_per_pixel, metadata_bytes)


def _read_png(content: Content) -> Header | None:
    if content[12:16] != b"IHDR" or len(content) < 33:
        return None
    colour_type = content[25]
    if colour_type not in _PNG_BYTES_PER_PIXEL:
        return None
    return Header(
        "PNG",
        width_px=_read_uint(content, 16),
        height_px=_read_uint(content, 20),
        bytes_per_pixel=_PNG_BYTES_PER_PIXEL[colour_type],
        metadata_bytes=len(content) - _count_png_pixel_bytes(content),
    )


def read_png_depth(content: Content) -> int:
    """Read how many bits a sample of a PNG has, whose header was read before."""
    return content[24]


def _count_png_pixel_bytes(content: Content) -> int:
    """Count what the chunks hold that hold pixels (PNG 3, 5.3)."""
    count = 0
    position = 33
    for _ in range(MOST_STEPS):
        if position >= len(content):
            break
        length = _read_uint(content, position)
        if content[position + 4 : position + 8] == b"IDAT":
            count += min(length, len(content) - position)
        position += 12 + length
    return count


def _read_gif(content: Content) -> Header | None:
    """Read the size of the screen and of the first frame, as Pillow takes it.

    The first frame counts where it reaches beyond the screen (GIF89a, 18 and 20).
    """
    if len(content) < 13:
        return None
    width_px = _read_uint(content, 6, 2, "little")
    height_px = _read_uint(content, 8, 2, "little")
    flags = content[10]
    position = 13
    if flags & 0x80:
        position += 3 << (flags & 7) + 1  # the table of colours
    is_in_extension = False
    for _ in range(MOST_STEPS):
        kind = content[position : position + 1]
        if is_in_extension:
            is_in_extension = kind not in (b"", b"\0")
            position += 1 + (kind[0] if kind else 0)
        elif kind == b"!":
            is_in_extension = True
            position += 2 + _count_first_gif_block(content, position)
        elif kind == b",":
            left_px = _read_uint(content, position + 1, 2, "little")
            top_px = _read_uint(content, position + 3, 2, "little")
            right_px = left_px + _read_uint(content, position + 5, 2, "little")
            bottom_px = top_px + _read_uint(content, position + 7, 2, "little")
            return Header(
                "GIF", max(width_px, right_px), max(height_px, bottom_px), _BYTES_PER_PIXEL["GIF"]
            )
        else:
            position += 1
    return None


def _count_first_gif_block(content: Content, position: int) -> int:
    """Count the bytes of the first block of the extension that stands here, its length included.

    Pillow reads on behind an empty first block, but for a comment.
    """
    if content[position + 1 : position + 2] == b"\xfe":
        return 0
    return 1 + _read_uint(content, position + 2, 1)


def _read_webp(content: Content) -> Header | None:
    """Read the canvas, from whichever of the three kinds of first chunk there is (RFC 9649)."""
    if len(content) < 30:
        return None
    chunk = content[12:16]
    if chunk == b"VP8X":
        width_px = 1 + _read_uint(content, 24, 3, "little")
        height_px = 1 + _read_uint(content, 27, 3, "little")
    elif chunk == b"VP8L":
        both = _read_uint(content, 21, 4, "little")
        width_px = 1 + (both & 0x3FFF)
        height_px = 1 + (both >> 14 & 0x3FFF)
    else:
        width_px = _read_uint(content, 26, 2, "little") & 0x3FFF
        height_px = _read_uint(content, 28, 2, "little") & 0x3FFF
    return Header("WEBP", width_px, height_px, _BYTES_PER_PIXEL["WEBP"])


def _read_heif(content: Content) -> Header | None:
    """Read the largest of the image sizes that the file declares (ISO/IEC 23008-12, 6.5.3).

    Of whichever codec they are.
    """
    sizes = [
        (_read_uint(content, box.start), _read_uint(content, box.start + 4))
        for box in _find_boxes(content, b"meta", b"iprp", b"ipco", b"ispe")
    ]
    if not sizes:
        return None
    width_px, height_px = max(sizes, key=lambda size: size[0] * size[1])
    codec = _tell_codec(content)
    return Header(codec, width_px, height_px, _BYTES_PER_PIXEL[codec])


def _tell_codec(content: Content) -> str:
    """Tell AVIF from HEIF by the file's brands, the first of which counts most."""
    first = bytes(content[8:12])
    end = min(_read_uint(content, 0), 256)
    brands = {first, *(bytes(content[at : at + 4]) for at in range(16, end, 4))}
    return "AVIF" if brands & _AVIF_BRANDS and first not in _HEIC_BRANDS else "HEIF"


@dataclass(slots=True)
class _Box:
    """A box (ISO/IEC 14496-12, 4.2): where its contents start and end, which may lie beyond."""

    kind: bytes
    start: int
    end: int


def _find_boxes(content: Content, *path: bytes) -> list[_Box]:
    """Find the boxes at the end of this path; on the way there is one of each."""
    found = [_Box(b"", 0, len(content))]
    for kind in path:
        around = found[0]
        version_bytes = 4 if kind in (b"meta", b"ispe") else 0  # with the flags
        found = [
            _Box(kind, box.start + version_bytes, min(box.end, around.end))
            for box in _walk_boxes(content, around.start, around.end)
            if box.kind == kind
        ]
        if not found:
            break
    return found


def _walk_boxes(content: Content, position: int, end: int) -> Iterator[_Box]:
    """Walk through the boxes in a stretch."""
    for _ in range(MOST_STEPS):
        if position + 8 > end:
            return
        size = _read_uint(content, position)
        head_bytes = 8
        if size == 1:
            size = _read_uint(content, position + 8, 8)
            head_bytes = 16
        elif size == 0:
            size = end - position
        if size < head_bytes:
            return
        kind = bytes(content[position + 4 : position + 8])
        yield _Box(kind, position + head_bytes, position + size)
        position += size


def _read_uint(content: Content, at: int, length: int = 4, order: ByteOrder = "big") -> int:
    return int.from_bytes(content[at : at + length], order)


_Reader = Callable[[Content], Header | None]
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
