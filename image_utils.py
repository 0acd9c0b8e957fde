"""Bytes in, bytes out: any accepted picture becomes a clean, upright JPEG in sRGB.

A square for a profile, or a master of the whole picture, from which thumbnails are cut.

Only the one parser that the content calls for ever sees it, after the limits were read from its
header; whatever a broken file makes that parser raise is a BadPicture. Pure functions without
settings: limits are arguments.
"""

import io
import itertools
import re
from collections.abc import Callable

from PIL import Image

from errors import BrokenPicture
from pictures import pillow
from pictures.colour import (
    WHITE,
    Colour,
    convert_to_srgb,
    lay_on_background,
    scale_transparent_colour,
)
from pictures.costs import DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS, check_size, examine
from pictures.formats import Header, read_png_depth
from pictures.metadata import name_metadata, read_orientation
from pictures.parsers import open_picture
from pictures.placeholder import find_dominant_colour, hash_thumbnail
from pictures.scaling import cut_square, find_square, fit_master, turn_upright
from pictures.values import Content, Crop, ProcessedImage

__all__ = ["JPEG_QUALITY", "ProcessedImage", "make_master", "process_profile_image"]

# Below 80 skin shows blocks at this size, above 90 the file doubles for nothing that an eye sees.
JPEG_QUALITY = 85
# Progressive files have ten; each goes over all coefficients: 13 ms for 42 bytes of a hostile file.
MOST_SCANS = 100
_SCAN_MARKER = re.compile(rb"\xff\xda")

# Decodes a picture and scales what is wanted of it, given its header and orientation.
_Scale = Callable[[Image.Image, Header, int], Image.Image]


def process_profile_image(
    content: Content,
    crop: Crop | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    max_whole_pixels: int = DEFAULT_MAX_WHOLE_PIXELS,
    background: Colour = WHITE,
) -> ProcessedImage:
    """Make a 300 x 300 JPEG of `crop`, or of the centre square.

    `max_pixels` bounds baseline JPEG, which is decoded at reduced scale; `max_whole_pixels` what
    must be decoded whole: every other kind, and a JPEG of which so small a square is wanted that no
    smaller scale will do. What is transparent shows `background`. Raises BadPicture, TooLarge or
    BadCrop; of others only MemoryError.
    """

    def scale(picture: Image.Image, header: Header, orientation: int) -> Image.Image:
        box = find_square(picture.size, orientation, crop)
        return cut_square(picture, box, header, crop)

    return _process(content, crop, (max_pixels, max_whole_pixels), background, scale)


def make_master(
    content: Content,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    max_whole_pixels: int = DEFAULT_MAX_WHOLE_PIXELS,
) -> ProcessedImage:
    """Make a JPEG of the whole picture, which fits into 1600 x 1600 and is never enlarged.

    Its limits are those of a profile picture's centre square. What is transparent shows white.
    Raises BadPicture or TooLarge; of others only MemoryError.
    """

    def scale(picture: Image.Image, header: Header, _: int) -> Image.Image:
        return fit_master(picture, header)

    return _process(content, None, (max_pixels, max_whole_pixels), WHITE, scale)


def _process(
    content: Content,
    crop: Crop | None,
    limits: tuple[int, int],
    background: Colour,
    scale: _Scale,
) -> ProcessedImage:
    pillow.configure()
    header, _ = examine(content, crop, *limits)
    _check_scans(content, header)
    with open_picture(content, header) as picture:
        check_size(header, picture.size, crop, *limits)
        _load_unless_reducible(picture, content, header)
        orientation = read_orientation(picture)
        scaled = turn_upright(scale(picture, header, orientation), orientation)
        in_srgb = convert_to_srgb(scaled, picture.info.get("icc_profile"))
        del scaled
        upright = lay_on_background(in_srgb, background)
        del in_srgb
        removed_metadata = name_metadata(picture, content)
    return ProcessedImage.from_jpeg(
        _encode(upright),
        upright.size,
        find_dominant_colour(upright),
        hash_thumbnail(upright),
        removed_metadata,
    )


def _check_scans(content: Content, header: Header) -> None:
    if header.format != "JPEG" or header.is_baseline:
        return
    scans = itertools.islice(_SCAN_MARKER.finditer(content), MOST_SCANS + 1)
    if sum(1 for _ in scans) > MOST_SCANS:
        raise BrokenPicture


def _load_unless_reducible(picture: Image.Image, content: Content, header: Header) -> None:
    """Decode all but a JPEG, which is reduced while it is decoded.

    A PNG's getexif() would decode as well, and what is raised there would be lost.
    """
    if header.format == "JPEG":
        return
    picture.load()
    if header.format == "PNG":
        scale_transparent_colour(picture, read_png_depth(content))


def _encode(upright: Image.Image) -> bytes:
    jpeg = io.BytesIO()
    # Told a name, Pillow loads the one encoder; told a format, all that it has.
    jpeg.name = "picture.jpg"
    upright.save(jpeg, quality=JPEG_QUALITY, optimize=True)
    return jpeg.getvalue()
