"""What a browser makes of a first frame, and of colours that a file leaves out, we make too.

Each expectation was seen in Chromium 156; docs/pictures.md has a line for each.
"""

import io

import pytest
from PIL import Image

from image_utils import make_master, process_profile_image
from tests.support.pictures import BLUE, GREEN, RED, GifFrame, encoded, gif, png, png_chunk

# Two passes of JPEG, and the filter at the edge of a block.
NEAR = 8
PAPER = (255, 255, 255)
SIDE = 60
PALETTE = (RED, GREEN, BLUE)


def shown(served: bytes, *places: tuple[float, float]) -> list[str]:
    """The colours at these places, given as shares of the sides."""
    picture = Image.open(io.BytesIO(served)).convert("RGB")
    named = {"red": RED, "green": GREEN, "blue": BLUE, "white": PAPER}
    found = []
    for across, down in places:
        pixel = picture.getpixel((int(across * picture.width), int(down * picture.height)))
        assert isinstance(pixel, tuple)
        near = [
            name
            for name, colour in named.items()
            if max(abs(a - b) for a, b in zip(pixel, colour, strict=True)) <= NEAR
        ]
        found.append(near[0] if near else str(pixel))
    return found


def flat(index: int, width: int, height: int) -> list[list[int]]:
    return [[index] * width for _ in range(height)]


@pytest.mark.parametrize("scale", [1, 30])
def test_a_gif_is_clear_around_a_first_frame_that_is_smaller_than_its_screen(scale: int) -> None:
    """At each size, for each way to scale; Pillow paints the first colour there."""
    side = scale * SIDE
    content = gif(side, PALETTE, GifFrame(flat(1, side // 3, side // 3), side // 3, side // 3))
    made = process_profile_image(content)
    assert shown(made.content, (0.1, 0.1), (0.5, 0.5), (0.5, 0.8)) == ["white", "green", "white"]
    assert "transparency_flattened" in made.notes
    master = make_master(content)
    assert shown(master.content, (0.1, 0.1), (0.5, 0.5), (0.5, 0.8)) == ["white", "green", "white"]
    on_blue = process_profile_image(content, background=BLUE)
    assert shown(on_blue.content, (0.1, 0.1), (0.5, 0.5)) == ["blue", "green"]


def test_it_is_clear_around_a_grey_first_frame_too() -> None:
    """Pillow reads a GIF of greys as greys, which are scaled in another way."""
    greys = tuple((value, value, value) for value in range(128))
    content = gif(SIDE, greys, GifFrame(flat(0, 20, 20)))
    served = Image.open(io.BytesIO(process_profile_image(content).content)).convert("L")
    assert served.getpixel((20, 20)) == pytest.approx(0, abs=NEAR)
    assert served.getpixel((250, 250)) == 255


def test_what_is_clear_in_a_small_first_frame_stays_so() -> None:
    rows = [[1] * 10 + [2] * 10 for _ in range(20)]
    content = gif(40, PALETTE, GifFrame(rows), transparent=2)
    served = process_profile_image(content).content
    assert shown(served, (0.1, 0.2), (0.4, 0.2), (0.8, 0.8)) == ["green", "white", "white"]


def test_a_first_frame_that_fills_its_screen_is_not_transparent() -> None:
    made = process_profile_image(gif(SIDE, PALETTE, GifFrame(flat(1, SIDE, SIDE))))
    assert made.notes == ()


@pytest.mark.parametrize("depth", [2, 4, 8])
def test_a_palettes_last_colour_stands_for_those_that_are_missing(depth: int) -> None:
    indices = [0, 1, 2, 3]
    rows = [[(index,) for index in indices for _ in range(16)] for _ in range(64)]
    colours = png_chunk(b"PLTE", bytes((*RED, *GREEN)))
    served = process_profile_image(png(rows, depth, 3, colours)).content
    places = [(share, 0.5) for share in (0.1, 0.35, 0.6, 0.9)]
    assert shown(served, *places) == ["red", "green", "green", "green"]


@pytest.mark.parametrize(
    ("alphas", "expected"),
    [
        (b"\xff\0", ["red", "white", "white"]),
        (b"\0\xff", ["white", "green", "green"]),
        (b"\0", ["white", "green", "green"]),
    ],
)
def test_it_is_as_clear_as_the_last_colour_is(alphas: bytes, expected: list[str]) -> None:
    rows = [[(index,) for index in (0, 1, 5) for _ in range(20)] for _ in range(60)]
    chunks = (png_chunk(b"PLTE", bytes((*RED, *GREEN))), png_chunk(b"tRNS", alphas))
    served = process_profile_image(png(rows, 8, 3, *chunks)).content
    assert shown(served, (0.15, 0.5), (0.5, 0.5), (0.85, 0.5)) == expected


@pytest.mark.parametrize("side", [64, 1300])
def test_a_transparent_shade_of_16_bits_is_clear(side: int) -> None:
    """The shade beside it, which has the same eight bits, is not."""
    clear = 0x20_5B
    half = side // 2
    row = [(clear,)] * half + [(clear + 1,)] * half
    content = png([row] * side, 16, 0, png_chunk(b"tRNS", clear.to_bytes(2, "big")))
    made = process_profile_image(content)
    served = Image.open(io.BytesIO(made.content)).convert("L")
    assert served.getpixel((60, 150)) == 255
    assert served.getpixel((240, 150)) == pytest.approx(0x20, abs=NEAR)
    assert "transparency_flattened" in made.notes


def test_a_sound_palette_is_as_it_was() -> None:
    picture = Image.new("P", (SIDE, SIDE), 1)
    picture.putpalette(bytes((*RED, *GREEN)))
    served = process_profile_image(encoded(picture, "PNG")).content
    assert shown(served, (0.5, 0.5)) == ["green"]


def test_an_enlarged_picture_of_another_gamma_has_no_rings_around_its_edges() -> None:
    """Enlarged before it is converted, three hundredths of light beside an edge are a grey of 50."""
    rows = [[(0,)] * 10 + [(255,)] * 10 for _ in range(20)]
    content = png(rows, 8, 0, png_chunk(b"gAMA", (100_000).to_bytes(4, "big")))
    served = Image.open(io.BytesIO(process_profile_image(content).content)).convert("L")
    dark = served.crop((0, 0, 135, 300)).getextrema()
    assert dark[1] <= 30, dark
