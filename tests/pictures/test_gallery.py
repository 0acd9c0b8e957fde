"""Proves that every class of picture of tests/support/gallery.py is served in its colours.

What must be seen is worked out here in plain arithmetic, from the published numbers of each colour
space and filter.
"""

import contextlib
import io
import math
import random
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from PIL import Image

from errors import BadPicture
from image_utils import process_profile_image
from pictures.colour import DARK, convert_to_srgb, lay_on_background
from pictures.scaling import convert_to_scalable
from pictures.values import PICTURE_SIDE_PX
from tests.support.gallery import (
    ALPHAS,
    BLACK,
    CASES,
    COLOURS,
    GREY_ALPHAS,
    GREYS,
    HIDDEN,
    INKS,
    PAPER,
    as_colour,
    from_inks,
    over,
    ycck,
)
from tests.support.pictures import (
    BLUE,
    D50,
    EXIF_ARTIST,
    EXIF_GPS,
    EXIF_ORIENTATION,
    EXIF_UNIT,
    GREEN,
    PATCH_PX,
    RED,
    WHITE,
    XYZ,
    Colour,
    Curve,
    ExifEntry,
    GifFrame,
    Sample,
    cmyk_profile,
    corners,
    encoded,
    exif_block,
    exif_directory,
    gif,
    grey_profile,
    patch_middle,
    patch_rows,
    patches,
    png,
    png_chunk,
    rgb_profile,
    with_chunk,
    with_segment,
)

# What two passes of JPEG, and the file's own compression, do to a flat square, of 255; at an edge
# they ring.
NEAR = 6
NEAR_AN_EDGE = 10

# Where the primaries lie as XYZ under D50 (from the published profiles): red, green, blue.
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
DISPLAY_P3 = (
    (0.51512, 0.24120, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.15710, 0.06657, 0.78407),
)
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
ELSEWHERE = (SRGB[1], SRGB[2], SRGB[0])
# The way back: from XYZ under D50 to the light of sRGB's primaries.
TO_SRGB = (
    (3.13386, -1.61687, -0.49061),
    (-0.97877, 1.91614, 0.03345),
    (0.07195, -0.22899, 1.40524),
)
# What a scanner sees of black ink is light still; it must be shown as black all the same.
SCANNED_BLACK = 0.04


def served_picture(content: bytes, background: Colour = PAPER) -> Image.Image:
    """What the image step makes of a file, decoded."""
    return Image.open(
        io.BytesIO(process_profile_image(content, background=background).content)
    ).convert("RGB")


def pixel(picture: Image.Image, at: tuple[int, int]) -> Colour:
    found = picture.getpixel(at)
    assert isinstance(found, tuple)
    return as_colour(found)


def squares(picture: Image.Image) -> list[Colour]:
    """The colours in the middle of the nine squares."""
    return [pixel(picture, patch_middle(number, picture.width)) for number in range(9)]


def worst(found: Sequence[Colour], wanted: Sequence[Colour]) -> int:
    """The largest difference in any channel of any square."""
    return max(
        abs(a - b)
        for one, other in zip(found, wanted, strict=True)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("name", CASES)
def test_a_picture_shows_the_colours_that_were_drawn(name: str) -> None:
    case = CASES[name]
    found = squares(served_picture(case.make()))
    assert worst(found, case.shown) <= NEAR, (found, case.shown)
    if all(min(colour) == max(colour) for colour in case.shown):
        assert all(max(colour) - min(colour) <= 1 for colour in found), "a grey has a tint"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "PNG RGBA 8",
            "PNG RGBA 16",
            "PNG palette 8 with alphas",
            "WebP lossy with alpha",
            "AVIF with alpha",
        ),
        *(
            "AVIF premultiplied",
            "HEIC with alpha",
            "HEIC premultiplied",
            "HEIC 10 with alpha",
            "APNG",
        ),
    ],
)
def test_what_is_transparent_shows_the_background_that_was_asked_for(name: str) -> None:
    background = (200, 40, 90)
    wanted = [over(sample, background) for sample in ALPHAS]
    assert worst(squares(served_picture(CASES[name].make(), background)), wanted) <= NEAR


@pytest.mark.parametrize(
    ("drawn", "opacity", "expected"),
    [
        ((0, 0, 0), 255, PAPER),
        ((255, 255, 255), 255, DARK),
        ((250, 230, 60), 255, DARK),
        ((40, 80, 200), 255, PAPER),
        ((250, 250, 250), 90, DARK),
        ((20, 20, 20), 90, PAPER),
    ],
)
def test_a_drawing_stands_out_from_the_background_that_is_chosen_for_it(
    drawn: Colour, opacity: int, expected: Colour
) -> None:
    """What is hidden where nothing shows, here of the other lightness, does not count."""
    hidden = tuple(255 - value for value in drawn)
    drawing = Image.new("RGBA", (300, 300), (*hidden, 0))
    drawing.paste((*drawn, opacity), (140, 140, 160, 160))
    made = process_profile_image(encoded(drawing, "PNG"), background="auto")
    corner = pixel(Image.open(io.BytesIO(made.content)), (10, 10))
    assert worst([corner], [expected]) <= NEAR


def test_where_nothing_shows_at_all_or_everything_auto_is_white() -> None:
    clear = encoded(Image.new("RGBA", (64, 64), (0, 0, 0, 0)), "PNG")
    made = process_profile_image(clear, background="auto")
    assert pixel(Image.open(io.BytesIO(made.content)), (10, 10)) == PAPER
    light = encoded(Image.new("RGB", (64, 64), (240, 240, 240)), "PNG")
    made = process_profile_image(light, background="auto")
    assert worst([pixel(Image.open(io.BytesIO(made.content)), (10, 10))], [(240,) * 3]) <= NEAR


def srgb_light(value: float) -> float:
    """How much light sRGB means by a value, both from 0 to 1 (IEC 61966-2-1)."""
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def srgb_value(light: float) -> float:
    """The same the other way, and in what eight bits can say."""
    light = min(1.0, max(0.0, light))
    return 255 * (light * 12.92 if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055)


def adobe_light(value: float) -> float:
    return float(value ** (563 / 256))


def even_light(value: float) -> float:
    return value


def scanned_light(value: float) -> float:
    return SCANNED_BLACK + (1 - SCANNED_BLACK) * adobe_light(value)


def above_black(value: int, light: Curve) -> float:
    """The light of a value (of 255) between black and white: black must come out black."""
    return (light(value / 255) - light(0)) / (1 - light(0))


def from_xyz(xyz: Sequence[float]) -> Colour:
    return as_colour(
        srgb_value(sum(f * v for f, v in zip(row, xyz, strict=True))) for row in TO_SRGB
    )


def from_rgb(sample: Sample, primaries: Sequence[XYZ], light: Curve) -> Colour:
    """The nearest sRGB colour to that of other primaries and another curve."""
    lights = [above_black(value, light) for value in sample[:3]]
    return from_xyz(
        [
            sum(part * primary[i] for part, primary in zip(lights, primaries, strict=True))
            for i in range(3)
        ]
    )


def from_lab(lab: XYZ) -> Colour:
    """CIE 15, 8.2.1, the other way round."""
    middle = (lab[0] + 16) / 116
    scaled = (middle + lab[1] / 500, middle, middle - lab[2] / 200)
    cubes = [t**3 if t > 6 / 29 else 3 * (6 / 29) ** 2 * (t - 4 / 29) for t in scaled]
    return from_xyz([cube * white for cube, white in zip(cubes, D50, strict=True)])


SPACES: dict[str, tuple[Sequence[XYZ], Curve]] = {
    "Display P3": (DISPLAY_P3, srgb_light),
    "Adobe RGB": (ADOBE_RGB, adobe_light),
    "primaries in another order": (ELSEWHERE, srgb_light),
    "a scanner's": (ADOBE_RGB, scanned_light),
}


def with_profile(kind: str, profile: bytes, patch_px: int = 32) -> bytes:
    """The nine colours in a file of this kind with a profile."""
    if kind == "PNG 16":
        wide = [tuple(value * 257 for value in colour) for colour in COLOURS]
        return png(patch_rows(wide), 16, 2, iccp(profile))
    if kind == "PNG palette":
        palette = png_chunk(b"PLTE", bytes(value for colour in COLOURS for value in colour))
        return png(patch_rows([(number,) for number in range(9)]), 8, 3, iccp(profile), palette)
    whole = {"subsampling": "4:4:4"} if kind == "AVIF" else {}
    return encoded(
        patches("RGB", COLOURS, patch_px), kind, icc_profile=profile, quality=95, **whole
    )


def iccp(profile: bytes) -> bytes:
    return png_chunk(b"iCCP", b"test\0\0" + zlib.compress(profile))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PNG 16", "PNG palette", "WEBP", "AVIF", "HEIF"])
def test_colours_of_another_space_are_served_as_those_of_srgb(kind: str, space: str) -> None:
    primaries, light = SPACES[space]
    wanted = [from_rgb(colour, primaries, light) for colour in COLOURS]
    assert worst(COLOURS, wanted) > 3 * NEAR, "the profile changes too little to be seen"
    # AVIF's writer is two steps off in blue, and dark tones make it seven.
    near = NEAR + 2 if kind == "AVIF" else NEAR
    assert (
        worst(squares(served_picture(with_profile(kind, rgb_profile(primaries, light)))), wanted)
        <= near
    )


def test_the_formulas_take_srgb_for_srgb() -> None:
    assert [from_rgb(colour, SRGB, srgb_light) for colour in COLOURS] == list(COLOURS)
    assert worst([from_lab((100, 0, 0)), from_lab((53.585, 0, 0))], [PAPER, (128, 128, 128)]) <= 1


def test_a_large_jpeg_of_another_space_is_converted_too() -> None:
    content = with_profile("JPEG", rgb_profile(DISPLAY_P3, srgb_light), patch_px=448)
    wanted = [from_rgb(colour, DISPLAY_P3, srgb_light) for colour in COLOURS]
    assert worst(squares(served_picture(content)), wanted) <= NEAR


def test_what_is_transparent_in_another_space_is_laid_over_white_after_it_was_converted() -> None:
    content = png(patch_rows(ALPHAS), 8, 6, iccp(rgb_profile(DISPLAY_P3, srgb_light)))
    wanted = [over((*from_rgb(sample, DISPLAY_P3, srgb_light), sample[3])) for sample in ALPHAS]
    assert worst(squares(served_picture(content)), wanted) <= NEAR


@pytest.mark.parametrize("light", [even_light, scanned_light])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PNG 16", "PNG with alpha"])
def test_greys_with_a_curve_of_their_own_come_out_neutral_and_as_light_as_they_were(
    kind: str, light: Curve
) -> None:
    profile = grey_profile(light)
    samples: Sequence[Sample] = GREY_ALPHAS if kind == "PNG with alpha" else GREYS
    greys = [round(srgb_value(above_black(sample[0], light))) for sample in samples]
    wanted = [
        over((value, *sample[1:], 255)[:2]) for value, sample in zip(greys, samples, strict=True)
    ]
    if kind == "JPEG":
        content = encoded(patches("L", GREYS), kind, icc_profile=profile, quality=95)
    elif kind == "PNG 16":
        content = png(patch_rows([(value * 257,) for (value,) in GREYS]), 16, 0, iccp(profile))
    else:
        content = png(patch_rows(samples), 8, 4 if kind == "PNG with alpha" else 0, iccp(profile))
    found = squares(served_picture(content))
    assert worst(found, wanted) <= NEAR
    assert all(max(colour) - min(colour) <= 1 for colour in found), "a grey has a tint"


def press(cyan: int, magenta: int, yellow: int, key: int) -> XYZ:
    """What a made-up press prints of full inks, as Lab.

    It differs from what inks without a profile are taken for.
    """
    if key:
        return 0, 0, 0
    return (
        100 - 22 * cyan - 26 * magenta - 8 * yellow,
        -20 * cyan + 40 * magenta,
        -24 * cyan + 44 * yellow,
    )


FULL_INKS = (
    *((255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0)),
    *((0, 0, 0, 0), (255, 255, 0, 0), (0, 255, 255, 0)),
    *((255, 0, 255, 0), (0, 0, 0, 255), (255, 255, 255, 255)),
)


@pytest.mark.parametrize("kind", ["CMYK", "YCCK", "CMYK of a large picture"])
def test_inks_are_shown_as_their_profile_says_that_they_print(kind: str) -> None:
    profile = cmyk_profile(press)
    wanted = [from_lab(press(*(ink // 255 for ink in inks))) for inks in FULL_INKS]
    assert worst([from_inks(inks) for inks in FULL_INKS], wanted) > 3 * NEAR
    if kind == "YCCK":
        content = ycck(FULL_INKS, quality=95, icc_profile=profile)
    else:
        content = encoded(
            patches("CMYK", FULL_INKS, 32 if kind == "CMYK" else 448),
            quality=95,
            icc_profile=profile,
        )
    assert worst(squares(served_picture(content)), wanted) <= NEAR


def test_a_profile_that_comes_in_pieces_is_put_together_in_their_order() -> None:
    profile = rgb_profile(ELSEWHERE, srgb_light)
    content = encoded(patches("RGB", COLOURS), quality=95)
    part_bytes = len(profile) // 3 + 1
    for number in (2, 3, 1):
        part = profile[(number - 1) * part_bytes : number * part_bytes]
        content = with_segment(content, 0xE2, b"ICC_PROFILE\0" + bytes((number, 3)) + part)
    wanted = [from_rgb(colour, ELSEWHERE, srgb_light) for colour in COLOURS]
    assert worst(squares(served_picture(content)), wanted) <= NEAR


P3 = rgb_profile(DISPLAY_P3, srgb_light)
NO_LIGHT = ((0.0, 0.0, 0.0),) * 3
USELESS_PROFILES = {
    "empty": b" ",
    "half of one": P3[: len(P3) // 2],
    "a header alone": P3[:128],
    "noise": random.Random(4).randbytes(600),
    "noise after a header": P3[:132] + random.Random(4).randbytes(600),
    "zeros": bytes(400),
    "text": b"<?xml version='1.0'?><profile/>" * 20,
    "four thousand million tags": P3[:128] + b"\xff\xff\xff\xff" + P3[132:],
    "tags that lie outside": P3[:132]
    + b"".join(P3[at : at + 4] + b"\x7f\0\0\0\x7f\0\0\0" for at in range(132, 240, 12)),
    "for inks": cmyk_profile(press),
    "for greys": grey_profile(even_light),
    "under which white is black": rgb_profile(NO_LIGHT, srgb_light),
    "under which white is red": rgb_profile((DISPLAY_P3[0], *NO_LIGHT[1:]), srgb_light),
    "that leads to no known space": P3[:20] + b"7CLR" + P3[24:],
    **{
        f"of class {name.decode()}": rgb_profile(ELSEWHERE, srgb_light, name)
        for name in (b"link", b"abst", b"nmcl")
    },
}


@pytest.mark.parametrize("name", USELESS_PROFILES)
def test_a_picture_with_a_useless_profile_is_served_as_if_it_had_none(name: str) -> None:
    for kind in ("JPEG", "PNG", "WEBP", "AVIF", "HEIF"):
        plain = process_profile_image(with_profile(kind, b""))
        made = process_profile_image(with_profile(kind, USELESS_PROFILES[name]))
        assert made.content == plain.content, kind


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_profile_of_two_megabytes_is_followed_and_one_of_five_is_not(kind: str) -> None:
    """A scanner's or a printer's table for three colours has one or two megabytes."""
    profile = rgb_profile(ELSEWHERE, srgb_light)
    plain = with_profile(kind, b"")
    wanted = [from_rgb(colour, ELSEWHERE, srgb_light) for colour in COLOURS]
    assert (
        worst(squares(served_picture(with_profile(kind, profile + bytes(2_000_000)))), wanted)
        <= NEAR
    )
    with contextlib.suppress(
        BadPicture
    ):  # a PNG in which a few kilobytes unpack to megabytes may be taken for a bomb
        made = process_profile_image(with_profile(kind, profile + bytes(5_000_000)))
        assert made.content == process_profile_image(plain).content


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_profile_for_screens_is_ignored_in_a_picture_of_greys_or_inks(mode: str) -> None:
    picture = patches(mode, INKS if mode == "CMYK" else GREYS)
    made = process_profile_image(encoded(picture, icc_profile=P3))
    assert made.content == process_profile_image(encoded(picture)).content


def lanczos(values: Sequence[float], size: int) -> list[float]:
    """A row scaled down to a size by Lanczos's filter with three lobes."""
    scale = len(values) / size
    scaled = []
    for number in range(size):
        middle = (number + 0.5) * scale
        near = range(max(0, int(middle - 3 * scale)), min(len(values), int(middle + 3 * scale) + 1))
        weights = [sinc((at + 0.5 - middle) / scale) for at in near]
        scaled.append(
            sum(weight * values[at] for weight, at in zip(weights, near, strict=True))
            / sum(weights)
        )
    return scaled


def sinc(x: float) -> float:
    if abs(x) >= 3:
        return 0
    return (
        1 if x == 0 else 3 * math.sin(math.pi * x) * math.sin(math.pi * x / 3) / (math.pi * x) ** 2
    )


def row_over_white(row: Sequence[Sample]) -> list[Colour]:
    """A row of colours with alpha, scaled down by premultiplied values and laid on white."""
    alphas = [
        min(255.0, max(0.0, alpha))
        for alpha in lanczos([sample[3] for sample in row], PICTURE_SIDE_PX)
    ]
    channels = [
        lanczos([s[channel] * s[3] / 255 for s in row], PICTURE_SIDE_PX) for channel in range(3)
    ]
    return [
        as_colour(min(255.0, max(0.0, channel[x] + 255 - alphas[x])) for channel in channels)
        for x in range(PICTURE_SIDE_PX)
    ]


GREY: Colour = (60, 60, 60)


def edge(kind: str, size_px: int) -> tuple[bytes, list[Sample]]:
    """A grey half beside a transparent one that hides another colour, and one row of it."""
    soft_px = 24 if kind in ("PNG RGBA", "PNG LA", "WebP", "AVIF", "HEIC") else 0
    hidden = (PAPER if kind == "PNG LA" else BLACK) if kind in ("PNG LA", "PNG black") else HIDDEN
    row: list[Sample] = []
    for x in range(size_px):
        alpha = min(255, max(0, round(255 * (size_px / 2 - x) / (soft_px or 1))))
        row.append((*(GREY if alpha else hidden), alpha))
    if kind == "PNG LA":
        grey_row = bytes(value for red, _, _, alpha in row for value in (red, alpha))
        return encoded(Image.frombytes("LA", (size_px, size_px), grey_row * size_px), "PNG"), row
    if kind in ("PNG palette", "GIF"):
        rows = [[1 if sample[3] else 0 for sample in row]] * size_px
        if kind == "GIF":
            return gif(size_px, (hidden, GREY), GifFrame(rows), transparent=0), row
        palette = png_chunk(b"PLTE", bytes((*hidden, *GREY)))
        return png(
            [[(i,) for i in each] for each in rows], 8, 3, palette, png_chunk(b"tRNS", b"\0")
        ), row
    if kind == "PNG with a transparent colour":
        rgb_row = [sample[:3] for sample in row]
        return png([rgb_row] * size_px, 8, 2, png_chunk(b"tRNS", struct.pack(">3H", *hidden))), row
    picture = Image.frombytes(
        "RGBA", (size_px, size_px), bytes(value for sample in row for value in sample) * size_px
    )
    options: dict[str, dict[str, Any]] = {
        "WebP": {"lossless": True, "exact": True},
        "AVIF": {"quality": 100, "subsampling": "4:4:4", "speed": 10},
        "HEIC": {"quality": -1, "chroma": 444},
    }
    names = {"WebP": "WEBP", "AVIF": "AVIF", "HEIC": "HEIF"}
    return encoded(picture, names.get(kind, "PNG"), **options.get(kind, {})), row


EDGES = (
    "PNG RGBA",
    "PNG LA",
    "PNG black",
    "PNG palette",
    "PNG with a transparent colour",
    "GIF",
    "WebP",
)


@pytest.mark.parametrize(
    (
        "kind",
        "size_px",
    ),  # scaled in one step, or averaged first; the last two take seconds to make when large
    [*((kind, size_px) for kind in EDGES for size_px in (450, 1500)), ("AVIF", 450), ("HEIC", 450)],
)
def test_the_edge_of_a_transparent_picture_has_no_fringe(kind: str, size_px: int) -> None:
    content, row = edge(kind, size_px)
    made = served_picture(content)
    found = [pixel(made, (x, PICTURE_SIDE_PX // 2)) for x in range(PICTURE_SIDE_PX)]
    assert worst(found, row_over_white(row)) <= NEAR_AN_EDGE


# Which quarter of the upright picture (red, green, blue, white in reading order) lies in each
# quarter of the stored one, by the table of EXIF's tag 274: for 6 the stored top is the picture's
# right side, and the stored left its top.
STORED = {1: "RGBW", 2: "GRWB", 3: "WBGR", 4: "BWRG", 5: "RBGW", 6: "GWRB", 7: "WGBR", 8: "BRWG"}
UPRIGHT = ["red", "green", "blue", "white"]


def stored(orientation: int) -> Image.Image:
    """The quarters as a camera held so stores them."""
    colours = {"R": RED, "G": GREEN, "B": BLUE, "W": WHITE}
    size = (96, 64) if orientation < 5 else (64, 96)
    picture = Image.new("RGB", size)
    for number, letter in enumerate(STORED[orientation]):
        left = number % 2 * size[0] // 2
        top = number // 2 * size[1] // 2
        picture.paste(colours[letter], (left, top, left + size[0] // 2, top + size[1] // 2))
    return picture


def with_exif(kind: str, picture: Image.Image, block: bytes) -> bytes:
    """A file with exactly these bytes as its EXIF block."""
    if kind == "JPEG":
        return with_segment(encoded(picture, kind, quality=95), 0xE1, b"Exif\0\0" + block)
    if kind == "PNG":
        return with_chunk(
            encoded(picture, "PNG"),
            b"eXIf",
            block,
        )
    # The others' writers look into the block: they are given a sound one of this length, which is
    # then exchanged.
    sound = exif_block([(EXIF_ARTIST, "ascii", b"x" * max(5, len(block) - 26))])
    content = encoded(picture, kind.split()[0], exif=sound, quality=95)
    assert content.count(sound) == 1
    return content.replace(sound, block.ljust(len(sound), b"\0"))


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "WEBP with JPEG's head"])
def test_a_picture_is_turned_as_its_exif_block_says(kind: str, orientation: int) -> None:
    for order, head in (("<", b"II*\0"), (">", b"MM\0*")):
        block = head + struct.pack(order + "I", 8)
        block += exif_directory([(EXIF_ORIENTATION, "short", (orientation,))], 8, order=order)
        content = with_exif(
            kind, stored(orientation), b"Exif\0\0" + block if kind.endswith("head") else block
        )
        assert corners(process_profile_image(content).content) == UPRIGHT


def turned_by_its_container(kind: str, orientation: int, exif_says: int) -> bytes:
    """An AVIF or HEIC that is to be turned like this, in which the EXIF block says that."""
    block = exif_block(
        [(EXIF_UNIT, "short", (exif_says,)), (EXIF_ORIENTATION, "short", (orientation,))]
    )
    content = encoded(stored(orientation), kind, exif=block, quality=95)
    if kind == "AVIF":  # its writer has moved the orientation from the block into the container
        old, new = (struct.pack("<HHI", tag, 3, 1) for tag in (EXIF_UNIT, EXIF_ORIENTATION))
    else:
        old, new = (
            struct.pack("<HHII", EXIF_ORIENTATION, 3, 1, each) for each in (orientation, exif_says)
        )
    assert content.count(old) == 1
    return content.replace(old, new)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_an_avif_or_heic_is_turned_as_its_container_says_whatever_its_exif_block_says(
    kind: str, orientation: int
) -> None:
    """The block repeats the container or is out of date: all readers go by the container."""
    for exif_says in (orientation, 1, 6, 3):
        content = turned_by_its_container(kind, orientation, exif_says)
        turns = {3: 2, 6: 3, 8: 1}  # to the left, in quarters (ISO/IEC 23008-12, 6.5.10)
        if orientation in turns:
            assert content[content.index(b"irot") + 4] == turns[orientation], (
                "the test's own file is not what it says"
            )
        assert (b"irot" in content or b"imir" in content) == (orientation != 1)
        assert corners(process_profile_image(content).content) == UPRIGHT


ABSURD_ORIENTATIONS: dict[str, ExifEntry] = {
    **{str(value): (EXIF_ORIENTATION, "short", (value,)) for value in (0, 9, 65535)},
    "a number too large": (EXIF_ORIENTATION, "long", (0xFFFFFFFF,)),
    "a text": (EXIF_ORIENTATION, "ascii", b"6\0"),
    "a long text": (EXIF_ORIENTATION, "ascii", b"Rotate 90 CW\0"),
    "a fraction": (EXIF_ORIENTATION, "rational", (6, 1)),
    "a division by zero": (EXIF_ORIENTATION, "rational", (6, 0)),
    "none": (EXIF_ORIENTATION, "short", ()),
}
WITH_EXIF = ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"]


@pytest.mark.parametrize("name", ABSURD_ORIENTATIONS)
@pytest.mark.parametrize("kind", WITH_EXIF)
def test_an_absurd_orientation_is_ignored(kind: str, name: str) -> None:
    content = with_exif(kind, stored(1), exif_block([ABSURD_ORIENTATIONS[name]]))
    assert corners(process_profile_image(content).content) == UPRIGHT


UPSIDE_DOWN: ExifEntry = (EXIF_ORIENTATION, "short", (3,))
SOUND = exif_block([UPSIDE_DOWN, (EXIF_ARTIST, "ascii", b"somebody\0")], gps=[(1, "ascii", b"N\0")])
TIFF = b"II*\0\x08\0\0\0"
# What is broken, and whether the orientation can still be read before it.
BROKEN_BLOCKS: dict[str, tuple[bytes, bool]] = {
    "empty": (b"", False),
    "noise": (random.Random(5).randbytes(200), False),
    "noise after a head": (TIFF + random.Random(5).randbytes(200), False),
    "another byte order": (b"XX" + SOUND[2:], False),
    "text": (b"<?php echo 1 ?>" * 9, False),
    "a directory far outside": (SOUND[:4] + b"\xff\xff\xff\x7f" + SOUND[8:], False),
    "sixty thousand tags": (TIFF + b"\xff\xff" + SOUND[10:], True),
    "a directory that comes after itself": (
        TIFF + exif_directory([UPSIDE_DOWN], 8, next_at=8),
        True,
    ),
    "a second directory far outside": (
        TIFF + exif_directory([UPSIDE_DOWN], 8, next_at=2**31 + 1),
        True,
    ),
    "a second directory that is noise": (
        TIFF + exif_directory([UPSIDE_DOWN], 8, next_at=26) + random.Random(6).randbytes(200),
        True,
    ),
    "a GPS directory that is the first": (
        TIFF + exif_directory([UPSIDE_DOWN, (EXIF_GPS, "long", (8,))], 8),
        True,
    ),
    "a GPS directory far outside": (
        TIFF + exif_directory([UPSIDE_DOWN, (EXIF_GPS, "long", (2**31,))], 8),
        True,
    ),
    "a GPS directory that is a text": (
        TIFF + exif_directory([UPSIDE_DOWN, (EXIF_GPS, "ascii", b"no\0")], 8),
        True,
    ),
    "a value far outside": (
        TIFF + struct.pack("<H", 2) + SOUND[10:22] + b"\x3b\1\2\0\xff\0\0\0\0\0\0\x7f" + bytes(4),
        True,
    ),
    "a value of four gigabytes": (
        TIFF
        + struct.pack("<H", 2)
        + SOUND[10:22]
        + b"\x3b\1\4\0\xff\xff\xff\xff\x08\0\0\0"
        + bytes(4),
        True,
    ),
    "an unknown type": (
        TIFF + struct.pack("<H", 2) + SOUND[10:22] + b"\x3b\1\xee\0\1\0\0\0\1\0\0\0" + bytes(4),
        True,
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BROKEN_BLOCKS)
@pytest.mark.parametrize("kind", WITH_EXIF)
def test_a_broken_exif_block_never_refuses_a_good_picture(kind: str, name: str) -> None:
    block, is_readable = BROKEN_BLOCKS[name]
    is_turned = is_readable and kind in ("JPEG", "PNG", "WEBP")
    content = with_exif(kind, stored(3 if is_turned else 1), block)
    for seen in (content, memoryview(content)):  # as a decoder sees it in shared memory
        assert corners(process_profile_image(seen).content) == UPRIGHT


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", WITH_EXIF)
def test_an_exif_block_that_is_cut_anywhere_never_refuses_a_good_picture(kind: str) -> None:
    for length in range(0, len(SOUND), 3):
        content = with_exif(kind, stored(1), SOUND[:length].replace(b"\x12\1", b"\x11\1"))
        assert corners(process_profile_image(content).content) == UPRIGHT, length


LABS = (
    *((50, 60, 30), (60, -40, 40), (40, 10, -40)),
    *((100, 0, 0), (0, 0, 0), (54, 0, 0)),
    *((75, 10, 40), (65, -10, -30), (35, -15, 25)),
)
PREMULTIPLIED = [
    (*(round(value * sample[3] / 255) for value in sample[:3]), sample[3]) for sample in ALPHAS
]
GREY_PREMULTIPLIED = [(round(value * alpha / 255), alpha) for value, alpha in GREY_ALPHAS]
# Samples as each mode has them, and what they are meant to show. In I are 16 bits, in F and the
# others eight.
OTHER_MODES: dict[str, tuple[Sequence[Sample], list[Colour]]] = {
    "1": (
        [(255 * (value > 128),) for (value,) in GREYS],
        [over((255 * (value > 128), 255)) for (value,) in GREYS],
    ),
    "I": ([(value * 257,) for (value,) in GREYS], [over((value, 255)) for (value,) in GREYS]),
    "F": (GREYS, [over((value, 255)) for (value,) in GREYS]),
    "La": (GREY_PREMULTIPLIED, [over(sample) for sample in GREY_ALPHAS]),
    "RGBa": (PREMULTIPLIED, [over(sample) for sample in ALPHAS]),
    "CMYK": (INKS, [from_inks(inks) for inks in INKS]),
    "LAB": (
        [(round(light * 2.55), a + 128, b + 128) for light, a, b in LABS],
        [from_lab(lab) for lab in LABS],
    ),
}


def through_the_image_step(picture: Image.Image) -> list[Colour]:
    """The nine squares of a picture in a mode that no accepted file is decoded to."""
    in_srgb = convert_to_srgb(convert_to_scalable(picture), None).picture
    return squares(lay_on_background(in_srgb, PAPER))


@pytest.mark.parametrize("mode", OTHER_MODES)
def test_a_mode_that_no_accepted_file_has_today_is_shown_right_all_the_same(mode: str) -> None:
    samples, wanted = OTHER_MODES[mode]
    assert worst(through_the_image_step(patches(mode, samples)), wanted) <= 2


def test_a_palette_with_alpha_is_shown_right() -> None:
    picture = Image.new("PA", (3 * PATCH_PX, 3 * PATCH_PX))
    picture.putpalette([value for sample in ALPHAS for value in sample[:3]])
    for number, sample in enumerate(ALPHAS):
        left = number % 3 * PATCH_PX
        top = number // 3 * PATCH_PX
        picture.paste((number, sample[3]), (left, top, left + PATCH_PX, top + PATCH_PX))
    assert worst(through_the_image_step(picture), [over(sample) for sample in ALPHAS]) <= 2
