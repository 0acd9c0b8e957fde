"""What is left out in the middle of a JPEG, between its restart markers, is lost and not grey."""

import io
import random
import re
from typing import Any

import pytest
from PIL import Image, ImageChops

from errors import BrokenPicture
from image_utils import make_master, process_profile_image
from pictures import pillow
from pictures.formats import read_header
from pictures.jpeg_picture import JpegPicture
from pictures.jpeg_restarts import are_in_order
from tests.support.pictures import encoded

SIZE = (400, 320)
RESTART = re.compile(rb"\xff[\xd0-\xd7]")
KINDS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "halved colour": ("RGB", 16, {"subsampling": 2, "restart_marker_blocks": 7}),
    "full colour": ("RGB", 8, {"subsampling": 0, "restart_marker_blocks": 60}),
    "grey": ("L", 8, {"restart_marker_blocks": 50}),
    "four inks": ("CMYK", 8, {"restart_marker_blocks": 31}),
    "a row at a time": ("RGB", 16, {"subsampling": 2, "restart_marker_rows": 1}),
    "longer than two rows": ("RGB", 16, {"subsampling": 2, "restart_marker_blocks": 60}),
    "progressive": ("RGB", 16, {"progressive": True, "restart_marker_blocks": 7}),
}


@pytest.fixture(autouse=True)
def _configured() -> None:
    pillow.configure()


def dark(mode: str = "RGB") -> Image.Image:
    """Smooth spots, all of them darker than white and than grey."""
    small = (SIZE[0] // 5, SIZE[1] // 5)
    rng = random.Random(5)
    spots = Image.frombytes("RGB", small, rng.randbytes(3 * small[0] * small[1]))
    return (
        spots.resize(SIZE, Image.Resampling.BICUBIC).point(lambda value: value // 3).convert(mode)
    )


def without(jpeg: bytes, first: int, count: int = 1) -> bytes:
    """The same without these stretches of its first scan, and the markers before them."""
    scan = jpeg.index(b"\xff\xda")
    starts = [found.start() for found in RESTART.finditer(jpeg, scan)]
    return jpeg[: starts[first]] + jpeg[starts[first + count] :]


def open_jpeg(content: bytes) -> JpegPicture:
    picture = JpegPicture(content, read_header(content))
    picture.load()
    return picture


def list_grey_units(jpeg: bytes, unit_px: int) -> set[tuple[int, int]]:
    """The units that libjpeg fills in with one colour, as the dark picture has none."""
    picture = Image.open(io.BytesIO(jpeg))
    picture.draft(None, (SIZE[0] // 8, SIZE[1] // 8))
    grey = picture.convert("RGB").convert("L").point(lambda value: 255 * (value > 100))
    side = unit_px // 8
    return {
        (column, row)
        for row in range(SIZE[1] // unit_px)
        for column in range(SIZE[0] // unit_px)
        if grey.getpixel((column * side, row * side))
    }


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_exactly_the_units_that_were_left_out_are_lost(kind: str, count: int) -> None:
    mode, unit_px, options = KINDS[kind]
    jpeg = encoded(dark(mode), quality=85, **options)
    assert open_jpeg(jpeg).arrival.lost == ()
    for first in (0, 3):
        damaged = without(jpeg, first, count)
        lost = {
            (column, row)
            for left, top, right, bottom in open_jpeg(damaged).arrival.lost
            for column in range(left // unit_px, right // unit_px)
            for row in range(top // unit_px, bottom // unit_px)
        }
        if kind not in ("four inks", "progressive"):  # of which grey is not all of the one shade
            assert lost == list_grey_units(damaged, unit_px)
        per_row = SIZE[0] // unit_px
        interval = options.get("restart_marker_blocks", per_row)
        expected = range((first + 1) * interval, (first + 1 + count) * interval)
        assert lost == {(number % per_row, number // per_row) for number in expected}


def test_what_little_is_left_out_is_white() -> None:
    jpeg = encoded(dark(), quality=90, restart_marker_blocks=7)
    for make in (process_profile_image, make_master):
        whole = make(jpeg)
        made = make(without(jpeg, 40))
        assert (whole.notes, made.notes) == ((), ("cut_short",))
        pictures = [Image.open(io.BytesIO(each.content)).convert("L") for each in (whole, made)]
        changed = ImageChops.difference(*pictures).point(lambda value: 255 * (value > 130))
        box = changed.getbbox()
        assert box is not None
        assert min(pictures[1].crop(box).tobytes()) > 100
        assert max(pictures[1].tobytes()) > 240


def test_where_more_is_left_out_the_picture_is_damaged() -> None:
    jpeg = encoded(dark(), quality=90, restart_marker_rows=1)
    for make in (process_profile_image, make_master):
        with pytest.raises(BrokenPicture):
            make(without(jpeg, 5))


def test_of_a_picture_behind_the_end_no_marker_counts() -> None:
    """Phones put a second picture there."""
    jpeg = encoded(dark(), quality=90, restart_marker_rows=1)
    assert process_profile_image(jpeg + jpeg).notes == ()
    first_scan = read_header(jpeg).metadata_bytes
    assert are_in_order(jpeg + without(jpeg, 5), first_scan)
    assert not are_in_order(without(jpeg, 5) + jpeg, first_scan)


def test_a_stretch_that_comes_twice_is_dropped_and_nothing_is_lost() -> None:
    jpeg = encoded(dark(), quality=90, restart_marker_blocks=7)
    starts = [found.start() for found in RESTART.finditer(jpeg, jpeg.index(b"\xff\xda"))]
    twice = jpeg[: starts[6]] + jpeg[starts[5] : starts[6]] + jpeg[starts[6] :]
    whole = process_profile_image(jpeg)
    made = process_profile_image(twice)
    assert (made.notes, made.sha256) == ((), whole.sha256)
    # What is left out behind it is where it would be without it.
    ended = without(jpeg, 40)
    both = ended[: starts[6]] + jpeg[starts[5] : starts[6]] + ended[starts[6] :]
    assert open_jpeg(both).arrival == open_jpeg(ended).arrival != open_jpeg(jpeg).arrival
