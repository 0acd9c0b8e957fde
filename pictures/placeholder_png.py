"""A tiny picture to show until a thumbnail is there: a PNG that is drawn of its master's ThumbHash.

It is written by hand, for the service loads no decoding library. A browser enlarges it, which blurs
it.
"""

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import mul

from pictures.renditions import Rendition, Size
from pictures.thumbhash import BRIGHTNESS_WAVES, COLOUR_WAVES, FEWEST_WAVES, HEAD_BYTES

# As large as the hash's general decoder draws it: several pixels for its shortest wave.
LONGEST_SIDE_PX = 32
# What the general decoder adds to colours, which lose some of it when they are put into steps.
_SATURATION = 1.25
# In the middle of the steps of an amplitude; a hash that is cut short has it for the rest.
_NONE = 7.5
_WHITE = b"\xff\xff\xff"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TRUE_COLOUR = 2


@dataclass(frozen=True)
class _Channel:
    """The mean, and how much of each wave is in it: a row for each wave down, from the longest."""

    mean: float
    rows: Sequence[Sequence[float]]

    def draw_row(self, down: Sequence[float], across: Sequence[Sequence[float]]) -> list[float]:
        """Draw a row of pixels, given each wave there and, for each pixel, each wave across."""
        columns = [0.0] * max(map(len, self.rows))
        for row, cosine in zip(self.rows, down, strict=False):
            for wave, amount in enumerate(row):
                columns[wave] += 2 * amount * cosine
        return [self.mean + sum(map(mul, columns, cosines)) for cosines in across]


def draw_placeholder(thumbhash: bytes, master_size: Size, rendition: Rendition) -> bytes:
    """Draw what this rendition of the master will look like, in its shape and much smaller."""
    scale = min(1.0, LONGEST_SIDE_PX / max(rendition.size))
    width_px, height_px = (max(1, round(side_px * scale)) for side_px in rendition.size)
    shown_width, shown_height = rendition.find_shown_size(master_size)
    scaled_width, scaled_height = rendition.find_scaled_size(master_size)
    # Which part of the master's sides is in view; with white around it, more than all.
    view_width = shown_width / master_size[0] * rendition.width_px / scaled_width
    view_height = shown_height / master_size[1] * rendition.height_px / scaled_height
    across = [_list_waves(position) for position in _list_positions(width_px, view_width)]
    down = [_list_waves(position) for position in _list_positions(height_px, view_height)]
    return _write_png(width_px, height_px, _draw_rows(thumbhash, across, down))


def _list_positions(count: int, view: float) -> list[float]:
    """List the middle of each pixel on the master's side, which is from 0 to 1."""
    return [0.5 + ((pixel + 0.5) / count - 0.5) * view for pixel in range(count)]


def _list_waves(position: float) -> list[float]:
    """List each wave's value at a position; none where the master is not."""
    if not 0 < position < 1:
        return []
    return [math.cos(math.pi * position * wave) for wave in range(BRIGHTNESS_WAVES)]


def _draw_rows(
    thumbhash: bytes, across: Sequence[Sequence[float]], down: Sequence[Sequence[float]]
) -> Iterator[bytes]:
    brightness, yellow, red = _read_channels(thumbhash)
    for waves in down:
        pixels = zip(
            brightness.draw_row(waves, across),
            yellow.draw_row(waves, across),
            red.draw_row(waves, across),
            strict=True,
        )
        yield b"".join(
            _mix(*pixel) if waves and column else _WHITE
            for pixel, column in zip(pixels, across, strict=True)
        )


def _mix(brightness: float, yellow: float, red: float) -> bytes:
    """Make a pixel of its brightness, of red and green against blue, and of red against green."""
    blue = brightness - 2 / 3 * yellow
    reddest = (3 * brightness - blue + red) / 2
    colours = (reddest, reddest - red, blue)
    return bytes(round(255 * min(1.0, max(0.0, colour))) for colour in colours)


def _read_channels(thumbhash: bytes) -> tuple[_Channel, _Channel, _Channel]:
    head = int.from_bytes(thumbhash[:3], "little")
    second_head = int.from_bytes(thumbhash[3:HEAD_BYTES], "little")
    amplitudes = chain.from_iterable((byte & 15, byte >> 4) for byte in thumbhash[HEAD_BYTES:])
    shorter = max(FEWEST_WAVES, second_head & 7)
    is_wide = second_head >> 15
    counts = (BRIGHTNESS_WAVES, shorter) if is_wide else (shorter, BRIGHTNESS_WAVES)
    brightness = _Channel(
        (head & 63) / 63, list(_read_rows(amplitudes, (head >> 18 & 31) / 31, *counts))
    )
    yellow_scale = _SATURATION * (second_head >> 3 & 63) / 63
    red_scale = _SATURATION * (second_head >> 9 & 63) / 63
    squares = (COLOUR_WAVES, COLOUR_WAVES)
    yellow_rows = list(_read_rows(amplitudes, yellow_scale, *squares))
    red_rows = list(_read_rows(amplitudes, red_scale, *squares))
    return (
        brightness,
        _Channel((head >> 6 & 63) / 31.5 - 1, yellow_rows),
        _Channel((head >> 12 & 63) / 31.5 - 1, red_rows),
    )


def _read_rows(
    amplitudes: Iterator[float], scale: float, across: int, down: int
) -> Iterator[list[float]]:
    """Read the waves within the triangle that is kept; the first of all is the mean, not here."""
    for wave_down in range(down):
        row = [] if wave_down else [0.0]
        while len(row) * down < across * (down - wave_down):
            row.append((next(amplitudes, _NONE) / _NONE - 1) * scale)
        yield row


def _write_png(width_px: int, height_px: int, rows: Iterator[bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, _TRUE_COLOUR, 0, 0, 0)
    unfiltered = b"".join(b"\0" + row for row in rows)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(unfiltered)), (b"IEND", b""))
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
