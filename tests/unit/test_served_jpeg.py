"""Proves that only a JPEG as the image step writes it may be served, from first byte to last."""

import io
import random

import pytest
from PIL import Image

from image_utils import make_master, process_profile_image
from pictures.served_jpeg import count_most_bytes, is_served_jpeg
from pictures.values import PICTURE_SIDE_PX


def encode(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def draw_noise(side_px: int) -> Image.Image:
    pixels = random.Random(7).randbytes(3 * side_px**2)
    return Image.frombytes("RGB", (side_px, side_px), pixels)


SQUARE = (PICTURE_SIDE_PX, PICTURE_SIDE_PX)
NOISE = draw_noise(PICTURE_SIDE_PX)
OURS = process_profile_image(encode(NOISE)).content
SCAN = OURS.index(b"\xff\xda")
CODES = OURS.index(b"\xff\xc4")
# Behind the marker, the length and the number: how many codes there are of one bit, of two ...
COUNTS = CODES + 5
MEANINGS = COUNTS + 16
# Of the second table, of runs and what ends them.
RUNS = OURS.index(b"\xff\xc4", MEANINGS) + 21


@pytest.mark.parametrize(
    "picture",
    [NOISE, Image.new("RGB", (9, 9), "red"), Image.new("L", (9, 9)), Image.new("1", (400, 3), 1)],
)
def test_every_picture_of_ours_is_one(picture: Image.Image) -> None:
    jpeg = process_profile_image(encode(picture)).content
    assert is_served_jpeg(jpeg, SQUARE)
    assert len(jpeg) < count_most_bytes(SQUARE) / 2


@pytest.mark.parametrize("size", [(1600, 1200), (900, 1600), (1, 1), (1, 1600), (17, 33)])
def test_every_master_of_ours_is_one_of_its_sides_only(size: tuple[int, int]) -> None:
    bits = random.Random(3).randbytes(3 * size[0] * size[1])
    # Nothing takes more bytes than pure black beside pure colours.
    harsh = Image.frombytes("RGB", size, bits).point(lambda value: 255 * (value > 127))
    for picture in (harsh, Image.new("RGB", size, "navy")):
        jpeg = make_master(encode(picture)).content
        assert is_served_jpeg(jpeg, size)
        assert len(jpeg) < count_most_bytes(size)
        for other in ((size[0] + 1, size[1]), (size[0], size[1] + 1), SQUARE):
            assert not is_served_jpeg(jpeg, other)
        if size[0] != size[1]:
            assert not is_served_jpeg(jpeg, (size[1], size[0]))


OTHERS = {
    "nothing": b"",
    "a signature and HTML": b"\xff\xd8<html>",
    "a comment": OURS[:2] + b"\xff\xfe\0\x06evil" + OURS[2:],
    "EXIF": OURS[:20] + b"\xff\xe1\0\x08Exif\0\0" + OURS[20:],
    "bytes behind it": OURS + b"\0",
    "another picture behind it": OURS + OURS,
    "no end": OURS[:-2],
    "cut short": OURS[: len(OURS) // 2],
    "cut within its tables": OURS[: SCAN - 3],
    "a comment within the coded picture": OURS[:-2] + b"\xff\xfe\0\x06evil\xff\xd9",
    "a restart marker": OURS[:-2] + b"\xff\xd0\xff\xd9",
    "a table of codes that lies about its length": OURS.replace(b"\xff\xc4\0", b"\xff\xc4\1", 1),
    "a table of codes twice": OURS[: OURS.index(b"\xff\xc4")] + OURS[OURS.index(b"\xff\xc4") :][:40]
    + OURS[OURS.index(b"\xff\xc4") :],
    "more codes than there can be": OURS[:COUNTS]
    + bytes([sum(OURS[COUNTS:MEANINGS]), *[0] * 15])
    + OURS[MEANINGS:],
    "two codes for one thing": OURS[:MEANINGS]
    + OURS[MEANINGS + 1 : MEANINGS + 2]
    + OURS[MEANINGS + 1 :],
    "a difference of more bits than there are": OURS[:MEANINGS] + b"\x0c" + OURS[MEANINGS + 1 :],
    "a coefficient of more bits than there are": OURS[:RUNS] + b"\x1b" + OURS[RUNS + 1 :],
    "a run that ends in nothing": OURS[:RUNS] + b"\x30" + OURS[RUNS + 1 :],
    "another size": encode(draw_noise(299), "JPEG", quality=85, optimize=True),
    "grey": encode(NOISE.convert("L"), "JPEG", quality=85, optimize=True),
    "four components": encode(NOISE.convert("CMYK"), "JPEG", quality=85, optimize=True),
    "progressive": encode(NOISE, "JPEG", quality=85, progressive=True),
    "other sampling": encode(
        Image.new("RGB", NOISE.size, "red"), "JPEG", quality=85, optimize=True, subsampling=0
    ),
    "a PNG": encode(NOISE),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_nothing_else_is_one(other: str) -> None:
    assert not is_served_jpeg(OTHERS[other], SQUARE)
