"""What a file is, how large its picture is and what decoding it costs, read from its first bytes.

Nothing is decoded and no library is asked: a few kilobytes of plain reading tell whether a parser may see the file at
all, which one, and how much memory and time to set aside for it. Pure functions without settings.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from errors import (
    BrokenPicture,
    EmptyFile,
    NotAPicture,
    SideTooLong,
    TooManyPixels,
    TruncatedPicture,
    UnsupportedFormat,
)

MIB = 1024 * 1024
PICTURE_SIDE_PX = 300
# A decoder that scales leaves the last factor of two to the better filter.
DRAFT_SIDE_PX = 2 * PICTURE_SIDE_PX
DEFAULT_MAX_PIXELS = 50_000_000
DEFAULT_MAX_WHOLE_PIXELS = 25_000_000
# JPEG's own limit (16 bits); nothing that people take is longer, and Pillow's rows stay below a megabyte.
MAX_SIDE_PX = 65_535
# What a reduced JPEG may take; its rows and tables need little beside it.
REDUCED_BYTES = 9 * MIB
# Python's objects, the small pictures at the end, colour tables, an EXIF block.
FIXED_BYTES = 8 * MIB
# Of header reading: real files have a few hundred segments or boxes. Ten times more is a file made to keep us busy.
MOST_STEPS = 4096

# The time of a baseline JPEG on one core; the others are told in multiples of it, measured by benchmarks/image_step.py.
SECONDS_PER_MEGAPIXEL = 0.005
_TIMES_A_JPEG = {"JPEG": 1, "PNG": 8, "GIF": 4, "WEBP": 6, "AVIF": 8, "HEIF": 12}
TIMES_A_JPEG_IF_WHOLE = 4
# What a decoder and Pillow hold at once for each pixel, measured by tests/test_decoding_memory.py, rounded up.
_BYTES_PER_PIXEL = {"GIF": 3.0, "WEBP": 16.5, "AVIF": 14.0, "HEIF": 14.0}
# PNG by its colour type (PNG 3, table 8); Pillow keeps colour in four bytes. Transparency is worked on in strips.
_PNG_BYTES_PER_PIXEL = {0: 2, 2: 4, 3: 1, 4: 4, 6: 4}

PICTURES_TAKEN = "JPEG, PNG, GIF, WebP, AVIF or HEIC"
_SAVE_AS = f"Please save it as {PICTURES_TAKEN} and send that."
_STILL = f"Please send a single picture: {PICTURES_TAKEN}."
_MARKUP = rb"(?i:(?:\xef\xbb\xbf)?\s*(?:<[?!][^<]{0,2000}\s*){0,20}<"
# What else people send: what its beginning looks like, by the formats' own specifications, its name, what to do.
_FOREIGN = tuple(
    (re.compile(pattern, re.DOTALL), name, advice)
    for pattern, name, advice in (
        (rb".{0,1020}%PDF-", "a PDF", "Please send a screenshot of its page, or export the page as JPEG or PNG."),
        (_MARKUP + rb"(?:\w+:)?svg\b)", "an SVG", "Please export it as PNG and send that."),
        (_MARKUP + rb"(?:html|head|body|script|div|p)\b|\s*<!doctype html)", "a web page", _STILL),
        (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript file", _SAVE_AS),
        (rb"II\*\0.{4}CR|FUJIFILMCCD-RAW|II[RU][OS\0]|MMOR|.{4}ftypcrx ", "a camera's raw file", _SAVE_AS),
        (rb"II[*+]\0|MM\0[*+]", "a TIFF or a camera's raw file", _SAVE_AS),
        (rb"BM.{4}\0\0\0\0", "a BMP", _SAVE_AS),
        (rb"\0\0[\x01\x02]\0[\x01-\xff]\0|icns", "an icon", _SAVE_AS),
        (rb"8BPS|gimp xcf", "a drawing program's own file", _SAVE_AS),
        (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000", _SAVE_AS),
        (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL", _SAVE_AS),
        (
            rb"P[1-7fF][\s#]|\x01\xda[\0\x01][\x01\x02]|\x0a[\0-\x05]\x01[\x01\x02\x04\x08]",
            "a rare picture format",
            _SAVE_AS,
        ),
        (rb"qoif|DDS |v/1\x01|#\?RADIANCE|SIMPLE  =|\x59\xa6\x6a\x95", "a rare picture format", _SAVE_AS),
        (rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF", "a Windows metafile", _SAVE_AS),
        (rb"\x1f\x8b|PK\x03\x04|PK\x05\x06|Rar!|7z\xbc\xaf|BZh|\xfd7zXZ", "an archive or a document", _STILL),
        (rb".{4}(?:ftyp|moov|mdat|wide)|\x1aE\xdf\xa3|RIFF.{4}AVI |FLV\x01|\0\0\x01[\xb3\xba]|OggS", "a video", _STILL),
        (rb"ID3|RIFF.{4}WAVE|fLaC", "a sound file", _STILL),
        (rb"MZ|\x7fELF|\xca\xfe\xba\xbe|#!", "a program", _STILL),
    )
)


class Crop(NamedTuple):
    """A square in the upright picture, in its pixels from the top left corner."""

    x_px: int
    y_px: int
    size_px: int


@dataclass(frozen=True)
class Header:
    """What the first bytes say. For a picture that must be decoded whole, what each pixel then holds in memory.

    `format` is Pillow's name of the one parser that may see the file.
    """

    format: str
    width_px: int
    height_px: int
    bytes_per_pixel: float
    is_baseline: bool = False  # a JPEG that can be decoded line by line, at reduced scale


class Cost(NamedTuple):
    """What to set aside for decoding: memory beyond the file itself, and time on one core."""

    memory_bytes: int
    cpu_seconds: float


def examine(
    content: bytes,
    crop: Crop | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    max_whole_pixels: int = DEFAULT_MAX_WHOLE_PIXELS,
) -> tuple[Header, Cost]:
    """Read the header, check it against the limits, and tell what making a picture of it will cost.

    Raises EmptyFile, NotAPicture, UnsupportedFormat, TruncatedPicture, BrokenPicture, TooManyPixels or SideTooLong.
    """
    header = read_header(content)
    return header, check_size(header, header.width_px, header.height_px, crop, max_pixels, max_whole_pixels)


def check_size(
    header: Header, width_px: int, height_px: int, crop: Crop | None, max_pixels: int, max_whole_pixels: int
) -> Cost:
    """Check these sides, the header's or those that the parser found, and tell the cost."""
    pixels = width_px * height_px
    if pixels == 0:
        raise BrokenPicture
    factor = reduction(header, width_px, height_px, crop)
    is_small = header.is_baseline and pixels * 4 <= REDUCED_BYTES * factor * factor
    limit = max_pixels if is_small else max_whole_pixels
    if pixels > limit:
        raise TooManyPixels(
            f"The picture has {width_px} x {height_px} pixels, {pixels / 1e6:.1f} million; "
            f"at most {limit / 1e6:g} million are taken of its kind. Please send a smaller one."
        )
    if max(width_px, height_px) > MAX_SIDE_PX:
        raise SideTooLong(
            f"The picture is {width_px} x {height_px} pixels; at most {MAX_SIDE_PX} are taken on a side. "
            "Please send a smaller one."
        )
    times = _TIMES_A_JPEG[header.format]
    if header.format == "JPEG" and not header.is_baseline:
        times = TIMES_A_JPEG_IF_WHOLE
    reduced_bytes = (-(-width_px // factor)) * (-(-height_px // factor)) * 4 if header.format == "JPEG" else 0
    memory_bytes = FIXED_BYTES + reduced_bytes + int(pixels * header.bytes_per_pixel)
    return Cost(memory_bytes, SECONDS_PER_MEGAPIXEL * times * pixels / 1e6)


def reduction(header: Header, width_px: int, height_px: int, crop: Crop | None) -> int:
    """By how much a JPEG is reduced while it is decoded: 1, 2, 4 or 8.

    What is left of the wanted square has at least twice the target's side; for a long strip, of which more would have
    to be held than REDUCED_BYTES, at least the target's.
    """
    if header.format != "JPEG":
        return 1
    side = min(width_px, height_px) if crop is None else crop.size_px
    factor = 1
    for enough_px in (DRAFT_SIDE_PX, PICTURE_SIDE_PX):
        while factor < 8 and side >= 2 * factor * enough_px:
            factor *= 2
        if not header.is_baseline or width_px * height_px * 4 <= REDUCED_BYTES * factor * factor:
            break
    return factor


def read_header(content: bytes) -> Header:
    """Tell what the file is. Raises EmptyFile, NotAPicture, UnsupportedFormat, TruncatedPicture or BrokenPicture."""
    if not content:
        raise EmptyFile
    for pattern, read in _READERS:
        if pattern.match(content):
            header = read(content)
            if header is None:
                raise TruncatedPicture(cut_short(content)) if is_cut_short(content) else BrokenPicture()
            return header
    for pattern, name, advice in _FOREIGN:
        if pattern.match(content[:8192]):
            raise UnsupportedFormat(f"This is {name}. {advice}")
    raise NotAPicture


def cut_short(content: bytes) -> str:
    """The sentence for a file that ends too early, with how far it got."""
    return f"The picture ends too early, after {len(content):,} bytes. Please send the whole file again."


def is_cut_short(content: bytes) -> bool:
    """Whether a file announces more bytes than it has, by its own structure; for JPEG, whether its end is missing."""
    if content.startswith(b"RIFF"):
        return int.from_bytes(content[4:8], "little") + 8 > len(content)
    if content.startswith(b"\x89PNG"):
        return not any(kind == b"IEND" for kind, _, _ in _png_chunks(content))
    if content[4:8] == b"ftyp":
        return any(end > len(content) for _, _, end in _boxes(content, 0, len(content)))
    return content.startswith(b"\xff\xd8") and b"\xff\xd9" not in content[-4096:]


def _read_jpeg(content: bytes) -> Header | None:
    """The frame header and whether one scan holds all components (ITU T.81, B.2)."""
    position, frame = 2, None
    for _ in range(MOST_STEPS):
        position = content.find(b"\xff", position)  # as libjpeg does: what is not a marker is passed over
        if position < 0 or position + 4 > len(content):
            return None
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD9:  # has no length
            position += 2
            continue
        body = content[position + 4 : position + 2 + int.from_bytes(content[position + 2 : position + 4], "big")]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if len(body) < 6 or len(body) < 6 + 3 * body[5]:
                return None
            frame = marker, body
        elif marker == 0xDA:
            return None if frame is None else _jpeg_header(*frame, components_in_scan=body[0] if body else 0)
        position += 2 + max(2, int.from_bytes(content[position + 2 : position + 4], "big"))
    return None


def _jpeg_header(marker: int, frame: bytes, components_in_scan: int) -> Header | None:
    height_px, width_px, components = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big"), frame[5]
    is_baseline = marker in (0xC0, 0xC1) and components_in_scan == components  # sequential, Huffman, one scan
    sampling = [(frame[7 + 3 * i] >> 4, frame[7 + 3 * i] & 15) for i in range(components)]
    if not sampling or any(not 1 <= h <= 4 or not 1 <= v <= 4 for h, v in sampling):
        return None
    # Otherwise the coefficients of all components are kept, two bytes each, each component at its own sampling.
    full = max(h for h, _ in sampling) * max(v for _, v in sampling)
    coefficients = 2 * sum(h * v for h, v in sampling) / full
    return Header("JPEG", width_px, height_px, 0 if is_baseline else coefficients, is_baseline)


def _read_png(content: bytes) -> Header | None:
    if content[12:16] != b"IHDR" or len(content) < 33 or content[25] not in _PNG_BYTES_PER_PIXEL:
        return None
    width_px, height_px = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    return Header("PNG", width_px, height_px, _PNG_BYTES_PER_PIXEL[content[25]])


def _read_gif(content: bytes) -> Header | None:
    """The screen, or the first frame where that reaches beyond it (GIF89a, 18 and 20), as Pillow takes it."""
    if len(content) < 13:
        return None
    width_px, height_px = int.from_bytes(content[6:8], "little"), int.from_bytes(content[8:10], "little")
    position = 13 + (3 << (content[10] & 7) + 1 if content[10] & 0x80 else 0)
    is_in_extension = False
    for _ in range(MOST_STEPS):
        block = content[position : position + 9]
        if is_in_extension:
            is_in_extension = block[:1] not in (b"", b"\0")
            position += 1 + (block[0] if block else 0)
        elif block[:1] == b"!":
            position, is_in_extension = position + 2, True
        elif block[:1] == b"," and len(block) == 9:
            left, top, width, height = (int.from_bytes(block[at : at + 2], "little") for at in (1, 3, 5, 7))
            width_px, height_px = max(width_px, left + width), max(height_px, top + height)
            break
        else:
            position += 1
    return Header("GIF", width_px, height_px, _BYTES_PER_PIXEL["GIF"])


def _read_webp(content: bytes) -> Header | None:
    """The canvas, from whichever of the three kinds of first chunk there is (RFC 9649)."""
    if len(content) < 30:
        return None
    if content[12:16] == b"VP8X":
        width_px = int.from_bytes(content[24:27], "little") + 1
        height_px = int.from_bytes(content[27:30], "little") + 1
    elif content[12:16] == b"VP8L":
        bits = int.from_bytes(content[21:25], "little")
        width_px, height_px = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width_px = int.from_bytes(content[26:28], "little") & 0x3FFF
        height_px = int.from_bytes(content[28:30], "little") & 0x3FFF
    return Header("WEBP", width_px, height_px, _BYTES_PER_PIXEL["WEBP"])


def _read_heif(content: bytes) -> Header | None:
    """The largest of the image sizes that the file declares (ISO/IEC 23008-12, ispe), of whichever codec."""
    size = int.from_bytes(content[:4], "big")
    brands = {content[i : i + 4] for i in (8, *range(16, min(size, 256), 4))}
    kind = "AVIF" if brands & {b"avif", b"avis"} and content[8:12] not in _HEIC_BRANDS else "HEIF"
    sides = [
        (int.from_bytes(content[start + 4 : start + 8], "big"), int.from_bytes(content[start + 8 : start + 12], "big"))
        for start, end in _inside(content, (b"meta", b"iprp", b"ipco", b"ispe"))
        if end - start >= 12
    ]
    if not sides:
        return None
    width_px, height_px = max(sides, key=lambda each: each[0] * each[1])
    return Header(kind, width_px, height_px, _BYTES_PER_PIXEL[kind])


def _inside(content: bytes, path: tuple[bytes, ...]) -> Iterator[tuple[int, int]]:
    """Where the contents of each box at the end of this path lie."""
    spans = [(0, len(content))]
    for wanted in path:
        spans = [
            (start + (4 if wanted == b"meta" else 0), min(end, outer_end))  # meta is a full box: version and flags
            for outer_start, outer_end in spans
            for kind, start, end in _boxes(content, outer_start, outer_end)
            if kind == wanted
        ]
    return iter(spans)


def _boxes(content: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes in a stretch (ISO/IEC 14496-12, 4.2): kind, start of the contents, and end, which may lie beyond."""
    for _ in range(MOST_STEPS):
        if position + 8 > end:
            return
        size, kind, head = (
            int.from_bytes(content[position : position + 4], "big"),
            content[position + 4 : position + 8],
            8,
        )
        if size == 1:
            size, head = int.from_bytes(content[position + 8 : position + 16], "big"), 16
        elif size == 0:
            size = end - position
        if size < head:
            return
        yield kind, position + head, position + size
        position += size


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The chunks that are whole: kind, start and end of their data."""
    position = 8
    for _ in range(MOST_STEPS * 16):  # a large picture may be written in chunks of 8 KiB
        end = position + 8 + int.from_bytes(content[position : position + 4], "big")
        if end + 4 > len(content):
            return
        yield content[position + 4 : position + 8], position + 8, end
        position = end + 4


_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_READERS = (
    (re.compile(rb"\xff\xd8\xff"), _read_jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _read_png),
    (re.compile(rb"GIF8[79]a"), _read_gif),
    (re.compile(rb"RIFF.{4}WEBPVP8[ LX]", re.DOTALL), _read_webp),
    (re.compile(rb".{4}ftyp(?:avif|avis|heic|heix|heim|heis|hevc|hevx|mif1|msf1|miaf|heif)", re.DOTALL), _read_heif),
)
