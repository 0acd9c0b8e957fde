"""What Chromium 156 makes of a CMYK JPEG with a profile: black ink is mixed of the three others.

Only then does it follow the profile, in which black ink is another colour than that mixture.
"""

import io

from PIL import Image, ImageChops
from PIL.JpegImagePlugin import JpegImageFile

from tests.support.pictures import encoded

# So that coding it once more changes nothing that is looked at.
_QUALITY = 95


def mix_black(content: bytes) -> bytes | None:
    """Make a JPEG without black ink of a CMYK one; None of what is none, or has no profile."""
    try:
        picture = JpegImageFile(io.BytesIO(content))
        if picture.mode != "CMYK" or not picture.info.get("icc_profile"):
            return None
        *inks, black = picture.split()
    except (SyntaxError, OSError):
        return None
    mixed = [ImageChops.screen(ink, black) for ink in inks]
    without_black = Image.merge("CMYK", [*mixed, Image.new("L", picture.size)])
    said = {name: picture.info.get(name, b"") for name in ("exif", "icc_profile")}
    return encoded(without_black, quality=_QUALITY, subsampling=0, **said)
