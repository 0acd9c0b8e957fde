"""Pixels in, a file out: JPEG, WebP or AVIF, of the pixels alone, with one effort for each.

docs/decisions has what each effort costs and what it is worth. Nothing that Pillow remembers of the
picture is written beside its pixels: its writers would copy a profile, a comment or EXIF.
"""

import io
from typing import Any

from PIL import Image

from pictures.renditions import RenditionFormat

# Below 80 skin shows blocks at the size of a profile, above 90 the file doubles for nothing that an
# eye sees.
JPEG_QUALITY = 85
# What looks like that JPEG, in three quarters of its bytes.
WEBP_QUALITY = 80
# Of 0 to 6. Half the time of the default (4), for some 5 % more bytes; below it they grow by far
# more, above it they hardly shrink.
WEBP_METHOD = 2
# What looks like that JPEG, in three fifths of its bytes.
AVIF_QUALITY = 65
# Of 10 to 0. A quarter of the time of 8 and a tenth of the default's (6), for some 5 and 10 % more
# bytes; 10 is the same.
AVIF_SPEED = 9
_OPTIONS: dict[RenditionFormat, dict[str, Any]] = {
    RenditionFormat.JPEG: {"quality": JPEG_QUALITY, "optimize": True},
    RenditionFormat.WEBP: {"quality": WEBP_QUALITY, "method": WEBP_METHOD},
    # One thread: a picture slot is one. So there is nothing to gain from tiles, which cost bytes.
    RenditionFormat.AVIF: {
        "quality": AVIF_QUALITY,
        "speed": AVIF_SPEED,
        "max_threads": 1,
        "autotiling": False,
    },
}


def encode(picture: Image.Image, file_format: RenditionFormat) -> bytes:
    """Encode an RGB picture, as WebP also an RGBA one; it forgets all but its pixels."""
    picture.info = {}
    file = io.BytesIO()
    # Told a name, Pillow loads the one encoder; told a format, all that it has.
    file.name = f"picture{file_format.suffix}"
    picture.save(file, **_OPTIONS[file_format])
    return file.getvalue()
