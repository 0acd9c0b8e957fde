"""Proves that where transparency is kept, what is transparent is a WebP that shows it, and no more.

All else is the JPEG that it is where transparency is laid on white.
"""

import base64
import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from PIL import Image, ImageChops, ImageDraw
from thumbhash import thumb_hash_to_average_rgba

from image_utils import process_profile_image
from pictures.values import CLEAR, Crop, ProcessedImage
from tests.support.likeness import lay_on_white
from tests.support.pictures import encoded, jpeg, png, png_chunk, quarters, rgb_profile

BLUE = (20, 90, 200)
SHADES = [0, 60, 128, 200, 255]
# What coding a flat colour may change, of 255.
MOST_OFF = 4
# Another colour space than sRGB.
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
PROFILE = rgb_profile(ADOBE_RGB, lambda value: float(value**2.2))


def make_bars(size: tuple[int, int] = (500, 400)) -> Image.Image:
    """Blue in five upright bars, from clear to opaque; what is clear has another colour."""
    picture = Image.new("RGBA", size, (255, 0, 0, 0))
    draw = ImageDraw.Draw(picture)
    left = (size[0] - size[1]) // 2
    width = size[1] // len(SHADES)
    for number, alpha in enumerate(SHADES[1:], start=1):
        draw.rectangle((left + number * width, 0, size[0], size[1]), fill=(*BLUE, alpha))
    return picture


def keep(content: bytes, crop: Crop | None = None) -> ProcessedImage:
    return process_profile_image(content, crop, background=CLEAR)


def opened(made: ProcessedImage) -> Image.Image:
    """The picture that was made, which must be a transparent WebP."""
    assert (made.content_type, made.filename[32:]) == ("image/webp", ".webp")
    picture = Image.open(io.BytesIO(made.content))
    assert (picture.format, picture.mode, picture.size) == ("WEBP", "RGBA", (300, 300))
    assert (made.width_px, made.height_px) == (300, 300)
    return picture


def pixel(picture: Image.Image, bar: int) -> tuple[int, ...]:
    found = picture.getpixel((30 + 60 * bar, 150))
    assert isinstance(found, tuple)
    return found


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "HEIF"])
def test_it_is_as_transparent_as_it_was_and_its_colours_are_the_same(kind: str) -> None:
    made = keep(encoded(make_bars(), kind, quality=95))
    assert made.notes == ()
    picture = opened(made)
    for bar, alpha in enumerate(SHADES):
        *colour, opacity = pixel(picture, bar)
        assert abs(opacity - alpha) <= (0 if kind == "PNG" else 2), SHADES[bar]
        if alpha:
            apart = max(abs(one - other) for one, other in zip(colour, BLUE, strict=True))
            # An encoder of the file itself cares less for what hardly shows.
            assert apart <= (MOST_OFF if kind == "PNG" else 12), (SHADES[bar], colour)


def test_the_slightest_change_of_opacity_is_kept() -> None:
    ramp = Image.linear_gradient("L").resize((300, 300))
    picture = Image.new("RGBA", (300, 300), BLUE)
    picture.putalpha(ramp)
    assert opened(keep(encoded(picture, "PNG"))).getchannel("A").tobytes() == ramp.tobytes()


def test_what_is_kept_is_what_is_laid_on_white() -> None:
    content = encoded(make_bars(), "PNG")
    ours = lay_on_white(opened(keep(content)))
    flattened = Image.open(io.BytesIO(process_profile_image(content).content)).convert("RGB")
    apart = ImageChops.difference(ours, flattened)
    for bar in range(len(SHADES)):
        assert max(pixel(apart, bar)) <= MOST_OFF


def test_colours_that_nothing_shows_are_not_in_it() -> None:
    """Where a sender has painted with an eraser there is often the picture below."""
    picture = opened(keep(encoded(make_bars(), "PNG")))
    clear = picture.crop((0, 0, 56, 300))
    assert max(clear.getchannel("A").tobytes()) == 0
    assert max(clear.getchannel("R").tobytes()) <= BLUE[0] + MOST_OFF


def test_no_edge_has_a_fringe() -> None:
    """A white disc on nothing is white to its edge, on whatever page it lies."""
    disc = Image.new("RGBA", (900, 900), (0, 0, 0, 0))
    ImageDraw.Draw(disc).ellipse((100, 100, 800, 800), fill=(255, 255, 255, 255))
    picture = opened(keep(encoded(disc, "PNG")))
    dark = ImageChops.invert(picture.convert("RGB").convert("L"))
    shown = ImageChops.multiply(dark, picture.getchannel("A"))
    assert max(shown.tobytes()) <= 2 * MOST_OFF


def with_colour_key() -> bytes:
    red = quarters(320, 240).getpixel((0, 0))
    return encoded(quarters(320, 240), "PNG", transparency=red)


def half_clear_gif() -> bytes:
    half = quarters(320, 240).convert("RGBA")
    half.paste((0, 0, 0, 0), (0, 0, 160, 240))
    return encoded(half, "GIF")


def grey_of_16_bits() -> bytes:
    rows = [[(0,)] * 200 + [(40_000,)] * 200] * 400
    return png(rows, 16, 0, png_chunk(b"tRNS", b"\0\0"))


def in_another_space() -> bytes:
    return encoded(make_bars(), "PNG", icc_profile=PROFILE)


SEE_THROUGH: dict[str, Callable[[], bytes]] = {
    "a transparent colour": with_colour_key,
    "a GIF": half_clear_gif,
    "grey of 16 bits": grey_of_16_bits,
    "another colour space": in_another_space,
    "a palette": lambda: encoded(make_bars().quantize(16), "PNG"),
    "grey with alpha": lambda: encoded(make_bars().convert("LA"), "PNG"),
    "nothing at all": lambda: encoded(Image.new("RGBA", (40, 40)), "PNG"),
    "smaller than it is shown": lambda: encoded(make_bars((125, 100)), "PNG"),
    "all of it a little": lambda: encoded(Image.new("RGBA", (400, 400), (9, 9, 9, 254)), "PNG"),
}


@pytest.mark.parametrize("name", SEE_THROUGH)
def test_whatever_says_that_something_is_transparent_is_followed(name: str) -> None:
    content = SEE_THROUGH[name]()
    assert process_profile_image(content).notes == ("transparency_flattened",)
    made = keep(content)
    assert made.notes == ()
    assert min(opened(made).getchannel("A").tobytes()) == (254 if "a little" in name else 0)


OPAQUE = {
    "JPEG": jpeg(),
    "GIF": encoded(quarters(320, 240), "GIF"),
    "a palette": encoded(quarters(320, 240).convert("P"), "PNG"),
    **{
        f"{kind} that hides nothing": encoded(quarters(320, 240).convert("RGBA"), kind)
        for kind in ("PNG", "WEBP", "AVIF", "HEIF")
    },
}


@pytest.mark.parametrize("name", OPAQUE)
def test_what_is_not_transparent_is_the_same_jpeg(name: str) -> None:
    flattened = process_profile_image(OPAQUE[name])
    assert replace(keep(OPAQUE[name]), filename="") == replace(flattened, filename="")
    assert flattened.content_type == "image/jpeg"


def test_only_what_is_shown_counts() -> None:
    corner = quarters(500, 400).convert("RGBA")
    corner.paste((0, 0, 0, 0), (0, 0, 40, 400))
    content = encoded(corner, "PNG")
    assert keep(content).content_type == "image/jpeg"
    assert opened(keep(content, Crop(0, 0, 100))).getchannel("A").getextrema() == (0, 255)


def test_a_background_that_was_asked_for_is_laid_below_it() -> None:
    made = process_profile_image(encoded(make_bars(), "PNG"), background=(0, 255, 0))
    assert (made.content_type, made.notes) == ("image/jpeg", ("transparency_flattened",))
    assert made.filename.endswith(".jpg")


def test_nothing_of_the_file_is_beside_its_pixels() -> None:
    content = encoded(make_bars(), "WEBP", xmp=b"<x/>", icc_profile=PROFILE)
    made = keep(content)
    assert made.removed_metadata == ("icc_profile", "xmp")
    picture = opened(made)
    assert set(picture.info) <= {"loop", "background", "timestamp", "duration"}


def is_near(shade: str, wanted: tuple[int, int, int]) -> bool:
    found = bytes.fromhex(shade.removeprefix("#"))
    return max(abs(one - other) for one, other in zip(found, wanted, strict=True)) <= MOST_OFF


def test_its_placeholder_is_of_what_shows() -> None:
    """The dominant colour is the drawing's, and the ThumbHash is as transparent as the picture."""
    sticker = Image.new("RGBA", (400, 400), (255, 0, 0, 0))
    ImageDraw.Draw(sticker).rectangle((100, 100, 300, 300), fill=(*BLUE, 255))
    made = keep(encoded(sticker, "PNG"))
    assert is_near(made.dominant_colour, BLUE)
    *_, opacity = thumb_hash_to_average_rgba(list(base64.b64decode(made.thumbhash)))
    assert abs(opacity - 0.25) < 0.04


def test_of_what_hardly_shows_the_dominant_colour_is_what_white_makes_of_it() -> None:
    glass = keep(encoded(Image.new("RGBA", (300, 300), (0, 0, 0, 51)), "PNG"))
    assert is_near(glass.dominant_colour, (204, 204, 204))
    nothing = keep(encoded(Image.new("RGBA", (300, 300), (0, 0, 0, 0)), "PNG"))
    assert nothing.dominant_colour == "#ffffff"
