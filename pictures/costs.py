"""What decoding a picture costs, and which are too large: limits and prices, from the header alone.

The memory of each format is a bound that was measured and is set
aside before anything is decoded. Pure functions without settings.
"""

from typing import NamedTuple

import errors
from pictures.formats import Header, read_header

MIB = 1024 * 1024
PICTURE_SIDE_PX = 300
# A decoder that scales leaves the last factor of two to the better filter.
DRAFT_SIDE_PX = 2 * PICTURE_SIDE_PX
DEFAULT_MAX_PIXELS = 50_000_000
DEFAULT_MAX_WHOLE_PIXELS = 25_000_000
# JPEG's own limit (16 bits); nothing that people take
# is longer, and Pillow's rows stay below a megabyte.
MAX_SIDE_PX = 65_535
# What a reduced JPEG may take; its rows and tables need little beside it.
REDUCED_BYTES = 9 * MIB
# Python's objects, the small pictures at the end, colour tables.
FIXED_BYTES = 10 * MIB
# Copies of the file: the decoder's, and some libraries'
# own. Pillow makes more of what stands beside the pixels.
_COPIES = {"WEBP": 2, "HEIF": 2}
_METADATA_COPIES = 4

# The time of a baseline JPEG on one core; the others are told
# in multiples of it, measured by benchmarks/image_step.py.
SECONDS_PER_MEGAPIXEL = 0.005
_TIMES_A_JPEG = {
    "JPEG": 4,
    "PNG": 8,
    "GIF": 4,
    "WEBP": 6,
    "AVIF": 8,
    "HEIF": 12,
}  # a JPEG that is not baseline


class Crop(NamedTuple):
    """A square in the upright picture, in its pixels from the top left corner."""

    x_px: int
    y_px: int
    size_px: int


class Cost(NamedTuple):
    """What to set aside for decoding: memory, the decoder's
    copy of the file included, and time on one core.
    """

    memory_bytes: int
    cpu_seconds: float


def examine(
    content: bytes,
    crop: Crop | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    max_whole_pixels: int = DEFAULT_MAX_WHOLE_PIXELS,
) -> tuple[Header, Cost]:
    """Read the header, check it against the limits, and tell what making a picture of it will cost.

    Raises EmptyFile, NotAPicture, UnsupportedFormat,
    TruncatedPicture, BrokenPicture, TooManyPixels or SideTooLong.
    """
    header = read_header(content)
    cost = check_size(
        header, (header.width_px, header.height_px), crop, max_pixels, max_whole_pixels
    )
    copied_bytes = (
        _COPIES.get(header.format, 1) * len(content) + _METADATA_COPIES * header.metadata_bytes
    )
    return header, cost._replace(memory_bytes=cost.memory_bytes + copied_bytes)


def check_size(
    header: Header, size: tuple[int, int], crop: Crop | None, max_pixels: int, max_whole_pixels: int
) -> Cost:
    """Check these sides, the header's or those that the parser found, and tell the cost."""
    pixels = size[0] * size[1]
    factor = reduction(header, size, crop)
    if pixels == 0:
        raise errors.BrokenPicture
    reduced_bytes = (
        4 * -(-size[0] // factor) * -(-size[1] // factor) if header.format == "JPEG" else 0
    )
    limit = (
        max_pixels if header.is_baseline and reduced_bytes <= REDUCED_BYTES else max_whole_pixels
    )
    if pixels > limit:
        raise errors.TooManyPixels(
            f"The picture has {size[0]} x {size[1]} pixels, {pixels / 1e6:.1f} million; "
            f"at most {limit / 1e6:g} million are taken of its kind. Please send a smaller one."
        )
    if max(size) > MAX_SIDE_PX:
        sides = f"The picture is {size[0]} x {size[1]} pixels; at most {MAX_SIDE_PX} are taken on a side."
        raise errors.SideTooLong(f"{sides} Please send a smaller one.")
    times = 1 if header.is_baseline else _TIMES_A_JPEG[header.format]
    memory_bytes = FIXED_BYTES + reduced_bytes + int(pixels * header.bytes_per_pixel)
    return Cost(memory_bytes, SECONDS_PER_MEGAPIXEL * times * pixels / 1e6)


def reduction(header: Header, size: tuple[int, int], crop: Crop | None) -> int:
    """By how much a JPEG is reduced while it is decoded: 1, 2, 4 or 8.

    What is left of the wanted square has at least twice the target's side; for a long
    strip, of which more would have to be held than REDUCED_BYTES, at least the target's.
    """
    factor = 1
    side = min(size) if crop is None else crop.size_px
    for enough_px in (DRAFT_SIDE_PX, PICTURE_SIDE_PX):
        while header.format == "JPEG" and factor < 8 and side >= 2 * factor * enough_px:
            factor *= 2
        if not header.is_baseline or 4 * size[0] * size[1] <= REDUCED_BYTES * factor**2:
            break
    return factor
