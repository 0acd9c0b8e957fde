"""What Chromium 156 stretches of an AVIF: the transparency of a still one, the colours of a film.

It takes what is coded over the full range of codes, and said to be, for coded over the limited one:
of 255, 16 and less are clear or black, 235 and more opaque or white.
"""

import io
import re
from collections.abc import Iterator

from PIL import AvifImagePlugin

from pictures.light import PRIMARIES
from pictures.told_colours import read_told_colours
from tests.support.pictures import encoded, with_chunk

# In the box that says how colours are coded (ISO/IEC 14496-12, 12.1.5).
_FULL_RANGE = re.compile(rb"(colrnclx.{6})\x80", re.DOTALL)
_MOST_CODE = 255
_CLEAR = 16
_OPAQUE = 235


def list_stretched(content: bytes) -> Iterator[tuple[str, bytes]]:
    """List what is stretched of a file, and a file of which that is so for everybody."""
    transparency = _stretch_transparency(content)
    if transparency is not None:
        yield "transparency", transparency
    if content[4:12] == b"ftypavis":
        yield "colours of a film", _FULL_RANGE.sub(rb"\1\0", content)


def _stretch_transparency(content: bytes) -> bytes | None:
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
