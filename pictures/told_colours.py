"""What a file says of its colours in numbers, where no profile says it: CICP, or a PNG's gamma.

Read from the file itself: Pillow tells half of it. What is broken, senseless or stands in the wrong
place is passed over; no picture is refused for it.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pictures import light
from pictures.box_colours import read_box_colours
from pictures.light import BT_709, USUAL_PEAK_NITS, Curve, Primaries, Vector
from pictures.reading import MOST_STEPS
from pictures.values import Content

_PNG_SIGNATURE_BYTES = 8
# PNG 3, 11.3.2: of fixed lengths, which are checked.
_PNG_TELLING = {b"cICP": 4, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"mDCV": 24, b"cLLI": 8}
_PNG_RENDERING_INTENTS = range(4)
# Gamma and chromaticities are in parts of 100,000, light in parts of 10,000 of a nit.
_PNG_PARTS = 100_000
_PARTS_OF_A_NIT = 10_000
# A gamma this near to what sRGB resembles is taken for sRGB, as browsers do.
_GAMMA_OF_SRGB = 1 / 2.2
_GAMMA_TOLERANCE = 0.05
# Shown as sRGB in AVIF by every browser: cameras write the curve that they see with.
_CURVES_SHOWN_AS_SRGB = (1, 6, 11, 14, 15)
# H.273, table 4: derived from the primaries. Browsers show as sRGB what has it, whatever else the
# numbers say.
_MATRIX_OF_PRIMARIES = 12
# With these matrices libavif has libyuv make eight bits of ten, which cuts the two channels of
# colour and rounds the third. Measured over the public HDR files of libavif, beside Chromium's own
# sixteen bits. Of the limited range it spreads codes as well, and they lack more.
_MATRICES_OF_LIBYUV = (1, 2, 5, 6, 9)
_CUT_OF_FULL_RANGE = (0.37, -0.46, 0.68)
_CUT_OF_LIMITED_RANGE = (1.0, 0.1, 1.04)
_NOTHING_CUT = (0.0, 0.0, 0.0)
# ICC.1:2022, 7.2 and 7.3. Profiles have some twenty tags.
_ICC_SPACE = slice(16, 20)
_ICC_TABLE_AT = 132
_ICC_ENTRY = struct.Struct(">4sII")
_MOST_ICC_TAGS = 100


@dataclass(frozen=True)
class ToldColours:
    """What the numbers mean: whose light the codes stand for, and by which curve.

    `transfer` is PQ, HLG, or anything else for a picture that is no brighter than paper.
    `go_before_profile` says who wins where the file has a profile as well. `cut_codes` is what
    colours, not greys, lack on average because they were decoded to eight bits: parts of a code of
    red, of green and of blue.
    """

    primaries: Primaries
    curve: Curve
    transfer: int = light.SRGB
    peak_nits: float = USUAL_PEAK_NITS
    go_before_profile: bool = False
    cut_codes: Vector = _NOTHING_CUT

    @property
    def is_hdr(self) -> bool:
        return self.transfer in (light.PQ, light.HLG)

    @property
    def is_srgb(self) -> bool:
        return self.primaries == BT_709 and self.curve is light.decode_srgb


def read_told_colours(
    content: Content, file_format: str, profile: bytes | None = None
) -> ToldColours | None:
    """Read what a file of this format says, as far as it is more than that it is sRGB.

    A profile of HDR says so in numbers as well, and these go before what else it says.
    """
    told = None
    if file_format == "PNG":
        told = _read_png(content)
    elif file_format in ("AVIF", "HEIF"):
        told = _read_boxes(content)
    if told is None or not told.go_before_profile:
        told = _read_profile(profile or b"") or told
    return None if told is None or told.is_srgb else told


def _read_profile(profile: bytes) -> ToldColours | None:
    """Read the CICP of a profile of RGB (ICC.1:2022, 9.2.17), as far as it is of HDR."""
    if profile[_ICC_SPACE] != b"RGB ":
        return None
    table = profile[_ICC_TABLE_AT : _ICC_TABLE_AT + _ICC_ENTRY.size * _MOST_ICC_TAGS]
    whole_entries_bytes = len(table) - len(table) % _ICC_ENTRY.size
    for name, at, length in _ICC_ENTRY.iter_unpack(table[:whole_entries_bytes]):
        tag = profile[at : at + length]
        if name == b"cicp" and len(tag) == 12 and tag.startswith(b"cicp"):
            told = _read_cicp(tag[8:], USUAL_PEAK_NITS)
            return told if told is not None and told.is_hdr else None
    return None


def _read_png(content: Content) -> ToldColours | None:
    """cICP goes before a profile, sRGB before a gamma, and chromaticities count only with one."""
    chunks: dict[bytes, bytes] = {}
    for kind, data in _list_png_chunks(content):
        chunks.setdefault(kind, data)
    coded = chunks.get(b"cICP")
    if coded is not None:
        told = _read_cicp(coded, _find_png_peak(chunks))
        if told is not None:
            return told
    intent = chunks.get(b"sRGB")
    if intent is not None and intent[0] in _PNG_RENDERING_INTENTS:
        return None
    return _read_gamma(chunks)


def _list_png_chunks(content: Content) -> Iterator[tuple[bytes, bytes]]:
    """List the chunks before the pixels that tell something, and are whole."""
    position = _PNG_SIGNATURE_BYTES
    for _ in range(MOST_STEPS):
        head = bytes(content[position : position + 8])
        kind = head[4:]
        if len(head) < 8 or kind == b"IDAT":
            return
        length = int.from_bytes(head[:4], "big")
        if length == _PNG_TELLING.get(kind):
            end = position + 8 + length
            data = bytes(content[position + 8 : end])
            if zlib.crc32(kind + data).to_bytes(4, "big") == content[end : end + 4]:
                yield kind, data
        position += 12 + length


def _read_cicp(coded: bytes, peak_nits: float) -> ToldColours | None:
    """Read numbers that count in a PNG only if they say all: of RGB, in full range."""
    primaries, transfer, matrix, is_full_range = coded
    if matrix != 0 or is_full_range != 1:
        return None
    if primaries not in light.PRIMARIES or transfer not in light.CURVES:
        return None
    return ToldColours(
        light.PRIMARIES[primaries], light.CURVES[transfer], transfer, peak_nits, True
    )


def _find_png_peak(chunks: dict[bytes, bytes]) -> float:
    (brightest,) = struct.unpack_from(">I", chunks.get(b"cLLI", bytes(8)))
    (display,) = struct.unpack_from(">I", chunks.get(b"mDCV", bytes(24)), 16)
    return (brightest or display) / _PARTS_OF_A_NIT or USUAL_PEAK_NITS


def _read_gamma(chunks: dict[bytes, bytes]) -> ToldColours | None:
    gamma = int.from_bytes(chunks.get(b"gAMA", b""), "big") / _PNG_PARTS
    if not gamma:
        return None
    points = chunks.get(b"cHRM")
    if points is not None:
        primaries = _read_chromaticities(points)
    elif abs(gamma / _GAMMA_OF_SRGB - 1) > _GAMMA_TOLERANCE:
        primaries = BT_709
    else:
        primaries = None
    if primaries is None:
        return None
    return ToldColours(primaries, light.make_power(1 / gamma), light.UNSPECIFIED)


def _read_chromaticities(points: bytes) -> Primaries | None:
    values = [value / _PNG_PARTS for value in struct.unpack(">8I", points)]
    if max(values) > 1:
        return None
    white, red, green, blue = zip(values[::2], values[1::2], strict=True)
    primaries = Primaries(red, green, blue, white)
    try:
        primaries.to_xyz()
    except ZeroDivisionError:
        return None
    return primaries


def _read_boxes(content: Content) -> ToldColours | None:
    coded = read_box_colours(content)
    if coded is None or coded.matrix == _MATRIX_OF_PRIMARIES:
        return None
    transfer = coded.transfer
    if transfer in _CURVES_SHOWN_AS_SRGB or transfer not in light.CURVES:
        transfer = light.SRGB
    primaries = light.PRIMARIES.get(coded.primaries, BT_709)
    peak_nits = coded.peak_nits or USUAL_PEAK_NITS
    cut_codes = _NOTHING_CUT
    if coded.is_deep_av1 and coded.matrix in _MATRICES_OF_LIBYUV:
        cut_codes = _CUT_OF_LIMITED_RANGE if coded.is_limited else _CUT_OF_FULL_RANGE
    return ToldColours(primaries, light.CURVES[transfer], transfer, peak_nits, cut_codes=cut_codes)
