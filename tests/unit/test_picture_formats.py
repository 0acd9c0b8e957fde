"""Proves that a file's first bytes tell what it is, how large, and how costly to decode."""

import io
import itertools
import struct
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pillow_heif
import pytest
from PIL import Image, ImageOps

from errors import (
    BrokenPicture,
    EmptyFile,
    NotAPicture,
    SideTooLong,
    TooManyPixels,
    TruncatedPicture,
    UnsupportedFormat,
)
from pictures import costs, formats
from pictures.costs import DRAFT_SIDE_PX, REDUCED_BYTES
from pictures.formats import MOST_STEPS, Header
from pictures.parsers import FORMATS
from pictures.values import PICTURE_SIDE_PX, Crop
from tests.support.pictures import (
    GifFrame,
    encoded,
    exif_block,
    gif,
    png_chunk,
    quarters,
    with_chunk,
    with_segment,
)

pillow_heif.register_heif_opener()

SIDES = ((33, 17), (200, 301))
# A picture of fewer pixels is filled up to whole ones.
HEIC_BLOCK_PX = 64
# Without threads of its own, whose start takes longer than such a small picture.
QUICKLY = {"preset": "ultrafast", "x265:pools": "none", "x265:frame-threads": "1"}
# Alike in all: format, mode and the options of the encoder.
KINDS: tuple[tuple[str, str, Any], ...] = (
    *(("JPEG", mode, {}) for mode in ("L", "RGB", "CMYK", "YCbCr", "1")),
    *(("JPEG", "RGB", {"subsampling": each}) for each in (0, 1, 2)),
    ("JPEG", "RGB", {"progressive": True}),
    (
        "JPEG",
        "RGB",
        {"exif": exif_block([(0x0112, "short", (6,))]), "comment": b"\xff\xd8\xff\xc0\0\x11"},
    ),
    ("MPO", "RGB", {"save_all": True}),
    *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    ("PNG", "RGBA", {"save_all": True}),
    *(("GIF", mode, {"interlace": each}) for mode in ("1", "L", "P", "RGBA") for each in (0, 1)),
    *(("WEBP", mode, {"lossless": each}) for mode in ("RGB", "RGBA") for each in (False, True)),
    ("WEBP", "RGB", {"exif": b"Exif\0\0II*\0", "xmp": b"<x/>"}),
    ("WEBP", "RGB", {"save_all": True}),
    *(("AVIF", mode, {"speed": 10}) for mode in ("L", "RGB", "RGBA")),
    *(
        ("AVIF", "RGB", {"speed": 10, "subsampling": each})
        for each in ("4:4:4", "4:2:2", "4:2:0", "4:0:0")
    ),
    ("AVIF", "RGB", {"speed": 10, "exif": exif_block([(0x0112, "short", (6,))])}),
)


def found(content: bytes) -> tuple[str, int, int]:
    header = formats.read_header(content)
    return header.format, header.width_px, header.height_px


@pytest.mark.parametrize(("kind", "mode", "options"), KINDS, ids=str)
def test_format_and_size_are_what_pillow_says(
    kind: str, mode: str, options: dict[str, Any]
) -> None:
    for size in SIDES:
        picture = (
            quarters(*size)
            .convert("I" if mode == "I;16" else "RGB" if mode != "LA" else "L")
            .convert(mode)
        )
        if "save_all" in options:
            options = {
                **options,
                "append_images": [ImageOps.invert(picture.convert("RGB")).convert(mode)],
            }
        content = encoded(picture, kind, **options)
        with Image.open(io.BytesIO(content)) as opened:
            assert opened.format in (kind, "JPEG"), "the test's own file is not what it says"
            assert found(content) == ("JPEG" if kind == "MPO" else kind, *opened.size)
    assert found(content)[0] in FORMATS


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("chroma", [420, 422, 444])
def test_a_heic_has_the_size_that_pillow_says_or_what_its_blocks_hold(
    mode: str, chroma: int
) -> None:
    for size in (*SIDES, (192, 320)):
        content = encoded(Image.new(mode, size), "HEIF", chroma=chroma, enc_params={**QUICKLY})
        kind, *sides = found(content)
        with Image.open(io.BytesIO(content)) as opened:
            assert kind == opened.format == "HEIF"
            assert all(
                shown <= side < shown + HEIC_BLOCK_PX
                for side, shown in zip(sides, opened.size, strict=True)
            )
            assert size != (192, 320) or tuple(sides) == size
    several = encoded(quarters(200, 300), "HEIF", save_all=True, append_images=[quarters(640, 480)])
    assert found(several) == ("HEIF", 640, 480), "the largest of them is set aside for"


def test_a_heic_that_is_turned_as_it_is_shown_has_the_same_sides_the_other_way_round() -> None:
    content = encoded(quarters(200, 300), "HEIF", exif=exif_block([(0x0112, "short", (6,))]))
    assert b"irot" in content
    assert sorted(found(content)[1:]) == [200, 300]


def segment(marker: int, data: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def frame(
    marker: int,
    width: int = 4000,
    height: int = 3000,
    samplings: tuple[int, ...] = (0x22, 0x11, 0x11),
) -> bytes:
    parts = b"".join(bytes((number, each, 0)) for number, each in enumerate(samplings))
    return segment(marker, struct.pack(">BHHB", 8, height, width, len(samplings)) + parts)


def scan(components: int = 3) -> bytes:
    return segment(0xDA, bytes((components, *(0,) * (2 * components + 3))))


JPEGS: dict[str, tuple[bytes, bool]] = {
    "baseline": (frame(0xC0) + scan(), True),
    "extended": (frame(0xC1) + scan(), True),
    "grey": (frame(0xC0, samplings=(0x11,)) + scan(1), True),
    "progressive": (frame(0xC2) + scan(), False),
    "lossless": (frame(0xC3) + scan(), False),
    "arithmetic": (frame(0xC9) + scan(), False),
    "arithmetic, progressive": (frame(0xCA) + scan(), False),
    "sequential, a scan for each component": (frame(0xC0) + scan(1), False),
    "tables before the frame": (
        segment(0xC4, bytes(29)) + segment(0xDB, bytes(65)) + frame(0xC0) + scan(),
        True,
    ),
    "arithmetic conditioning is no frame": (segment(0xCC, bytes(99)) + frame(0xC0) + scan(), True),
    "fill bytes": (b"\xff" * 300 + frame(0xC0) + b"\xff\xff" + scan(), True),
    "junk between segments": (
        segment(0xE0, bytes(14)) + b"junk\0" * 99 + frame(0xC0) + b"\xff\0more" + scan(),
        True,
    ),
    "markers without a length": (b"\xff\x01\xff\xd0" + frame(0xC0) + scan(), True),
    "a thumbnail with its own frame": (
        segment(0xE1, b"Exif\0\0" + frame(0xC2, 160, 120)) + frame(0xC0) + scan(),
        True,
    ),
}


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_is_read_past_all_that_may_stand_before_its_frame(name: str) -> None:
    body, is_baseline = JPEGS[name]
    header = formats.read_header(b"\xff\xd8" + body)
    assert (header.width_px, header.height_px, header.is_baseline) == (4000, 3000, is_baseline)
    assert (header.bytes_per_pixel == 0) == is_baseline, (
        "the coefficients of a whole picture are kept"
    )


def test_what_a_progressive_jpeg_keeps_follows_from_its_samplings() -> None:
    def per_pixel(*samplings: int) -> float:
        return formats.read_header(
            b"\xff\xd8" + frame(0xC2, samplings=samplings) + scan()
        ).bytes_per_pixel

    assert (per_pixel(0x11), per_pixel(0x11, 0x11, 0x11), per_pixel(0x22, 0x11, 0x11)) == (2, 6, 3)
    assert (per_pixel(0x21, 0x11, 0x11), per_pixel(0x11, 0x11, 0x11, 0x11)) == (4, 8)


@pytest.mark.parametrize("samplings", [(), (0x00,), (0x51, 0x11, 0x11), (0x0F,)])
def test_a_jpeg_with_impossible_samplings_is_broken(samplings: tuple[int, ...]) -> None:
    with pytest.raises(BrokenPicture):
        formats.read_header(b"\xff\xd8" + frame(0xC2, samplings=samplings) + scan() + b"\xff\xd9")


def riff(chunk: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def test_the_three_kinds_of_webp_tell_their_size_each_in_its_way() -> None:
    lossy = (
        b"VP8 "
        + struct.pack("<I", 10)
        + b"\0\0\0\x9d\x01\x2a"
        + struct.pack("<HH", 0x4000 | 1234, 0xC000 | 567)
    )
    lossless = (
        b"VP8L"
        + struct.pack("<I", 5)
        + b"\x2f"
        + struct.pack("<I", 1233 | 566 << 14 | 1 << 28)
        + bytes(5)
    )
    extended = (
        b"VP8X"
        + struct.pack("<I", 10)
        + bytes(4)
        + (1233).to_bytes(3, "little")
        + (566).to_bytes(3, "little")
    )
    for chunk in (lossy, lossless, extended):
        assert found(riff(chunk)) == ("WEBP", 1234, 567)


def test_a_gif_is_as_large_as_its_first_picture_reaches() -> None:
    rows = [[1] * 50] * 40
    for left, top in ((0, 0), (70, 5), (5, 90)):
        content = gif(100, [(0, 0, 0)], GifFrame(rows, left, top), extra=b"\x21\xfe\x05, , ,\0")
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            assert found(content) == ("GIF", *opened.size)
    no_table = content[:10] + b"\0" + content[11:13] + content[13 + 3 * 128 :]
    assert found(no_table) == found(content)


def box(kind: bytes, body: bytes, is_long: bool = False, is_last: bool = False) -> bytes:
    if is_long:
        return struct.pack(">I4sQ", 1, kind, len(body) + 16) + body
    return struct.pack(">I4s", 0 if is_last else len(body) + 8, kind) + body


def isobmff(
    *sides: tuple[int, int], brands: bytes = b"heic\0\0\0\0mif1heic", **options: bool
) -> tuple[bytes, bytes]:
    """The brands, and a description with these image sizes, each behind a box of another kind."""
    sizes = b"".join(
        box(b"pixi", bytes(8)) + box(b"ispe", bytes(4) + struct.pack(">II", *each))
        for each in sides
    )
    ipco = box(b"ipco", sizes, **options)
    meta = bytes(4) + box(b"hdlr", bytes(24)) + box(b"iprp", ipco, **options)
    return box(b"ftyp", brands), box(b"meta", meta, **options)


def test_the_boxes_of_a_heic_may_be_long_open_ended_and_anywhere() -> None:
    sides = ((512, 512), (4032, 3024), (320, 240))
    brands, meta = isobmff(*sides)
    pixels = box(b"mdat", bytes(1000))
    expected = ("HEIF", 4032, 3024)
    assert found(brands + meta + pixels) == expected
    assert found(brands + pixels + box(b"free", b"") + meta) == expected
    assert found(brands + box(b"mdat", bytes(1000), is_long=True) + meta) == expected
    assert found(brands + b"".join(isobmff(*sides, is_long=True)[1:]) + pixels) == expected
    assert found(brands + isobmff(*sides, is_last=True)[1]) == expected


@pytest.mark.parametrize(
    ("brands", "kind"),
    [
        (b"avif\0\0\0\0", "AVIF"),
        (b"avis\0\0\0\0avifmif1", "AVIF"),
        (b"mif1\0\0\0\0avif", "AVIF"),
        (b"mif1\0\0\0\0heic", "HEIF"),
        (b"heix\0\0\0\0avif", "HEIF"),
        (b"msf1\0\0\0\0hevc", "HEIF"),
        (b"miaf\0\0\0\0", "HEIF"),
    ],
)
def test_the_brands_tell_the_codec(brands: bytes, kind: str) -> None:
    assert found(b"".join(isobmff((64, 48), brands=brands))) == (kind, 64, 48)


XML = b'<?xml version="1.0"?>\n'
FOREIGN = (
    ("a PDF", (b"%PDF-1.7\n", b"\r\n" * 500 + b"%PDF-1.4")),
    (
        "an SVG",
        (
            b"<svg xmlns=",
            XML + b"<!-- drawn by hand -->\n<!DOCTYPE svg PUBLIC '-'>\n<svg width='1'>",
            b"\xef\xbb\xbf" + XML + b"<svg:svg>",
        ),
    ),
    (
        "a web page",
        (b"<!DOCTYPE html><html>", b"\n <HTML>", XML + b"<html>", b"<!-- x --><body>", b"<script>"),
    ),
    (
        "a TIFF or a camera's raw file",
        (b"II*\0\x08", b"MM\0*\0", b"II+\0\x08", b"IIRO\x08", b"IIU\0", b"MMOR"),
    ),
    ("a TIFF or a camera's raw file", (b"FUJIFILMCCD-RAW ", b"\0\0\0\x18ftypcrx \0\0\0\x01")),
    (
        "a BMP or an icon",
        (
            b"BM\x36\x10\0\0\0\0\0\0\x36",
            b"\0\0\x01\0\x01\0\x10\x10",
            b"\0\0\x02\0\x01\0",
            b"icns\0\0",
        ),
    ),
    (
        "a drawing program's own file",
        (b"8BPS\0\x01", b"gimp xcf file\0", b"%!PS-Adobe-3.0", b"\xc5\xd0\xd3\xc6"),
    ),
    ("a JPEG 2000", (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51\0\x29")),
    ("a JPEG XL", (b"\xff\x0a\xfa\x1f", b"\0\0\0\x0cJXL \r\n\x87\n")),
    (
        "a picture of a rare format",
        (b"P6\n4 4\n255\n", b"P3 4 4", b"PF\n1 1", b"\x01\xda\x01\x01\0\x03", b"qoif\0\0"),
    ),
    (
        "a picture of a rare format",
        (b"DDS \x7c\0", b"v/1\x01\x02", b"#?RADIANCE\n", b"SIMPLE  =  T", b"\x59\xa6\x6a\x95"),
    ),
    (
        "a picture of a rare format",
        (b"\x0a\x05\x01\x08\0\0", b"\xd7\xcd\xc6\x9a\0\0", b"\x01\0\0\0" + bytes(36) + b" EMF"),
    ),
    (
        "a video",
        (
            b"\0\0\0\x20ftypisom\0\0",
            b"\0\0\0\x14ftypqt  ",
            b"\0\0\0\x08wide",
            b"\0\0\1\0moov",
            b"\0\0\1\0mdat",
        ),
    ),
    (
        "a video",
        (
            b"\x1aE\xdf\xa3\x01",
            b"RIFF\0\1\0\0AVI LIST",
            b"FLV\x01\x05",
            b"\0\0\x01\xba\x44",
            b"OggS\0\x02",
        ),
    ),
    (
        "an archive or a document",
        (b"PK\x03\x04\x14", b"PK\x05\x06\0", b"\x1f\x8b\x08", b"Rar!\x1a", b"7z\xbc\xaf\x27\x1c"),
    ),
    ("an archive or a document", (b"BZh91AY", b"\xfd7zXZ\0")),
)


@pytest.mark.parametrize(
    ("name", "begin"), [(name, each) for name, begins in FOREIGN for each in begins]
)
def test_what_is_not_taken_is_named_with_what_to_send_instead(name: str, begin: bytes) -> None:
    for content in (begin, begin.ljust(64, b"\0") + bytes(range(256)) * 40):
        with pytest.raises(UnsupportedFormat) as refusal:
            formats.read_header(content)
        assert refusal.value.detail.startswith(f"This is {name}. Please ")


NOBODY_KNOWS = (
    *(
        b"hello",
        b"BMW makes cars",
        b"P8 is",
        b"{}",
        b"MZ\x90\0",
        b"\x7fELF",
        bytes(9999),
        b"\xff\xd8",
        b"GIF88a",
    ),
    *(
        b"RIFFxxxxWAVE",
        b"I like SVG: <svg",
        b"\x89PNG\n",
        b"PDF",
        b"< svg",
        b"<svgx>",
        b"Please see <html>",
    ),
)


@pytest.mark.parametrize("content", NOBODY_KNOWS)
def test_what_nobody_knows_is_no_picture(content: bytes) -> None:
    with pytest.raises(NotAPicture):
        formats.read_header(content)


def test_a_file_without_bytes_is_empty() -> None:
    with pytest.raises(EmptyFile):
        costs.examine(b"")


def test_a_header_that_is_cut_short_is_told_from_a_broken_one() -> None:
    whole = {
        kind: encoded(quarters(640, 480), kind) for kind in ("JPEG", "PNG", "WEBP", "AVIF", "HEIF")
    }
    for kind, content in whole.items():
        with pytest.raises(TruncatedPicture, match=r"24 bytes.*\. Please "):
            formats.read_header(content[:24])
        assert found(content)[0] == kind
    with pytest.raises(BrokenPicture):
        formats.read_header(whole["PNG"].replace(b"IHDR", b"IHDX"))
    with pytest.raises(BrokenPicture):
        formats.read_header(whole["HEIF"].replace(b"ispe", b"free"))


def steps(content: bytes) -> int:
    """How many calls it takes to read the header, or to refuse the file."""
    count = 0

    def counted(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        costs.examine(content)
    except (BrokenPicture, TruncatedPicture, NotAPicture, UnsupportedFormat):
        pass
    finally:
        sys.setprofile(None)
    return count


HEIC_START = box(b"ftyp", b"heic\0\0\0\0heic")
GIF_START = gif(100, [(0, 0, 0)])[:-1]
ENDLESS = {
    "JPEG segments": b"\xff\xd8" + segment(0xE0) * 500_000,
    "JPEG fill bytes": b"\xff\xd8" + b"\xff" * 2_000_000,
    "JPEG markers without a length": b"\xff\xd8" + b"\xff\xd0" * 1_000_000,
    "JPEG lengths of nothing": b"\xff\xd8\xff\xe0" + b"\0\0\xff\xe0" * 500_000,
    "JPEG frames": b"\xff\xd8" + frame(0xC0) * 100_000,
    "JPEG junk": b"\xff\xd8\xff\0" + b"\xff\0" * 1_000_000,
    "GIF extensions": GIF_START + b"!\xfe\x01x\0" * 400_000,
    "GIF blocks of an extension": GIF_START + b"!\xfe" + b"\x01x" * 1_000_000,
    "GIF of nothing": GIF_START + b"\0" * 2_000_000,
    "boxes": HEIC_START + box(b"free", b"") * 250_000,
    "brands": struct.pack(">I4s", 2_000_000, b"ftyp") + b"heic" * 500_000,
    "boxes in meta": HEIC_START + box(b"meta", bytes(4) + box(b"free", b"") * 250_000),
    "sizes": b"".join(isobmff(*((1, 1) for _ in range(50_000)))),
    "boxes of a size of nothing": HEIC_START + struct.pack(">I4sQ", 1, b"free", 0) * 100_000,
    "declarations": b"<!x" * 700_000,
    "spaces": b" " * 2_000_000,
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_header_made_to_keep_us_busy_is_given_up(name: str) -> None:
    """Thirty calls for each step that is allowed; without a limit it would be millions."""
    assert steps(ENDLESS[name]) <= 30 * MOST_STEPS


def test_real_headers_are_far_from_that_limit() -> None:
    content = encoded(quarters(640, 480))
    for _ in range(200):
        content = with_segment(content, 0xE2, bytes(100))
    assert found(content) == ("JPEG", 640, 480) and steps(content) < MOST_STEPS


def jpeg_header(width: int, height: int, *, is_baseline: bool = True) -> Header:
    return Header("JPEG", width, height, 0 if is_baseline else 3.0, is_baseline=is_baseline)


@pytest.mark.parametrize("is_baseline", [True, False])
def test_a_jpeg_is_reduced_as_far_as_the_picture_allows(is_baseline: bool) -> None:
    lengths = (
        1,
        299,
        300,
        599,
        600,
        1199,
        1200,
        2399,
        2400,
        4799,
        4800,
        6000,
        9599,
        30_000,
        65_535,
    )
    for size, part in itertools.product(
        itertools.product(lengths, lengths), (None, 300, 1200, 5000)
    ):
        crop = None if part is None else Crop(0, 0, min(part, *size))
        header = jpeg_header(*size, is_baseline=is_baseline)
        factor = costs.choose_reduction(header, size, crop)
        side = min(size) if crop is None else crop.size_px
        assert factor in (1, 2, 4, 8)
        is_strip = is_baseline and 4 * size[0] * size[1] > REDUCED_BYTES * factor**2
        least = PICTURE_SIDE_PX if side < DRAFT_SIDE_PX * factor else DRAFT_SIDE_PX
        assert factor == 1 or side >= least * factor, "nothing is enlarged again"
        if factor < 8 and not is_strip:
            assert (
                side < 2 * factor * DRAFT_SIDE_PX
                or side < 2 * factor * PICTURE_SIDE_PX
                or not is_baseline
            )
        if is_strip and factor < 8:
            assert side < 2 * factor * PICTURE_SIDE_PX, "a strip is reduced as far as it goes"
    assert costs.choose_reduction(Header("PNG", 6000, 4000, 4), (6000, 4000), None) == 1


def test_strips_are_reduced_further_than_other_pictures() -> None:
    def factor(width: int, height: int, *, is_baseline: bool = True) -> int:
        return costs.choose_reduction(
            jpeg_header(width, height, is_baseline=is_baseline), (width, height), None
        )

    assert (factor(2000, 1200), factor(20_000, 1200), factor(20_000, 1200, is_baseline=False)) == (
        2,
        4,
        2,
    )
    assert (factor(2000, 600), factor(20_000, 600), factor(20_000, 599)) == (1, 2, 1)


def refusal(*, of: type[Exception], header: Header, crop: Crop | None = None) -> str:
    with pytest.raises(of) as raised:
        costs.check_size(header, (header.width_px, header.height_px), crop, 50_000_000, 25_000_000)
    return str(getattr(raised.value, "detail", ""))


def test_the_limits_are_named_in_the_refusal() -> None:
    told: Callable[[str, str, str], str] = (
        "The picture has {} pixels, {} million; at most {} million are taken of its kind. "
        "Please send a smaller one: a camera's settings have one, and so has whatever exports "
        "pictures."
    ).format
    assert refusal(of=TooManyPixels, header=jpeg_header(9000, 6000)) == told(
        "9000 x 6000", "54.0", "50"
    )
    for header, most_millions in (
        (Header("PNG", 9000, 6000, 4), "50"),
        (Header("GIF", 9000, 6000, 3), "50"),
        (jpeg_header(9000, 6000, is_baseline=False), "50"),
        (Header("HEIF", 9000, 6000, 10), "50"),
        (Header("WEBP", 9000, 6000, 12.5), "41"),
        (Header("HEIF", 9000, 6000, 14.5), "35.3"),
        (Header("AVIF", 9000, 6000, 17.5), "29.2"),
        (Header("HEIF", 9000, 6000, 20.5), "25"),
    ):
        sentence = refusal(of=TooManyPixels, header=header)
        assert sentence == told("9000 x 6000", "54.0", most_millions)
    whole = refusal(of=TooManyPixels, header=jpeg_header(9000, 6000), crop=Crop(0, 0, 300))
    assert whole == told("9000 x 6000", "54.0", "50"), "decoded whole"
    too_long = (
        "The picture is 65536 x 3 pixels; at most 65535 are taken on a side. "
        "Please send a smaller one."
    )
    assert refusal(of=SideTooLong, header=Header("PNG", 65_536, 3, 4)) == too_long
    for size in ((0, 5), (5, 0)):
        refusal(of=BrokenPicture, header=Header("PNG", *size, 4))
    for header in (
        jpeg_header(8000, 6250),
        Header("PNG", 8000, 6250, 4),
        Header("HEIF", 8000, 6250, 10),
        Header("HEIF", 5000, 5000, 20.5),
        jpeg_header(8000, 6250, is_baseline=False),
        Header("PNG", 65_535, 381, 4),
    ):
        costs.check_size(header, (header.width_px, header.height_px), None, 50_000_000, 25_000_000)


def test_the_size_that_the_parser_finds_counts_and_not_the_headers() -> None:
    with pytest.raises(TooManyPixels, match="9000 x 9000"):
        costs.check_size(Header("GIF", 9, 9, 3), (9000, 9000), None, 50_000_000, 25_000_000)


def test_a_heic_costs_twelve_times_a_jpeg() -> None:
    size = (4000, 3000)
    jpeg_cost = costs.check_size(jpeg_header(*size), size, None, 50_000_000, 25_000_000)
    heic_cost = costs.check_size(Header("HEIF", *size, 14), size, None, 50_000_000, 25_000_000)
    assert heic_cost.cpu_seconds == pytest.approx(12 * jpeg_cost.cpu_seconds)
    assert heic_cost.memory_bytes - costs.FIXED_BYTES == 14 * 12_000_000


@pytest.mark.parametrize(
    "size", [(8000, 6000), (30_000, 1650), (7071, 7071), (2400, 2400), (1199, 1199), (65_535, 30)]
)
def test_a_baseline_jpeg_costs_no_more_however_large_it_is(size: tuple[int, int]) -> None:
    _, cost = costs.examine(b"\xff\xd8" + frame(0xC0, *size) + scan())
    # Of a long strip too much is left, and so it counts as one that is decoded whole.
    held_bytes = REDUCED_BYTES if size != (30_000, 1650) else 4 * 15_000 * 825
    assert cost.memory_bytes <= costs.FIXED_BYTES + held_bytes


@pytest.mark.parametrize(
    ("mode", "options", "bytes_per_pixel"),
    [
        ("RGB", {}, 10),
        ("L", {}, 10),
        ("RGB", {"chroma": 422}, 14.5),
        ("RGB", {"chroma": 444}, 20.5),
        ("RGBA", {}, 20.5),
    ],
)
def test_a_heic_costs_what_its_colour_and_transparency_take(
    mode: str, options: dict[str, Any], bytes_per_pixel: float
) -> None:
    content = encoded(Image.new(mode, (64, 64)), "HEIF", **options)
    assert formats.read_header(content).bytes_per_pixel == bytes_per_pixel


def test_a_heic_that_says_too_little_or_too_much_is_the_dearest() -> None:
    content = encoded(Image.new("RGB", (64, 64)), "HEIF")
    coding = content.index(b"hvcC")
    deep = content[: coding + 4 + 17] + b"\xfc" + content[coding + 4 + 18 :]
    for changed in (
        deep,
        content.replace(b"hvcC", b"av1C"),
        content.replace(b"hvcC", b"none"),
        content.replace(b"pixi", b"avcC"),
    ):
        assert formats.read_header(changed).bytes_per_pixel == 20.5, changed


def test_a_png_costs_what_its_pixels_take_in_memory() -> None:
    def cost(mode: str) -> float:
        header = formats.read_header(encoded(Image.new(mode, (10, 10)), "PNG"))
        return header.bytes_per_pixel

    assert cost("L") <= cost("I;16") <= cost("RGB") == cost("RGBA") == cost("LA") == 4
    assert cost("I;16") >= 2 and cost("P") >= 1
    with pytest.raises(BrokenPicture):
        head = struct.pack(">IIBBBBB", 9, 9, 8, 5, 0, 0, 0)  # there is no colour type 5
        content = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IEND", b"")
        formats.read_header(content)
    assert found(with_chunk(encoded(quarters(9, 9), "PNG"), b"tEXt", bytes(99))) == ("PNG", 9, 9)
