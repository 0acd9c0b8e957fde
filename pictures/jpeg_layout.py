"""Where the segments and scans of a JPEG lie, for whoever cuts one up (ITU T.81, annex B).

Nothing is decoded.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from errors import BrokenPicture
from pictures.jpeg_file import SEGMENT_OR_END
from pictures.reading import MOST_STEPS
from pictures.values import Content

_MARKER = 0xFF
_START_OF_SCAN = 0xDA
_END_OF_PICTURE = 0xD9
# All that coded data needs beside itself: frame headers, and tables (Huffman's, quantisation's,
# restarts', conditioning's).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_DEFINE_INTERVAL = 0xDD
_TABLES = frozenset((0xC4, 0xCC, 0xDB, _DEFINE_INTERVAL))
_HEAD_BYTES = 4
RESTART = re.compile(rb"\xff[\xd0-\xd7]")
# In coded data libjpeg stops at any marker. In one with restarts it goes on at the next of them,
# but never passes over any of these.
_ANY_MARKER = re.compile(rb"\xff[^\x00\xff]")
_NO_RESTART = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
# What stands behind a scan that is whole. All else may be damage.
_FOLLOWERS = frozenset((*_TABLES, _START_OF_SCAN, _END_OF_PICTURE))


class Segment(NamedTuple):
    """A segment from its marker to where the next one may stand, or coded data begins."""

    marker: int
    start: int
    end: int
    data_follower: int | None = None  # where the marker stands that ends coded data


@dataclass(frozen=True)
class Scan:
    """A scan: its header, and its coded data up to the next marker that is none of its own."""

    start: int
    data_start: int
    data_end: int
    components: bytes  # their names
    is_first: bool  # the first of its components, without which they have no picture
    follower: int | None  # the marker behind it

    @property
    def is_followed(self) -> bool:
        """Whether the file goes on behind it."""
        return self.follower not in (None, _END_OF_PICTURE)

    @property
    def is_sound(self) -> bool:
        """Whether it ends as one does that is whole. It may be damaged, or cut, all the same."""
        return self.follower in _FOLLOWERS


@dataclass(frozen=True)
class Component:
    name: int
    across: int
    down: int


@dataclass(frozen=True)
class Layout:
    """What there is of a JPEG. Behind `end`, which has no end marker in it, nothing counts.

    In a file without an end marker that is the end of its last scan: noise may follow.
    """

    tables: tuple[Segment, ...]
    components: tuple[Component, ...]
    scans: tuple[Scan, ...]
    end: int
    has_end_marker: bool


def read_layout(content: Content) -> Layout:
    """Read it all. Raises BrokenPicture where there are more segments than any picture has."""
    tables: list[Segment] = []
    components: tuple[Component, ...] = ()
    scans: list[Scan] = []
    end = 0
    for segment in _walk(content):
        if not scans:
            end = segment.end
        if segment.marker == _END_OF_PICTURE:
            return Layout(tuple(tables), components, tuple(scans), segment.start, True)
        if segment.marker == _START_OF_SCAN:
            scan = _read_scan(content, segment)
            scans.append(scan)
            end = scan.data_end
        elif segment.marker in _TABLES:
            tables.append(segment)
        elif segment.marker in _FRAMES and not scans:  # later ones are damage
            tables.append(segment)
            components = _read_components(content[segment.start + _HEAD_BYTES : segment.end])
    return Layout(tuple(tables), components, tuple(scans), end, False)


def _walk(content: Content) -> Iterator[Segment]:
    """Go from segment to segment, as far as they are whole, up to the end marker."""
    position = 2
    has_restarts = False
    for _ in range(MOST_STEPS):
        found = SEGMENT_OR_END.search(content, position)
        if found is None:
            return
        start = found.start()
        marker = content[start + 1]
        if marker == _END_OF_PICTURE:
            yield Segment(marker, start, start + 2)
            return
        length = int.from_bytes(content[start + 2 : start + _HEAD_BYTES], "big")
        position = start + 2 + max(2, length)
        if position > len(content):
            return
        if marker != _START_OF_SCAN:
            yield Segment(marker, start, position)
            if marker == _DEFINE_INTERVAL:
                has_restarts = read_interval(content, start) > 0
            continue
        follower = _find_data_follower(content, position, has_restarts=has_restarts)
        yield Segment(marker, start, position, follower)
        if follower is None:
            return
        position = follower
    raise BrokenPicture


def read_interval(content: Content, start: int) -> int:
    """Read how many units a stretch has by the table that starts here; 0 if all are in one."""
    return int.from_bytes(content[start + _HEAD_BYTES : start + 6], "big")


def _find_data_follower(content: Content, position: int, *, has_restarts: bool) -> int | None:
    """Find the marker at which libjpeg ends the coded data that begins here."""
    if has_restarts:
        stop = _NO_RESTART.search(content, position)
        end = len(content) if stop is None else stop.start()
        for restart in RESTART.finditer(content, position, end):
            position = restart.end()
    found = _ANY_MARKER.search(content, position)
    return None if found is None else found.start()


def _read_scan(content: Content, segment: Segment) -> Scan:
    body = bytes(content[segment.start + _HEAD_BYTES : segment.end])
    count = body[0] if body else 0
    # Of a progressive picture: where its spectrum begins, and which bits were there before.
    spectrum = body[1 + 2 * count : 4 + 2 * count]
    is_first = len(spectrum) == 3 and spectrum[0] == 0 and spectrum[2] >> 4 == 0
    follower = segment.data_follower
    data_end = len(content) if follower is None else follower
    while data_end > segment.end and content[data_end - 1] == _MARKER:
        data_end -= 1  # half of a marker, or what may stand before one
    return Scan(
        start=segment.start,
        data_start=segment.end,
        data_end=data_end,
        components=body[1 : 1 + 2 * count : 2],
        is_first=is_first,
        follower=None if follower is None else content[follower + 1],
    )


def _read_components(frame: Content) -> tuple[Component, ...]:
    count = frame[5] if len(frame) > 5 else 0
    described = bytes(frame[6 : 6 + 3 * count])
    return tuple(
        Component(described[at], described[at + 1] >> 4, described[at + 1] & 15)
        for at in range(0, len(described) - 2, 3)
    )
