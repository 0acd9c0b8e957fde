"""What a file carries beside its pixels: which way is up, and what to name as removed.

None of it may refuse a good picture or change how it is decoded, however broken or clever it is.
That none of it is in the new picture is image_utils' work, which makes that one from pixels alone.
"""

import re

# Reads EXIF. Pillow would load it with the first picture that has some, and a decoder, which can
# open no files then, could not.
import PIL.TiffImagePlugin  # noqa: F401
from PIL import Image

from pictures.values import Content, MetadataName

_ORIENTATION_TAG = 0x0112
_GPS_TAG = 0x8825
_THUMBNAIL_IFD = -1  # Pillow's name for IFD 1
_THUMBNAIL_TAG = 0x0201
_IPTC_RESOURCE = 0x0404
# An item of this type in the list of items (ISO/IEC 14496-12, 8.11.6).
EXIF_ITEM = re.compile(rb"(infe[\x02\x03]...(?:..|....)..)Exif", re.DOTALL)
# Where HEIF lists its items, a thumbnail's relation among them (ISO/IEC 23008-12, 6.4.4), and GIF
# announces XMP.
_HEIF_LISTS_BYTES = 64 * 1024
_HEIF_THUMBNAIL = b"thmb"
_GIF_XMP = re.compile(rb"XMP DataXMP")
# As which ImageMagick keeps in a PNG's text what once had no chunk, and where XMP stands.
_PNG_EXIF_TEXT = "Raw profile type exif"
_PNG_IPTC_TEXT = "Raw profile type iptc"
_PNG_XMP_TEXT = "XML:com.adobe.xmp"
_PNG_TEXTS_THAT_ARE_MORE = {_PNG_EXIF_TEXT, _PNG_IPTC_TEXT, _PNG_XMP_TEXT}


def read_orientation(picture: Image.Image) -> int:
    """Read the EXIF orientation, 1 to 8; what is absurd or unreadable counts as upright."""
    try:
        value = picture.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def name_metadata(picture: Image.Image, content: Content) -> tuple[MetadataName, ...]:
    """Name what the file carries, in alphabetical order.

    The pixels must have been loaded: a PNG has texts behind them.
    """
    info = picture.info
    texts: dict[str, str] = getattr(picture, "text", {})
    carries: dict[MetadataName, bool] = {
        "comment": "comment" in info,
        "exif": _PNG_EXIF_TEXT in texts or _has_exif(picture, content),
        "gps": _has_tag(picture, _GPS_TAG),
        "icc_profile": bool(info.get("icc_profile")),
        "iptc": _PNG_IPTC_TEXT in texts or _IPTC_RESOURCE in (info.get("photoshop") or {}),
        "text": bool(texts.keys() - _PNG_TEXTS_THAT_ARE_MORE),
        "thumbnail": _has_thumbnail(picture, content),
        "xmp": _PNG_XMP_TEXT in texts or _has_xmp(picture, content),
    }
    return tuple(name for name, is_there in carries.items() if is_there)


def _has_exif(picture: Image.Image, content: Content) -> bool:
    # Pillow makes some up for an AVIF whose container says how to turn it.
    if picture.format == "AVIF":
        return EXIF_ITEM.search(content, 0, _HEIF_LISTS_BYTES) is not None
    return bool(picture.info.get("exif"))


def _has_thumbnail(picture: Image.Image, content: Content) -> bool:
    if picture.format == "HEIF" and _HEIF_THUMBNAIL in bytes(content[:_HEIF_LISTS_BYTES]):
        return True
    return _has_tag(picture, _THUMBNAIL_TAG, _THUMBNAIL_IFD)


def _has_xmp(picture: Image.Image, content: Content) -> bool:
    if picture.format == "GIF" and _GIF_XMP.search(content):
        return True
    return bool(picture.info.get("xmp"))


def _has_tag(picture: Image.Image, tag: int, ifd: int | None = None) -> bool:
    try:
        exif = picture.getexif()
        return tag in (exif if ifd is None else exif.get_ifd(ifd))
    except Exception:
        return False
