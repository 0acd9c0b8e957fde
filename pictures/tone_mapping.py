"""PQ and HLG on a display that is no brighter than paper, as Chromium shows them.

White of 203 nits and all below it keep their proportions; what is brighter rolls off towards the
peak. The curve is the reference white tone mapping of SMPTE ST 2094-50, as Skia has it.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from PIL import Image, ImageChops, ImageMath

from pictures import light
from pictures.light import (
    BT_709,
    BT_2020,
    PQ_PEAK_NITS,
    REFERENCE_WHITE_NITS,
    USUAL_PEAK_NITS,
    Vector,
)
from pictures.told_colours import ToldColours

# Rows that are worked on at a time, of which some ten copies with four bytes a pixel are in memory:
# 4 MiB of a master.
STRIP_ROWS_PX = 64
_CODES = 256
_MOST_CODE = 255
# How bright a pixel is, is told in 256 steps, close together where the curve bends: in the tenth
# root of its light. A step is less than a code of sRGB.
_STEP_ROOT = 0.1
# BT.2100, table 5: what a display of 1,000 nits makes of HLG's light, by its luminance.
_HLG_GAMMA = 1.2
# Of a picture that is as bright as most, white has half of what paper gives back; of a dimmer one
# more.
_WHITE_OF_USUAL_PEAK = 0.5
_STOPS_OF_USUAL_PEAK = math.log2(USUAL_PEAK_NITS / REFERENCE_WHITE_NITS)
# How far the roll-off bends, and of how many pieces it is made.
_BEND = 0.65
_PIECES = 7
# Below, sRGB's curve is straight.
_SRGB_STRAIGHT = 0.0031308

# A picture of one channel whose pixels are floats, and as what ImageMath lets one calculate.
_Plane = Image.Image
_Operand = Any


class _Point(NamedTuple):
    """Of the curve: light in parts of white, the gain there in stops, and how that changes."""

    light: float
    stops: float
    slope: float


def map_tones(picture: Image.Image, told: ToldColours) -> Image.Image:
    """Make an RGB picture in sRGB of one in RGB with these colours, which must be HDR."""
    peak = max(told.peak_nits / REFERENCE_WHITE_NITS, 1.0)
    gains = _list_gains(peak)
    lights = _Lights(told)
    to_common = light.convert_light(told.primaries, BT_2020)
    to_srgb = light.convert_light(told.primaries, BT_709)
    luminances = light.multiply_matrices(BT_2020.to_xyz(), to_common)[1]
    mapped = Image.new("RGB", picture.size)
    for top in range(0, picture.height, STRIP_ROWS_PX):
        bottom = min(top + STRIP_ROWS_PX, picture.height)
        bands = picture.crop((0, top, picture.width, bottom)).split()
        # The gain follows the brightest of all three, so that a pixel keeps its hue.
        brightest = _find_brightest([lights.mix(bands, row) for row in to_common])
        if told.transfer == light.HLG:
            factor = _find_hlg_factor(lights.mix(bands, luminances))
            brightest = _multiply(brightest, factor)
            gain = _multiply(_find_gain(brightest, peak, gains), factor)
        else:
            gain = _find_gain(brightest, peak, gains)
        codes = [_encode_srgb(lights.mix(bands, row), gain) for row in to_srgb]
        mapped.paste(Image.merge("RGB", codes), (0, top))
    return mapped


@dataclass(frozen=True)
class _Lights:
    """The light of three bands of codes, in parts of white; of HLG that in front of the camera."""

    told: ToldColours

    @cached_property
    def of_greys(self) -> list[float]:
        return self._list(0)

    @cached_property
    def of_colours(self) -> list[list[float]]:
        """Of each band its own, as they lack different parts of a code."""
        return [self._list(cut) for cut in self.told.cut_codes]

    def _list(self, cut_code: float) -> list[float]:
        """List each code's light."""
        scale = 1 if self.told.transfer == light.HLG else PQ_PEAK_NITS / REFERENCE_WHITE_NITS
        codes = (min(max(code + cut_code, 0), _MOST_CODE) for code in range(_CODES))
        return [self.told.curve(code / _MOST_CODE) * scale for code in codes]

    def mix(self, bands: Sequence[Image.Image], shares: Vector) -> _Plane:
        """Add up the light of the bands, each with its share."""
        planes = [
            band.point([share * value for value in lights], "F")
            for band, lights, share in zip(bands, self.of_colours, shares, strict=True)
        ]
        mixed = _calculate(lambda of: of["x"] + of["y"] + of["z"], *planes)
        if any(self.told.cut_codes):
            grey = bands[0].point([sum(shares) * value for value in self.of_greys], "F")
            mixed.paste(grey, mask=_find_greys(bands))
        return mixed


def _find_greys(bands: Sequence[Image.Image]) -> Image.Image:
    """Mark where all three codes are the same: of no colour nothing is cut."""
    red, green, blue = bands
    difference = ImageChops.lighter(
        ImageChops.difference(red, green), ImageChops.difference(green, blue)
    )
    return difference.point([_MOST_CODE] + [0] * (_CODES - 1))


def _find_brightest(planes: Sequence[_Plane]) -> _Plane:
    return _calculate(lambda of: of["max"](of["max"](of["x"], of["y"]), of["z"]), *planes)


def _find_hlg_factor(luminance: _Plane) -> _Plane:
    scale = USUAL_PEAK_NITS / REFERENCE_WHITE_NITS
    return _calculate(lambda of: of["max"](of["x"], 0.0) ** (_HLG_GAMMA - 1) * scale, luminance)


def _multiply(one: _Plane, other: _Plane) -> _Plane:
    return _calculate(lambda of: of["x"] * of["y"], one, other)


def _find_gain(brightest: _Plane, peak: float, gains: Sequence[float]) -> _Plane:
    """Find each pixel's gain by its brightness; what is brighter than the peak becomes white."""
    if peak == 1:
        return Image.new("F", brightest.size, 1.0)  # nothing to make room for: it is clipped
    scale = _MOST_CODE / (peak**_STEP_ROOT - 1)

    def find_step(of: dict[str, _Operand]) -> _Operand:
        return (of["max"](of["x"], 1.0) ** _STEP_ROOT - 1.0) * scale + 0.5

    def dim_to_peak(of: dict[str, _Operand]) -> _Operand:
        return of["y"] / of["max"](of["x"] * (1 / peak), 1.0)

    by_step = _calculate(find_step, brightest).convert("L").point(gains, "F")
    return _calculate(dim_to_peak, brightest, by_step)


def _encode_srgb(plane: _Plane, gain: _Plane) -> Image.Image:
    """Write light that is multiplied by this gain as codes, clipped (IEC 61966-2-1)."""

    def encode(of: dict[str, _Operand]) -> _Operand:
        value = of["max"](of["x"] * of["y"], 0.0)
        bent = value ** (1 / 2.4) * (1.055 * _MOST_CODE) - (0.055 * _MOST_CODE - 0.5)
        straight = of["min"](value, _SRGB_STRAIGHT) * (12.92 * _MOST_CODE) + 0.5
        return of["max"](bent, straight)

    return _calculate(encode, plane, gain).convert("L")


def _calculate(formula: Callable[[dict[str, _Operand]], _Operand], *planes: _Plane) -> _Plane:
    made: _Plane = ImageMath.lambda_eval(formula, **dict(zip("xyz", planes, strict=False)))
    return made


def _list_gains(peak: float) -> list[float]:
    """List the gain of each step, from white to the peak."""
    points = _find_curve(peak)
    brightest_step = peak**_STEP_ROOT - 1
    lights = [
        (1 + brightest_step * step / _MOST_CODE) ** (1 / _STEP_ROOT) for step in range(_CODES)
    ]
    return [2 ** _find_stops(points, value) for value in lights]


def _find_curve(peak: float) -> list[_Point]:
    """Find the points of a parabola that leaves the straight line at white and ends at the peak."""
    stops = math.log2(peak)
    white = 1 - (1 - _WHITE_OF_USUAL_PEAK) * min(stops / _STOPS_OF_USUAL_PEAK, 1)
    middle_light = 1 - _BEND + _BEND / white
    middle = (1 - _BEND) * white + _BEND
    points = []
    for number in range(_PIECES + 1):
        part = number / _PIECES
        value = _follow_parabola(1, middle_light, peak, part)
        shown = _follow_parabola(white, middle, 1, part)
        run = _climb_parabola(1, middle_light, peak, part)
        rise = _climb_parabola(white, middle, 1, part)
        slope = (value * rise / run - shown) / (math.log(2) * value * shown) if run else 0
        points.append(_Point(value, math.log2(shown / value), slope))
    return points


def _follow_parabola(start: float, middle: float, end: float, part: float) -> float:
    return start + part * (2 * (middle - start) + part * (start - 2 * middle + end))


def _climb_parabola(start: float, middle: float, end: float, part: float) -> float:
    return 2 * (middle - start) + 2 * part * (start - 2 * middle + end)


def _find_stops(points: Sequence[_Point], value: float) -> float:
    """Find the gain between two points, on a cubic that has their slopes."""
    for start, end in itertools.pairwise(points):
        width = end.light - start.light
        if value <= end.light and width > 0:
            part = (value - start.light) / width
            rise = end.stops - start.stops
            bend = 3 * rise - (2 * start.slope + end.slope) * width
            twist = (start.slope + end.slope) * width - 2 * rise
            return start.stops + part * (start.slope * width + part * (bend + part * twist))
    return points[-1].stops
