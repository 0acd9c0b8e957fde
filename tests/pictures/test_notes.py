"""Proves that what is shown otherwise than a file has it is named, and nothing else."""

from collections.abc import Callable

import pytest
from PIL import Image

from image_utils import make_master, make_thumbnail, process_profile_image
from pictures.values import Crop, ProcessedImage
from tests.support.pictures import encoded, jpeg, quarters

ALL = pytest.mark.parametrize("make", [process_profile_image, make_master, make_thumbnail])
KINDS_WITH_ALPHA = ("PNG", "WEBP", "AVIF", "HEIF")
Make = Callable[[bytes], ProcessedImage]


def make_see_through(alpha: int, where: tuple[int, int, int, int]) -> Image.Image:
    picture = quarters(500, 400).convert("RGBA")
    picture.putalpha(255)
    picture.paste((200, 10, 10, alpha), where)
    return picture


def make_film(kind: str) -> bytes:
    frames = [Image.new("RGB", (64, 64), (shade, 0, 90)) for shade in (10, 200)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


PLAIN = {
    "JPEG": jpeg(),
    "palette": encoded(quarters(320, 240).convert("P"), "PNG"),
    "GIF": encoded(quarters(320, 240).convert("P"), "GIF"),
    **{
        f"{kind} with an alpha channel that hides nothing": encoded(
            make_see_through(255, (100, 100, 300, 300)), kind
        )
        for kind in KINDS_WITH_ALPHA
    },
}


@ALL
@pytest.mark.parametrize("name", PLAIN)
def test_of_a_picture_that_is_shown_as_it_is_nothing_is_noted(name: str, make: Make) -> None:
    assert make(PLAIN[name]).notes == ()


@ALL
@pytest.mark.parametrize("kind", KINDS_WITH_ALPHA)
def test_transparency_is_noted(kind: str, make: Make) -> None:
    see_through = encoded(make_see_through(200, (100, 100, 300, 300)), kind)
    assert make(see_through).notes == ("transparency_flattened",)


@ALL
def test_a_transparent_colour_is_noted(make: Make) -> None:
    red = quarters(320, 240).getpixel((0, 0))
    assert make(encoded(quarters(320, 240), "PNG", transparency=red)).notes == (
        "transparency_flattened",
    )


def test_transparency_outside_of_what_is_shown_is_not_noted() -> None:
    corner = encoded(make_see_through(0, (0, 0, 40, 400)), "PNG")
    assert process_profile_image(corner).notes == ()
    assert process_profile_image(corner, Crop(0, 0, 100)).notes == ("transparency_flattened",)


@ALL
@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "AVIF"])
def test_an_animation_is_noted(kind: str, make: Make) -> None:
    assert make(make_film(kind)).notes == ("animation_reduced",)


def test_several_things_are_noted_in_one_order() -> None:
    frames = [make_see_through(alpha, (100, 100, 300, 300)) for alpha in (100, 200)]
    film = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert process_profile_image(film).notes == ("transparency_flattened", "animation_reduced")
