"""A blurred miniature of a picture in some 24 bytes: a ThumbHash (evanw.github.io/thumbhash).

A separable transform with tables made once takes less than a quarter of the time of the general
encoder, which finds the same.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import add, mul, sub

# Sides of the miniature that is hashed: enough for all that is kept of brightness, which is 7 x 7
# waves, at a fraction of the work. It is square whatever the picture is: the waves are counted over
# the whole side, however long that is.
SIDE_PX = 15
# Waves on the longer side of an opaque picture's brightness, and of each of both colours; and the
# fewest on the shorter side.
BRIGHTNESS_WAVES = 7
COLOUR_WAVES = 3
# Of what is transparent: of its brightness, which leaves room for them, and of its opacity.
CLEAR_WAVES = 5
FEWEST_WAVES = 3
# In front of the amplitudes.
HEAD_BYTES = 5
# Bits that the format gives to what stands in its head.
_MEAN_STEPS = 63
_COLOUR_SCALE_STEPS = 63
_BRIGHTNESS_SCALE_STEPS = 31
_AMPLITUDE_STEPS = 15
_OPACITY_STEPS = 15
_OPAQUE = 255

# One row for each wave: its value at the middle of each pixel.
_COSINES = [
    [math.cos(math.pi / SIDE_PX * wave * (position + 0.5)) for position in range(SIDE_PX)]
    for wave in range(BRIGHTNESS_WAVES)
]


@dataclass(frozen=True)
class _Channel:
    """The mean, the amplitudes in multiples of the largest, -1 to 1, and that largest."""

    mean: float
    amplitudes: list[float]
    scale: float


def hash_miniature(pixels: bytes, size: tuple[int, int]) -> bytes:
    """Hash a picture of SIDE_PX x SIDE_PX pixels, which was made of one of this size.

    They have three bytes each, or four: their opacity is the last.
    """
    width_px, height_px = size
    pixel_bytes = len(pixels) // SIDE_PX**2
    channels: list[Sequence[float]] = [pixels[start::pixel_bytes] for start in range(pixel_bytes)]
    opacity: _Channel | None = None
    if pixel_bytes == 4 and min(channels[3]) < _OPAQUE:
        opacity = _transform(channels[3], _OPAQUE, CLEAR_WAVES, CLEAR_WAVES)
        channels = [_lay_on_mean(channel, channels[3]) for channel in channels[:3]]
    reds, greens, blues = channels[:3]
    most_waves = BRIGHTNESS_WAVES if opacity is None else CLEAR_WAVES
    across = _count_waves(width_px, max(size), most_waves)
    down = _count_waves(height_px, max(size), most_waves)
    sums = list(map(add, map(add, reds, greens), blues))
    # Red and green against blue, doubled, and red against green.
    yellows = [total - 3 * blue for total, blue in zip(sums, blues, strict=True)]
    differences = list(map(sub, reds, greens))
    brightness = _transform(sums, 3 * 255, max(across, FEWEST_WAVES), max(down, FEWEST_WAVES))
    yellow = _transform(yellows, 2 * 255, COLOUR_WAVES, COLOUR_WAVES)
    red = _transform(differences, 255, COLOUR_WAVES, COLOUR_WAVES)
    head = (
        _to_steps(brightness.mean, _MEAN_STEPS)
        | _to_steps((1 + yellow.mean) / 2, _MEAN_STEPS) << 6
        | _to_steps((1 + red.mean) / 2, _MEAN_STEPS) << 12
        | _to_steps(brightness.scale, _BRIGHTNESS_SCALE_STEPS) << 18
        | (opacity is not None) << 23
    )
    # Then the waves of the shorter side, and whether the picture is wider than high.
    second_head = (
        min(across, down)
        | _to_steps(yellow.scale, _COLOUR_SCALE_STEPS) << 3
        | _to_steps(red.scale, _COLOUR_SCALE_STEPS) << 9
        | (width_px > height_px) << 15
    )
    heads = head.to_bytes(3, "little") + second_head.to_bytes(2, "little")
    amplitudes = chain(brightness.amplitudes, yellow.amplitudes, red.amplitudes)
    if opacity is None:
        return heads + _pack(amplitudes)
    third_head = (
        _to_steps(opacity.mean, _OPACITY_STEPS) | _to_steps(opacity.scale, _OPACITY_STEPS) << 4
    )
    return heads + bytes([third_head]) + _pack(chain(amplitudes, opacity.amplitudes))


def _lay_on_mean(values: Sequence[float], opacities: Sequence[float]) -> list[float]:
    """Lay a colour on the mean of what shows of it; black where nothing does."""
    shown = sum(map(mul, values, opacities))
    mean = shown / sum(opacities) if shown else 0.0
    return [
        mean + (value - mean) * opacity / _OPAQUE
        for value, opacity in zip(values, opacities, strict=True)
    ]


def _count_waves(side_px: int, longest_px: int, most: int) -> int:
    return max(1, math.floor(most * side_px / longest_px + 0.5))


def _transform(values: Sequence[float], unit: int, across: int, down: int) -> _Channel:
    """Find how much of each wave is in it: first along the rows, then down the columns.

    So many waves across and down; of those that are slanted, those within their triangle.
    """
    exact = list(map(float, values))  # a fifth faster to multiply than whole numbers
    rows = [exact[start : start + SIDE_PX] for start in range(0, SIDE_PX**2, SIDE_PX)]
    # By the wave along the rows: its amount in each row.
    along = [[sum(map(mul, row, cosines)) for row in rows] for cosines in _COSINES[:across]]
    found = [
        sum(map(mul, along[wave_across], _COSINES[wave_down])) / (unit * SIDE_PX**2)
        for wave_down in range(down)
        for wave_across in range(across)
        if wave_across * down < across * (down - wave_down)
    ]
    mean = found[0]
    amplitudes = found[1:]
    scale = max(map(abs, amplitudes))
    return _Channel(mean, [each / scale if scale else 0.0 for each in amplitudes], scale)


def _to_steps(share: float, steps: int) -> int:
    return math.floor(share * steps + 0.5)


def _pack(amplitudes: Iterator[float]) -> bytes:
    """Four bits each, the first of two in the lower half of its byte."""
    steps = [_to_steps((1 + each) / 2, _AMPLITUDE_STEPS) for each in amplitudes]
    if len(steps) % 2:
        steps.append(0)
    return bytes(low | high << 4 for low, high in zip(steps[0::2], steps[1::2], strict=True))
