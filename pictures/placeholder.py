"""What is shown in the place of a picture until it has arrived."""

import base64

from PIL import Image

from pictures import thumbhash
from pictures.values import PICTURE_SIDE_PX

# Of so many shades in a 30 x 30 picture the most frequent one is the dominant colour.
DOMINANT_SHADES = 8
DOMINANT_FACTOR = PICTURE_SIDE_PX // 30
THUMBHASH_FACTOR = PICTURE_SIDE_PX // thumbhash.SIDE_PX


def find_dominant_colour(upright: Image.Image) -> str:
    """Find the most frequent shade, as #rrggbb."""
    shades = upright.reduce(DOMINANT_FACTOR).quantize(DOMINANT_SHADES)
    counts = shades.histogram()[:DOMINANT_SHADES]
    dominant = counts.index(max(counts))
    palette = shades.getpalette() or []
    red, green, blue = palette[3 * dominant : 3 * dominant + 3]
    return f"#{red:02x}{green:02x}{blue:02x}"


def hash_thumbnail(upright: Image.Image) -> str:
    """Make a blurred miniature (evanw.github.io/thumbhash), in base64."""
    miniature = upright.reduce(THUMBHASH_FACTOR)
    return base64.b64encode(thumbhash.hash_miniature(miniature.tobytes())).decode()
