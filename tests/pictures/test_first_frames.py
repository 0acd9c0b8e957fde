"""What a browser makes of a first frame, and of colours that a file leaves out, we make too.

Each expectation was seen in Chromium 156; docs/pictures.md has a line for each.
"""

import io
import struct
import zlib

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
    """Were it enlarged first, three hundredths of light beside an edge would be a grey of 50."""
    rows = [[(0,)] * 10 + [(255,)] * 10 for _ in range(20)]
    content = png(rows, 8, 0, png_chunk(b"gAMA", (100_000).to_bytes(4, "big")))
    served = Image.open(io.BytesIO(process_profile_image(content).content)).convert("L")
    dark = served.crop((0, 0, 135, 300)).tobytes()
    assert max(dark) <= 30


CANVAS = 64


def animated(*chunks: bytes) -> bytes:
    """A PNG whose own picture is red, and these chunks of an animation around it."""
    rows = [[(*RED, 255)] * CANVAS] * CANVAS
    content = png(rows, 8, 6, *(chunk for chunk in chunks if chunk[4:8] == b"acTL"))
    end = content.index(b"IEND") - 4
    behind = b"".join(chunk for chunk in chunks if chunk[4:8] != b"acTL")
    return content[:end] + behind + content[end:]


def animation(frames: int = 1, plays: int = 0) -> bytes:
    return png_chunk(b"acTL", struct.pack(">II", frames, plays))


def frame_control(number: int = 0, side: int = CANVAS, at: int = 0) -> bytes:
    # It is disposed of, and blended with what is before it, of which the first frame has nothing.
    data = struct.pack(">IIIIIHHBB", number, side, side, at, at, 1, 10, 2, 1)
    return png_chunk(b"fcTL", data)


def frame_pixels(number: int = 1, side: int = CANVAS, colour: tuple[int, ...] = GREEN) -> bytes:
    row = b"\0" + bytes((*colour, 255)) * side
    return png_chunk(b"fdAT", struct.pack(">I", number) + zlib.compress(row * side))


def broken(chunk: bytes) -> bytes:
    """The chunk with a wrong checksum."""
    return chunk[:-1] + bytes((chunk[-1] ^ 1,))


LATER = frame_control(2) + frame_pixels(3, colour=BLUE)
TWO_PIECES = frame_pixels()[12:-4]
SHOWN_FRAMES = {
    "one": (animation(), frame_control(), frame_pixels()),
    "two": (animation(2), frame_control(), frame_pixels(), LATER),
    "as many as a PNG can count": (animation(2**31 - 1), frame_control(), frame_pixels()),
    "one of two is there": (animation(2), frame_control(), frame_pixels()),
    "the first has no pixels": (animation(2), frame_control(0), frame_control(1), frame_pixels(2)),
    "pixels in two pieces": (
        animation(),
        frame_control(),
        png_chunk(b"fdAT", struct.pack(">I", 1) + TWO_PIECES[:20]),
        png_chunk(b"fdAT", struct.pack(">I", 2) + TWO_PIECES[20:]),
    ),
    "a wrong checksum of pixels": (animation(), frame_control(), broken(frame_pixels())),
}
OWN_PICTURES = {
    "no animation": (frame_control(), frame_pixels()),
    "an animation without frames": (animation(0), frame_control(), frame_pixels()),
    "more frames than a PNG can count": (animation(2**31), frame_control(), frame_pixels()),
    "more plays than a PNG can count": (animation(1, 2**31), frame_control(), frame_pixels()),
    "an animation that says too much": (
        png_chunk(b"acTL", struct.pack(">IIx", 1, 0)),
        frame_control(),
        frame_pixels(),
    ),
    "a frame that is nowhere": (animation(),),
    "a frame beyond the canvas": (animation(), frame_control(at=1), frame_pixels()),
    "a frame of nothing": (animation(), frame_control(side=0), frame_pixels()),
    "a wrong checksum of the frame": (animation(), broken(frame_control()), frame_pixels()),
    "pieces out of order": (animation(), frame_control(), frame_pixels(1, 8), frame_pixels(3, 8)),
}


@pytest.mark.parametrize("name", SHOWN_FRAMES)
def test_the_first_frame_is_shown_of_an_animation_that_has_not_the_pngs_own_picture(
    name: str,
) -> None:
    content = animated(*SHOWN_FRAMES[name])
    made = process_profile_image(content)
    assert shown(made.content, (0.1, 0.1), (0.9, 0.9)) == ["green", "green"]
    assert "animation" in made.removed_metadata and "animation_reduced" in made.notes
    assert shown(make_master(content).content, (0.5, 0.5)) == ["green"]


@pytest.mark.filterwarnings("ignore:Invalid APNG")  # Pillow says so; it is shown all the same
@pytest.mark.parametrize("name", OWN_PICTURES)
def test_a_pngs_own_picture_is_shown_where_there_is_no_sound_frame(name: str) -> None:
    made = process_profile_image(animated(*OWN_PICTURES[name]))
    assert shown(made.content, (0.5, 0.5)) == ["red"]


def test_a_pngs_own_picture_that_is_the_first_frame_is_shown() -> None:
    content = animated(animation(2), frame_control(1), frame_pixels(2))
    first = content.index(b"IDAT") - 4
    content = content[:first] + frame_control() + content[first:]
    assert shown(process_profile_image(content).content, (0.5, 0.5)) == ["red"]


def test_it_is_clear_around_a_first_frame_that_is_smaller_than_its_canvas() -> None:
    content = animated(animation(), frame_control(0, 32, 16), frame_pixels(1, 32))
    for made in (process_profile_image(content), make_master(content)):
        places = ((0.1, 0.1), (0.5, 0.5), (0.9, 0.5))
        assert shown(made.content, *places) == ["white", "green", "white"]
        assert "transparency_flattened" in made.notes


def test_a_first_frame_whose_last_sum_is_wrong_lies_where_it_should() -> None:
    """It is decoded once more without the sum."""
    pixels = frame_pixels(1, 32)
    data = pixels[8:-5] + bytes((pixels[-5] ^ 1,))  # the last byte of zlib's sum
    content = animated(animation(), frame_control(0, 32, 16), png_chunk(b"fdAT", data))
    served = process_profile_image(content).content
    assert shown(served, (0.1, 0.1), (0.5, 0.5), (0.9, 0.5)) == ["white", "green", "white"]


def test_a_first_frame_that_is_cut_by_a_little_is_shown() -> None:
    """All its rows arrive with the bytes before its checksum and the end."""
    content = animated(animation(), frame_control(), frame_pixels())
    made = process_profile_image(content[:-17])
    assert shown(made.content, (0.5, 0.5)) == ["green"]
    assert "cut_short" in made.notes
