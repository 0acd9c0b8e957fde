"""What a file is and how large its picture is, read from its first bytes.

Nothing is decoded and no library is asked: plain reading, of a bounded
number of steps, tells whether a parser may see the file at all, and
which one, and names what is refused. Pure functions without settings.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import errors
from errors import BrokenPicture, TruncatedPicture

# Of header reading: real files have a few hundred segments
# or boxes. Ten times more is a file made to keep us busy.
MOST_STEPS = 4096
LONGEST_SEARCH_BYTES = 64 * 1024

# What a decoder and Pillow hold at once for each pixel,
# measured by tests/process/test_decoding_memory.py, rounded up.
_BYTES_PER_PIXEL = {"GIF": 3.0, "WEBP": 16.5, "AVIF": 17.5, "HEIF": 20.5}
# PNG by its colour type (PNG 3, table 8); Pillow keeps
# colour in four bytes. Transparency is worked on in strips.
_PNG_BYTES_PER_PIXEL = {0: 2, 2: 4, 3: 1, 4: 4, 6: 4}

PICTURES_TAKEN = "JPEG, PNG, GIF, WebP, AVIF or HEIC"
_SAVE_AS = f"Please save it as {PICTURES_TAKEN} and send that."
_RARE = "a picture of a rare format"
_STILL = f"Please send a single picture: {PICTURES_TAKEN}."
# Markup before its first element: declarations and comments, none of which holds another.
_MARKUP = rb"(?i:(?:\xef\xbb\xbf)?\s*(?:<[?!][^<]{0,2000}){0,20}<"
# What else people send: what its beginning looks like, by
# the formats' own specifications, its name, what to do.
_FOREIGN = tuple(
    (re.compile(pattern, re.DOTALL), name, advice)
    for pattern, name, advice in (
        (
            rb".{0,1020}%PDF-",
            "a PDF",
            "Please send a screenshot of its page, or export the page as JPEG or PNG.",
        ),
        (_MARKUP + rb"(?:\w+:)?svg\b)", "an SVG", "Please export it as PNG and send that."),
        (_MARKUP + rb"(?:html|head|body|script|div|p)\b|\s*<!doctype html)", "a web page", _STILL),
        (
            rb"II[*+RU][OS\0]|MM\0[*+]|MMOR|FUJIFILMCCD-RAW|.{4}ftypcrx ",
            "a TIFF or a camera's raw file",
            _SAVE_AS,
        ),
        (rb"BM.{4}\0\0\0\0|\0\0[\x01\x02]\0[\x01-\xff]\0|icns", "a BMP or an icon", _SAVE_AS),
        (rb"8BPS|gimp xcf|%!PS|\xc5\xd0\xd3\xc6", "a drawing program's own file", _SAVE_AS),
        (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000", _SAVE_AS),
        (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL", _SAVE_AS),
        (
            rb"P[1-7]\s+[\d#W]|P[fF]\n|\x01\xda[\0\x01][\x01\x02]|\x0a[\0-\x05]\x01[\x01\x02\x04\x08]|qoif",
            _RARE,
            _SAVE_AS,
        ),
        (
            rb"DDS |v/1\x01|#\?RADIANCE|SIMPLE  =|\x59\xa6\x6a\x95|\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF",
            _RARE,
            _SAVE_AS,
        ),
        (
            rb"\0.{3}(?:ftyp|moov|mdat|wide)|\x1aE\xdf\xa3|RIFF.{4}AVI |FLV\x01|\0\0\x01[\xb3\xba]|OggS",
            "a video",
            _STILL,
        ),
        (
            rb"\x1f\x8b|PK\x03\x04|PK\x05\x06|Rar!|7z\xbc\xaf|BZh|\xfd7zXZ",
            "an archive or a document",
            _STILL,
        ),
    )
)


@dataclass(frozen=True)
class Header:
    """What the first bytes say; `format` is Pillow's name of the one parser that may see the file.

    `bytes_per_pixel` is what decoding holds for each pixel
    of the file, beside the reduced picture of a JPEG.
    """

    format: str
    width_px: int
    height_px: int
    bytes_per_pixel: float
    metadata_bytes: int = 0  # what a JPEG or a PNG carries beside its pixels
    is_baseline: bool = False  # a JPEG that can be decoded line by line


def read_header(content: bytes) -> Header:
    """Tell what the file is.

    Raises EmptyFile, NotAPicture, UnsupportedFormat, TruncatedPicture or BrokenPicture.
    """
    if not content:
        raise errors.EmptyFile
    for pattern, read in _READERS:
        if pattern.match(content):
            if header := read(content):
                return header
            raise truncated(content) if is_cut_short(content) else BrokenPicture()
    for pattern, name, advice in _FOREIGN:
        if pattern.match(content[:8192]):
            raise errors.UnsupportedFormat(f"This is {name}. {advice}")
    raise errors.NotAPicture


def truncated(content: bytes) -> TruncatedPicture:
    """The refusal of a file that ends too early, with how far it got."""
    return TruncatedPicture(
        f"The picture ends too early, after {len(content):,} bytes. Please send all of it."
    )


def is_cut_short(content: bytes) -> bool:
    """Whether a file announces more than it has, or its format's own end is missing."""
    if content.startswith(b"RIFF"):
        return _uint(content, 4, 4, "little") + 8 > len(content)
    if content[4:8] == b"ftyp":
        return any(end > len(content) for _, _, end in _boxes(content, 0, len(content)))
    end = b"IEND" if content.startswith(b"\x89PNG") else b"\xff\xd9"
    return not content.startswith(b"GIF") and end not in content[-LONGEST_SEARCH_BYTES:]


def _read_jpeg(content: bytes) -> Header | None:
    """The frame header and whether one scan holds all components (ITU T.81, B.2)."""
    position = 2
    frame = None
    for _ in range(MOST_STEPS):
        position = content.find(
            b"\xff", position, position + LONGEST_SEARCH_BYTES
        )  # junk is passed over, as libjpeg does
        if position < 0 or position + 4 > len(content):
            return None
        marker = content[position + 1]
        length = _uint(content, position + 2, 2)
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD9:  # has no length
            position += 2
        else:
            body = content[position + 4 : position + 2 + length]
            if marker == 0xDA:
                return (
                    None
                    if frame is None
                    else _jpeg_header(*frame, body[0] if body else 0, position)
                )
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                frame = marker, body
            position += 2 + max(2, length)
    return None


def _jpeg_header(
    marker: int, frame: bytes, components_in_scan: int, metadata_bytes: int
) -> Header | None:
    sampling = [
        divmod(each, 16) for each in frame[7 : 6 + 3 * (frame[5] if len(frame) > 5 else 0) : 3]
    ]
    if not sampling or not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in sampling):
        return None
    height_px = _uint(frame, 1, 2)
    width_px = _uint(frame, 3, 2)
    if marker in (0xC0, 0xC1) and components_in_scan == len(
        sampling
    ):  # sequential, Huffman, one scan
        return Header("JPEG", width_px, height_px, 0, metadata_bytes, is_baseline=True)
    # The coefficients of all components are kept, two
    # bytes each, each component at its own sampling.
    full = max(h for h, _ in sampling) * max(v for _, v in sampling)
    return Header(
        "JPEG", width_px, height_px, 2 * sum(h * v for h, v in sampling) / full, metadata_bytes
    )


def _read_png(content: bytes) -> Header | None:
    if content[12:16] != b"IHDR" or len(content) < 33 or content[25] not in _PNG_BYTES_PER_PIXEL:
        return None
    metadata_bytes = len(content) - sum(_png_pixels(content))
    return Header(
        "PNG",
        _uint(content, 16),
        _uint(content, 20),
        _PNG_BYTES_PER_PIXEL[content[25]],
        metadata_bytes,
    )


def _png_pixels(content: bytes) -> Iterator[int]:
    """The lengths of the chunks that hold pixels (PNG 3, 5.3)."""
    position = 33
    for _ in range(MOST_STEPS):
        if position >= len(content):
            return
        length = _uint(content, position)
        if content[position + 4 : position + 8] == b"IDAT":
            yield min(length, len(content) - position)
        position += 12 + length


def _read_gif(content: bytes) -> Header | None:
    """The screen, or the first frame where that reaches
    beyond it (GIF89a, 18 and 20), as Pillow takes it.
    """
    if len(content) < 13:
        return None
    width_px, height_px = (_uint(content, at, 2, "little") for at in (6, 8))
    position = 13 + (3 << (content[10] & 7) + 1 if content[10] & 0x80 else 0)
    is_in_extension = False
    for _ in range(MOST_STEPS):
        kind = content[position : position + 1]
        if is_in_extension:
            is_in_extension = kind not in (b"", b"\0")
            position += 1 + (kind[0] if kind else 0)
        elif kind == b"!":
            # Pillow reads on behind an empty first block, but for a comment.
            first = (
                0
                if content[position + 1 : position + 2] == b"\xfe"
                else 1 + _uint(content, position + 2, 1)
            )
            position = position + 2 + first
            is_in_extension = True
        elif kind == b",":
            left, top, width, height = (
                _uint(content, position + at, 2, "little") for at in (1, 3, 5, 7)
            )
            width_px = max(width_px, left + width)
            height_px = max(height_px, top + height)
            return Header("GIF", width_px, height_px, _BYTES_PER_PIXEL["GIF"])
        else:
            position += 1
    return None


def _read_webp(content: bytes) -> Header | None:
    """The canvas, from whichever of the three kinds of first chunk there is (RFC 9649)."""
    if len(content) < 30:
        return None
    if content[12:16] == b"VP8X":
        width_px, height_px = (1 + _uint(content, at, 3, "little") for at in (24, 27))
    elif content[12:16] == b"VP8L":
        width_px, height_px = (
            1 + (_uint(content, 21, 4, "little") >> at & 0x3FFF) for at in (0, 14)
        )
    else:
        width_px, height_px = (_uint(content, at, 2, "little") & 0x3FFF for at in (26, 28))
    return Header("WEBP", width_px, height_px, _BYTES_PER_PIXEL["WEBP"])


def _read_heif(content: bytes) -> Header | None:
    """The largest of the image sizes that the file
    declares (ISO/IEC 23008-12, 6.5.3), of whichever codec.
    """
    brands = {content[at : at + 4] for at in (8, *range(16, min(_uint(content, 0), 256), 4))}
    kind = "AVIF" if brands & {b"avif", b"avis"} and content[8:12] not in _HEIC_BRANDS else "HEIF"
    spans = _inside(content, b"meta", b"iprp", b"ipco", b"ispe")
    sides = [(_uint(content, start), _uint(content, start + 4)) for start, _ in spans]
    if not sides:
        return None
    width_px, height_px = max(sides, key=lambda each: each[0] * each[1])
    return Header(kind, width_px, height_px, _BYTES_PER_PIXEL[kind])


def _inside(content: bytes, *path: bytes) -> list[tuple[int, int]]:
    """Where the contents of the boxes at the end of this path lie; on the way there is one of each."""
    spans = [(0, len(content))]
    for wanted in path:
        start, end = spans[0]
        head = 4 if wanted in (b"meta", b"ispe") else 0  # version and flags
        spans = [
            (begin + head, min(to, end))
            for kind, begin, to in _boxes(content, start, end)
            if kind == wanted
        ]
        if not spans:
            break
    return spans


def _boxes(content: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes in a stretch (ISO/IEC 14496-12, 4.2): kind,
    start of the contents, and end, which may lie beyond.
    """
    for _ in range(MOST_STEPS):
        if position + 8 > end:
            return
        size = _uint(content, position)
        head = 8
        if size == 1:
            size = _uint(content, position + 8, 8)
            head = 16
        elif size == 0:
            size = end - position
        if size < head:
            return
        yield content[position + 4 : position + 8], position + head, position + size
        position += size


def _uint(content: bytes, at: int, length: int = 4, order: Literal["big", "little"] = "big") -> int:
    return int.from_bytes(content[at : at + length], order)


_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_READERS = (
    (re.compile(rb"\xff\xd8\xff"), _read_jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _read_png),
    (re.compile(rb"GIF8[79]a"), _read_gif),
    (re.compile(rb"RIFF.{4}WEBPVP8[ LX]", re.DOTALL), _read_webp),
    (
        re.compile(
            rb".{4}ftyp(?:.{4}){0,30}?(?:avif|avis|hei[cxms]|hev[cx]|mif1|msf1|miaf)", re.DOTALL
        ),
        _read_heif,
    ),
)
