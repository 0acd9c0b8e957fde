"""The boxes of an AVIF or HEIC file (ISO/IEC 14496-12), as far as they tell the picture's size.

They are read forwards, and a bounded number of them; a short list of items is read as a whole.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from pictures.items import Items
from pictures.reading import LONGEST_SEARCH_BYTES, MOST_STEPS, Reading, Stretch
from pictures.tiles import Tiling, find_tiling
from pictures.values import Content

# Where the file ends is unknown while it is read; a box may go on until there.
END_OF_FILE = 1 << 64
_HEAD_BYTES = 8
_LONG_HEAD_BYTES = 16
# What stands before the contents of some boxes: their version, with flags.
_VERSION_BYTES = {b"meta": 4, b"ispe": 4}
_SIDE_BYTES = 4

# Of an HEVC configuration (ISO/IEC 14496-15, 8.3.3.1.2): where its kind of chroma and its depths
# are, which are counted from eight bits on.
_CODING = re.compile(rb"(?:av1|avc|vvc|evc|jpg|unc)C|j2kH")
_HEVC = b"hvcC"
_CHROMA_AT = 16
_CHROMA_BITS = 0b11
_DEPTHS_AT = slice(17, 19)
_DEPTH_BITS = 0b111
_MOST_DEPTH = 2
# What an auxiliary picture is that holds transparency (ISO/IEC 23008-12, 6.5.8 and 7.5.3).
_AUXILIARY = b"auxC"
_ALPHA = re.compile(rb"auxid:1|auxiliary:alpha")
_AUXILIARY_BYTES = 64

Size = tuple[int, int]


class Declared(NamedTuple):
    """What the properties of a file's pictures say (ISO/IEC 23008-12, 6.5).

    The largest of their sizes; and of how much colour they have the most, as HEVC counts it (1: of
    four pixels one, 2: of two), if all of them are HEVC of at most ten bits, and none is
    transparency. And of which tiles the picture is put together, if it is.
    """

    size: Size | None
    chroma: int | None = None
    tiling: Tiling | None = None


@dataclass(slots=True)
class _Box:
    """A box (4.2): where its contents start and end, which may lie beyond the box around it."""

    kind: bytes
    start: int
    end: int


def read_properties() -> Reading[tuple[Declared, int]]:
    """Read what the file declares of its pictures.

    And where the outermost box ends that was looked at last.
    """
    file = _Box(b"", 0, END_OF_FILE)
    meta, position = yield from _find_box(b"meta", file)
    tiling = yield from _read_tiling(meta)
    around = meta
    for kind in (b"iprp", b"ipco"):
        if around is not None:
            around, _ = yield from _find_box(kind, around)
    if around is None:
        return Declared(None), position
    declared = yield from _read_each_property(around)
    return declared._replace(tiling=tiling), position


def _read_tiling(meta: _Box | None) -> Reading[Tiling | None]:
    """Read the whole box at once, whose beginning is read once more after that."""
    if meta is None or meta.end - meta.start > LONGEST_SEARCH_BYTES:
        return None
    listing = yield Stretch(meta.start, meta.end - meta.start, meta.end - meta.start)
    return find_tiling(Items(memoryview(listing)))


def _read_each_property(around: _Box) -> Reading[Declared]:
    sizes: list[Size] = []
    chromas: list[int | None] = []
    position = around.start
    for _ in range(MOST_STEPS):
        box = yield from _read_box(position, around.end)
        if box is None:
            break
        if box.kind == b"ispe":
            sides = yield Stretch(box.start, 2 * _SIDE_BYTES, 2 * _SIDE_BYTES)
            width_px = int.from_bytes(sides[:_SIDE_BYTES], "big")
            height_px = int.from_bytes(sides[_SIDE_BYTES:], "big")
            sizes.append((width_px, height_px))
        elif box.kind == _AUXILIARY:
            role = yield Stretch(box.start, _AUXILIARY_BYTES, _AUXILIARY_BYTES)
            if _ALPHA.search(role) is not None:
                chromas.append(None)
        elif box.kind == _HEVC:
            coding = yield Stretch(box.start, _DEPTHS_AT.stop, _DEPTHS_AT.stop)
            chromas.append(_read_chroma(coding))
        elif _CODING.fullmatch(box.kind):
            chromas.append(None)
        position = box.end
    largest = max(sizes, key=_count_pixels, default=None)
    known_chromas = [chroma for chroma in chromas if chroma is not None]
    if len(known_chromas) < len(chromas):
        return Declared(largest)
    return Declared(largest, max(known_chromas, default=None))


def _read_chroma(coding: Content) -> int | None:
    """Read the chroma of a configuration; None if there is more than ten bits of it."""
    depths = bytes(coding[_DEPTHS_AT])
    if len(coding) < _DEPTHS_AT.stop or any(depth & _DEPTH_BITS > _MOST_DEPTH for depth in depths):
        return None
    chroma: int = coding[_CHROMA_AT] & _CHROMA_BITS
    return chroma


def _count_pixels(size: Size) -> int:
    return size[0] * size[1]


def _find_box(kind: bytes, around: _Box) -> Reading[tuple[_Box | None, int]]:
    """Find the first box of this kind in the one around it, and where the last box seen ends."""
    position = around.start
    for _ in range(MOST_STEPS):
        box = yield from _read_box(position, around.end)
        if box is None:
            break
        position = box.end
        if box.kind == kind:
            box.end = min(box.end, around.end)
            return box, position
    return None, position


def _read_box(position: int, end: int) -> Reading[_Box | None]:
    """Read the head of the box here; None if there is none before the end."""
    if position + _HEAD_BYTES > end:
        return None
    head = yield Stretch(position, _LONG_HEAD_BYTES, _LONG_HEAD_BYTES)
    if len(head) < _HEAD_BYTES:
        return None
    size = int.from_bytes(head[:4], "big")
    kind = bytes(head[4:8])
    head_bytes = _HEAD_BYTES
    if size == 1:
        size = int.from_bytes(head[_HEAD_BYTES:], "big")
        head_bytes = _LONG_HEAD_BYTES
    elif size == 0:
        size = end - position
    if size < head_bytes:
        return None
    return _Box(kind, position + head_bytes + _VERSION_BYTES.get(kind, 0), position + size)


def is_box_cut_short(position: int) -> Reading[bool]:
    """Whether an outermost box ends behind the file: the one that ends here, or a later one."""
    for _ in range(MOST_STEPS):
        box = yield from _read_box(position, END_OF_FILE)
        if box is None:
            break
        position = box.end
    if position in (0, END_OF_FILE):
        return False
    next_byte = yield Stretch(position, 1, 1)
    if next_byte:
        return False
    last_byte = yield Stretch(position - 1, 1, 1)
    return not last_byte
