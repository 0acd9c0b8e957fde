"""What people send that is not taken: how each kind begins, what it is called, what to do instead.

The beginnings are those of the formats' own specifications.
"""

import re

from errors import UnsupportedFormat
from pictures.values import Content

PICTURES_TAKEN = "JPEG, PNG, GIF, WebP, AVIF or HEIC"
# Every beginning lies within it, with the white space, comments and declarations before it.
SEARCHED_BYTES = 8192

_SAVE_AS = f"Please save it as {PICTURES_TAKEN} and send that."
_SEND_A_STILL = f"Please send a single picture: {PICTURES_TAKEN}."
# Markup before its first element: declarations and comments, none of which holds another.
_MARKUP = rb"(?:\xef\xbb\xbf)?\s*(?:<[?!][^<]{0,2000}){0,20}<"


class Foreign:
    """A kind of file that is not taken, told by any of its beginnings, which are patterns."""

    def __init__(
        self, name: str, advice: str, *beginnings: bytes, ignores_case: bool = False
    ) -> None:
        flags = re.DOTALL | re.IGNORECASE if ignores_case else re.DOTALL
        self.sentence = f"This is {name}. {advice}"
        self.beginning = re.compile(b"|".join(beginnings), flags)


# The first that matches is it.
KINDS = (
    Foreign(
        "a PDF",
        "Please send a screenshot of its page, or export the page as JPEG or PNG.",
        rb".{0,1020}%PDF-",
    ),
    Foreign(
        "an SVG",
        "Please export it as PNG and send that.",
        _MARKUP + rb"(?:\w+:)?svg\b",
        ignores_case=True,
    ),
    Foreign(
        "a web page",
        _SEND_A_STILL,
        _MARKUP + rb"(?:html|head|body|script|div|p)\b",
        rb"\s*<!doctype html",
        ignores_case=True,
    ),
    Foreign(
        "a TIFF or a camera's raw file",
        _SAVE_AS,
        rb"II[*+RU][OS\0]",  # TIFF, BigTIFF, Olympus, Panasonic
        rb"MM\0[*+]|MMOR",  # the same in the other byte order
        rb"FUJIFILMCCD-RAW",
        rb".{4}ftypcrx ",  # Canon
    ),
    Foreign(
        "a BMP or an icon",
        _SAVE_AS,
        rb"BM.{4}\0\0\0\0",
        rb"\0\0[\x01\x02]\0[\x01-\xff]\0",  # ICO, CUR
        rb"icns",
    ),
    Foreign(
        "a drawing program's own file",
        _SAVE_AS,
        rb"8BPS",  # Photoshop
        rb"gimp xcf",
        rb"%!PS|\xc5\xd0\xd3\xc6",  # PostScript, and EPS with a preview
    ),
    Foreign("a JPEG 2000", _SAVE_AS, rb"\0\0\0\x0cjP  ", rb"\xff\x4f\xff\x51"),
    Foreign("a JPEG XL", _SAVE_AS, rb"\xff\x0a", rb"\0\0\0\x0cJXL "),
    Foreign(
        "a picture of a rare format",
        _SAVE_AS,
        rb"P[1-7]\s+[\d#W]|P[fF]\n",  # PBM, PGM, PPM, PAM, PFM
        rb"\x01\xda[\0\x01][\x01\x02]",  # SGI
        rb"\x0a[\0-\x05]\x01[\x01\x02\x04\x08]",  # PCX
        rb"qoif|DDS |v/1\x01|#\?RADIANCE|SIMPLE  =",  # QOI, DDS, OpenEXR, Radiance, FITS
        rb"\x59\xa6\x6a\x95",  # Sun raster
        rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF",  # WMF, EMF
    ),
    Foreign(
        "a video",
        _SEND_A_STILL,
        rb"\0.{3}(?:ftyp|moov|mdat|wide)",  # MP4, QuickTime
        rb"\x1aE\xdf\xa3|RIFF.{4}AVI |FLV\x01|OggS",  # Matroska and WebM, AVI, Flash, Ogg
        rb"\0\0\x01[\xb3\xba]",  # MPEG
    ),
    Foreign(
        "an archive or a document",
        _SEND_A_STILL,
        rb"PK\x03\x04|PK\x05\x06",  # ZIP, and so office documents
        rb"\x1f\x8b|Rar!|7z\xbc\xaf|BZh|\xfd7zXZ",
    ),
)


def refuse_if_foreign(content: Content) -> None:
    """Raise UnsupportedFormat, with name and advice, for a file of any of these kinds."""
    beginning = content[:SEARCHED_BYTES]
    for kind in KINDS:
        if kind.beginning.match(beginning):
            raise UnsupportedFormat(kind.sentence)
