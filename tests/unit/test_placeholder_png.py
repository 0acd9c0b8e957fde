"""Proves that a placeholder has the colours of its picture where the picture has them."""

import io

import pytest
import thumbhash as general
from PIL import Image

from pictures import Fit, Rendition, RenditionFormat, draw_placeholder, resolve_rendition
from pictures.placeholder_png import LONGEST_SIDE_PX

SIDE_PX = 60  # for the general encoder, which is slow
NEAR = 60  # of 255: four bits for each wave, and edges ring; the colours are at least 127 apart
COLOURS = {"red": (255, 0, 0), "white": (255, 255, 255), "navy": (0, 0, 128), "black": (0, 0, 0)}


def draw(picture: Image.Image, width_px: int, height_px: int, fit: Fit) -> Image.Image:
    """The placeholder of a rendition of this picture, read by Pillow."""
    rgba = list(picture.convert("RGBA").tobytes())
    hashed = bytes(general.rgba_to_thumb_hash(*picture.size, rgba))
    rendition = resolve_rendition(width_px, height_px, fit, RenditionFormat.JPEG, picture.size)
    png = draw_placeholder(hashed, picture.size, rendition)
    drawn = Image.open(io.BytesIO(png))
    drawn.load()
    assert (drawn.format, drawn.mode, drawn.info) == ("PNG", "RGB", {})
    return drawn


def is_near(drawn: Image.Image, at: tuple[float, float], colour: str) -> bool:
    """Whether the pixel there, in parts of the sides, is about of this colour."""
    pixel = drawn.getpixel((int(at[0] * drawn.width), int(at[1] * drawn.height)))
    assert isinstance(pixel, tuple)
    wanted = COLOURS[colour]
    return all(abs(one - other) <= NEAR for one, other in zip(pixel, wanted, strict=True))


def make_halves(size: tuple[int, int], left: str, right: str) -> Image.Image:
    halves = Image.new("RGB", size, right)
    halves.paste(left, (0, 0, size[0] // 2, size[1]))
    return halves


@pytest.mark.parametrize("colour", COLOURS)
def test_a_plain_picture_is_plain(colour: str) -> None:
    drawn = draw(Image.new("RGB", (SIDE_PX, SIDE_PX), colour), SIDE_PX, SIDE_PX, Fit.COVER)
    assert all(is_near(drawn, (x / 8, y / 8), colour) for x in range(8) for y in range(8))


@pytest.mark.parametrize("size", [(60, 40), (40, 60), (60, 12), (12, 60), (48, 48)])
def test_each_colour_is_where_the_picture_has_it(size: tuple[int, int]) -> None:
    halves = make_halves(size, "red", "white")
    drawn = draw(halves, *size, Fit.INSIDE)
    assert max(drawn.size) == LONGEST_SIDE_PX
    assert abs(drawn.width / drawn.height - size[0] / size[1]) < size[0] / size[1] / 10
    assert is_near(drawn, (0.2, 0.5), "red") and is_near(drawn, (0.8, 0.5), "white")
    upright = draw(halves.transpose(Image.Transpose.ROTATE_270), *size[::-1], Fit.INSIDE)
    assert is_near(upright, (0.5, 0.2), "red") and is_near(upright, (0.5, 0.8), "white")


def test_what_is_cut_is_not_shown() -> None:
    striped = Image.new("RGB", (60, 20), "navy")
    striped.paste("white", (20, 0, 40, 20))
    assert is_near(draw(striped, 60, 20, Fit.INSIDE), (0.1, 0.5), "navy")
    square = draw(striped, 18, 18, Fit.COVER)
    assert square.size == (18, 18)  # not enlarged
    assert all(is_near(square, (x, 0.5), "white") for x in (0.25, 0.5, 0.75))
    assert not is_near(square, (0.25, 0.5), "navy")


def test_there_is_white_around_what_does_not_fill_its_sides() -> None:
    drawn = draw(Image.new("RGB", (60, 20), "navy"), 60, 60, Fit.CONTAIN)
    assert drawn.size == (LONGEST_SIDE_PX, LONGEST_SIDE_PX)
    assert {drawn.getpixel((x, y)) for x in range(32) for y in (0, 9, 22, 31)} == {(255,) * 3}
    assert is_near(drawn, (0.5, 0.5), "navy")


def test_the_smallest_has_a_pixel() -> None:
    narrow = Rendition(400, 1, Fit.COVER, RenditionFormat.JPEG)
    hashed = bytes(general.rgba_to_thumb_hash(2, 2, [0, 0, 0, 255] * 4))
    assert Image.open(io.BytesIO(draw_placeholder(hashed, (400, 400), narrow))).size == (32, 1)


def test_a_hash_that_is_cut_short_is_drawn_as_far_as_it_goes() -> None:
    size = (SIDE_PX, SIDE_PX)
    rgba = list(make_halves(size, "red", "white").convert("RGBA").tobytes())
    hashed = bytes(general.rgba_to_thumb_hash(*size, rgba))
    whole = Rendition(*size, Fit.INSIDE, RenditionFormat.JPEG)
    assert Image.open(io.BytesIO(draw_placeholder(hashed[:9], size, whole))).size == (32, 32)
