"""What is shown in the place of a picture until it has arrived."""

import base64

from PIL import Image

from pictures import thumbhash
from pictures.colour import FULLY_OPAQUE, lay_on_background
from pictures.values import WHITE

# Of so many shades in a 30 x 30 picture the most frequent one is the dominant colour.
DOMINANT_SHADES = 8
DOMINANT_SIDE_PX = 30


def find_dominant_colour(upright: Image.Image) -> str:
    """Find the most frequent shade, as #rrggbb; of what is transparent, as white shows it.

    What hardly shows does not count.
    """
    miniature = _make_miniature(upright, DOMINANT_SIDE_PX)
    shades = lay_on_background(miniature, WHITE).quantize(DOMINANT_SHADES)
    counts = shades.histogram(_find_shown(miniature))[:DOMINANT_SHADES]
    dominant = counts.index(max(counts))
    palette = shades.getpalette() or []
    red, green, blue = palette[3 * dominant : 3 * dominant + 3]
    return f"#{red:02x}{green:02x}{blue:02x}"


def _find_shown(miniature: Image.Image) -> Image.Image | None:
    """Find what is at least half as opaque as what is most so; None for all of it."""
    if miniature.mode != "RGBA":
        return None
    opacity = miniature.getchannel("A")
    most = max(opacity.tobytes())
    return opacity.point([FULLY_OPAQUE * (2 * each >= most) for each in range(FULLY_OPAQUE + 1)])


def hash_thumbnail(upright: Image.Image) -> str:
    """Make a blurred miniature (evanw.github.io/thumbhash), in base64."""
    miniature = _make_miniature(upright, thumbhash.SIDE_PX)
    return base64.b64encode(thumbhash.hash_miniature(miniature.tobytes(), upright.size)).decode()


def _make_miniature(upright: Image.Image, side_px: int) -> Image.Image:
    """Average the picture down to a square, whatever its own shape."""
    size = (side_px, side_px)
    return upright.resize(size, Image.Resampling.BOX, reducing_gap=1.0)
