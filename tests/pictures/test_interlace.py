"""Proves that coarse passes stand for those that are missing of a PNG or GIF, as in Chromium."""

import zlib

import pytest
from PIL import Image

from errors import TruncatedPicture
from image_utils import make_master, process_profile_image
from pictures import pillow
from pictures.formats import read_header
from pictures.gif_picture import GifPicture
from pictures.interlace import ADAM7, MissingRows, fill_in
from pictures.lost import LostPart
from pictures.png_picture import PngPicture
from tests.support.pictures import GifFrame, Sample, gif, png, png_chunk

# How wide and high the blocks are that one pixel stands for after so many of Adam7's passes.
ADAM7_BLOCKS = [(8, 8), (4, 8), (4, 4), (2, 4), (2, 2), (1, 2), (1, 1)]
ADAM7_STEPS = [(8, 8), (8, 8), (4, 8), (4, 4), (2, 4), (2, 2), (1, 2)]
ADAM7_STARTS = [(0, 0), (4, 0), (0, 4), (2, 0), (0, 2), (1, 0), (0, 1)]
SMALL = (45, 150)
SIDE_PX = 160


@pytest.fixture(autouse=True)
def _configured() -> None:
    pillow.configure()


def small_rows() -> list[list[Sample]]:
    return [[(x * 5, y, (x * y) % 256) for x in range(SMALL[0])] for y in range(SMALL[1])]


def count_pass_bytes(passes: int) -> int:
    """Count the bytes of the first passes of an RGB picture: one more than its pixels a row."""
    count = 0
    for (across, down), (left, top) in zip(ADAM7_STEPS[:passes], ADAM7_STARTS, strict=False):
        columns = -(-(SMALL[0] - left) // across)
        count += -(-(SMALL[1] - top) // down) * (1 + 3 * columns)
    return count


def cut_interlaced(length: int) -> bytes:
    whole = png(small_rows(), 8, 2, interlaced=True)
    at = whole.index(b"IDAT") - 4
    coded = whole[at + 8 : whole.index(b"IEND") - 8]
    pixels = png_chunk(b"IDAT", zlib.compress(zlib.decompress(coded)[:length]))
    return whole[:at] + pixels + png_chunk(b"IEND", b"")


def open_png(content: bytes) -> PngPicture:
    picture = PngPicture(content, read_header(content))
    picture.load()
    return picture


@pytest.mark.parametrize("passes", range(1, 8))
def test_coarse_passes_of_a_png_fill_the_places_of_those_that_are_missing(passes: int) -> None:
    """As in Chromium."""
    picture = open_png(cut_interlaced(count_pass_bytes(passes)))
    across, down = ADAM7_BLOCKS[passes - 1]
    rows = small_rows()
    for y in range(SMALL[1]):
        for x in range(SMALL[0]):
            assert picture.getpixel((x, y)) == rows[y - y % down][x - x % across], (x, y)
    assert picture.arrival.lost == ()
    assert picture.arrival.is_cut_short == (passes < 7)


def test_half_of_a_pass_is_half_filled_in() -> None:
    rows = small_rows()
    picture = open_png(cut_interlaced((count_pass_bytes(6) + count_pass_bytes(7)) // 2))
    half = SMALL[1] // 4 * 2
    for y in range(SMALL[1]):
        expected = rows[y] if y <= half else rows[y - y % 2]
        assert [picture.getpixel((x, y)) for x in range(SMALL[0])] == expected, y


COLOURS: dict[str, int | tuple[int, ...]] = {
    "1": 255,
    "L": 7,
    "P": 9,
    "I;16": 40_001,
    "LA": (7, 9),
    "RGB": (1, 2, 3),
    "RGBA": (1, 2, 3, 4),
}


@pytest.mark.parametrize("mode", COLOURS)
def test_pixels_of_every_kind_are_filled_in(mode: str) -> None:
    picture = Image.new(mode, (100, 80))
    box = (2, 3, 10, 11)
    picture.putpixel((2, 3), COLOURS[mode])
    fill_in(picture, box, [MissingRows(each, 0) for each in ADAM7])
    for y in range(80):
        for x in range(100):
            is_in = box[0] <= x < box[2] and box[1] <= y < box[3]
            blank = Image.new(mode, (1, 1)).getpixel((0, 0))
            assert picture.getpixel((x, y)) == (COLOURS[mode] if is_in else blank), (x, y)


def test_what_the_first_pass_of_a_png_lacks_is_lost() -> None:
    row_bytes = count_pass_bytes(1) // -(-SMALL[1] // 8)
    content = cut_interlaced(3 * row_bytes + 1)
    assert open_png(content).arrival.lost == (LostPart(0, 24, *SMALL),)
    with pytest.raises(TruncatedPicture, match="16 % of it arrived"):
        make_master(content)
    assert make_master(cut_interlaced(count_pass_bytes(1))).notes == ("cut_short",)
    # The last row of blocks is six pixels high.
    almost = open_png(cut_interlaced(count_pass_bytes(1) - 1))
    assert almost.arrival.lost == (LostPart(0, 144, *SMALL),)
    assert almost.getpixel((9, 143)) == small_rows()[136][8]
    assert almost.getpixel((9, 144)) == (255, 255, 255)


def make_gif() -> bytes:
    rows = [[(x * y + x) % 100 for x in range(SIDE_PX)] for y in range(SIDE_PX)]
    palette = [(index, index // 2, 40) for index in range(100)]
    return gif(SIDE_PX, palette, GifFrame(rows, is_interlaced=True))


def test_coarse_passes_of_a_gif_fill_the_places_of_those_that_are_missing() -> None:
    """As in Chromium; wherever it is cut, each row is its own or one that came before it."""
    content = make_gif()
    whole = GifPicture(content)
    whole.load()
    rows = [whole.crop((0, y, SIDE_PX, y + 1)).tobytes() for y in range(SIDE_PX)]
    filled = []
    for share in (0.2, 0.3, 0.6, 0.9):
        picture = GifPicture(content[: int(len(content) * share)])
        picture.load()
        assert picture.arrival.is_cut_short and picture.arrival.lost == ()
        blocks = [
            next(
                block
                for block in (1, 2, 4, 8)
                if picture.crop((0, y, SIDE_PX, y + 1)).tobytes() == rows[y - y % block]
            )
            for y in range(SIDE_PX)
        ]
        filled.append(sum(block > 1 for block in blocks))
    assert filled == sorted(filled, reverse=True) and filled[0] > SIDE_PX / 2


def test_what_the_first_pass_of_a_gif_lacks_is_lost() -> None:
    content = make_gif()
    picture = GifPicture(content[: len(content) // 16])
    picture.load()
    rest_of_row, below = picture.arrival.lost
    assert rest_of_row.top % 8 == 0 and rest_of_row.bottom == rest_of_row.top + 8 == below.top
    assert below == (0, below.top, SIDE_PX, SIDE_PX)
    assert picture.convert("RGB").getpixel((3, SIDE_PX - 1)) == (255, 255, 255)
    with pytest.raises(TruncatedPicture):
        process_profile_image(content[: len(content) // 16])
