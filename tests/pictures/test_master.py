"""Proves that a master, or a thumbnail, shows the whole picture: upright, in sRGB, clean, small.

What a profile picture's square shares with it is proven by that one's tests.
"""

import base64
import io
from collections.abc import Callable

import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat
from thumbhash import thumb_hash_to_average_rgba

from errors import SideTooLong, TooManyPixels, TruncatedPicture
from image_utils import (
    JPEG_QUALITY,
    ProcessedImage,
    make_master,
    make_thumbnail,
    process_profile_image,
)
from pictures.arriving import HeaderWatch
from pictures.values import MASTER_SIDE_PX, PICTURE_SIDE_PX, THUMBNAIL_SIDE_PX
from tests.support.gallery import CASES, Case
from tests.support.pictures import encoded, exif_block, jpeg, phone_photo, quarters

SIDES = {
    (4000, 3000): (1600, 1200),
    (3000, 4000): (1200, 1600),
    (1601, 1600): (1600, 1599),
    (1600, 900): (1600, 900),
    (7, 3): (7, 3),
    (2, 2): (2, 2),
    (30_000, 20): (1600, 1),
    (20, 30_000): (1, 1600),
    (6500, 3300): (1600, 812),
}
THUMBNAIL_SIDES = {
    (4000, 3000): (300, 225),
    (3000, 4000): (225, 300),
    (301, 300): (300, 299),
    (300, 170): (300, 170),
    (7, 3): (7, 3),
    (30_000, 20): (300, 1),
    (20, 30_000): (1, 300),
    (6500, 3300): (300, 152),
}

Make = Callable[..., ProcessedImage]
BOTH = pytest.mark.parametrize("make", [make_master, make_thumbnail])
SQUARES: dict[Make, int] = {make_master: MASTER_SIDE_PX, make_thumbnail: THUMBNAIL_SIDE_PX}


def opened(jpeg_bytes: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(jpeg_bytes))
    picture.load()
    return picture


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean absolute difference of two pictures' channels, of 255."""
    means = ImageStat.Stat(ImageChops.difference(one, other)).mean
    return sum(means) / len(means)


# Of the pictures that are compared: still there once they are scaled down.
GRAIN_PX: dict[Make, int] = {make_master: 3, make_thumbnail: 16}


def detailed(width_px: int, height_px: int, grain_px: int = 3) -> Image.Image:
    """Grain and slow changes."""
    grain = Image.effect_noise((width_px // grain_px + 1, height_px // grain_px + 1), 25)
    slow = Image.linear_gradient("L").resize((width_px, height_px))
    sharp = grain.resize((width_px, height_px), Image.Resampling.BICUBIC)
    return Image.merge("RGB", (sharp, slow, ImageChops.invert(sharp)))


@pytest.mark.parametrize(
    ("make", "size", "sides"),
    [
        *((make_master, size, sides) for size, sides in SIDES.items()),
        *((make_thumbnail, size, sides) for size, sides in THUMBNAIL_SIDES.items()),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "RGBA"])
def test_it_fits_and_is_never_enlarged(
    make: Make, size: tuple[int, int], sides: tuple[int, int], kind: str
) -> None:
    picture = quarters(*size)
    if kind == "RGBA":
        picture.putalpha(200)
    made = make(encoded(picture, "JPEG" if kind == "JPEG" else "PNG"))
    assert (made.width_px, made.height_px) == sides
    assert opened(made.content).size == sides
    assert made.content_type == "image/jpeg"


@BOTH
@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_upright(orientation: int, make: Make) -> None:
    upright = quarters(2000, 1000)
    block = b"Exif\0\0" + exif_block([(0x0112, "short", (orientation,))])
    content = encoded(upright, exif=block)
    turned = ImageOps.exif_transpose(opened(content))
    master = opened(make(content).content)
    assert turned.size == ((2000, 1000) if orientation < 5 else (1000, 2000))
    wanted = turned.resize(master.size)
    assert max(master.size) == SQUARES[make]
    assert (master.size[0] > master.size[1]) == (turned.size[0] > turned.size[1])
    assert difference(master, wanted) < 3


@BOTH
@pytest.mark.parametrize("size", [(3300, 2400), (1000, 700)])
@pytest.mark.parametrize("kind", ["JPEG", "progressive", "PNG", "RGBA"])
def test_it_looks_like_the_textbooks(size: tuple[int, int], kind: str, make: Make) -> None:
    picture = detailed(*size, GRAIN_PX[make])
    if kind == "RGBA":
        picture.putalpha(255)
    if kind in ("JPEG", "progressive"):
        content = encoded(picture, quality=92, progressive=kind == "progressive")
    else:
        content = encoded(picture, "PNG", compress_level=1)
    made = opened(make(content).content)
    whole = opened(content).convert("RGB").resize(made.size, Image.Resampling.LANCZOS)
    textbook = opened(encoded(whole, quality=JPEG_QUALITY))
    assert difference(made, textbook) < 4
    shifted = ImageChops.offset(textbook, 1, 0)
    assert difference(made, shifted) > 1.5 * difference(made, textbook), "too coarse a measure"


@BOTH
@pytest.mark.parametrize("name", [*CASES][::6])
def test_it_shows_the_colours_that_were_drawn(name: str, make: Make) -> None:
    case: Case = CASES[name]
    square = opened(process_profile_image(case.make()).content)
    master = make(case.make())
    shown = opened(master.content).resize(square.size, Image.Resampling.BOX)
    for row in range(3):
        for column in range(3):
            at = (
                (2 * column + 1) * PICTURE_SIDE_PX // 6,
                (2 * row + 1) * PICTURE_SIDE_PX // 6,
            )
            one = shown.getpixel(at)
            other = square.getpixel(at)
            assert isinstance(one, tuple)
            assert isinstance(other, tuple)
            assert max(abs(a - b) for a, b in zip(one, other, strict=True)) <= 12, (row, column)


@BOTH
def test_nothing_but_the_picture_is_in_it(make: Make) -> None:
    master = make(phone_photo())
    assert set(opened(master.content).info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert "gps" in master.removed_metadata or "exif" in master.removed_metadata


@pytest.mark.parametrize("size", [(2000, 1000), (1000, 2000), (300, 300), (900, 60)])
def test_its_placeholder_has_its_shape_and_colours(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, (120, 170, 230))
    picture.paste((40, 120, 40), (0, size[1] * 3 // 4, *size))
    master = make_master(encoded(picture, "PNG"))
    hashed = base64.b64decode(master.thumbhash)
    red, green, blue, _ = thumb_hash_to_average_rgba(list(hashed))
    mean = (100, 157, 182)
    found = (round(255 * red), round(255 * green), round(255 * blue))
    assert max(abs(a - b) for a, b in zip(found, mean, strict=True)) <= 16
    dominant = bytes.fromhex(master.dominant_colour.removeprefix("#"))
    assert max(abs(a - b) for a, b in zip(dominant, (120, 170, 230), strict=True)) <= 6
    # The format's own approximation: sevenths of the longer side.
    shorter = hashed[3] & 7
    is_landscape = bool(hashed[4] & 0x80)
    assert is_landscape == (size[0] > size[1])
    assert shorter == max(1, round(7 * min(size) / max(size)))


def test_a_thumbnail_of_what_is_transparent_is_on_white() -> None:
    picture = Image.new("RGBA", (600, 400), (255, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (0, 0, 300, 400))
    made = opened(make_thumbnail(encoded(picture, "PNG")).content)
    assert made.getpixel((225, 100)) == (255, 255, 255)
    blue = made.getpixel((75, 100))
    assert isinstance(blue, tuple)
    assert blue[2] > 245
    assert max(blue[:2]) < 10


@BOTH
def test_the_limits_are_those_of_an_arriving_file(make: Make) -> None:
    for content in (jpeg(200, 150), encoded(quarters(200, 150), "PNG")):
        with pytest.raises(TooManyPixels) as refusal:
            make(content, 20_000, 10_000)
        with pytest.raises(TooManyPixels) as early:
            HeaderWatch(20_000, 10_000).feed(content)
        assert early.value.detail == refusal.value.detail
    with pytest.raises(SideTooLong):
        make(encoded(Image.new("1", (70_000, 1)), "PNG"))


def test_a_file_whose_tail_is_missing_is_refused() -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        content = encoded(detailed(640, 480), kind)
        with pytest.raises(TruncatedPicture):
            make_master(content[: len(content) // 2])


def test_what_stands_behind_the_picture_changes_nothing() -> None:
    content = phone_photo(800, 600)
    assert make_master(content + bytes(100_000)).sha256 == make_master(content).sha256
