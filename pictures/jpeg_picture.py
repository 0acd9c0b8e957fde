"""A JPEG that may have been cut: decoded as far as it goes, and what it lacks is known and white.

libjpeg fills in what is missing with grey and says nothing. So the coded data is decoded twice
more, at an eighth of the size, followed once by the end and once by noise: from the first block
that differs on, nothing arrived. What is missing in the middle is told by markers.
"""

import io
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from PIL import Image, ImageChops, ImageStat
from PIL.JpegImagePlugin import JpegImageFile

from errors import BrokenPicture
from pictures.file_view import FileView
from pictures.formats import Header
from pictures.jpeg_layout import RESTART, Component, Layout, Scan, read_layout
from pictures.jpeg_restarts import FIRST_RESTART, are_in_order, find_skipped
from pictures.lost import WHOLE, Arrival, LostPart, paint_white
from pictures.values import Content

# Progressive files have ten; each goes over all coefficients: 13 ms for 42 bytes of a hostile file.
MOST_SCANS = 100
_START = b"\xff\xd8"
_END = b"\xff\xd9"
_MARKER = 0xFF
_BLOCK_SIDE_PX = 8
# What stands for data that did not come: bytes of no pattern, none of them the first of a marker.
_NOISE = bytes((number * number * 31 + number * 7 + 11) % 251 for number in range(1024))
# A block without data is of this luminance, give or take what converting its colours rounds.
_NO_DATA_GREYS = range(126, 131)
# On average, where only later scans have data of it: what is too light or too dark is cut off.
_LEAST_NO_DATA_MEAN = 122
_MOST_NO_DATA_MEAN = 134


class JpegPicture(JpegImageFile):
    """A JPEG, with what arrived of it once it is loaded."""

    arrival = WHOLE
    _is_cut_behind_scans = False

    def __init__(self, content: Content, header: Header) -> None:
        """Open it. Raises BrokenPicture for more scans than any picture has."""
        self._content = content
        self._first_scan = header.metadata_bytes
        self._is_baseline = header.is_baseline
        self._layout: Layout | None = None
        parts: list[Content] = [content]
        # Of a simple file only the end is looked at before it is decoded.
        if not header.is_baseline or bytes(content[-2:]) != _END:
            self._layout = read_layout(content)
            if len(self._layout.scans) > MOST_SCANS:
                raise BrokenPicture
            if not self._layout.has_end_marker:
                parts = [content[: self._layout.end], _END]
        elif content[-3] == _MARKER:
            # libjpeg stumbles over it where data is missing.
            parts = [content[:-3], _END]
        # Pillow passes over what stands between the segments a byte at a time.
        super().__init__(io.BufferedReader(FileView(*parts)))
        self._stored_size = self.size

    def load(self) -> Any:
        tile = list(self.tile)
        try:
            return super().load()
        except OSError:
            if not tile or self._is_cut_behind_scans:
                raise
        # Noise behind the coded data may look like a segment that is not to be had.
        self._layout = read_layout(self._content)
        if not self._layout.scans:
            raise BrokenPicture
        self._is_cut_behind_scans = True
        parts = (self._content[: self._layout.scans[-1].data_end], _END)
        self.fp = io.BufferedReader(FileView(*parts))
        self.tile = tile
        return super().load()

    def load_end(self) -> None:
        factor = self.decoderconfig[0] if self.decoderconfig else 1
        ends_in_grey = self._ends_in_grey(factor)
        if self._layout is None:
            if not ends_in_grey and are_in_order(self._content, self._first_scan):
                return
            self._layout = read_layout(self._content)
        end = self._find_end_of_data(self._layout, ends_in_grey=ends_in_grey)
        rest = () if end is None else self._list_rest(end)
        skipped = self._find_skipped(self._layout, rest)
        lost = (*skipped, *rest)
        is_cut_short = bool(lost) or not self._layout.has_end_marker
        self.arrival = Arrival(is_cut_short, lost, is_damaged=end is None or end.is_followed)
        paint_white(self, lost, factor)

    def _ends_in_grey(self, factor: int) -> bool:
        """Whether the last block looks like one without data."""
        across, down = (
            max(1, ((side_px - 1) % _BLOCK_SIDE_PX + 1) // factor) for side_px in self._stored_size
        )
        last = self.crop((self.width - across, self.height - down, self.width, self.height))
        if last.mode == "RGB":
            last = last.convert("L")
        is_flat = all(
            low in _NO_DATA_GREYS and high in _NO_DATA_GREYS
            for low, high in (band.getextrema() for band in last.split())
        )
        return is_flat or (not self._is_baseline and self._ends_in_grey_on_average(factor))

    def _ends_in_grey_on_average(self, factor: int) -> bool:
        """Whether the last whole block looks like one without data in its first scan.

        What later scans tell is how its pixels differ from the mean.
        """
        side = _BLOCK_SIDE_PX // factor
        right, bottom = (side_px // _BLOCK_SIDE_PX * side for side_px in self._stored_size)
        if not right or not bottom:
            return False
        last = self.crop((right - side, bottom - side, right, bottom))
        if last.mode == "RGB":  # its colours may come for several blocks at once
            last = last.convert("L")
        means = ImageStat.Stat(last).mean
        return all(_LEAST_NO_DATA_MEAN <= mean <= _MOST_NO_DATA_MEAN for mean in means)

    def _find_end_of_data(self, layout: Layout, *, ends_in_grey: bool) -> "_EndOfData | None":
        """Find where the first scan of any component ends before its picture does."""
        starts: list[_EndOfData] = []
        missing = {component.name for component in layout.components}
        for scan in layout.scans:
            if not scan.is_first or not missing.intersection(scan.components):
                continue
            missing.difference_update(scan.components)
            has_all = len(scan.components) == len(layout.components)
            if ends_in_grey or not scan.is_sound or not has_all:
                start = _find_end_of_data(self._content, layout, scan)
                starts.extend([] if start is None else [start])
        if missing:
            starts.append(_EndOfData(0, 0, self._stored_size[1], _goes_on(layout, missing)))
        # What a later one lacks is a part of that.
        return min(starts, default=None)

    def _list_rest(self, end: "_EndOfData") -> tuple[LostPart, ...]:
        """Tell what did not arrive from there on."""
        width, height = self._stored_size
        rest_top = min(end.top + end.rows_px, height)
        rest_of_row = LostPart(end.left, end.top, width, rest_top)
        return (rest_of_row, LostPart(0, rest_top, width, height))

    def _find_skipped(self, layout: Layout, rest: Sequence[LostPart]) -> tuple[LostPart, ...]:
        """Find what is left out before the rest of a picture all of whose colours come at once."""
        first = layout.scans[0] if layout.scans else None
        if first is None or len(first.components) != len(layout.components):
            return ()
        end = (rest[0].top, rest[0].left) if rest else (self._stored_size[1], 0)
        unit_px = _find_unit(layout.components, first)
        skipped = find_skipped(self._content, layout, first, unit_px, self._stored_size)
        return tuple(part for part in skipped if (part.top, part.left) < end)


class _EndOfData(NamedTuple):
    """Where the first unit lies that did not arrive, in the picture's pixels; they come in rows."""

    top: int
    left: int
    rows_px: int
    is_followed: bool  # the file goes on behind it


def _goes_on(layout: Layout, missing: Collection[int]) -> bool:
    """Whether the file goes on behind where the first scans of these components would be."""
    names = [component.name for component in layout.components]
    is_last = set(names[-len(missing) :]) == set(missing)
    return not is_last or any(not scan.is_first for scan in layout.scans)


def _find_end_of_data(content: Content, layout: Layout, scan: Scan) -> _EndOfData | None:
    """Find where the data of a first scan ends before its picture does; None if it does not."""
    has_all = len(scan.components) == len(layout.components)
    tables = [
        content[table.start : table.end] for table in layout.tables if table.start < scan.start
    ]
    parts = [_START, *tables, content[scan.start : scan.data_end]]
    ended, factor = _decode_small([*parts, _END], in_grey=has_all)
    noisy, _ = _decode_small([*parts, *_make_noise(content, scan), _END], in_grey=has_all)
    difference = ImageChops.difference(ended, noisy)
    box = difference.getbbox(alpha_only=False)
    if box is None:
        return None
    across_px, down_px = _find_unit(layout.components, scan)
    row = box[1] * factor // down_px
    strip = (0, row * down_px // factor, difference.width, (row + 1) * down_px // factor)
    in_strip = difference.crop(strip).getbbox(alpha_only=False)
    assert in_strip is not None  # the first difference is in it
    column = in_strip[0] * factor // across_px
    return _EndOfData(row * down_px, column * across_px, down_px, scan.is_followed)


def _make_noise(content: Content, scan: Scan) -> tuple[bytes, ...]:
    """Make what goes on where the data of the scan ends, in the middle or with a restart."""
    number = 0
    for restart in RESTART.finditer(content, scan.data_start, scan.data_end):
        number = restart.group()[1] + 1 & 7
    return _NOISE, bytes((_MARKER, FIRST_RESTART + number)), _NOISE


def _decode_small(parts: list[Content], *, in_grey: bool) -> tuple[Image.Image, int]:
    """Decode at an eighth of the size, if it has so many pixels; tell by what it was reduced."""
    picture = JpegImageFile(io.BufferedReader(FileView(*parts)))
    picture.draft("L" if in_grey and picture.mode == "RGB" else None, (1, 1))
    picture.load()
    return picture, picture.decoderconfig[0]


def _find_unit(components: tuple[Component, ...], scan: Scan) -> tuple[int, int]:
    """Find the sides of what is coded at once (A.2), in pixels of the picture."""
    across = max(component.across for component in components)
    down = max(component.down for component in components)
    if len(scan.components) > 1:
        return _BLOCK_SIDE_PX * across, _BLOCK_SIDE_PX * down
    own = next(each for each in components if each.name == scan.components[0])
    return _BLOCK_SIDE_PX * across // own.across, _BLOCK_SIDE_PX * down // own.down
