"""What a file carries beside its pixels: which way is up, and what to name as removed.

None of it may refuse a good picture or change how it is decoded, however broken or clever it is.
That none of it is in the new picture is image_utils' work, which makes that one from pixels alone.
"""

import functools
import io
import re
from collections.abc import Callable
from typing import Literal, get_args

import PIL.TiffImagePlugin  # noqa: F401  reads EXIF; else Pillow would load it with the first picture that has some
from PIL import Image, PngImagePlugin
from PIL.AvifImagePlugin import AvifImageFile

_Read = Callable[[PngImagePlugin.PngStream, int, int], bytes]

_ORIENTATION_TAG = 0x0112  # -1: Pillow's name for IFD 1
_GPS_TAG = 0x8825
_THUMBNAIL_IFD = -1
_THUMBNAIL_TAG = 0x0201
_IPTC_RESOURCE = 0x0404
# An item of this type in the list of items (ISO/IEC 14496-12, 8.11.6).
_EXIF_ITEM = re.compile(rb"(infe[\x02\x03]...(?:..|....)..)Exif", re.DOTALL)
# Where HEIF lists its items, a thumbnail's relation among
# them (ISO/IEC 23008-12, 6.4.4), and GIF announces XMP.
_HEIF_LISTS_BYTES = 64 * 1024
_HEIF_THUMBNAIL = b"thmb"
_GIF_XMP = b"XMP DataXMP"


MetadataName = Literal["comment", "exif", "gps", "icc_profile", "iptc", "text", "thumbnail", "xmp"]
NAMES: tuple[MetadataName, ...] = get_args(MetadataName)


class AvifPicture(AvifImageFile):
    """An AVIF. libavif refuses it for a broken EXIF block; then the block is hidden from it."""

    def _open(self) -> None:
        file = self.fp
        assert isinstance(file, io.BytesIO)
        try:
            super()._open()
        except Exception:
            hidden, found = _EXIF_ITEM.subn(rb"\1none", file.getvalue())
            if not found:
                raise
            self.fp = io.BytesIO(hidden)
            super()._open()


def orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; what is absurd or unreadable counts as upright."""
    try:
        value = picture.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def names(picture: Image.Image, content: bytes) -> tuple[str, ...]:
    """What the file carries, by name, in alphabetical order.

    Its pixels are loaded: a PNG has texts behind them.
    """
    info = picture.info
    texts = dict(getattr(picture, "text", {}))
    in_text = {
        kind: texts.pop(f"Raw profile type {kind}", None) is not None for kind in ("exif", "iptc")
    }
    xmp_in_text = texts.pop("XML:com.adobe.xmp", None) is not None
    found = {
        "comment": "comment" in info,
        "exif": _has_exif(picture, content) or in_text["exif"],
        "gps": _has_tag(picture, _GPS_TAG),
        "icc_profile": bool(info.get("icc_profile")),
        "iptc": _IPTC_RESOURCE in (info.get("photoshop") or {}) or in_text["iptc"],
        "text": bool(texts),
        "thumbnail": _has_tag(picture, _THUMBNAIL_TAG, _THUMBNAIL_IFD)
        or (picture.format == "HEIF" and _HEIF_THUMBNAIL in content[:_HEIF_LISTS_BYTES]),
        "xmp": bool(info.get("xmp"))
        or xmp_in_text
        or (picture.format == "GIF" and _GIF_XMP in content),
    }
    return tuple(name for name, is_there in found.items() if is_there)


def _has_exif(picture: Image.Image, content: bytes) -> bool:
    if (
        picture.format == "AVIF"
    ):  # for which Pillow makes some up when the file itself says how to turn it
        return _EXIF_ITEM.search(content, 0, _HEIF_LISTS_BYTES) is not None
    return bool(picture.info.get("exif"))


def _has_tag(picture: Image.Image, tag: int, ifd: int | None = None) -> bool:
    try:
        exif = picture.getexif()
        return tag in (exif if ifd is None else exif.get_ifd(ifd))
    except Exception:
        return False


def _texts_apart(read: _Read) -> _Read:
    """Keep a PNG's texts in `text` alone.

    Pillow also puts them among what it knows of the picture, under keywords of the
    file's choice: one that is called `transparency` or `interlace` breaks the decoding.
    """

    @functools.wraps(read)
    def chunk(stream: PngImagePlugin.PngStream, position: int, length: int) -> bytes:
        known = dict(stream.im_info)
        data = read(stream, position, length)
        stream.im_info.clear()
        stream.im_info.update(known)
        return data

    return chunk


def _if_readable(read: _Read) -> _Read:
    """Pass over a profile that cannot be read: a picture without it is better than none."""

    @functools.wraps(read)
    def chunk(stream: PngImagePlugin.PngStream, position: int, length: int) -> bytes:
        try:
            return read(stream, position, length)
        except (ValueError, SyntaxError, IndexError):
            assert stream.fp is not None
            stream.fp.seek(position)
            return stream.fp.read(length)  # for the chunk's checksum

    return chunk


for _kind in ("chunk_tEXt", "chunk_zTXt", "chunk_iTXt"):
    setattr(PngImagePlugin.PngStream, _kind, _texts_apart(getattr(PngImagePlugin.PngStream, _kind)))
setattr(PngImagePlugin.PngStream, "chunk_iCCP", _if_readable(PngImagePlugin.PngStream.chunk_iCCP))  # noqa: B010
