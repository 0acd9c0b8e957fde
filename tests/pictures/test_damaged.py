"""Proves what becomes of a JPEG that is damaged in its middle: what is there counts, in area."""

import io
import random
import re
from typing import Any

import pytest
from PIL import Image

from errors import BrokenPicture, TruncatedPicture
from image_utils import make_master, process_profile_image
from pictures import pillow
from pictures.formats import read_header
from pictures.jpeg_picture import JpegPicture
from tests.support.pictures import encoded

# 25 x 20 units of halved colour.
SIZE = (400, 320)
UNIT_PX = 16
END = b"\xff\xd9"
SEGMENT = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


@pytest.fixture(autouse=True)
def _configured() -> None:
    pillow.configure()


def make_jpeg(**options: Any) -> bytes:
    """Smooth spots: no two blocks are the same, and none is grey."""
    small = (SIZE[0] // 5, SIZE[1] // 5)
    rng = random.Random(7)
    spots = Image.frombytes("RGB", small, rng.randbytes(3 * small[0] * small[1]))
    picture = spots.resize(SIZE, Image.Resampling.BICUBIC)
    return encoded(picture, quality=85, subsampling=2, **options)


def list_stretches(jpeg: bytes) -> list[int]:
    """Where the markers stand that begin the stretches of the first scan but its first one."""
    return [found.start() for found in re.finditer(rb"\xff[\xd0-\xd7]", jpeg)]


def with_marker(jpeg: bytes, marker: int) -> bytes:
    """The same with this marker in the middle of the data of its first scan."""
    start = jpeg.index(b"\xff\xda") + 14
    follower = SEGMENT.search(jpeg, start)
    assert follower is not None
    middle = (start + follower.start()) // 2
    while b"\xff" in jpeg[middle - 1 : middle + 3]:
        middle += 1
    return jpeg[:middle] + bytes((0xFF, marker)) + jpeg[middle + 2 :]


def count_lost_units(content: bytes) -> float:
    picture = JpegPicture(content, read_header(content))
    picture.load()
    lost = picture.arrival.lost
    return sum((right - left) * (low - top) for left, top, right, low in lost) / UNIT_PX**2


@pytest.mark.parametrize("filling", [b"\xff" * 400 + b"\x9f", b"\xff\x01", b"\xff\x02\x00\x04zz"])
def test_behind_what_is_no_marker_a_picture_goes_on_with_its_next_restart(filling: bytes) -> None:
    """Eight stretches are lost, so that the next marker is the expected one: the rest moves up."""
    jpeg = make_jpeg(restart_marker_blocks=1)
    starts = list_stretches(jpeg)
    damaged = jpeg[: starts[100] + 6] + filling + jpeg[starts[108] :]
    assert count_lost_units(damaged) == 8
    for make in (process_profile_image, make_master):
        made = make(damaged)
        assert made.notes == ("cut_short",)
        picture = Image.open(io.BytesIO(made.content)).convert("L")
        last = (picture.width - 2, picture.height - 2, picture.width, picture.height)
        assert min(picture.crop(last).tobytes()) > 240


def test_behind_the_last_restart_such_a_marker_ends_the_picture() -> None:
    """Behind its pixels libjpeg would call it unknown, and refuse it all."""
    jpeg = make_jpeg(restart_marker_blocks=7)
    last = list_stretches(jpeg)[-1]
    damaged = jpeg[: last + 9] + b"\xff\x9f\x00\x09" + bytes(7) + END
    assert 0 < count_lost_units(damaged) <= 7
    assert process_profile_image(damaged).notes == ("cut_short",)


@pytest.mark.parametrize("marker", [0x01, 0x9F, 0xC3, 0xD3, 0xD8, 0xE1, 0xF7, 0xFE])
@pytest.mark.parametrize("restarts", [{}, {"restart_marker_blocks": 7}])
def test_any_other_marker_in_its_data_ends_a_picture(marker: int, restarts: dict[str, Any]) -> None:
    damaged = with_marker(make_jpeg(**restarts), marker)
    if restarts and marker in (0x01, 0x9F, 0xD3):
        assert process_profile_image(damaged)
        return
    for make in (process_profile_image, make_master):
        with pytest.raises(BrokenPicture, match=r"damaged: [45]\d % of it can be read"):
            make(damaged)


@pytest.mark.parametrize(
    ("marker", "restarts"), [(0x01, {}), (0xD3, {}), (0xFE, {"restart_marker_blocks": 7})]
)
def test_later_scans_hide_nothing_of_what_the_first_one_lacks(
    marker: int, restarts: dict[str, Any]
) -> None:
    damaged = with_marker(make_jpeg(progressive=True, **restarts), marker)
    with pytest.raises(BrokenPicture, match=r"damaged: [345]\d % of it can be read"):
        process_profile_image(damaged)


def test_a_jpeg_that_goes_on_behind_what_is_lost_does_not_end_too_early() -> None:
    jpeg = make_jpeg(progressive=True)
    first, second = [found.start() for found in re.finditer(b"\xff\xda", jpeg)][:2]
    tables = jpeg.rindex(b"\xff\xc4", first, second)
    half = jpeg[: (first + tables) // 2]
    for content in (jpeg[:first] + jpeg[tables:], half + jpeg[tables:]):
        with pytest.raises(BrokenPicture, match=r"damaged: \d+ % of it can be read"):
            process_profile_image(content)
    for content in (half, half + END):
        with pytest.raises(TruncatedPicture, match=r"too early: [345]\d % of it arrived"):
            process_profile_image(content)
