"""Bytes in, bytes out: any accepted picture becomes a clean, upright, square JPEG. Pillow and nothing else.

The format is told from the content; pixel limits are read from the header before anything is decoded; whatever a broken
file makes Pillow raise is a BadPicture. Pure functions without settings: limits are arguments.
"""

import hashlib
import io
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from PIL import (
    AvifImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

import faults
from errors import BadCrop, BadPicture, BrokenPicture, EmptyFile, NotAPicture, TooManyPixels, TruncatedPicture

PICTURE_SIDE_PX = 300
# Below 80 skin shows blocks at this size, above 90 the file doubles for nothing that an eye sees.
JPEG_QUALITY = 85
# A decoder that scales leaves the last factor of two to the better filter.
DRAFT_SIDE_PX = 2 * PICTURE_SIDE_PX
DEFAULT_MAX_PIXELS = 50_000_000
DEFAULT_MAX_WHOLE_PIXELS = 24_000_000

# Nothing else ever reaches a parser. JPEG takes the MPO that phones write: a JPEG with further pictures behind it.
FORMATS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        GifImagePlugin.GifImageFile,
        WebPImagePlugin.WebPImageFile,
        AvifImagePlugin.AvifImageFile,
    )
)

# Our own check knows the two limits and names both numbers; Pillow's single one would come before it.
Image.MAX_IMAGE_PIXELS = None
ImageFile.LOAD_TRUNCATED_IMAGES = False
# A picture slot is one thread; libavif would start one for each core in every slot.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

_ORIENTATION_TAG = 0x0112
# EXIF 2.32, tag 274: how to turn stored pixels upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNS_SIDES = (5, 6, 7, 8)


class Crop(NamedTuple):
    """A square in the upright picture, in its pixels from the top left corner."""

    x_px: int
    y_px: int
    size_px: int


@dataclass(frozen=True)
class ProcessedImage:
    """A finished picture. `sha256` is in hexadecimal; `filename` is random and was never used before."""

    content: bytes
    content_type: str
    width_px: int
    height_px: int
    sha256: str
    filename: str


def process_profile_image(
    content: bytes,
    crop: Crop | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    max_whole_pixels: int = DEFAULT_MAX_WHOLE_PIXELS,
) -> ProcessedImage:
    """Make a 300 x 300 JPEG of `crop`, or of the centre square.

    `max_pixels` bounds baseline JPEG, which is decoded at reduced scale; `max_whole_pixels` what must be decoded whole:
    every other kind, and a JPEG of which so small a square is wanted that no smaller scale will do.
    Raises BadPicture, TooManyPixels or BadCrop; of others only MemoryError.
    """
    if not content:
        raise EmptyFile
    with _opened(content) as picture:
        is_jpeg = picture.format in ("JPEG", "MPO")
        side = min(picture.size) if crop is None else crop.size_px
        is_reducible = is_jpeg and side >= 2 * DRAFT_SIDE_PX and _is_baseline(content)
        _check_pixels(picture.size, max_pixels if is_reducible else max_whole_pixels)
        faults.reached("during_decode")
        if not is_jpeg:
            picture.load()  # a PNG's getexif() does so too, and what it raises there must not be lost
        orientation = _orientation(picture)
        box = _stored_box(picture.size, orientation, crop)
        square = _scaled_square(picture, box)
        if orientation in _TURNS:
            square = square.transpose(_TURNS[orientation])
        jpeg = _encode(square)
    return ProcessedImage(
        content=jpeg,
        content_type="image/jpeg",
        width_px=PICTURE_SIDE_PX,
        height_px=PICTURE_SIDE_PX,
        sha256=hashlib.sha256(jpeg).hexdigest(),
        filename=new_filename(),
    )


def new_filename() -> str:
    """A name that was never used before and that nobody can guess."""
    return f"{uuid.uuid4().hex}.jpg"


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """Open by content alone, and turn whatever Pillow raises, here or later, into a BadPicture."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            yield picture
    except (BadPicture, TooManyPixels, BadCrop, MemoryError):
        raise
    except UnidentifiedImageError as err:
        raise NotAPicture from err
    except Exception as err:  # OSError, SyntaxError, ValueError, struct.error, zlib.error ...: all of them a bad file
        if "truncated" in str(err):
            raise TruncatedPicture from err
        raise BrokenPicture from err


def _check_pixels(size: tuple[int, int], limit: int) -> None:
    pixels = size[0] * size[1]
    if pixels == 0:
        raise BrokenPicture
    if pixels > limit:
        raise TooManyPixels(
            f"The picture has {size[0]} x {size[1]} pixels, {pixels / 1e6:.1f} million; "
            f"at most {limit / 1e6:g} million are taken of its kind. Please send a smaller one."
        )


def _is_baseline(jpeg: bytes) -> bool:
    """Whether it can be decoded line by line: sequential, all components in one scan (ITU T.81, B.2)."""
    position, components = 2, 0
    while position + 4 <= len(jpeg):
        if jpeg[position] != 0xFF:
            return False
        marker = jpeg[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD9:
            return False  # has no length, and no place between the header's segments
        if marker in (0xC0, 0xC1):  # baseline and extended sequential, Huffman
            components = jpeg[position + 9] if position + 9 < len(jpeg) else 0
        elif 0xC2 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return False  # progressive, lossless, arithmetic
        elif marker == 0xDA:
            return 0 < components == jpeg[position + 4]
        position += 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
    return False


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation; what is absurd or unreadable counts as upright, and is no reason to refuse a picture."""
    try:
        value = picture.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and value in _TURNS else 1


def _stored_box(size: tuple[int, int], orientation: int, crop: Crop | None) -> tuple[float, float, int]:
    """The left, top and side, in stored pixels, of a crop given in upright ones, or of the centre square."""
    width, height = size
    if crop is None:
        side = min(size)
        return (width - side) / 2, (height - side) / 2, side  # to half a pixel, and so the same however it is turned
    upright = (height, width) if orientation in _TURNS_SIDES else (width, height)
    x, y, side = crop
    if side < 1 or x < 0 or y < 0 or x + side > upright[0] or y + side > upright[1]:
        raise BadCrop(f"The crop lies outside the picture, which is {upright[0]} x {upright[1]} pixels when upright.")
    from_right, from_bottom = width - side, height - side
    left, top = {
        1: (x, y),
        2: (from_right - x, y),
        3: (from_right - x, from_bottom - y),
        4: (x, from_bottom - y),
        5: (y, x),
        6: (y, from_bottom - x),
        7: (from_right - y, from_bottom - x),
        8: (from_right - y, x),
    }[orientation]
    return left, top, side


def _scaled_square(picture: Image.Image, box: tuple[float, float, int]) -> Image.Image:
    """Decode, crop and scale in one step; JPEG is decoded at the smallest scale that is still twice the target."""
    left, top, side = box
    stored_width, stored_height = picture.size
    enough = DRAFT_SIDE_PX / side
    picture.draft(None, (int(stored_width * enough) or 1, int(stored_height * enough) or 1))
    picture.load()
    # libjpeg divides by a whole number and rounds the sides up: the quotient of the sides would be off a little.
    factor = round(max(stored_width / picture.width, stored_height / picture.height))
    right, bottom = min((left + side) / factor, picture.width), min((top + side) / factor, picture.height)
    return _eight_bit(picture).resize(
        (PICTURE_SIDE_PX, PICTURE_SIDE_PX),
        Image.Resampling.LANCZOS,
        box=(left / factor, top / factor, right, bottom),
    )


def _eight_bit(picture: Image.Image) -> Image.Image:
    """The same picture in a mode that scales well: no palette, no bitmap, eight bits a channel."""
    if picture.mode.startswith("I;16") or picture.mode == "I":
        return picture.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    if picture.mode in ("PA", "La", "RGBa") or "transparency" in picture.info:
        return picture.convert("RGBA")
    if picture.mode == "1":
        return picture.convert("L")
    if picture.mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
        return picture
    return picture.convert("RGB")


def _encode(square: Image.Image) -> bytes:
    """JPEG on white, from a new image: what Pillow remembers of the old one (comments, profiles, EXIF) stays behind."""
    clean = Image.new("RGB", square.size, "white")
    if square.mode in ("LA", "RGBA"):
        clean.paste(square.convert("RGB"), mask=square.getchannel("A"))
    else:
        clean.paste(square.convert("RGB"))
    out = io.BytesIO()
    clean.save(out, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return out.getvalue()
