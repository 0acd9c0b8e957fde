"""Every class of picture that people have, and the colours that must be served of each.

Each is nine flat squares.

The colours are those that were drawn, or follow from them by plain arithmetic: no library is asked
for its opinion.
"""

import base64
import io
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pillow_heif

from tests.support.pictures import (
    BLUE,
    GREEN,
    PATCH_PX,
    RED,
    WHITE,
    Colour,
    GifFrame,
    Sample,
    encoded,
    gif,
    patch_rows,
    patches,
    png,
    png_chunk,
)

pillow_heif.register_heif_opener()

BLACK: Colour = (0, 0, 0)
PAPER: Colour = (255, 255, 255)
# What opaque pictures show: primaries, neutrals, and the colours of skin, sky and leaves.
COLOURS: tuple[Colour, ...] = (
    *(RED, GREEN, BLUE),
    *(WHITE, BLACK, (128, 128, 128)),
    *((224, 172, 105), (96, 160, 208), (60, 90, 30)),
)
GREYS = tuple((value,) for value in (0, 20, 60, 90, 128, 160, 200, 230, 255))
# Beneath full transparency lies what must never show.
HIDDEN: Colour = (255, 0, 255)
ALPHAS: tuple[Sample, ...] = (
    *((*RED, 255), (*HIDDEN, 0), (*BLUE, 128)),
    *((*BLACK, 64), (*WHITE, 200), (*HIDDEN, 0)),
    *((*GREEN, 192), (*BLACK, 128), (128, 128, 128, 255)),
)
GREY_ALPHAS = (
    (0, 255),
    (0, 0),
    (0, 128),
    (90, 64),
    (200, 255),
    (60, 192),
    (255, 0),
    (128, 128),
    (30, 20),
)
INKS = (
    *((255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0)),
    *((0, 0, 0, 0), (0, 0, 0, 255), (0, 0, 0, 128)),
    *((128, 0, 128, 0), (40, 90, 200, 30), (255, 255, 255, 255)),
)
# The same squares with ten bits a channel, which nothing here can write: made once, by libavif 1.3.
AVIF_10 = (
    "0000WW^{RQVRmU|00000VRmU|ZE0pPZE0a<O+hh10002%ZDn*}000000000XXk=`10000000000aA{+70000000000000"
    "00000004sdC7Z2$lO000310016oY;R)#0000)000310RR910RR926951JX#fBKC~0YKW&i*H00031000_kZf0cy000000"
    "RRADb}%tRZ)|UJ00000YH4tCZ~y=ROKEUpZvX%Q6lrsCWdHyG00000FaQ7mFaQ7m5O8UDX#fBK00RmN3IG5A3}JRLLxCV"
    "b000006Ju{|a&BX6cmM(b0ssbp0000NX>e^}0000000001009I60)qqq0041qWMOm?0162>6>q(~2nZTLGFlS?V<vzA@B"
    "jb++bVZiO)zt|h%?jiY<aJWJ^NORtpKlpE6{v<EDUK<_kAX(of9}rezm0aZlVg45h736d(QB5!|m9^;ve*KE%gvRPn_zS"
    "iWGkMw=o%="
)
AVIF_10_ALPHA = (
    "0000WW^{RQVRmU|00000VRmU|ZE0pPZE0a<O+hh10004oZDn*}000000000XXk=`10000000000aA{+70000000000000"
    "00000004sdC7Z2$lO00031001m$Y;R)#0000)000620RR910RR92=>Px#X8-~K0003100FK50027x002U1X>Mi!000000"
    "ssI28fk83WdZ;I000310AY48F+*=`Z*l+t000_kZf0cy000000ssJEb}%tPY;b5{000008fkK6W&i*H000004q<h8Yybi"
    "P0RRC2006^jaB^?}005n7aAR)(000zeb8uw<00000001xm001xm000nhX?SS>000033JMAU000bOb}>VNAV2^B000wXZ)"
    "|dIV{CW;0ssO427mwn01j|zcxeCt0003B0000CVRkV?fdE_p0000uVRd*z00000b#iVxZE$60I&E-eXF@t-X=89Yb9r-g"
    "Wo>ghVRd+EY-wR~c{*WiaA;uw0000UX>e^}0000000002009I60)qqq0t5jCh6exu0IF?dVRRAz3I-SzZ@-;DGA|GSjka"
    "j#VX!}&)V7s6O8GR_GCix>3}|s__97?7F+ovyXO$Kx0<Il*tQglsP!a$N2{;vRy}Sqr8bC5w69Qu<fB^6S007%6cUes^b"
    "GC>x)A4M1uZlhU{+vjL3<_tj+4DQHsPm?Gl4<%%XN%=!j^{R!<%U>O;!MF5go-1-_91Uj>SNs<y6h|;e0Buoxshpr"
)


@dataclass(frozen=True)
class Case:
    """A way to make a file, and what must be seen in its nine squares."""

    make: Callable[[], bytes]
    shown: tuple[Colour, ...]


def over(sample: Sample, background: Colour = PAPER) -> Colour:
    """A colour or a grey, and its alpha (of 255), on a background."""
    colour = sample[:3] if len(sample) == 4 else sample[:1] * 3
    return as_colour(
        (c * sample[-1] + b * (255 - sample[-1])) / 255
        for c, b in zip(colour, background, strict=True)
    )


def from_inks(inks: Sample) -> Colour:
    """Inks that no profile describes: each takes its share of the light away."""
    return as_colour((255 - ink) * (255 - inks[3]) / 255 for ink in inks[:3])


def as_colour(values: Iterable[float]) -> Colour:
    """The nearest whole numbers."""
    red, green, blue = (round(value) for value in values)
    return red, green, blue


SHOWN_GREYS = tuple(over((*grey, 255)) for grey in GREYS)
SHOWN_ALPHAS = tuple(over(sample) for sample in ALPHAS)
SHOWN_GREY_ALPHAS = tuple(over(sample) for sample in GREY_ALPHAS)
SHOWN_INKS = tuple(from_inks(inks) for inks in INKS)


def _file(kind: str, mode: str, samples: Sequence[Sample], **options: Any) -> Callable[[], bytes]:
    return lambda: encoded(patches(mode, samples), kind, **options)


def png_cases() -> dict[str, Case]:
    """Every colour type and depth, with and without transparency (PNG 3, 11.2.1 and 11.3.1.1)."""
    cases = {}

    def add(
        name: str,
        samples: Sequence[Sample],
        depth: int,
        kind: int,
        shown: Iterable[Colour],
        *chunks: bytes,
    ) -> None:
        for how in ("", ", interlaced"):
            make = partial(png, patch_rows(samples), depth, kind, *chunks, interlaced=bool(how))
            cases[f"PNG {name}{how}"] = Case(make, tuple(shown))

    def wide(samples: Sequence[Sample]) -> list[Sample]:
        """Sixteen bits whose halves differ, so that cutting the lower one off is not exact."""
        return [tuple(min(65535, value * 257 + 50) for value in sample) for sample in samples]

    for depth in (1, 2, 4, 8):
        top = (1 << depth) - 1
        levels = [number * 37 % (top + 1) for number in range(9)]
        greys = [over((round(level * 255 / top), 255)) for level in levels]
        add(f"grey {depth}", [(level,) for level in levels], depth, 0, greys)
        hidden = levels[1]
        seen = [
            PAPER if level == hidden else grey for level, grey in zip(levels, greys, strict=True)
        ]
        add(
            f"grey {depth} with a transparent one",
            [(level,) for level in levels],
            depth,
            0,
            seen,
            _trns(hidden),
        )
        indices = [(number % min(9, top + 1),) for number in range(9)]
        palette = png_chunk(
            b"PLTE", bytes(value for colour in COLOURS[: top + 1] for value in colour)
        )
        add(
            f"palette {depth}", indices, depth, 3, [COLOURS[index] for (index,) in indices], palette
        )
        palette = png_chunk(
            b"PLTE", bytes(value for sample in ALPHAS[: top + 1] for value in sample[:3])
        )
        alphas = png_chunk(b"tRNS", bytes(sample[3] for sample in ALPHAS[: top + 1]))
        seen = [SHOWN_ALPHAS[index] for (index,) in indices]
        add(f"palette {depth} with alphas", indices, depth, 3, seen, palette, alphas)
        seen = [PAPER if index == 0 else over((*ALPHAS[index][:3], 255)) for (index,) in indices]
        add(
            f"palette {depth} with a transparent one",
            indices,
            depth,
            3,
            seen,
            palette,
            png_chunk(b"tRNS", b"\0"),
        )
    add("grey 16", wide(GREYS), 16, 0, SHOWN_GREYS)
    seen = [PAPER if number == 4 else grey for number, grey in enumerate(SHOWN_GREYS)]
    add("grey 16 with a transparent one", wide(GREYS), 16, 0, seen, _trns(*wide(GREYS)[4]))
    seen = [PAPER if number == 1 else colour for number, colour in enumerate(COLOURS)]
    for depth, samples in ((8, COLOURS), (16, wide(COLOURS))):
        add(f"RGB {depth}", samples, depth, 2, COLOURS)
        add(f"RGB {depth} with a transparent one", samples, depth, 2, seen, _trns(*samples[1]))
    for depth, greys_over, colours_over in (
        (8, GREY_ALPHAS, ALPHAS),
        (16, wide(GREY_ALPHAS), wide(ALPHAS)),
    ):
        add(f"LA {depth}", greys_over, depth, 4, SHOWN_GREY_ALPHAS)
        add(f"RGBA {depth}", colours_over, depth, 6, SHOWN_ALPHAS)
    others = [patches("RGBA", ALPHAS[::-1])] * 2
    cases["APNG"] = Case(
        _file("PNG", "RGBA", ALPHAS, save_all=True, append_images=others), SHOWN_ALPHAS
    )
    default = {"save_all": True, "append_images": others, "default_image": True}
    cases["APNG with a picture of its own for old readers"] = Case(
        _file("PNG", "RGBA", ALPHAS, **default), SHOWN_ALPHAS[::-1]
    )
    return cases


def _trns(*values: int) -> bytes:
    return png_chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))


def jpeg_cases() -> dict[str, Case]:
    """Every way to store colour in a JPEG, baseline and progressive."""
    cases = {}
    for how, options in (
        ("baseline", {}),
        ("progressive", {"progressive": True}),
        ("restarts", {"restart_marker_rows": 1}),
    ):
        good = {"quality": 95, **options}
        for sampling in ("4:4:4", "4:2:2", "4:2:0"):
            cases[f"JPEG {how} {sampling}"] = Case(
                _file("JPEG", "RGB", COLOURS, subsampling=sampling, **good), COLOURS
            )
        cases[f"JPEG {how} grey"] = Case(_file("JPEG", "L", GREYS, **good), SHOWN_GREYS)
        cases[f"JPEG {how} CMYK"] = Case(_file("JPEG", "CMYK", INKS, **good), SHOWN_INKS)
        cases[f"JPEG {how} YCCK"] = Case(partial(ycck, INKS, **good), SHOWN_INKS)
        cases[f"JPEG {how} CMYK without Adobe's marker"] = Case(
            partial(without_adobe, "CMYK", INKS, **good), SHOWN_INKS
        )
        rgb = {"keep_rgb": True, **good}
        cases[f"JPEG {how} RGB"] = Case(_file("JPEG", "RGB", COLOURS, **rgb), COLOURS)
    second = patches("RGB", COLOURS[::-1])
    cases["MPO"] = Case(
        _file("MPO", "RGB", COLOURS, save_all=True, append_images=[second], quality=95), COLOURS
    )
    return cases


def ycck(inks: Sequence[Sample], **options: Any) -> bytes:
    """What Photoshop writes: inverted inks, the colours as brightness and two differences.

    Pillow inverts what it writes; so what it is given here is inverted before.
    """
    samples = []
    for cyan, magenta, yellow, key in inks:
        light = 0.299 * cyan + 0.587 * magenta + 0.114 * yellow
        blue = 128 + (yellow - light) / 1.772
        red = 128 + (cyan - light) / 1.402
        samples.append((*(255 - min(255, round(value)) for value in (light, blue, red)), key))
    content = encoded(patches("CMYK", samples), "JPEG", **options)
    marker = content.index(b"\xff\xee\x00\x0eAdobe")
    return content[: marker + 15] + b"\x02" + content[marker + 16 :]


def without_adobe(mode: str, samples: Sequence[Sample], **options: Any) -> bytes:
    """A JPEG that does not say how its colours are stored.

    Browsers take its inks as turned round all the same.
    """
    content = encoded(patches(mode, samples), "JPEG", **options)
    marker = content.index(b"\xff\xee\x00\x0eAdobe")
    return content[:marker] + content[marker + 16 :]


def gif_cases() -> dict[str, Case]:
    """Opaque, transparent, animated, and a picture smaller than its canvas."""
    side_px = 3 * PATCH_PX
    indices = patch_rows([(number,) for number in range(9)])
    rows = [[index for (index,) in row] for row in indices]
    whole = GifFrame(rows)
    interlaced = GifFrame(rows, is_interlaced=True)
    last = GifFrame([row[::-1] for row in rows[::-1]])
    holed = tuple(PAPER if number == 4 else colour for number, colour in enumerate(COLOURS))
    ramp = [(value, value, value) for value in range(128)]
    greys = GifFrame([[value // 2 for (value,) in row] for row in patch_rows(GREYS)])
    holed_greys = tuple(PAPER if value == 128 else ramp[value // 2] for (value,) in GREYS)
    # What no picture covers is clear, whatever colour the file names as background.
    small = GifFrame([[1] * PATCH_PX] * PATCH_PX, left_px=PATCH_PX, top_px=PATCH_PX)
    alone = tuple(GREEN if number == 4 else PAPER for number in range(9))
    return {
        "GIF": Case(partial(gif, side_px, COLOURS, whole), COLOURS),
        "GIF interlaced": Case(partial(gif, side_px, COLOURS, interlaced), COLOURS),
        "GIF transparent": Case(partial(gif, side_px, COLOURS, whole, transparent=4), holed),
        "GIF interlaced, transparent": Case(
            partial(gif, side_px, COLOURS, interlaced, transparent=4), holed
        ),
        "GIF of greys, transparent": Case(
            partial(gif, side_px, ramp, greys, transparent=64), holed_greys
        ),
        "GIF animated": Case(partial(gif, side_px, COLOURS, whole, last), COLOURS),
        "GIF animated, transparent": Case(
            partial(gif, side_px, COLOURS, whole, last, transparent=4), holed
        ),
        "GIF smaller than its canvas": Case(partial(gif, side_px, COLOURS, small), alone),
        "GIF smaller than its canvas, transparent": Case(
            partial(gif, side_px, COLOURS, small, transparent=4), alone
        ),
        "GIF animated, the first smaller": Case(
            partial(gif, side_px, COLOURS, small, whole), alone
        ),
    }


def webp_cases() -> dict[str, Case]:
    """Lossy and lossless, with alpha and without, still and animated."""
    cases = {}
    for how, options in (
        ("lossy", {"quality": 95}),
        ("lossless", {"lossless": True, "exact": True}),
    ):
        cases[f"WebP {how}"] = Case(_file("WEBP", "RGB", COLOURS, **options), COLOURS)
        cases[f"WebP {how} with alpha"] = Case(
            _file("WEBP", "RGBA", ALPHAS, **options), SHOWN_ALPHAS
        )
        others = {"save_all": True, "append_images": [patches("RGBA", ALPHAS[::-1])], **options}
        cases[f"WebP {how} animated"] = Case(_file("WEBP", "RGBA", ALPHAS, **others), SHOWN_ALPHAS)
    return cases


def avif_cases() -> dict[str, Case]:
    """Eight and ten bits, with alpha in either manner, grey, and a sequence."""
    good = {"quality": 95, "subsampling": "4:4:4", "speed": 9}
    halved = {**good, "subsampling": "4:2:0"}
    several = {"save_all": True, "append_images": [patches("RGB", COLOURS[::-1])], **good}
    return {
        "AVIF 4:4:4": Case(_file("AVIF", "RGB", COLOURS, **good), COLOURS),
        "AVIF 4:2:0": Case(_file("AVIF", "RGB", COLOURS, **halved), COLOURS),
        "AVIF limited range": Case(_file("AVIF", "RGB", COLOURS, range="limited", **good), COLOURS),
        "AVIF grey": Case(_file("AVIF", "L", GREYS, quality=95, speed=9), SHOWN_GREYS),
        "AVIF with alpha": Case(_file("AVIF", "RGBA", ALPHAS, **good), SHOWN_ALPHAS),
        "AVIF premultiplied": Case(
            _file("AVIF", "RGBA", ALPHAS, alpha_premultiplied=True, **good), SHOWN_ALPHAS
        ),
        "AVIF sequence": Case(_file("AVIF", "RGB", COLOURS, **several), COLOURS),
        "AVIF 10": Case(partial(base64.b85decode, AVIF_10), COLOURS),
        "AVIF 10 with alpha": Case(partial(base64.b85decode, AVIF_10_ALPHA), SHOWN_ALPHAS),
    }


def heif_cases() -> dict[str, Case]:
    """Eight to twelve bits, both manners of alpha, tiles as on phones, one picture of several."""
    halved = {"quality": 95, "chroma": 420}
    good = {"quality": 95, "chroma": 444}
    several = {
        "save_all": True,
        "append_images": [patches("RGB", COLOURS)],
        "primary_index": 1,
        **good,
    }
    # Alpha is multiplied into the colours by hand: Pillow's own way is what is tested.
    premultiplied = [
        (*(value * sample[3] // 255 for value in sample[:3]), sample[3]) for sample in ALPHAS
    ]
    return {
        "HEIC 4:2:0": Case(_file("HEIF", "RGB", COLOURS, **halved), COLOURS),
        "HEIC 4:4:4": Case(_file("HEIF", "RGB", COLOURS, **good), COLOURS),
        "HEIC in tiles": Case(_file("HEIF", "RGB", COLOURS, tile_size=64, **halved), COLOURS),
        "HEIC grey": Case(_file("HEIF", "L", GREYS, quality=95), SHOWN_GREYS),
        "HEIC with alpha": Case(_file("HEIF", "RGBA", ALPHAS, **good), SHOWN_ALPHAS),
        "HEIC premultiplied": Case(_file("HEIF", "RGBa", premultiplied, **good), SHOWN_ALPHAS),
        "HEIC 10": Case(partial(_deep_heif, "RGB;16", COLOURS, 10), COLOURS),
        "HEIC 12": Case(partial(_deep_heif, "RGB;16", COLOURS, 12), COLOURS),
        "HEIC 10 with alpha": Case(partial(_deep_heif, "RGBA;16", ALPHAS, 10), SHOWN_ALPHAS),
        "HEIC the second of two": Case(_file("HEIF", "RGB", COLOURS[::-1], **several), COLOURS),
    }


def _deep_heif(mode: str, samples: Sequence[Sample], bits: int) -> bytes:
    flat = [value * 257 for row in patch_rows(samples) for sample in row for value in sample]
    side_px = 3 * PATCH_PX
    out = io.BytesIO()
    picture = pillow_heif.from_bytes(mode, (side_px, side_px), struct.pack(f"<{len(flat)}H", *flat))
    picture.save(out, quality=95, chroma=444, bit_depth=bits)
    return out.getvalue()


CASES = png_cases() | jpeg_cases() | gif_cases() | webp_cases() | avif_cases() | heif_cases()
