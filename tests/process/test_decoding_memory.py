"""Proves that decoding a picture of any kind takes no more memory than was set aside for it."""

import base64
import io
import json
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import pillow_heif
import pytest
from PIL import Image

from pictures import Crop, costs
from pictures.costs import (
    DEFAULT_MAX_PIXELS,
    DEFAULT_MAX_WHOLE_PIXELS,
    DRAFT_SIDE_PX,
    FIXED_BYTES,
    MASTER_AVERAGED_SIDE_PX,
    MIB,
    price_master,
    price_renditions,
)
from pictures.encoding import JPEG_QUALITY
from pictures.formats import read_header
from pictures.process import ENVIRONMENT
from pictures.renditions import Fit, RenditionFormat, resolve_rendition
from pictures.values import CLEAR, MASTER_SIDE_PX, PICTURE_SIDE_PX
from tests.support.heic import code_deep_tile, put_together
from tests.support.pictures import GifFrame, encoded, gif, png_chunk, with_chunk, with_segment
from tests.support.services import ROOT

pillow_heif.register_heif_opener()

# About four million pixels, so that they weigh more than what is the same for all pictures.
SIZE = (2400, 1700)
TINY = (240, 170)
# A quarter of it, in multiples of 64; the sides are those of the picture of four.
TILE_OF_SIZE = (1216, 896)
# The largest square that is not averaged before it is scaled: more copies of it are made.
UNAVERAGED_PX = 2 * DRAFT_SIDE_PX - 1
# All of the largest file that is taken by default.
METADATA_BYTES = 5 * MIB - 100_000
BASELINE_JPEG_BYTES = 10 * MIB
# Of which 12 are the picture at a quarter of its sides.
LARGE_MASTER_BYTES = 48 * MIB
# All of it at once would be 565 MiB.
LARGE_TILED_HEIC_BYTES = 180 * MIB
# One colour, half transparent, ten bits, no channel halved, which nothing here can write: made
# once, by libavif 1.4.
AVIF_10_ALPHA = (
    "c-muNU{FXasVqn=%S>Yc0uY^>nP!-qnV9D5Xz0kmz}S|XT9U{B0g4$ZIYm%5LqTS82?HA7E66O#1+y4|SSK?lKN-YvVPI"
    "eaivTe*H;`Tg<b!#P>wq{G$ac!i%mX_CEF%Tvq%uLxNh~ukbk5Jo2iuI0VS>mw<`iTkLS%|k(_rpMEUm}^+X=GuaArYK0"
    "g#@XS&*C$q(w4|3sNBpITIKd*p>hp0tJ~BnII8nE-o%0#gkZO=-jB|01^^T&d({zOU|hPn#jb!)&TJ+L^&fuF;5IgzyfH"
    "sGl)@IlxLM&keUuAoUD>FlMAehD~n4~bBnEjYBF;&6N@UX5@F7l%Ph!+g)`9MER0OeEDTI6jI3?!KmqpLl*AGt1}=7Ky`"
    "}Ym8&?>eXA)pw*b>6BNzneL#J>k}J@@T`bizdLr(E)$lTq)^<#$80Q*8R?6tNzcD@Fow_kaI9I9q(ismD^s<(CRSO1rAU"
    ";FbP6f8Xg;y?LwUBp&28ZPE376<9Bu&z#iu-sNb<loj)*&3LHQFRbAf+MQtc|Maao(NF`msgI_x|9|86|BvnIc;}8qtJb"
    "z3TKo4{eFMXW1$TMbl)6@JlP{cq+fDufgN}xI{{D8(_pd}ljxoIa$G?Jsn~V4M`&WDmfST^4|6t&{$r*O|o$((A*5*Ye?"
    "B6B-F)$sflwY;XfZhKG*Fqmd$KADmomS1*`*U{Be+I@x$KAP8rMKU|qP4PzG5mGe?_aH<h7D#{+#q)EdwA@Cto;M6wy>0"
    "pX?nXShpn?KDYre9`$%$W+SS02yrtnMrp^+YlqzGe)Tw1>WiFF&VD&%kw_75+M5JctFZyM302sJj)}X-M+Q`W4VKk9Z@W"
    "G6O28Vf!Pbe~+KRv4{WL}N^y{8iV0!Djm=N@b2nw0*v+s)itB{Xz`eaMY>DJ9y8jse9VJ(lhYa(otWBJsthW6$gED%^iC"
    "`^WoD7PtI!JhFW(3{ObU3e=ps-g#pQcTTayr<C1NdJAooPTao#<zm^dR%Y$38vAx_m@$9P@jDkeE(J{xOFI5K@m1IqyEl"
    "(T5&&uQKyU"
)
# Answers each job (sizes of a tiny and of a large file of one kind, what to make, a crop or the
# renditions, limits, further options, and then both files) with the memory that the large one took
# at most, in a process of its own, which has seen the tiny one.
MEASURING = """
import json, os, sys
import image_utils
from pictures import Crop
from pictures.renditions import Fit, Rendition, RenditionFormat

def bytes_of(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name + ":"))

for line in sys.stdin.buffer:
    *lengths, what, crop, limits, options = json.loads(line)
    tiny, content = (sys.stdin.buffer.read(length) for length in lengths)
    if not (pid := os.fork()):
        make = getattr(image_utils, what)
        arguments = limits
        warming = []
        if what == "process_profile_image":
            arguments = [Crop(*crop) if crop else None, *limits]
        if what == "make_renditions":
            arguments = [[
                Rendition(*size, Fit(fit), RenditionFormat(kind)) for *size, fit, kind in crop
            ]]
            warming = [[Rendition(9, 9, Fit.COVER, kind) for kind in RenditionFormat]]
        for _ in range(2):
            make(tiny, *warming, **options)
        before = bytes_of("VmRSS")
        with open("/proc/self/clear_refs", "w") as peak:
            peak.write("5")
        made = make(memoryview(content), *arguments, **options)
        print(bytes_of("VmHWM") - before, flush=True)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        print("failed", flush=True)
"""

Size = tuple[int, int]
Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Kind:
    """A way to make a file of this size; the dearest of a format has most set aside for it."""

    make: Callable[[Size], bytes]
    is_dearest: bool = False


@cache
def shaded(size: Size, mode: str) -> Image.Image:
    """Slow changes everywhere, also in the transparency."""
    ramp = Image.linear_gradient("L").resize(size)
    picture = Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.ROTATE_180), ramp))
    if mode in ("LA", "RGBA", "PA"):
        picture.putalpha(ramp)
    return picture.quantize(64) if mode in ("P", "PA") else picture.convert(mode)


def saved(kind: str, mode: str, is_dearest: bool = False, **options: Any) -> Kind:
    return Kind(lambda size: encoded(shaded(size, mode), kind, **options), is_dearest)


def raw_png(
    depth: int, colour_type: int, bits: int, size: Size, *, interlaced: bool = False
) -> bytes:
    """What Pillow does not write: so many bits a pixel, all of them zero."""
    passes = ((8, 8), (8, 8), (4, 8), (4, 4), (2, 4), (2, 2), (1, 2)) if interlaced else ((1, 1),)
    starts = ((0, 0), (4, 0), (0, 4), (2, 0), (0, 2), (1, 0), (0, 1))
    packing = zlib.compressobj(1)
    packed = b""
    for (across, down), (left, top) in zip(passes, starts, strict=False):
        row = bytes(1 + -(-len(range(left, size[0], across)) * bits // 8))
        packed += b"".join(packing.compress(row) for _ in range(top, size[1], down))
    head = b"".join(side.to_bytes(4, "big") for side in size) + bytes(
        (depth, colour_type, 0, 0, interlaced)
    )
    chunks = (
        png_chunk(b"IHDR", head),
        png_chunk(b"IDAT", packed + packing.flush()),
        png_chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def restoring_gif(size: Size) -> bytes:
    """A first picture that leaves a border, is transparent, and is wiped out before the next."""
    frame = GifFrame([[1] * (size[0] - 10)] * (size[1] - 10), 5, 5)
    content = bytearray(gif(max(size), [(0, 0, 0)] * 2, frame, transparent=1))
    content[6:10] = b"".join(side.to_bytes(2, "little") for side in size)
    content[content.index(b"\x21\xf9\4") + 3] |= 2 << 2
    return bytes(content)


def deep_heic(chroma: int, mode: str, size: Size) -> bytes:
    row = b"".join(
        (65535 * x // size[0]).to_bytes(2, "little") * (4 if "A" in mode else 3)
        for x in range(size[0])
    )
    out = io.BytesIO()
    picture = pillow_heif.from_bytes(mode=mode, size=size, data=row * size[1])
    picture.save(out, quality=60, chroma=chroma, enc_params={"preset": "ultrafast"})
    return out.getvalue()


def tiled_heic(size: Size) -> bytes:
    """Of four tiles of ten bits, the colour of which is halved across, as cameras write them."""
    tile = code_deep_tile(TILE_OF_SIZE, 422)
    return put_together([tile], TILE_OF_SIZE, size)


def deep_avif(size: Size) -> bytes:
    whole = zlib.decompress(base64.b85decode(AVIF_10_ALPHA))
    return whole if size == SIZE else encoded(shaded(size, "RGBA"), "AVIF", speed=10)


def noise(kind: str, size: Size, **options: Any) -> bytes:
    """A file that is little shorter than its pixels."""
    return encoded(
        Image.merge("RGB", [Image.effect_noise(size, 90) for _ in range(3)]), kind, **options
    )


def with_profile(size: Size) -> bytes:
    return encoded(shaded(size, "RGB"), "JPEG", icc_profile=bytes(MIB), comment=bytes(60_000))


def bright(mode: str, size: Size) -> bytes:
    """A PNG of HLG (BT.2100), whose tones are mapped."""
    content = encoded(shaded(size, mode), "PNG", **PNG_OPTIONS)
    return with_chunk(content, b"cICP", bytes((9, 18, 0, 1)))


def with_metadata(kind: str) -> bytes:
    """A small picture with so much metadata that nothing else would fit in."""
    if kind == "PNG":
        return with_chunk(
            encoded(shaded(TINY, "RGB"), "PNG"), b"eXIf", b"II*\0".ljust(METADATA_BYTES, b"\0")
        )
    begin = {"profile": b"ICC_PROFILE\0\1\x50", "EXIF": b"Exif\0\0"}[kind]
    content = encoded(shaded(TINY, "RGB"))
    for _ in range(METADATA_BYTES // 65_000):
        content = with_segment(
            content, 0xE2 if kind == "profile" else 0xE1, begin.ljust(65_000, b"\0")
        )
    return content


def cut(kind: Kind, cut_bytes: int = 2) -> Kind:
    """The same without its last bytes: what arrived of it is measured."""
    return Kind(lambda size: kind.make(size)[: -cut_bytes if size != TINY else None])


def summed_wrongly(mode: str, size: Size) -> bytes:
    """A PNG whose rows are decoded a second time, without the sum of them."""
    content = encoded(shaded(size, mode), "PNG", **PNG_OPTIONS)
    at = content.index(b"IEND") - 12
    return content[:at] + bytes(4) + content[at + 4 :]


PNG_OPTIONS: dict[str, Any] = {"compress_level": 1}
HEIC_OPTIONS: dict[str, Any] = {"quality": 60, "enc_params": {"preset": "ultrafast"}}
KINDS = {
    "JPEG": saved("JPEG", "RGB"),
    "JPEG, no channel halved": saved("JPEG", "RGB", subsampling=0),
    "JPEG, CMYK": saved("JPEG", "CMYK"),
    "JPEG with a profile": Kind(with_profile),
    "JPEG, progressive": saved("JPEG", "RGB", progressive=True),
    "JPEG, progressive, no channel halved": saved(
        "JPEG", "RGB", True, progressive=True, subsampling=0
    ),
    "JPEG, progressive, CMYK": saved("JPEG", "CMYK", True, progressive=True, subsampling=0),
    "PNG, grey": saved("PNG", "L", **PNG_OPTIONS),
    "PNG, grey, 16 bits": Kind(partial(raw_png, 16, 0, 16), True),
    "PNG, palette": saved("PNG", "P", **PNG_OPTIONS),
    "PNG, palette with transparency": saved("PNG", "PA", True, **PNG_OPTIONS),
    "PNG, grey with transparency": saved("PNG", "LA", True, **PNG_OPTIONS),
    "PNG, RGB": saved("PNG", "RGB", True, **PNG_OPTIONS),
    "PNG, RGBA": saved("PNG", "RGBA", True, **PNG_OPTIONS),
    "PNG, RGBA, 16 bits": Kind(partial(raw_png, 16, 6, 64), True),
    "PNG, RGBA, interlaced": Kind(partial(raw_png, 8, 6, 32, interlaced=True), True),
    "PNG, palette, HDR": Kind(partial(bright, "P")),
    "PNG, RGBA, HDR": Kind(partial(bright, "RGBA"), True),
    "PNG, RGBA, wrong sum": Kind(partial(summed_wrongly, "RGBA")),
    "PNG, palette, wrong sum": Kind(partial(summed_wrongly, "P")),
    "PNG, RGB, cut": cut(saved("PNG", "RGB", **PNG_OPTIONS), 100),
    "PNG, palette, cut": cut(saved("PNG", "P", **PNG_OPTIONS), 100),
    "GIF, cut": cut(saved("GIF", "P"), 60),
    "JPEG, cut": cut(saved("JPEG", "RGB")),
    "JPEG, CMYK, cut": cut(saved("JPEG", "CMYK")),
    "JPEG, progressive, CMYK, cut": cut(saved("JPEG", "CMYK", progressive=True, subsampling=0)),
    "PNG, noise": Kind(partial(noise, "PNG", **PNG_OPTIONS)),
    "GIF": saved("GIF", "P"),
    "GIF that is wiped out": Kind(restoring_gif, True),
    "WebP": saved("WEBP", "RGB", True, method=0),
    "WebP with transparency": saved("WEBP", "RGBA", True, method=0),
    "WebP, lossless": saved("WEBP", "RGBA", True, lossless=True, quality=0, method=0),
    "WebP, noise": Kind(partial(noise, "WEBP", lossless=True, quality=0, method=0)),
    "AVIF": saved("AVIF", "RGB", speed=10),
    "AVIF with transparency, no channel halved": saved(
        "AVIF", "RGBA", speed=10, subsampling="4:4:4"
    ),
    "AVIF, ten bits, with transparency": Kind(deep_avif, True),
    "HEIC": saved("HEIF", "RGB", True, **HEIC_OPTIONS),
    "HEIC with transparency": saved("HEIF", "RGBA", **HEIC_OPTIONS),
    "HEIC, ten bits": Kind(partial(deep_heic, 420, "RGB;16")),
    "HEIC, ten bits, colour halved across": Kind(partial(deep_heic, 422, "RGB;16"), True),
    "HEIC, ten bits, with transparency, no channel halved": Kind(
        partial(deep_heic, 444, "RGBA;16"), True
    ),
    "HEIC of tiles, ten bits": Kind(tiled_heic, True),
    "HEIC, noise": Kind(
        partial(noise, "HEIF", quality=98, chroma=444, enc_params={"preset": "ultrafast"})
    ),
}
KINDS_FOR_MASTERS = (
    "PNG, RGBA, 16 bits",
    "JPEG, CMYK",
    "WebP, lossless",
    "JPEG, progressive, CMYK",
    "PNG, palette with transparency",
    "PNG, palette, HDR",
    "PNG, RGBA, HDR",
    "GIF that is wiped out",
    "AVIF with transparency, no channel halved",
    "HEIC, ten bits, with transparency, no channel halved",
)


@pytest.fixture(scope="module")
def measuring() -> Iterator[Process]:
    command = [sys.executable, "-c", MEASURING]
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdin=-1, stdout=-1) as process:
        yield process


def peak_bytes(
    measuring: Process,
    content: bytes,
    tiny: bytes,
    crop: Crop | list[tuple[int, int, str, str]] | None = None,
    what: str = "process_profile_image",
    **options: str,
) -> int:
    """The most that the image step has in memory at once, beside the file itself."""
    assert measuring.stdin and measuring.stdout
    limits = (DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS)
    job = [len(tiny), len(content), what, crop, limits, options]
    measuring.stdin.write(json.dumps(job).encode() + b"\n" + tiny + content)
    measuring.stdin.flush()
    return int(measuring.stdout.readline())


def set_aside_bytes(content: bytes, crop: Crop | None = None) -> int:
    return costs.examine(content, crop)[1].memory_bytes


@pytest.mark.parametrize("name", KINDS)
def test_no_picture_takes_more_than_is_set_aside_for_it(measuring: Process, name: str) -> None:
    content = KINDS[name].make(SIZE)
    taken = peak_bytes(measuring, content, KINDS[name].make(TINY))
    set_aside = set_aside_bytes(content)
    assert taken <= set_aside, f"{taken / MIB:.1f} of {set_aside / MIB:.1f} MiB"
    if KINDS[name].is_dearest:
        assert taken >= (set_aside - FIXED_BYTES) / 3, (
            f"{taken / MIB:.1f} of {set_aside / MIB:.1f} MiB: far too much"
        )


@pytest.mark.parametrize(
    "name", [name for name in KINDS if "ten bits" not in name and "noise" not in name]
)
def test_a_square_that_is_not_averaged_takes_no_more_either(measuring: Process, name: str) -> None:
    side = UNAVERAGED_PX
    tiny = KINDS[name].make(TINY)
    content = KINDS[name].make((side, side))
    taken = peak_bytes(measuring, content, tiny)
    set_aside = set_aside_bytes(content)
    assert taken <= set_aside, f"{taken / MIB:.1f} of {set_aside / MIB:.1f} MiB"


@pytest.mark.parametrize(
    "name", ["JPEG", "PNG, RGBA", "PNG, palette with transparency", "PNG, grey, 16 bits"]
)
def test_a_crop_that_is_not_averaged_takes_no_more_either(measuring: Process, name: str) -> None:
    content = KINDS[name].make(SIZE)
    crop = Crop(100, 100, UNAVERAGED_PX)
    taken = peak_bytes(measuring, content, KINDS[name].make(TINY), crop)
    set_aside = set_aside_bytes(content, crop)
    assert taken <= set_aside, f"{taken / MIB:.1f} of {set_aside / MIB:.1f} MiB"


@pytest.mark.parametrize("side_px", [PICTURE_SIDE_PX, UNAVERAGED_PX])
def test_what_stays_transparent_takes_no_more_than_is_set_aside_for_it(
    measuring: Process, side_px: int
) -> None:
    noise = [Image.effect_noise((side_px, side_px), 90) for _ in range(4)]
    content = encoded(Image.merge("RGBA", noise), "PNG")
    tiny = KINDS["PNG, RGBA"].make(TINY)
    taken = peak_bytes(measuring, content, tiny, background=CLEAR)
    set_aside = set_aside_bytes(content)
    assert taken <= set_aside, f"{taken / MIB:.1f} of {set_aside / MIB:.1f} MiB"


# The largest that is not averaged, nor reduced while it is decoded; a master of its own size.
@pytest.mark.parametrize(
    ("name", "side_px"),
    [
        *((name, MASTER_AVERAGED_SIDE_PX - 1) for name in KINDS_FOR_MASTERS),
        *((name, MASTER_SIDE_PX) for name in KINDS_FOR_MASTERS[:3]),
    ],
)
def test_no_master_takes_more_than_is_set_aside_for_it(
    measuring: Process, name: str, side_px: int
) -> None:
    content = KINDS[name].make((side_px, side_px))
    taken = peak_bytes(measuring, content, KINDS[name].make(TINY), what="make_master")
    set_aside = price_master(read_header(content), len(content)).memory_bytes
    assert taken <= set_aside, f"{taken / MIB:.1f} of {set_aside / MIB:.1f} MiB"


# As long as a picture may be in proportion to its height, and square.
@pytest.mark.parametrize("size", [(8000, 750), (750, 8000), (2450, 2450)], ids=str)
@pytest.mark.parametrize("name", ["PNG, RGB", *KINDS_FOR_MASTERS[:5]])
def test_no_thumbnail_takes_more_than_a_profile_picture_has_set_aside(
    measuring: Process, name: str, size: tuple[int, int]
) -> None:
    content = KINDS[name].make(size)
    taken = peak_bytes(measuring, content, KINDS[name].make(TINY), what="make_thumbnail")
    set_aside = set_aside_bytes(content)
    assert taken <= set_aside, f"{taken / MIB:.1f} of {set_aside / MIB:.1f} MiB"


def test_the_master_of_a_jpeg_of_48_megapixels_takes_no_more_than_its_reduced_picture(
    measuring: Process,
) -> None:
    content = KINDS["JPEG"].make((8000, 6000))
    taken = peak_bytes(measuring, content, KINDS["JPEG"].make(TINY), what="make_master")
    assert taken <= LARGE_MASTER_BYTES


# What is asked for at once; the dearest of a format must not have far too much set aside for it.
RENDITIONS: dict[str, list[tuple[int, int, Fit, RenditionFormat]]] = {
    **{
        f"{file_format}, as large as the master": [(0, MASTER_SIDE_PX, Fit.INSIDE, file_format)]
        for file_format in RenditionFormat
    },
    "AVIF on white": [(MASTER_SIDE_PX, 1000, Fit.CONTAIN, RenditionFormat.AVIF)],
    "AVIF, a square of a reduced master": [(400, 400, Fit.COVER, RenditionFormat.AVIF)],
    "the presets": [
        (width_px, 0, Fit.INSIDE, file_format)
        for width_px in (160, 320, 640, 1280)
        for file_format in (RenditionFormat.JPEG, RenditionFormat.WEBP)
    ],
    "sixteen large ones": [
        (MASTER_SIDE_PX - number, 0, Fit.INSIDE, RenditionFormat.WEBP) for number in range(16)
    ],
}


@pytest.mark.parametrize("name", RENDITIONS)
def test_no_renditions_take_more_than_is_set_aside_for_them(measuring: Process, name: str) -> None:
    size = (MASTER_SIDE_PX, MASTER_SIDE_PX)
    # Nothing makes longer files than pure black beside pure colours.
    harsh = Image.merge("RGB", [Image.effect_noise(size, 90) for _ in range(3)]).point(
        lambda value: 255 * (value > 127)
    )
    master = encoded(harsh, quality=JPEG_QUALITY, optimize=True)
    renditions = [resolve_rendition(*asked, size) for asked in RENDITIONS[name]]
    asked = [(*each.size, each.fit.value, each.format.value) for each in renditions]
    tiny = encoded(shaded(TINY, "RGB"))
    taken = peak_bytes(measuring, master, tiny, asked, "make_renditions")
    set_aside = price_renditions(size, len(master), renditions).memory_bytes
    assert taken <= set_aside, f"{taken / MIB:.1f} of {set_aside / MIB:.1f} MiB"
    assert taken >= (set_aside - FIXED_BYTES) / 4, (
        f"{taken / MIB:.1f} of {set_aside / MIB:.1f} MiB: far too much"
    )


@pytest.mark.parametrize("kind", ["EXIF", "profile", "PNG"])
def test_metadata_takes_no_more_either(measuring: Process, kind: str) -> None:
    content = with_metadata(kind)
    taken = peak_bytes(measuring, content, encoded(shaded(TINY, "RGB")))
    set_aside = set_aside_bytes(content)
    assert taken <= set_aside, f"{taken / MIB:.1f} of {set_aside / MIB:.1f} MiB"


@pytest.mark.parametrize("name", ["JPEG", "JPEG, no channel halved", "JPEG, CMYK"])
def test_a_baseline_jpeg_of_48_megapixels_takes_10_mib(measuring: Process, name: str) -> None:
    content = KINDS[name].make((8000, 6000))
    assert peak_bytes(measuring, content, KINDS[name].make(TINY)) <= BASELINE_JPEG_BYTES


@pytest.mark.parametrize("what", ["process_profile_image", "make_master"])
def test_a_cameras_heic_of_45_megapixels_takes_little_more_than_one_of_its_tiles(
    measuring: Process, what: str
) -> None:
    tile_size = (4096, 2752)
    content = put_together([code_deep_tile(tile_size, 422)], tile_size, (8192, 5464))
    header, cost = costs.examine(content)
    taken = peak_bytes(measuring, content, KINDS["HEIC"].make(TINY), what=what)
    if what == "make_master":
        cost = price_master(header, len(content))
    assert taken <= min(cost.memory_bytes, LARGE_TILED_HEIC_BYTES), f"{taken / MIB:.1f} MiB"


@pytest.mark.parametrize("name", ["JPEG", "JPEG, progressive, no channel halved", "PNG, RGBA"])
@pytest.mark.parametrize("size", [(20_000, 200), (200, 20_000)])
def test_a_narrow_strip_takes_no_more_than_is_set_aside_for_it(
    measuring: Process, name: str, size: Size
) -> None:
    content = KINDS[name].make(size)
    taken = peak_bytes(measuring, content, KINDS[name].make(TINY))
    set_aside = set_aside_bytes(content)
    assert (set_aside - FIXED_BYTES) / 3 <= taken <= set_aside, (
        f"{taken / MIB:.1f} of {set_aside / MIB:.1f} MiB"
    )
