"""An ICC profile of numbers that a file told: its primaries, and its curve at each code.

So whatever is no brighter than paper is converted as pictures with a profile are.
"""

import struct
from collections.abc import Sequence

from pictures.light import Curve, Primaries, adapt_to_d50

# A curve has a point for each code of eight bits, so that none is interpolated.
_CODES = 256
_MOST_LIGHT = 65535
# ICC.1:2001 (version 2.4), 6: a display's profile has a header, a table of tags, and the tags.
_HEAD = struct.Struct(">I4sI4s4s4s12x4s28x3i48x")
_VERSION = 0x02400000
_TAG = struct.Struct(">4sII")
_FIXED_POINT = 65536
_D50 = (0.9642, 1.0, 0.8249)
_NAME = b"desc\0\0\0\0\0\0\0\x05told\0" + bytes(78)


def write_profile(primaries: Primaries, curve: Curve) -> bytes | None:
    """Write the profile; None where the numbers make no colours that it could hold."""
    # Of a cinema's curve white is not the last code.
    most_light = max(curve(1), 1)
    try:
        rows = adapt_to_d50(primaries)
        points = [
            _write_xyz([value * most_light for value in column])
            for column in zip(*rows, strict=True)
        ]
    except (ZeroDivisionError, OverflowError, struct.error):
        return None
    tones = _write_curve(curve, most_light)
    tags = {
        b"desc": _NAME,
        b"wtpt": _write_xyz(_D50),
        b"rXYZ": points[0],
        b"gXYZ": points[1],
        b"bXYZ": points[2],
        b"rTRC": tones,
        b"gTRC": tones,
        b"bTRC": tones,
    }
    table = struct.pack(">I", len(tags))
    data = b""
    data_at = _HEAD.size + len(table) + _TAG.size * len(tags)
    for name, tag in tags.items():
        table += _TAG.pack(name, data_at + len(data), len(tag))
        data += tag + bytes(-len(tag) % 4)
    white = [round(value * _FIXED_POINT) for value in _D50]
    whole_bytes = data_at + len(data)
    head = _HEAD.pack(whole_bytes, bytes(4), _VERSION, b"mntr", b"RGB ", b"XYZ ", b"acsp", *white)
    return head + table + data


def _write_xyz(point: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * _FIXED_POINT) for value in point))


def _write_curve(curve: Curve, most_light: float) -> bytes:
    scale = _MOST_LIGHT / most_light
    light = [round(curve(code / (_CODES - 1)) * scale) for code in range(_CODES)]
    return b"curv\0\0\0\0" + struct.pack(f">I{_CODES}H", _CODES, *light)
