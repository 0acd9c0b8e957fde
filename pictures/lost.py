"""What of a picture never arrived: where, how much of the wanted part it is, and white for it.

It is told in the pixels of the file, whole blocks of a JPEG, whole rows of all else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image

from errors import BrokenPicture, TruncatedPicture
from pictures.scaling import STRIP_ROWS_PX, Box

# Of the wanted part. Below it nobody misses anything: 6 of 300 rows.
MOST_LOST_SHARE = 0.02
_WHITE: dict[str, int | tuple[int, ...]] = {
    "1": 255,
    "L": 255,
    "LA": (255, 255),
    "I;16": 65_535,
    "RGB": (255, 255, 255),
    "RGBA": (255, 255, 255, 255),
    "CMYK": (0, 0, 0, 0),
}
_WHITE_COLOUR = [255, 255, 255]
_MOST_COLOURS = 256


class LostPart(NamedTuple):
    """A rectangle that never arrived."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Arrival:
    """Whether a file ended too early, or its data before its picture did, and what is lost.

    It `is_damaged` where its data goes on behind what is lost.
    """

    is_cut_short: bool = False
    lost: tuple[LostPart, ...] = ()
    is_damaged: bool = False

    def check(self, wanted: Box) -> None:
        """Raise TruncatedPicture or BrokenPicture if too much of the wanted part is lost."""
        share = measure_share(self.lost, wanted)
        if share >= MOST_LOST_SHARE:
            refusal = BrokenPicture if self.is_damaged else TruncatedPicture
            raise refusal.with_share(1 - share)


WHOLE = Arrival()


def read_arrival(picture: Image.Image) -> Arrival:
    """Tell what arrived of a loaded picture; all of it, where its parser takes no less."""
    arrival: Arrival = getattr(picture, "arrival", WHOLE)
    return arrival


def measure_share(lost: Iterable[LostPart], wanted: Box) -> float:
    """Measure which share of the wanted part is lost. No two lost parts lie on each other."""
    lost_pixels = 0.0
    for part in lost:
        width = min(part.right, wanted.right) - max(part.left, wanted.left)
        height = min(part.bottom, wanted.bottom) - max(part.top, wanted.top)
        if width > 0 and height > 0:
            lost_pixels += width * height
    return lost_pixels / ((wanted.right - wanted.left) * (wanted.bottom - wanted.top))


def paint_white(picture: Image.Image, lost: Sequence[LostPart], factor: int = 1) -> None:
    """Make white what is lost of a decoded picture, which was reduced by this factor."""
    if not lost:
        return
    white = _make_white(picture) if picture.mode == "P" else _WHITE[picture.mode]
    for left, top, right, bottom in lost:
        low = -(-bottom // factor)
        picture.paste(white, (left // factor, top // factor, -(-right // factor), low))


def _make_white(picture: Image.Image) -> int:
    """Find the place of white in a palette, or give it that of the colour least used."""
    palette = (picture.getpalette("RGB") or [])[: 3 * _MOST_COLOURS]
    colours = [palette[at : at + 3] for at in range(0, len(palette), 3)]
    opaque = [number for number in range(_MOST_COLOURS) if _is_opaque(picture, number)]
    white = [number for number in opaque if colours[number : number + 1] == [_WHITE_COLOUR]]
    if white:
        return white[0]
    counts = picture.histogram()
    number = min(opaque, key=lambda each: counts[each] if each < len(colours) else 0, default=0)
    if number < len(colours) and counts[number]:
        _replace_by_nearest(picture, colours, number)
    palette.extend([0] * (3 * (number + 1) - len(palette)))
    palette[3 * number : 3 * number + 3] = _WHITE_COLOUR
    picture.putpalette(palette)
    return number


def _replace_by_nearest(picture: Image.Image, colours: list[list[int]], number: int) -> None:
    """Show the nearest other colour of the palette where this one is shown."""
    others = [each for each in range(len(colours)) if each != number and _is_opaque(picture, each)]
    wanted = colours[number]
    table = list(range(_MOST_COLOURS))
    table[number] = min(
        others,
        key=lambda each: sum((a - b) ** 2 for a, b in zip(colours[each], wanted, strict=True)),
        default=number,
    )
    for top in range(0, picture.height, STRIP_ROWS_PX):
        strip = picture.crop((0, top, picture.width, min(top + STRIP_ROWS_PX, picture.height)))
        picture.paste(strip.point(table), (0, top))


def _is_opaque(picture: Image.Image, number: int) -> bool:
    transparent = picture.info.get("transparency")
    if isinstance(transparent, bytes):
        return number >= len(transparent) or transparent[number] == 255
    return number != transparent
