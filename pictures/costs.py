"""What decoding a picture costs, and which are too large: limits and prices, from the header alone.

The memory of each format is a bound that was measured and is set aside before anything is decoded.
Pure functions without settings.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import errors
from pictures.formats import (
    DEAREST_BYTES_PER_PIXEL,
    Header,
    read_header,
)
from pictures.renditions import Rendition, RenditionFormat
from pictures.values import (
    MASTER_SIDE_PX,
    PICTURE_SIDE_PX,
    Content,
    Crop,
    fit_into_master,
)

MIB = 1024 * 1024
# A decoder that scales leaves the last factor of two to the better filter.
DRAFT_SIDE_PX = 2 * PICTURE_SIDE_PX
DEFAULT_MAX_PIXELS = 50_000_000
DEFAULT_MAX_WHOLE_PIXELS = 25_000_000
# JPEG's own limit (16 bits); nothing that people take is longer, and Pillow's rows stay below a
# megabyte.
MAX_SIDE_PX = 65_535
# What a reduced JPEG may take; its rows and tables need little beside it.
REDUCED_BYTES = 9 * MIB
# Pillow's RGB has a fourth byte.
_RGB_BYTES_PER_PIXEL = 4
# Python's objects, the small pictures at the end, colour tables.
FIXED_BYTES = 10 * MIB
# Copies of the file, beside the memory that a decoder shares: one that came through the socket, or
# that a parser made; and some libraries' own. Pillow makes more of what stands beside the pixels.
_COPIES = {"JPEG": 1, "PNG": 1, "GIF": 1, "WEBP": 2, "AVIF": 1, "HEIF": 2}
_METADATA_COPIES = 4

# The time of a baseline JPEG on one core; the others are told in multiples of it, measured by
# benchmarks/image_step.py.
SECONDS_PER_MEGAPIXEL = 0.005
_TIMES_A_BASELINE_JPEG = {
    "JPEG": 4,  # that is not baseline
    "PNG": 8,
    "GIF": 4,
    "WEBP": 6,
    "AVIF": 8,
    "HEIF": 12,
}
# A master is averaged to less than twice its side before the better filter.
MASTER_AVERAGED_SIDE_PX = 2 * MASTER_SIDE_PX
# Of a master at once: scaled, with its transparency, in sRGB, on its background, and encoded. While
# it is scaled down, two beside what was scaled across.
_MASTER_COPIES = 5
_COPIES_WHILE_SCALED = 2
# Beside decoding: scaling down, converting and encoding the largest.
_MASTER_SECONDS = 0.2

# Of a rendition at once: scaled, and laid on white; the master averaged before is no more than one.
_RENDITION_COPIES = 2
# What an encoder holds beside the picture, and its time on one core for a picture with much detail.
_ENCODING_BYTES_PER_PIXEL = {
    RenditionFormat.JPEG: 3,
    RenditionFormat.WEBP: 10,
    RenditionFormat.AVIF: 28,
}
_ENCODING_SECONDS_PER_MEGAPIXEL = {
    RenditionFormat.JPEG: 0.015,
    RenditionFormat.WEBP: 0.08,
    RenditionFormat.AVIF: 0.15,
}
_SCALING_SECONDS = 0.02
# The longest file, of black and colours that change with each pixel, has 1.7; the decoder and the
# service have a copy each.
_MADE_BYTES_PER_PIXEL = 2
_MADE_COPIES = 2

# libjpeg can scale by these.
_LARGEST_REDUCTION = 8


class Cost(NamedTuple):
    """What to set aside for decoding.

    That is memory, the decoder's copy of the file included, and time on one core.
    """

    memory_bytes: int
    cpu_seconds: float


def examine(
    content: Content,
    crop: Crop | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    max_whole_pixels: int = DEFAULT_MAX_WHOLE_PIXELS,
) -> tuple[Header, Cost]:
    """Read the header, check it against the limits, and tell what making a picture of it will cost.

    Raises EmptyFile, NotAPicture, UnsupportedFormat, TruncatedPicture, BrokenPicture, TooManyPixels
    or SideTooLong.
    """
    header = read_header(content)
    size = (header.width_px, header.height_px)
    cost = check_size(header, size, crop, max_pixels, max_whole_pixels)
    carried_bytes = _count_carried_bytes(header, len(content))
    return header, Cost(cost.memory_bytes + carried_bytes, cost.cpu_seconds)


def _count_carried_bytes(header: Header, file_bytes: int) -> int:
    """Count the copies of the file, and what is made of that which stands beside the pixels."""
    return _COPIES[header.format] * file_bytes + _METADATA_COPIES * header.metadata_bytes


def price_master(header: Header, file_bytes: int) -> Cost:
    """Tell what making a master costs, of a stored file whose sides were checked.

    The service's own copy of it is in it.
    """
    size = (header.width_px, header.height_px)
    width_px, height_px = fit_into_master(size)
    reduced_bytes = 0
    if header.is_reducible:
        reduced_bytes = _count_reduced_bytes(
            size, choose_whole_reduction(header, size, MASTER_SIDE_PX)
        )
    across_rows = min(size[1], 2 * MASTER_AVERAGED_SIDE_PX)
    rows = max(across_rows + _COPIES_WHILE_SCALED * height_px, _MASTER_COPIES * height_px)
    scaling_bytes = _RGB_BYTES_PER_PIXEL * width_px * rows
    cost = _price(header, size, reduced_bytes + scaling_bytes)
    carried_bytes = file_bytes + _count_carried_bytes(header, file_bytes)
    return Cost(cost.memory_bytes + carried_bytes, cost.cpu_seconds + _MASTER_SECONDS)


def price_renditions(
    master_size: tuple[int, int], master_bytes: int, renditions: Sequence[Rendition]
) -> Cost:
    """Tell what it costs to make these of one master, a file of so many bytes.

    The service's own copies of it and of what is made of it are in it.
    """
    width_px, height_px = master_size
    factor = choose_rendition_reduction(master_size, renditions)
    decoded_bytes = _count_reduced_bytes(master_size, factor)
    # The dearest to scale and the dearest to encode are held after each other, most often of one.
    dearest_bytes = 0
    made_bytes = 0
    seconds = SECONDS_PER_MEGAPIXEL * width_px * height_px / 1e6
    for rendition in renditions:
        pixels = rendition.width_px * rendition.height_px
        across_pixels = rendition.width_px * math.ceil(height_px / factor)
        scaling_bytes = _RGB_BYTES_PER_PIXEL * (across_pixels + _RENDITION_COPIES * pixels)
        encoding_bytes = int(_ENCODING_BYTES_PER_PIXEL[rendition.format] * pixels)
        dearest_bytes = max(dearest_bytes, scaling_bytes + encoding_bytes)
        made_bytes += _MADE_COPIES * _MADE_BYTES_PER_PIXEL * pixels
        encoding_seconds = _ENCODING_SECONDS_PER_MEGAPIXEL[rendition.format] * pixels / 1e6
        seconds += _SCALING_SECONDS + encoding_seconds
    memory_bytes = FIXED_BYTES + 2 * master_bytes + decoded_bytes + dearest_bytes + made_bytes
    return Cost(memory_bytes, seconds)


def check_size(
    header: Header, size: tuple[int, int], crop: Crop | None, max_pixels: int, max_whole_pixels: int
) -> Cost:
    """Check these sides, the header's or those that the parser found, and tell the cost.

    The file and its copies are not in it.
    """
    width_px, height_px = size
    pixels = width_px * height_px
    if pixels == 0:
        raise errors.BrokenPicture
    reduced_bytes = 0
    if header.is_reducible:
        reduced_bytes = _count_reduced_bytes(size, choose_reduction(header, size, crop))
    is_reduced = header.is_baseline and reduced_bytes <= REDUCED_BYTES
    limit = max_pixels
    # What is decoded whole may hold as much as the dearest kind does of `max_whole_pixels`.
    if not is_reduced:
        held_bytes_per_pixel = (_count_decoded_bytes(header, size) + reduced_bytes) / pixels
        affordable_bytes = max_whole_pixels * DEAREST_BYTES_PER_PIXEL
        affordable_pixels = int(affordable_bytes / held_bytes_per_pixel)
        limit = min(affordable_pixels, max(max_pixels, max_whole_pixels))
    if pixels > limit:
        raise errors.TooManyPixels.with_numbers(
            width_px=width_px,
            height_px=height_px,
            millions=pixels / 1e6,
            most_millions=_round_down(limit / 1e6),
        )
    if max(size) > MAX_SIDE_PX:
        raise errors.SideTooLong.with_numbers(
            width_px=width_px, height_px=height_px, most_px=MAX_SIDE_PX
        )
    return _price(header, size, reduced_bytes)


def _round_down(millions: float) -> float:
    """Round to what a person reads, of which a picture of just so many pixels is taken."""
    return math.floor(millions * 10) / 10 if millions >= 1 else millions


def _price(header: Header, size: tuple[int, int], scaled_bytes: int) -> Cost:
    """Tell what decoding costs, beside which so many bytes are held of the picture made smaller."""
    pixels = size[0] * size[1]
    memory_bytes = FIXED_BYTES + scaled_bytes + _count_decoded_bytes(header, size)
    times = 1 if header.is_baseline else _TIMES_A_BASELINE_JPEG[header.format]
    return Cost(memory_bytes, SECONDS_PER_MEGAPIXEL * times * pixels / 1e6)


def _count_decoded_bytes(header: Header, size: tuple[int, int]) -> int:
    """Count what is held while it is decoded, all at once or a tile after the other."""
    width_px, height_px = header.tile_size or size
    return int(width_px * height_px * header.bytes_per_pixel)


def count_dearest_bytes(max_whole_pixels: int, max_file_bytes: int) -> int:
    """Count what is set aside for the dearest picture: the largest of the most expensive kind.

    Where files of tens of megabytes are taken, one full of metadata may need more.
    """
    pixel_bytes = int(max_whole_pixels * DEAREST_BYTES_PER_PIXEL)
    return FIXED_BYTES + pixel_bytes + max(_COPIES.values()) * max_file_bytes


def _count_reduced_bytes(size: tuple[int, int], factor: int) -> int:
    """Count what a picture takes that was reduced by this factor while it was decoded."""
    width_px = math.ceil(size[0] / factor)
    height_px = math.ceil(size[1] / factor)
    return _RGB_BYTES_PER_PIXEL * width_px * height_px


def choose_reduction(header: Header, size: tuple[int, int], crop: Crop | None) -> int:
    """Choose by how much a picture is reduced while it is decoded: 1, 2, 4 or 8.

    What is left of the wanted square has at least twice the target's side; for a long strip, of
    which more would have to be held than REDUCED_BYTES, at least the target's.
    """
    if not header.is_reducible:
        return 1
    side_px = min(size) if crop is None else crop.size_px
    factor = _reduce_evenly(header, size, _reduce_while_enough(side_px, DRAFT_SIDE_PX))
    whole_bytes = _RGB_BYTES_PER_PIXEL * size[0] * size[1]
    if header.is_baseline and whole_bytes > REDUCED_BYTES * factor**2:
        return _reduce_while_enough(side_px, PICTURE_SIDE_PX)
    return factor


def choose_whole_reduction(header: Header, size: tuple[int, int], enough_px: int) -> int:
    """Choose by how much a picture that is shown whole is reduced: its longer side stays enough.

    For a thumbnail what is left is no more than for a profile picture, of which the shorter side
    has to be enough.
    """
    if not header.is_reducible:
        return 1
    return _reduce_evenly(header, size, _reduce_while_enough(max(size), enough_px))


def _reduce_evenly(header: Header, size: tuple[int, int], factor: int) -> int:
    """Choose the factor or the next smaller one by which each tile becomes whole pixels."""
    sides_px = () if header.tile_size is None else (*header.tile_size, *size)
    while any(side_px % factor for side_px in sides_px):
        factor //= 2
    return factor


def choose_rendition_reduction(
    master_size: tuple[int, int], renditions: Sequence[Rendition]
) -> int:
    """Choose by how much a master is reduced for all of these, each of which keeps enough.

    That is twice its own sides, which are left to the better filter.
    """
    factors = []
    for rendition in renditions:
        shown_size = rendition.find_shown_size(master_size)
        scaled_size = rendition.find_scaled_size(master_size)
        for shown_px, scaled_px in zip(shown_size, scaled_size, strict=True):
            factors.append(_reduce_while_enough(shown_px, 2 * scaled_px))
    return min(factors)


def _reduce_while_enough(side_px: float, enough_px: int) -> int:
    factor = 1
    while factor < _LARGEST_REDUCTION and side_px >= 2 * factor * enough_px:
        factor *= 2
    return factor
