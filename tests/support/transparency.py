"""The transparency of a still AVIF, as Chromium 156 shows it: stretched.

It takes what is coded over the full range of codes, and said to be, for coded over the limited one:
of 255, 16 and less are clear, 235 and more opaque. That of a film it shows as it is.
"""

import io

from PIL import AvifImagePlugin

from pictures.light import PRIMARIES
from pictures.told_colours import read_told_colours
from tests.support.pictures import encoded, with_chunk

_MOST_CODE = 255
_CLEAR = 16
_OPAQUE = 235


def stretch_transparency(content: bytes) -> bytes | None:
    """Make a PNG of an AVIF with stretched transparency; None of what is none, or has none."""
    try:
        picture = AvifImagePlugin.AvifImageFile(io.BytesIO(content))
    except (SyntaxError, OSError, RuntimeError):
        return None
    if picture.mode != "RGBA" or picture.n_frames > 1:
        return None
    codes = ((code - _CLEAR) * _MOST_CODE / (_OPAQUE - _CLEAR) for code in range(_MOST_CODE + 1))
    stretched = picture.getchannel("A").point(
        [min(max(round(code), 0), _MOST_CODE) for code in codes]
    )
    colours = picture.convert("RGB")
    colours.putalpha(stretched)
    said = {name: picture.info.get(name, b"") for name in ("exif", "icc_profile")}
    png = encoded(colours, "PNG", compress_level=1, **said)
    told = read_told_colours(content, "AVIF")
    if told is None or not told.is_hdr:
        return png
    primaries = next(code for code, named in PRIMARIES.items() if named == told.primaries)
    return with_chunk(png, b"cICP", bytes((primaries, told.transfer, 0, 1)))
