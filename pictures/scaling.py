"""The wanted part of a picture, or all of it, scaled down and turned upright.

Where a square lies is told in the picture's own pixels to a fraction, so that a picture comes out
the same however it is turned. A large picture is averaged strip by strip: no second copy of it is
ever in memory.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from errors import BadCrop
from pictures.costs import (
    DRAFT_SIDE_PX,
    MASTER_AVERAGED_SIDE_PX,
    choose_reduction,
    choose_whole_reduction,
)
from pictures.formats import Header
from pictures.renditions import Fit, Rendition
from pictures.values import (
    MASTER_SIDE_PX,
    PICTURE_SIDE_PX,
    THUMBNAIL_SIDE_PX,
    WHITE,
    Crop,
    fit_into,
)

# Rows that are converted at a time: what a strip of a wide picture takes stays in the processor's
# cache.
STRIP_ROWS_PX = 64
# A rendition is averaged by a whole factor that leaves this much to the better filter: half of the
# time or less, for a mean difference below one of 255.
LEFT_TO_FILTER = 2.0

# EXIF 2.32, tag 274: how to turn stored pixels upright; from 5 on the sides change places.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_FROM_THE_RIGHT = (2, 3, 7, 8)
_FROM_THE_BOTTOM = (3, 4, 6, 7)

_SCALABLE_MODES = ("L", "La", "RGB", "RGBa", "CMYK")
_OPAQUE_MODES = ("L", "RGB", "CMYK")
_PREMULTIPLIED_MODES = {"LA": "La", "RGBA": "RGBa"}
_GREY_OF_16_BITS = [round(value / 257) for value in range(2**16)]


# Left, top, right and bottom, in whole pixels.
PixelBox = tuple[int, int, int, int]


@dataclass(frozen=True)
class Fitting:
    """How all of a picture is made to fit into a square of `square_px`, before the better filter.

    The longer side of a JPEG keeps `reduced_px`; what is scaled in strips is averaged to less than
    twice `averaged_px`, and what is not, by a factor that leaves this much to the filter, if any.
    """

    square_px: int
    reduced_px: int
    averaged_px: int
    left_to_filter: float | None


AS_MASTER = Fitting(MASTER_SIDE_PX, MASTER_SIDE_PX, MASTER_AVERAGED_SIDE_PX, None)
AS_THUMBNAIL = Fitting(THUMBNAIL_SIDE_PX, DRAFT_SIDE_PX, DRAFT_SIDE_PX, LEFT_TO_FILTER)


@dataclass(frozen=True)
class Box:
    """A part of a picture, in its pixels; its sides may lie between them."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def shorter_side(self) -> float:
        return min(self.right - self.left, self.bottom - self.top)

    def scale_down(self, factor: int, picture: Image.Image) -> "Box":
        """The same part of this picture, which is the old one reduced by the factor."""
        return Box(
            self.left / factor,
            self.top / factor,
            min(self.right / factor, picture.width),
            min(self.bottom / factor, picture.height),
        )

    def move_by(self, left: float, top: float) -> "Box":
        """The same part, counted from this point."""
        return Box(self.left - left, self.top - top, self.right - left, self.bottom - top)

    def widen_to_whole_pixels(self) -> PixelBox:
        """The whole pixels that lie in it, or partly so: left, top, right and bottom."""
        return int(self.left), int(self.top), math.ceil(self.right), math.ceil(self.bottom)


def find_square(size: tuple[int, int], orientation: int, crop: Crop | None) -> Box:
    """Find where a crop given in upright pixels, or the centre square, lies in the stored ones.

    Raises BadCrop.
    """
    width, height = size
    if crop is None:
        side = min(size)
        left = (width - side) / 2
        top = (height - side) / 2
        return Box(left, top, left + side, top + side)
    is_sideways = orientation in _SIDEWAYS
    _check_crop(crop, (height, width) if is_sideways else size)
    side = crop.size_px
    across = crop.y_px if is_sideways else crop.x_px
    down = crop.x_px if is_sideways else crop.y_px
    stored_left = width - side - across if orientation in _FROM_THE_RIGHT else across
    stored_top = height - side - down if orientation in _FROM_THE_BOTTOM else down
    return Box(stored_left, stored_top, stored_left + side, stored_top + side)


def _check_crop(crop: Crop, upright_size: tuple[int, int]) -> None:
    width, height = upright_size
    is_inside = crop.x_px >= 0 and crop.x_px + crop.size_px <= width
    is_inside = is_inside and crop.y_px >= 0 and crop.y_px + crop.size_px <= height
    if crop.size_px < 1 or not is_inside:
        raise BadCrop.with_numbers(width=width, height=height)


def cut_square(
    picture: Image.Image,
    box: Box,
    header: Header,
    crop: Crop | None,
    prepare: Callable[[Image.Image], Image.Image],
) -> Image.Image:
    """Decode the picture, and make the box of it a square of the served size.

    A JPEG is reduced while it is decoded, all else is averaged before the better filter. What has
    to be enlarged is prepared for it.
    """
    factor = decode_reduced(picture, choose_reduction(header, picture.size, crop))
    averaged, exact = _average(picture, box.scale_down(factor, picture))
    if exact.shorter_side < PICTURE_SIDE_PX:
        averaged = prepare(averaged)
    return averaged.resize(
        (PICTURE_SIDE_PX, PICTURE_SIDE_PX),
        Image.Resampling.LANCZOS,
        (exact.left, exact.top, exact.right, exact.bottom),
    )


def decode_reduced(picture: Image.Image, wanted_factor: int) -> int:
    """Decode the picture, reduced by this factor if it is a JPEG; tell by which one it was."""
    stored_width, stored_height = picture.size
    picture.draft(
        None, (max(1, stored_width // wanted_factor), max(1, stored_height // wanted_factor))
    )
    picture.load()
    # libjpeg divides by a whole number and rounds the sides up: the quotient of the sides would be
    # off a little.
    return round(max(stored_width / picture.width, stored_height / picture.height))


def _average(picture: Image.Image, box: Box) -> tuple[Image.Image, Box]:
    """Average the box by a whole factor, in a mode that scales well; tell where in it the box lies.

    Strip by strip, so that no second copy of a large picture is ever in memory.
    """
    left, top, right, bottom = box.widen_to_whole_pixels()
    factor = max(1, int(box.shorter_side) // DRAFT_SIDE_PX)
    if factor == 1 and _is_scalable(picture):
        part = picture.crop((left, top, right, bottom))
        return part, box.move_by(left, top).scale_down(1, part)
    strip_rows_px = math.ceil(STRIP_ROWS_PX / factor) * factor
    averaged: Image.Image | None = None
    for strip_top in range(top, bottom, strip_rows_px):
        strip_bottom = min(strip_top + strip_rows_px, bottom)
        strip = _take_strip(picture, (left, strip_top, right, strip_bottom))
        reduced_strip = strip.reduce(factor)
        if averaged is None:
            height_px = math.ceil((bottom - top) / factor)
            averaged = Image.new(reduced_strip.mode, (reduced_strip.width, height_px))
        averaged.paste(reduced_strip, (0, (strip_top - top) // factor))
    assert averaged is not None  # a box has at least one row
    return averaged, box.move_by(left, top).scale_down(factor, averaged)


def fit_whole(picture: Image.Image, header: Header, fitting: Fitting) -> Image.Image:
    """Decode the picture, and scale all of it down into the square, if it is larger.

    A JPEG is reduced while it is decoded.
    """
    size = fit_into(fitting.square_px, picture.size)
    width, height = picture.size
    wanted_factor = choose_whole_reduction(header, picture.size, fitting.reduced_px)
    factor = decode_reduced(picture, wanted_factor)
    whole = Box(0, 0, width, height).scale_down(factor, picture)
    if _is_scalable(picture):
        box = (whole.left, whole.top, whole.right, whole.bottom)
        return picture.resize(size, Image.Resampling.LANCZOS, box, fitting.left_to_filter)
    return _fit_in_strips(picture, size, fitting.averaged_px)


def _fit_in_strips(picture: Image.Image, size: tuple[int, int], averaged_px: int) -> Image.Image:
    """Scale the whole picture, first across, strip by strip, then down, as Pillow does at once."""
    factor = max(1, max(picture.size) // averaged_px)
    width = picture.width / factor
    height = picture.height / factor
    strip_rows_px = math.ceil(STRIP_ROWS_PX / factor) * factor
    narrowed: Image.Image | None = None
    for strip_top in range(0, picture.height, strip_rows_px):
        strip_bottom = min(strip_top + strip_rows_px, picture.height)
        strip = _take_strip(picture, (0, strip_top, picture.width, strip_bottom))
        averaged = strip.reduce(factor)
        narrowed_strip = averaged.resize(
            (size[0], averaged.height), Image.Resampling.LANCZOS, (0, 0, width, averaged.height)
        )
        if narrowed is None:
            narrowed = Image.new(narrowed_strip.mode, (size[0], math.ceil(height)))
        narrowed.paste(narrowed_strip, (0, strip_top // factor))
    assert narrowed is not None  # a picture has at least one row
    return narrowed.resize(size, Image.Resampling.LANCZOS, (0, 0, size[0], height))


def scale_rendition(
    decoded: Image.Image, factor: int, master_size: tuple[int, int], rendition: Rendition
) -> Image.Image:
    """Scale what the rendition shows of a decoded master, which was reduced by this factor."""
    width, height = master_size
    shown_width, shown_height = rendition.find_shown_size(master_size)
    left = (width - shown_width) / 2
    top = (height - shown_height) / 2
    shown = Box(left, top, left + shown_width, top + shown_height).scale_down(factor, decoded)
    scaled = decoded.resize(
        rendition.find_scaled_size(master_size),
        Image.Resampling.LANCZOS,
        (shown.left, shown.top, shown.right, shown.bottom),
        reducing_gap=LEFT_TO_FILTER,
    )
    if rendition.fit is not Fit.CONTAIN:
        return scaled
    white = Image.new("RGB", rendition.size, WHITE)
    margins = (rendition.width_px - scaled.width, rendition.height_px - scaled.height)
    white.paste(scaled, (margins[0] // 2, margins[1] // 2))
    return white


def _is_scalable(picture: Image.Image) -> bool:
    """Whether the picture is in a mode that scales well, and nothing in it is transparent."""
    if picture.mode not in _OPAQUE_MODES or "transparency" in picture.info:
        return False
    return find_drawn_box(picture) is None


def find_drawn_box(picture: Image.Image) -> PixelBox | None:
    """Find the part that the first frame draws on, around which all is clear; None for all of it.

    A parser of ours says so (gif_picture.py).
    """
    box: PixelBox | None = getattr(picture, "drawn_box", None)
    return box


def _take_strip(picture: Image.Image, box: PixelBox) -> Image.Image:
    """Take this part of the picture, in a mode that scales well."""
    strip = convert_to_scalable(picture.crop(box))
    drawn_box = find_drawn_box(picture)
    return strip if drawn_box is None else _clear_around(strip, box, drawn_box)


def _clear_around(strip: Image.Image, box: PixelBox, drawn_box: PixelBox) -> Image.Image:
    """Clear what of this strip, which is the box of its picture, lies around the drawn box."""
    straight_mode, mode = ("LA", "La") if strip.mode in ("L", "La") else ("RGBA", "RGBa")
    cleared = Image.new(mode, strip.size)
    left = max(box[0], drawn_box[0])
    top = max(box[1], drawn_box[1])
    right = min(box[2], drawn_box[2])
    bottom = min(box[3], drawn_box[3])
    if left < right and top < bottom:
        corner = (left - box[0], top - box[1])
        drawn = strip.crop((*corner, right - box[0], bottom - box[1]))
        if drawn.mode != mode:
            drawn = drawn.convert(straight_mode).convert(mode)
        cleared.paste(drawn, corner)
    return cleared


def convert_to_scalable(picture: Image.Image) -> Image.Image:
    """Make the same picture in a mode that scales well.

    That is eight bits a channel, no palette, transparency premultiplied.
    """
    # 16 bits, in whichever of Pillow's ways to hold them.
    if picture.mode.startswith("I"):
        whole_numbers = picture.convert("I")
        grey = whole_numbers.point(_GREY_OF_16_BITS, "L")
        transparent = picture.info.get("transparency")
        if transparent is None:
            return grey
        alpha = whole_numbers.point(_list_opaque_shades(transparent), "L")
        return Image.merge("LA", (grey, alpha)).convert("La")
    if picture.mode in ("1", "F") and "transparency" not in picture.info:
        return picture.convert("L")
    if _has_hidden_transparency(picture):
        picture = picture.convert("RGBA")
    if picture.mode in _PREMULTIPLIED_MODES:
        return picture.convert(_PREMULTIPLIED_MODES[picture.mode])
    return picture if picture.mode in _SCALABLE_MODES else picture.convert("RGB")


@functools.lru_cache(maxsize=1)
def _list_opaque_shades(transparent: int) -> list[int]:
    """List the opacity of each shade of 16 bits, of which this one is clear."""
    opaque = [255] * 2**16
    opaque[transparent] = 0
    return opaque


def _has_hidden_transparency(picture: Image.Image) -> bool:
    """Whether something is transparent, and no channel of its own says so."""
    if picture.mode == "PA" or "transparency" in picture.info:
        return True
    return picture.mode == "P" and picture.im.getpalettemode() == "RGBA"


def turn_upright(square: Image.Image, orientation: int) -> Image.Image:
    """Turn the square as its file's orientation says."""
    if orientation not in _TURNS:
        return square
    return square.transpose(_TURNS[orientation])
