"""Proves that our ThumbHash is the one that the general encoder makes."""

import random

import pytest
import thumbhash as general
from PIL import Image

from pictures.thumbhash import SIDE_PX, hash_miniature

SIZE = (SIDE_PX, SIDE_PX)
# Of brightness 27 and of each colour 5, four bits each, behind five bytes.
HASH_BYTES = 5 + 19
AMPLITUDES = (27, 5, 5)
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
    **{colour: Image.new("RGB", SIZE, colour) for colour in ("black", "white", "red", "navy")},
    "ramp to the side": draw_ramp("orange").transpose(Image.Transpose.ROTATE_90),
}


def hash_generally(picture: Image.Image) -> bytes:
    rgba = list(picture.convert("RGBA").tobytes())
    return bytes(general.rgba_to_thumb_hash(*SIZE, rgba))


def read_values(hashed: bytes) -> list[int]:
    """The numbers that the format packs: those of its head, and the amplitudes.

    Without those of a scale of zero, which are rounding errors and are shown by nobody.
    """
    head = int.from_bytes(hashed[:3], "little")
    second_head = int.from_bytes(hashed[3:HEAD_BYTES], "little")
    means = [head & 63, head >> 6 & 63, head >> 12 & 63]
    scales = [head >> 18, second_head >> 3 & 63, second_head >> 9]
    amplitudes = [part for byte in hashed[HEAD_BYTES:] for part in (byte & 15, byte >> 4)]
    counted = [
        amplitude
        for scale, count in zip(scales, AMPLITUDES, strict=True)
        for amplitude in [amplitudes.pop(0) for _ in range(count)]
        if scale
    ]
    return [*means, second_head & 7, *scales, *counted]


@pytest.mark.parametrize("name", PICTURES)
def test_it_is_the_general_encoders_to_a_rounding(name: str) -> None:
    ours = hash_miniature(PICTURES[name].tobytes(), SIZE)
    theirs = hash_generally(PICTURES[name])
    assert len(ours) == len(theirs) == HASH_BYTES
    apart = [
        abs(one - other) for one, other in zip(read_values(ours), read_values(theirs), strict=True)
    ]
    # Both sum in another order, so that what lies between two steps may fall to either.
    assert max(apart) <= 1
    assert "noise" not in name or ours == theirs
