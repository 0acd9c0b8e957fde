"""Proves that our ThumbHash is the one that the general encoder makes."""

import inspect
import random
from types import ModuleType

import pytest
import thumbhash as general
from PIL import Image

from pictures.thumbhash import SIDE_PX, hash_miniature

SIZE = (SIDE_PX, SIDE_PX)
# Of brightness 27 and of each colour 5, four bits each, behind five bytes.
HASH_BYTES = 5 + 19
AMPLITUDES = (27, 5, 5)
HEAD_BYTES = 5
# Of what is transparent: of brightness and opacity 14 each, behind six bytes.
CLEAR_HASH_BYTES = 6 + 19
CLEAR_AMPLITUDES = (14, 5, 5, 14)


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


def make_clear(name: str, picture: Image.Image) -> Image.Image:
    """The picture as transparent as noise, or as a ramp."""
    if "noise" in name:
        opacity = draw_noise(len(name)).getchannel("G")
    else:
        opacity = draw_ramp("white").rotate(90).getchannel("R")
    clear = picture.convert("RGBA")
    clear.putalpha(opacity)
    return clear


CLEAR_PICTURES: dict[str, Image.Image] = {
    **{name: make_clear(name, picture) for name, picture in PICTURES.items()},
    "nothing": Image.new("RGBA", SIZE, (0, 0, 0, 0)),
}


def mend_general_encoder() -> ModuleType:
    """The package as it is meant: a pair of brackets is missing, so that opacity is an error."""
    broken = "encode_channel(a, 5, 5) if has_alpha else 1.0, [], 1.0"
    source = inspect.getsource(general)
    assert source.count(broken) == 1
    mended = ModuleType("mended")
    exec(source.replace(broken, broken.replace("1.0, [], 1.0", "(1.0, [], 1.0)")), vars(mended))
    return mended


GENERAL = mend_general_encoder()


def hash_generally(picture: Image.Image) -> bytes:
    rgba = list(picture.convert("RGBA").tobytes())
    return bytes(GENERAL.rgba_to_thumb_hash(*SIZE, rgba))


def read_values(hashed: bytes) -> list[int]:
    """The numbers that the format packs: those of its head, and the amplitudes.

    Without those of a scale of zero, which are rounding errors and are shown by nobody.
    """
    head = int.from_bytes(hashed[:3], "little")
    second_head = int.from_bytes(hashed[3:HEAD_BYTES], "little")
    means = [head & 63, head >> 6 & 63, head >> 12 & 63]
    scales = [head >> 18 & 31, second_head >> 3 & 63, second_head >> 9]
    head_bytes = HEAD_BYTES
    counts: tuple[int, ...] = AMPLITUDES
    if head >> 23:
        means.append(hashed[HEAD_BYTES] & 15)
        scales.append(hashed[HEAD_BYTES] >> 4)
        head_bytes += 1
        counts = CLEAR_AMPLITUDES
    amplitudes = [part for byte in hashed[head_bytes:] for part in (byte & 15, byte >> 4)]
    counted = [
        amplitude
        for scale, count in zip(scales, counts, strict=True)
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


@pytest.mark.parametrize("name", CLEAR_PICTURES)
def test_so_it_is_of_what_is_transparent(name: str) -> None:
    ours = hash_miniature(CLEAR_PICTURES[name].tobytes(), SIZE)
    theirs = hash_generally(CLEAR_PICTURES[name])
    assert len(ours) == len(theirs) == CLEAR_HASH_BYTES
    apart = [
        abs(one - other) for one, other in zip(read_values(ours), read_values(theirs), strict=True)
    ]
    assert max(apart) <= 1


def test_an_opacity_that_hides_nothing_counts_for_nothing() -> None:
    opaque = PICTURES["noise 1"]
    with_opacity = opaque.convert("RGBA")
    assert hash_miniature(with_opacity.tobytes(), SIZE) == hash_miniature(opaque.tobytes(), SIZE)
