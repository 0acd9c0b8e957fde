"""The restart markers of a JPEG: which stretches of a scan are skipped because they never came.

A scan may be cut into stretches of as many units each, between markers that count from 0 to 7 over
and over (ITU T.81, B.2.4.4 and E.2.4). Where a number is left out libjpeg fills in grey, goes on
behind it and says nothing.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from pictures.jpeg_layout import RESTART, Layout, Scan, read_interval
from pictures.lost import LostPart
from pictures.values import Content

FIRST_RESTART = 0xD0
_RESTART_OR_END = re.compile(rb"\xff[\xd0-\xd7\xd9]")
_END = 0xD9
_NUMBER_BITS = 7
_INTERVAL = b"\xff\xdd\0\4"
_DEFINE_INTERVAL = 0xDD
# libjpeg takes a marker for a later one if it is one or two ahead. Farther off it goes on as if
# nothing had happened, and one or two behind it drops what follows.
_MOST_SKIPPED = 2


def are_in_order(content: Content, first_scan: int) -> bool:
    """Whether no marker is left out in a picture of one scan, which begins there."""
    if _INTERVAL not in bytes(content[:first_scan]):
        return True
    markers = [FIRST_RESTART - 1]
    for found in _RESTART_OR_END.finditer(content, first_scan):
        if found.group()[1] == _END:
            break
        markers.append(found.group()[1])
    return all((after - before) & _NUMBER_BITS == 1 for before, after in pairwise(markers))


def find_skipped(
    content: Content, layout: Layout, scan: Scan, unit_px: tuple[int, int], size: tuple[int, int]
) -> Iterator[LostPart]:
    """Find what is skipped of a picture of this size, in whose scan units have these sides."""
    interval = _read_interval(content, layout, scan)
    if not interval:
        return
    units_across = -(-size[0] // unit_px[0])
    expected = 0
    stretch = 0
    for found in RESTART.finditer(content, scan.data_start, scan.data_end):
        ahead = found.group()[1] - FIRST_RESTART - expected & _NUMBER_BITS
        if ahead > _NUMBER_BITS - _MOST_SKIPPED:
            continue
        skipped = ahead if ahead <= _MOST_SKIPPED else 0
        stretch += 1
        yield from _place(stretch * interval, skipped * interval, units_across, unit_px, size)
        stretch += skipped
        expected = expected + skipped + 1 & _NUMBER_BITS


def _read_interval(content: Content, layout: Layout, scan: Scan) -> int:
    """Read how many units a stretch of this scan has; 0 if it is in one piece."""
    interval = 0
    for table in layout.tables:
        if table.marker == _DEFINE_INTERVAL and table.start < scan.start:
            interval = read_interval(content, table.start)
    return interval


def _place(
    first: int, count: int, units_across: int, unit_px: tuple[int, int], size: tuple[int, int]
) -> Iterator[LostPart]:
    """Find where these units lie: the rest of a row, whole rows, and the beginning of one."""
    width, height = size
    end = first + count
    while first < end and first // units_across * unit_px[1] < height:
        row, column = divmod(first, units_across)
        rows = 1 if column else max(1, (end - first) // units_across)
        last_column = min(units_across, column + end - first)
        yield LostPart(
            column * unit_px[0],
            row * unit_px[1],
            min(last_column * unit_px[0], width),
            min((row + rows) * unit_px[1], height),
        )
        first += rows * (last_column - column)
