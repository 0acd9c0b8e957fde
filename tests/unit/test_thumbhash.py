"""Proves that our ThumbHash is the one that the general encoder makes."""

import random

import pytest
import thumbhash as general
from PIL import Image

from pictures.thumbhash import SIDE_PX, hash_miniature

SIZE = (SIDE_PX, SIDE_PX)
# Of brightness 27 and of each colour 5, four bits each, behind five bytes.
HASH_BYTES = 5 + 19
HEAD_BYTES = 5


def draw_noise(seed: int) -> Image.Image:
    return Image.frombytes("RGB", SIZE, random.Random(seed).randbytes(3 * SIDE_PX**2))


def draw_ramp(colour: str) -> Image.Image:
    """Black at the top, the colour at the bottom."""
    ramp = Image.linear_gradient("L").resize(SIZE)
    return Image.composite(Image.new("RGB", SIZE, colour), Image.new("RGB", SIZE), ramp)


PICTURES = {
    **{f"noise {seed}": draw_noise(seed) for seed in range(20)},
    **{f"{colour} ramp": draw_ramp(colour) for colour in ("red", "lime", "blue", "white")},
    "ramp to the side": draw_ramp("orange").transpose(Image.Transpose.ROTATE_90),
}
FLAT = {colour: Image.new("RGB", SIZE, colour) for colour in ("black", "white", "red", "navy")}


def hash_generally(picture: Image.Image) -> bytes:
    rgba = list(picture.convert("RGBA").tobytes())
    return bytes(general.rgba_to_thumb_hash(*SIZE, rgba))


def read_values(hashed: bytes) -> list[int]:
    """The numbers that the format packs: five of its head, and each amplitude."""
    head = int.from_bytes(hashed[:3], "little")
    second_head = int.from_bytes(hashed[3:HEAD_BYTES], "little")
    packed = hashed[HEAD_BYTES:]
    amplitudes = [part for byte in packed for part in (byte & 15, byte >> 4)]
    means = [head & 63, head >> 6 & 63, head >> 12 & 63]
    rest = [head >> 18, second_head & 7, second_head >> 3 & 63, second_head >> 9]
    return [*means, *rest, *amplitudes]


@pytest.mark.parametrize("name", PICTURES)
def test_it_is_the_general_encoders_to_a_rounding(name: str) -> None:
    ours = hash_miniature(PICTURES[name].tobytes())
    theirs = hash_generally(PICTURES[name])
    assert len(ours) == len(theirs) == HASH_BYTES
    apart = [
        abs(one - other) for one, other in zip(read_values(ours), read_values(theirs), strict=True)
    ]
    # Both sum in another order, so that what lies between two steps may fall to either.
    assert max(apart) <= 1
    assert "noise" not in name or ours == theirs


@pytest.mark.parametrize("colour", FLAT)
def test_of_one_colour_the_head_is_the_same_and_nothing_else_counts(colour: str) -> None:
    """Where all scales are zero, the amplitudes are rounding errors and are shown by nobody."""
    ours = hash_miniature(FLAT[colour].tobytes())
    theirs = hash_generally(FLAT[colour])
    assert len(ours) == len(theirs) == HASH_BYTES
    assert ours[:HEAD_BYTES] == theirs[:HEAD_BYTES]
