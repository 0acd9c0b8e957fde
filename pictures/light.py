"""From the numbers of a file to light: primaries, the curve behind the codes, how bright white is.

The numbers are those of CICP (ITU-T H.273, 8.1 and 8.2), or a PNG's gamma and chromaticities. Plain
arithmetic, in which light is linear and 1 is the white of the picture.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]
Chromaticity = tuple[float, float]
# From a code, 0 to 1, to light.
Curve = Callable[[float], float]

PQ = 16
HLG = 18
LINEAR = 8
SRGB = 13
# What these numbers stand for is said elsewhere, or not at all.
UNSPECIFIED = 2
# ITU-R BT.2408, 3.2: the light of paper that is lit well, and where HLG's 75 % lies.
REFERENCE_WHITE_NITS = 203.0
# Of HLG by definition (BT.2100, table 5), and of most HDR displays that PQ was graded on.
USUAL_PEAK_NITS = 1000.0
PQ_PEAK_NITS = 10_000.0


@dataclass(frozen=True)
class Primaries:
    """Where the three primaries and white lie, as CIE 1931 x and y."""

    red: Chromaticity
    green: Chromaticity
    blue: Chromaticity
    white: Chromaticity

    def to_xyz(self) -> Matrix:
        """Find what makes XYZ of light in these primaries; white has Y = 1.

        Raises ZeroDivisionError where three of them lie on a line, or white has no light.
        """
        columns = _transpose((_lift(self.red), _lift(self.green), _lift(self.blue)))
        weights = multiply(invert(columns), _find_white(self.white))
        return _scale_columns(columns, weights)


_D65 = (0.3127, 0.3290)
_C = (0.310, 0.316)
BT_2020 = Primaries((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65)
BT_709 = Primaries((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), _D65)
_SMPTE_170M = Primaries((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65)
# H.273, table 2.
PRIMARIES = {
    1: BT_709,
    4: Primaries((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _C),
    5: Primaries((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    6: _SMPTE_170M,
    7: _SMPTE_170M,
    8: Primaries((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _C),
    9: BT_2020,
    10: Primaries((1, 0), (0, 1), (0, 0), (1 / 3, 1 / 3)),
    11: Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
    22: Primaries((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}


def make_power(exponent: float) -> Curve:
    """Make the curve of a display that has no straight part."""
    return lambda code: code**exponent


def _decode_smpte_240m(code: float) -> float:
    return code / 4 if code < 0.0912 else ((code + 0.1115) / 1.1115) ** (1 / 0.45)


def decode_srgb(code: float) -> float:
    """IEC 61966-2-1."""
    return code / 12.92 if code <= 0.04045 else ((code + 0.055) / 1.055) ** 2.4


def decode_pq(code: float) -> float:
    """Give the light in parts of 10,000 nits (BT.2100, table 4)."""
    bent = code ** (1 / 78.84375)
    straight: float = max(bent - 0.8359375, 0) / (18.8515625 - 18.6875 * bent)
    nits: float = straight ** (1 / 0.1593017578125)
    return nits


def decode_hlg(code: float) -> float:
    """Give the light in front of the camera in parts of the brightest (BT.2100, table 5)."""
    if code <= 0.5:
        return code**2 / 3
    return (math.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12


# Of the numbers that tell a camera's curve, browsers take the one of the displays that its pictures
# are made for.
_BT_1886 = make_power(2.4)
# H.273, table 3. The numbers 9, 10 and 12 are not in any picture.
CURVES: dict[int, Curve] = {
    1: _BT_1886,
    4: make_power(2.2),
    5: make_power(2.8),
    6: _BT_1886,
    7: _decode_smpte_240m,
    LINEAR: make_power(1),
    11: _BT_1886,
    SRGB: decode_srgb,
    14: _BT_1886,
    15: _BT_1886,
    PQ: decode_pq,
    17: lambda code: code**2.6 * 52.37 / 48,
    HLG: decode_hlg,
}


def convert_light(source: Primaries, target: Primaries) -> Matrix:
    """Find what makes light in the other primaries of light in these; white stays white."""
    return multiply_matrices(invert(adapt_to_d50(target)), adapt_to_d50(source))


def adapt_to_d50(primaries: Primaries) -> Matrix:
    """Find what makes XYZ under D50 of light in these primaries, as ICC profiles have it.

    By Bradford's method (ICC.1:2022, annex E). Raises ZeroDivisionError as `to_xyz` does.
    """
    seen = multiply(_BRADFORD, _find_white(primaries.white))
    wanted = multiply(_BRADFORD, _D50)
    ratios = (wanted[0] / seen[0], wanted[1] / seen[1], wanted[2] / seen[2])
    scaled = _transpose(_scale_columns(_transpose(_BRADFORD), ratios))
    adaptation = multiply_matrices(invert(_BRADFORD), scaled)
    return multiply_matrices(adaptation, primaries.to_xyz())


_BRADFORD: Matrix = (
    (0.8951, 0.2664, -0.1614),
    (-0.7502, 1.7135, 0.0367),
    (0.0389, -0.0685, 1.0296),
)
_D50: Vector = (0.9642, 1.0, 0.8249)


def multiply(matrix: Matrix, vector: Vector) -> Vector:
    x, y, z = (sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix)
    return x, y, z


def multiply_matrices(one: Matrix, other: Matrix) -> Matrix:
    columns = _transpose(other)
    return _transpose(
        (multiply(one, columns[0]), multiply(one, columns[1]), multiply(one, columns[2]))
    )


def invert(matrix: Matrix) -> Matrix:
    """Raises ZeroDivisionError for a matrix that has no inverse."""
    first, second, third = _transpose(matrix)
    rows = (_cross(second, third), _cross(third, first), _cross(first, second))
    determinant = sum(a * b for a, b in zip(first, rows[0], strict=True))
    scale = 1 / determinant
    return _scale_columns(rows, (scale, scale, scale))


def _cross(one: Vector, other: Vector) -> Vector:
    a, b, c = one
    d, e, f = other
    return b * f - c * e, c * d - a * f, a * e - b * d


def _lift(point: Chromaticity) -> Vector:
    return point[0], point[1], 1 - point[0] - point[1]


def _find_white(white: Chromaticity) -> Vector:
    x, y, z = _lift(white)
    return x / y, 1.0, z / y


def _transpose(matrix: Matrix) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    return (a, d, g), (b, e, h), (c, f, i)


def _scale_columns(matrix: Matrix, factors: Vector) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    x, y, z = factors
    return (a * x, b * y, c * z), (d * x, e * y, f * z), (g * x, h * y, i * z)
