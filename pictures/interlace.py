"""An interlaced PNG or GIF of which later passes are missing: coarser ones fill their places.

Browsers show it so. What the first pass has not brought is lost; later ones cost sharpness, no
area, as the later scans of a progressive JPEG do.
"""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from pictures.scaling import STRIP_ROWS_PX, PixelBox


class Pass(NamedTuple):
    """Which pixels come at once: the first column and row, and the steps across and down."""

    left: int
    top: int
    across: int
    down: int


AT_ONCE = (Pass(0, 0, 1, 1),)
# PNG 3, 8.2.
ADAM7 = (
    Pass(0, 0, 8, 8),
    Pass(4, 0, 8, 8),
    Pass(0, 4, 4, 8),
    Pass(2, 0, 4, 4),
    Pass(0, 2, 2, 4),
    Pass(1, 0, 2, 2),
    Pass(0, 1, 1, 2),
)
# GIF89a, appendix E: whole rows.
GIF_PASSES = (Pass(0, 0, 1, 8), Pass(0, 4, 1, 8), Pass(0, 2, 1, 4), Pass(0, 1, 1, 2))


class MissingRows(NamedTuple):
    """What did not come of a pass: its rows from this one of the picture on."""

    of: Pass
    first_row: int


def fill_in(picture: Image.Image, box: PixelBox, missing: Sequence[MissingRows]) -> None:
    """Give each pixel in the box that is missing the colour of the one to its left, or above.

    That one came with an earlier pass, or was given a colour before it: of the first pass nothing
    is filled in, and all later ones are in their order. Strip by strip, so that no second copy of a
    large picture is in memory.
    """
    left, top, right, bottom = box
    later = [each for each in missing if each.of.left or each.of.top]
    if not later:
        return
    # Its height is a multiple of each step down, so that what is copied lies in the same strip.
    for strip_top in range(0, bottom - top, STRIP_ROWS_PX):
        rows = range(strip_top, min(strip_top + STRIP_ROWS_PX, bottom - top))
        strip_box = (left, top + rows.start, right, top + rows.stop)
        strip = picture.crop(strip_box)
        for each in later:
            if each.first_row < rows.stop:
                moved = strip.crop((-each.of.left, -each.of.top, *_find_corner(strip, each.of)))
                strip.paste(moved, mask=_mark(each, strip.width, rows))
        picture.paste(strip, strip_box)


def _find_corner(strip: Image.Image, of: Pass) -> tuple[int, int]:
    return strip.width - of.left, strip.height - of.top


def _mark(missing: MissingRows, width: int, rows: range) -> Image.Image:
    """Mark which pixels of these rows are missing; with more than a bit Pillow fails at 16 bits."""
    left, top, across, down = missing.of
    pattern = bytearray(across)
    pattern[left] = 255
    marked = bytes(pattern) * -(-width // across)
    clear = bytes(width)
    marks = b"".join(
        marked[:width] if row >= missing.first_row and row % down == top else clear for row in rows
    )
    return Image.frombytes("1", (width, len(rows)), marks, "raw", "1;8")
