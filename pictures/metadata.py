"""What a file carries beside its pixels: which way is up, and what to name as removed.

None of it may refuse a good picture or change how it is decoded, however broken or clever it is.
That none of it is in the new picture is image_utils' work, which makes that one from pixels alone.
"""

import re

# Reads EXIF. Pillow would load it with the first picture that has some, and a decoder, which can
# open no files then, could not.
import PIL.TiffImagePlugin  # noqa: F401
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from pictures.png_chunks import list_chunks
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
# Of a gain map, from which displays with more light make theirs: ISO 21496-1, also as an item of
# HEIF and AVIF; Adobe's and Apple's XMP; a multi-picture index (CIPA DC-007, 5.2.3) with a picture
# of no defined type, as the map itself is that stands behind a JPEG.
_GAIN_MAP_BLOCK = b"urn:iso:std:iso:ts:21496:-1\0"
_GAIN_MAP_WORDS = re.compile(
    rb"http://ns\.adobe\.com/hdr-gain-map/1\.0/|http://ns\.apple\.com/HDRGainMap/1\.0/"
)
_GAIN_MAP_ITEM = re.compile(
    rb"infe[\x02\x03]...(?:..|....)..tmap"
    rb"|urn:com:apple:photo:2020:aux:hdrgainmap|urn:iso:std:iso:ts:21496:-1",
    re.DOTALL,
)
_MP_ENTRIES_TAG = 0xB002
# Of C2PA's manifests (C2PA 2.1, A): a box in JPEG's APP11, a chunk in PNG, a box in ISOBMFF.
_JUMBF = re.compile(rb"JP.{6}.{4}jumb", re.DOTALL)
_C2PA_BOX = re.compile(
    rb"uuid\xd8\xfe\xc3\xd6\x1b\x0e\x48\x3c\x92\x97\x58\x28\x87\x7e\xc4\x81", re.DOTALL
)
_FORMATS_OF_BOXES = ("AVIF", "HEIF")
# As which ImageMagick keeps in a PNG's text what once had no chunk, and where XMP stands.
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PNG_TEXTS_THAT_ARE_MORE: dict[bytes, MetadataName] = {
    b"Raw profile type exif": "exif",
    b"Raw profile type iptc": "iptc",
    b"XML:com.adobe.xmp": "xmp",
}
_PNG_CHUNKS: dict[bytes, MetadataName] = {
    b"eXIf": "exif",
    b"iCCP": "icc_profile",
    b"caBX": "c2pa",
}
# PNG 3, 11.3.3.
_LONGEST_KEYWORD_BYTES = 79


def read_orientation(picture: Image.Image) -> int:
    """Read the EXIF orientation, 1 to 8; what is absurd or unreadable counts as upright.

    Only EXIF counts, and of a PNG's only what stands before its pixels: picture.getexif() would
    take what XMP says.
    """
    block = getattr(picture, "exif_before_pixels", picture.info.get("exif"))
    try:
        exif = Image.Exif()
        exif.load(block or b"")
        value = exif.get(_ORIENTATION_TAG, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def name_metadata(picture: Image.Image, content: Content) -> tuple[MetadataName, ...]:
    """Name what the file carries, in alphabetical order."""
    info = picture.info
    in_chunks = _name_chunks(content) if picture.format == "PNG" else set()
    carries: dict[MetadataName, bool] = {
        "animation": _is_animated(picture),
        "c2pa": _has_c2pa(picture, content),
        "comment": "comment" in info,
        "exif": _has_exif(picture, content),
        "gain_map": _has_gain_map(picture, content),
        "gps": _has_tag(picture, _GPS_TAG),
        "icc_profile": bool(info.get("icc_profile")),
        "iptc": _IPTC_RESOURCE in (info.get("photoshop") or {}),
        "text": "text" in in_chunks,
        "thumbnail": _has_thumbnail(picture, content),
        "xmp": _has_xmp(picture, content),
    }
    return tuple(name for name, is_there in carries.items() if is_there or name in in_chunks)


def _name_chunks(content: Content) -> set[MetadataName]:
    """Name what the chunks of a PNG hold, be it sound or not, and wherever it stands."""
    names: set[MetadataName] = set()
    for chunk in list_chunks(content):
        if chunk.kind in _PNG_TEXTS:
            start = bytes(content[chunk.data_start : chunk.data_end][: _LONGEST_KEYWORD_BYTES + 1])
            keyword, _, _ = start.partition(b"\0")
            names.add(_PNG_TEXTS_THAT_ARE_MORE.get(keyword, "text"))
        elif chunk.kind in _PNG_CHUNKS and chunk.length:
            names.add(_PNG_CHUNKS[chunk.kind])
    return names


def _is_animated(picture: Image.Image) -> bool:
    """Whether there is a second frame, of which nothing is decoded. Several HEICs are no film."""
    if picture.format == "HEIF":
        return False
    try:
        return bool(getattr(picture, "is_animated", False))
    except Exception:
        return False


def _has_c2pa(picture: Image.Image, content: Content) -> bool:
    if picture.format == "JPEG":
        return any(name == "APP11" and _JUMBF.match(data) for name, data in _list_segments(picture))
    if picture.format in _FORMATS_OF_BOXES:
        return _C2PA_BOX.search(content) is not None
    return False


def _has_gain_map(picture: Image.Image, content: Content) -> bool:
    if picture.format in _FORMATS_OF_BOXES:
        return _GAIN_MAP_ITEM.search(content, 0, _HEIF_LISTS_BYTES) is not None
    if picture.format != "JPEG":
        return False
    if any(data.startswith(_GAIN_MAP_BLOCK) for _, data in _list_segments(picture)):
        return True
    if _GAIN_MAP_WORDS.search(picture.info.get("xmp", b"")):
        return True
    return _has_undefined_picture(picture)


def _list_segments(picture: Image.Image) -> list[tuple[str, bytes]]:
    return picture.applist if isinstance(picture, JpegImageFile) else []


def _has_undefined_picture(picture: Image.Image) -> bool:
    try:
        index = picture._getmp() if isinstance(picture, JpegImageFile) else None
        entries = index[_MP_ENTRIES_TAG] if index else []
        return any(entry["Attribute"]["MPType"] == "Undefined" for entry in entries)
    except Exception:
        return False


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
