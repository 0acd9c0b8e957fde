"""How two squares of the same picture differ: ours, and the one that a browser shows.

Both went through the same JPEG, and are compared as a grid of means, because each is scaled by a
filter of its own.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace

from PIL import Image, ImageChops, ImageStat

from pictures.colour import DARK
from pictures.encoding import encode
from pictures.renditions import RenditionFormat
from pictures.values import PICTURE_SIDE_PX, WHITE, Colour

# Cells of the grid on a side: ten pixels each.
CELLS = 30
# Two filters make these differences of 255 between cells of the same picture: on average, and in
# the worst of a hundred, where something small and sharp lies on a border of cells.
MOST_MEAN = 2.5
MOST_OF_MOST_CELLS = 10
_MOST_CELLS = 0.99
# What a browser has not decoded is clear: fewer cells than that are an edge.
LEAST_CLEAR_SHARE = 0.004
_CLEAR = 16
# What libjpeg fills in, give or take what scaling rounds.
_FILLED_GREYS = range(127, 130)
_WHITE = 250
# Squares whose light and dark lie in the same places differ by their colours only.
_LEAST_CORRELATION = 0.9
_FLAT_DEVIATION = 3.0

_TURNS = tuple(Image.Transpose)


@dataclass
class Difference:
    """What sets them apart: a kind, or None; how much, of 255, on average and in most cells."""

    kind: str | None
    mean: float
    most: float
    note: str = ""


def compare(ours: Image.Image, theirs: Image.Image) -> Difference:
    """Compare our square with a browser's (RGBA, clear where it shows nothing).

    One of ours that is transparent (RGBA) is compared on a white and on a dark page.
    """
    if ours.mode != "RGBA":
        return _compare_on_white(ours, theirs)
    on_white = _compare_on_white(lay_on(ours, WHITE), theirs)
    on_dark = _compare_on_white(lay_on(ours, DARK), lay_on(theirs, DARK).convert("RGBA"))
    if on_dark.kind is None or (on_white.kind is not None and on_white.mean >= on_dark.mean):
        return on_white
    return replace(on_dark, note=f"{on_dark.note} on a dark page")


def _compare_on_white(ours: Image.Image, theirs: Image.Image) -> Difference:
    our_grid = _make_grid(ours)
    coded = io.BytesIO(encode(lay_on_white(theirs), RenditionFormat.JPEG))
    their_grid = _make_grid(Image.open(coded).convert("RGB"))
    mean, most = _measure(our_grid, their_grid)
    if _are_alike(mean, most):
        return Difference(None, mean, most)
    kind, note = _name(ours, our_grid, theirs, their_grid)
    return Difference(kind, mean, most, note)


def find_missing_share(square: Image.Image) -> float:
    """Find which share of a browser's square lies in whole clear rows at its lower end."""
    rows = square.getchannel("A").resize((1, square.height), Image.Resampling.BOX).tobytes()
    missing = len(rows) - len(rows.rstrip(b"\0"))
    return missing / len(rows)


def find_filled(square: Image.Image) -> Image.Image:
    """Mark what is of the grey that libjpeg fills in where it finds no data."""
    bands = square.convert("RGB").split()
    marks = [band.point([255 * (value in _FILLED_GREYS) for value in range(256)]) for band in bands]
    return ImageChops.darker(ImageChops.darker(marks[0], marks[1]), marks[2])


def find_filled_share(square: Image.Image) -> float:
    """Find which share of a browser's square is of that grey."""
    return ImageStat.Stat(find_filled(square)).mean[0] / 255


def whiten_filled(square: Image.Image) -> Image.Image:
    """Make white what is of that grey, as it is in ours."""
    whitened = square.copy()
    whitened.paste((255, 255, 255, 255), mask=find_filled(square))
    return whitened


def lay_on_white(square: Image.Image) -> Image.Image:
    """Lay a browser's square on white, as a page does."""
    return lay_on(square, WHITE)


def lay_on(square: Image.Image, colour: Colour) -> Image.Image:
    """Lay a square on a page of this colour."""
    page = Image.new("RGBA", square.size, (*colour, 255))
    return Image.alpha_composite(page, square).convert("RGB")


def scale_as_ours(pixels: Image.Image) -> Image.Image:
    """Scale the middle square of the browser's own pixels down, or up, as our square is."""
    shorter_px = min(pixels.size)
    factor = max(1, shorter_px // (2 * PICTURE_SIDE_PX))
    averaged = pixels.convert("RGBa").reduce(factor)
    left = (pixels.width - shorter_px) / 2 / factor
    top = (pixels.height - shorter_px) / 2 / factor
    side_px = shorter_px / factor
    size = (PICTURE_SIDE_PX, PICTURE_SIDE_PX)
    box = (left, top, left + side_px, top + side_px)
    return averaged.resize(size, Image.Resampling.LANCZOS, box).convert("RGBA")


def _name(
    ours: Image.Image,
    our_grid: Image.Image,
    theirs: Image.Image,
    their_grid: Image.Image,
) -> tuple[str, str]:
    for turn in _TURNS:
        if _are_alike(*_measure(_make_grid(ours.transpose(turn)), their_grid)):
            return "turned", turn.name.lower().replace("_", " ")
    missing_share = find_missing_share(theirs)
    if missing_share > 0:
        white = Image.new("RGB", ours.size, (255, 255, 255))
        as_far_as_there = Image.composite(ours, white, theirs.getchannel("A"))
        is_rest_alike = _are_alike(*_measure(_make_grid(as_far_as_there), their_grid))
        rest = "the rest is alike" if is_rest_alike else "the rest differs"
        return "in part there", f"{missing_share:.1%} is clear there, {rest}"
    alpha = theirs.getchannel("A").resize((CELLS, CELLS), Image.Resampling.BOX).tobytes()
    whiteness = bytes(min(pixel) for pixel in _list_pixels(our_grid))
    cells = list(zip(alpha, whiteness, strict=True))
    clear_share = sum(clear < _CLEAR and light < _WHITE for clear, light in cells) / len(cells)
    if clear_share >= LEAST_CLEAR_SHARE:
        return "in part there", f"{clear_share:.1%} is clear there"
    white_here = [clear >= _CLEAR and light >= _WHITE for clear, light in cells]
    elsewhere = [not is_white for is_white in white_here]
    if any(elsewhere) and _are_alike(*_measure(our_grid, their_grid, elsewhere)):
        return "in part here", f"{sum(white_here) / len(cells):.1%} is white here"
    if _has_same_shapes(our_grid, their_grid):
        return "colour", _describe_middle(our_grid, their_grid)
    return "differs", _describe_middle(our_grid, their_grid)


def _make_grid(square: Image.Image) -> Image.Image:
    return square.resize((CELLS, CELLS), Image.Resampling.BOX)


def _measure(
    one: Image.Image, other: Image.Image, where: list[bool] | None = None
) -> tuple[float, float]:
    """Measure how far these cells are apart: on average, and of the worst but a hundredth."""
    difference = list(_list_pixels(ImageChops.difference(one, other)))
    chosen = where or [True] * len(difference)
    apart = sorted(max(cell) for cell, is_in in zip(difference, chosen, strict=True) if is_in)
    if not apart:
        return 0.0, 0.0
    return sum(apart) / len(apart), apart[int(_MOST_CELLS * (len(apart) - 1))]


def _are_alike(mean: float, most: float) -> bool:
    return mean <= MOST_MEAN and most <= MOST_OF_MOST_CELLS


def _has_same_shapes(one: Image.Image, other: Image.Image) -> bool:
    grey = (one.convert("L"), other.convert("L"))
    deviations = [ImageStat.Stat(each).stddev[0] for each in grey]
    if max(deviations) < _FLAT_DEVIATION:
        return True
    values = [each.tobytes() for each in grey]
    means = [sum(each) / len(each) for each in values]
    products = sum(
        (a - means[0]) * (b - means[1]) for a, b in zip(values[0], values[1], strict=True)
    )
    covariance = products / len(values[0])
    return covariance > _LEAST_CORRELATION * deviations[0] * deviations[1]


def _describe_middle(ours: Image.Image, theirs: Image.Image) -> str:
    middle = (CELLS // 2, CELLS // 2)
    return f"middle {ours.getpixel(middle)} here, {theirs.getpixel(middle)} there"


def _list_pixels(picture: Image.Image) -> Iterator[tuple[int, ...]]:
    data = picture.tobytes()
    count = len(picture.getbands())
    for start in range(0, len(data), count):
        yield tuple(data[start : start + count])
