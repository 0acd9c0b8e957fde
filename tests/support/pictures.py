"""Pictures that the tests send: made, not stored, so that what is in them is known.

Also the parts of files that Pillow cannot write: any kind of PNG, EXIF blocks and colour profiles,
sound and broken.
"""

import io
import itertools
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pillow_heif
from PIL import Image, ImageDraw

pillow_heif.register_heif_opener()

RED = (220, 30, 30)
GREEN = (30, 180, 60)
BLUE = (40, 60, 220)
WHITE = (245, 245, 245)
# Of each of the nine squares of `patches`: whole blocks of a JPEG with halved colour, so that none
# bleeds.
PATCH_PX = 32
EXIF_ORIENTATION = 0x0112
EXIF_UNIT = 0x0128
EXIF_ARTIST = 0x013B
EXIF_GPS = 0x8825
# Number, bytes of one value and struct's letter (TIFF 6, section 2). A rational is two numbers.
_EXIF_TYPES = {
    "ascii": (2, 1, "s"),
    "short": (3, 2, "H"),
    "long": (4, 4, "I"),
    "rational": (5, 8, "I"),
}
# Adam7's passes (PNG 3, 8.2): first column and row, step across and down.
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_WHOLE = ((0, 0, 1, 1),)
# Enough that straight lines between them stay within a hundredth of a step of eight bits.
CURVE_POINTS = 1024

Colour = tuple[int, int, int]
Sample = tuple[int, ...]
ExifEntry = tuple[int, str, bytes | tuple[int, ...]]
XYZ = tuple[float, float, float]
Curve = Callable[[float], float]

# The white of every profile's connection space (ICC.1:2001, 6.1.7).
D50: XYZ = (0.9642, 1.0, 0.8249)


def quarters(width_px: int, height_px: int) -> Image.Image:
    """Red, green, blue and white quarters in reading order: every turn looks different."""
    picture = Image.new("RGB", (width_px, height_px), WHITE)
    draw = ImageDraw.Draw(picture)
    middle_x = width_px // 2
    middle_y = height_px // 2
    draw.rectangle((0, 0, middle_x - 1, middle_y - 1), fill=RED)
    draw.rectangle((middle_x, 0, width_px, middle_y - 1), fill=GREEN)
    draw.rectangle((0, middle_y, middle_x - 1, height_px), fill=BLUE)
    return picture


def numbered(number: int, width_px: int, height_px: int) -> Image.Image:
    """The number in ten vertical bars, binary: pictures that no JPEG makes equal."""
    picture = Image.new("L", (width_px, height_px), 230)
    draw = ImageDraw.Draw(picture)
    for bit in range(10):
        if number >> bit & 1:
            draw.rectangle(
                (width_px * bit // 10, 0, width_px * (bit + 1) // 10 - 1, height_px), fill=20
            )
    return picture


def encoded(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """The file of a picture."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def jpeg(width_px: int = 640, height_px: int = 480, **options: Any) -> bytes:
    """A JPEG of the quarters."""
    return encoded(quarters(width_px, height_px), quality=90, **options)


def phone_photo(width_px: int = 4000, height_px: int = 3000) -> bytes:
    """What a phone held upright writes: the picture lies on its side, and orientation 6 says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(
        quarters(height_px, width_px).transpose(Image.Transpose.ROTATE_90), quality=90, exif=exif
    )


def corners(served: bytes) -> list[str]:
    """The colours in the quarters of a served picture, in reading order."""
    picture = Image.open(io.BytesIO(served)).convert("RGB")
    width, height = picture.size
    named = {"red": RED, "green": GREEN, "blue": BLUE, "white": WHITE}

    def name(x: int, y: int) -> str:
        pixel = picture.getpixel((x, y))
        assert isinstance(pixel, tuple)
        return min(
            named, key=lambda key: sum(abs(a - b) for a, b in zip(named[key], pixel, strict=True))
        )

    near = width // 4
    far = width * 3 // 4
    low = height // 4
    high = height * 3 // 4
    return [name(near, low), name(far, low), name(near, high), name(far, high)]


def patch_middle(number: int, side_px: int) -> tuple[int, int]:
    """The middle of one of the nine squares in a picture with sides of this length."""
    return side_px * (2 * (number % 3) + 1) // 6, side_px * (2 * (number // 3) + 1) // 6


def patches(mode: str, samples: Sequence[Sample], patch_px: int = PATCH_PX) -> Image.Image:
    """Nine flat squares in reading order, in the mode's own numbers."""
    picture = Image.new(mode, (3 * patch_px, 3 * patch_px))
    for number, sample in enumerate(samples):
        left = number % 3 * patch_px
        top = number // 3 * patch_px
        colour = sample[0] if len(sample) == 1 else sample
        picture.paste(colour, (left, top, left + patch_px, top + patch_px))
    return picture


def patch_rows(samples: Sequence[Sample], patch_px: int = PATCH_PX) -> list[list[Sample]]:
    """The same as rows of samples, for what no picture of Pillow's can hold."""
    bands = [[samples[3 * band + x // patch_px] for x in range(3 * patch_px)] for band in range(3)]
    return [bands[y // patch_px] for y in range(3 * patch_px)]


def png(
    rows: Sequence[Sequence[Sample]],
    depth: int,
    kind: int,
    *chunks: bytes,
    interlaced: bool = False,
) -> bytes:
    """A PNG of any depth and colour type (PNG 3, 11.2.1), with further chunks before the pixels."""
    packed = bytearray()
    for left, top, across, down in _ADAM7 if interlaced else _WHOLE:
        for row in rows[top::down]:
            line = [value for sample in row[left::across] for value in sample]
            packed += b"\0" + _packed(line, depth) if line else b""
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), depth, kind, 0, 0, interlaced)
    body = [
        png_chunk(b"IHDR", header),
        *chunks,
        png_chunk(b"IDAT", zlib.compress(packed)),
        png_chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def _packed(line: Sequence[int], depth: int) -> bytes:
    if depth >= 8:
        return struct.pack(f">{len(line)}{'H' if depth == 16 else 'B'}", *line)
    per_byte = 8 // depth
    padded = [*line, *[0] * (-len(line) % per_byte)]
    return bytes(
        sum(
            value << depth * (per_byte - 1 - i)
            for i, value in enumerate(padded[at : at + per_byte])
        )
        for at in range(0, len(padded), per_byte)
    )


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(content: bytes, kind: bytes, data: bytes, before: bytes = b"IDAT") -> bytes:
    """A PNG with one chunk more, before the first one of that other kind."""
    at = content.index(before) - 4
    return content[:at] + png_chunk(kind, data) + content[at:]


def gif(
    canvas_px: int,
    palette: Sequence[Colour],
    *frames: "GifFrame",
    transparent: int | None = None,
    extra: bytes = b"",
) -> bytes:
    """A GIF of one or more pictures, their rows given as indices; further blocks come first."""
    blocks = b"GIF89a" + struct.pack("<HHBBB", canvas_px, canvas_px, 0xF6, 0, 0)
    blocks += bytes(value for colour in palette for value in colour).ljust(3 * 128, b"\0") + extra
    for frame in frames:
        control = (0, 0, 0) if transparent is None else (1, 0, transparent)
        rows = list(frame.rows)
        flags = 0x40 if frame.is_interlaced else 0
        if frame.is_interlaced:
            rows = [*rows[::8], *rows[4::8], *rows[2::4], *rows[1::2]]
        blocks += b"\x21\xf9\4" + struct.pack("<BHBB", *control, 0)
        blocks += struct.pack(
            "<BHHHHB", 0x2C, frame.left_px, frame.top_px, len(rows[0]), len(rows), flags
        )
        blocks += b"\x07" + _in_blocks(_unpacked_lzw([index for row in rows for index in row]))
    return blocks + b";"


@dataclass(frozen=True)
class GifFrame:
    rows: Sequence[Sequence[int]]
    left_px: int = 0
    top_px: int = 0
    is_interlaced: bool = False


def _unpacked_lzw(indices: Sequence[int]) -> bytes:
    """Codes that stay one byte long: the table is cleared (128) in time, and ended (129)."""
    return (
        b"".join(b"\x80" + bytes(indices[at : at + 100]) for at in range(0, len(indices), 100))
        + b"\x81"
    )


def _in_blocks(data: bytes) -> bytes:
    blocks = [data[at : at + 255] for at in range(0, len(data), 255)]
    return b"".join(bytes((len(block),)) + block for block in blocks) + b"\0"


def with_segment(content: bytes, marker: int, data: bytes) -> bytes:
    """A JPEG with one segment more, the first of all."""
    return content[:2] + struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data + content[2:]


def exif_block(
    entries: Sequence[ExifEntry], gps: Sequence[ExifEntry] = (), thumbnail: bytes = b""
) -> bytes:
    """A little-endian TIFF of these tags, with a GPS directory and a thumbnail if there are any.

    EXIF 2.32, 4.5.
    """
    first = [*entries, (EXIF_GPS, "long", (0,))] if gps else [*entries]
    gps_at = 8 + len(exif_directory(first, 8))
    second_at = gps_at + (len(exif_directory(gps, gps_at)) if gps else 0)
    picture = [(0x0103, "short", (6,)), (0x0201, "long", (0,)), (0x0202, "long", (len(thumbnail),))]
    picture[1] = (0x0201, "long", (second_at + len(exif_directory(picture, second_at)),))
    first = [*entries, (EXIF_GPS, "long", (gps_at,))] if gps else [*entries]
    block = (
        b"II*\0" + struct.pack("<I", 8) + exif_directory(first, 8, second_at if thumbnail else 0)
    )
    block += exif_directory(gps, gps_at) if gps else b""
    return block + (exif_directory(picture, second_at) + thumbnail if thumbnail else b"")


def exif_directory(
    entries: Sequence[ExifEntry], at: int, next_at: int = 0, order: str = "<"
) -> bytes:
    """A directory at this place of the block: tags, where the next is, and what does not fit in."""
    behind_at = at + 2 + 12 * len(entries) + 4
    behind = b""
    directory = struct.pack(order + "H", len(entries))
    for tag, kind, value in sorted(entries):
        number, size, letter = _EXIF_TYPES[kind]
        data = (
            value
            if isinstance(value, bytes)
            else struct.pack(f"{order}{len(value)}{letter}", *value)
        )
        directory += struct.pack(order + "HHI", tag, number, len(data) // size)
        directory += (
            data.ljust(4, b"\0")
            if len(data) <= 4
            else struct.pack(order + "I", behind_at + len(behind))
        )
        behind += data if len(data) > 4 else b""
    return directory + struct.pack(order + "I", next_at) + behind


def rgb_profile(primaries: Sequence[XYZ], curve: Curve, device_class: bytes = b"mntr") -> bytes:
    """An ICC profile (version 2) of three primaries, as XYZ under D50, and one curve to light."""
    tags = {b"wtpt": _xyz(D50)}
    for letter, primary in zip((b"r", b"g", b"b"), primaries, strict=True):
        tags |= {letter + b"XYZ": _xyz(primary), letter + b"TRC": _curve(curve)}
    return icc_profile(b"RGB ", tags, device_class)


def grey_profile(curve: Curve) -> bytes:
    """An ICC profile of neutral greys."""
    return icc_profile(b"GRAY", {b"wtpt": _xyz(D50), b"kTRC": _curve(curve)})


def cmyk_profile(lab: Callable[[int, int, int, int], XYZ]) -> bytes:
    """An ICC profile with a table of the sixteen mixtures of full inks, each 0 or 1.

    lut8, ICC.1:2001, 6.5.8.
    """
    corners = itertools.product((0, 1), repeat=4)
    table = [round(v) for inks in corners for v in _lab_bytes(lab(*inks))]
    identity = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    ramp = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + 4 * ramp + bytes(table) + 3 * ramp
    return icc_profile(b"CMYK", {b"wtpt": _xyz(D50), b"A2B0": lut}, b"prtr", b"Lab ")


def icc_profile(
    space: bytes, tags: dict[bytes, bytes], device_class: bytes = b"mntr", pcs: bytes = b"XYZ "
) -> bytes:
    """Header, tag table and tags (ICC.1:2001, 6)."""
    named = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78), **tags}
    named[b"cprt"] = b"text\0\0\0\0none\0"
    table = struct.pack(">I", len(named))
    data = b""
    data_at = 128 + 4 + 12 * len(named)
    for name, tag in named.items():
        table += name + struct.pack(">II", data_at + len(data), len(tag))
        data += tag + bytes(-len(tag) % 4)
    header = struct.pack(
        ">I4sI4s4s4s", data_at + len(data), bytes(4), 0x02400000, device_class, space, pcs
    )
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(D50)[8:]
    return header.ljust(128, b"\0") + table + data


def _xyz(value: XYZ) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in value))


def _curve(curve: Curve) -> bytes:
    points = [round(65535 * curve(i / (CURVE_POINTS - 1))) for i in range(CURVE_POINTS)]
    return b"curv\0\0\0\0" + struct.pack(f">I{CURVE_POINTS}H", CURVE_POINTS, *points)


def _lab_bytes(lab: XYZ) -> XYZ:
    return lab[0] * 255 / 100, lab[1] + 128, lab[2] + 128
