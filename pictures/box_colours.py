"""What the boxes of an AVIF or HEIC say of its colours, and where they say nothing, its AV1 stream.

Where browsers look for it: at the whole picture, at its first tile, in the stream; and of a film at
its first frame instead.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from pictures.av1_header import read_coded_colours
from pictures.items import Property, find_box, find_items, list_boxes
from pictures.values import Content

_COLOURS = b"colr"
_NUMBERS = b"nclx"
_NUMBERS_BYTES = 7
_FULL_RANGE_BIT = 0x80
_PROFILES = (b"prof", b"rICC")
# Light is in parts of 10,000 of a nit, but of `clli` in nits.
_PARTS_OF_A_NIT = 10_000
_FILM = b"avis"
_AV1 = b"av01"
# Of the boxes of a film (ISO/IEC 14496-12, 8.5, 8.7 and 12.1.3): what stands before the entries of
# a description, before the boxes of an entry, and before the first offset.
_BEFORE_ENTRIES_BYTES = 8
_BEFORE_BOXES_BYTES = 78
_BEFORE_OFFSETS_BYTES = 8
_OFFSET_BYTES = 4


class BoxColours(NamedTuple):
    """Numbers of CICP (ITU-T H.273), and how bright the brightest is, where that is told.

    It `is_deep_av1` where AV1 has coded more than eight bits of it, and `is_limited` where a box
    says that not all codes are used.
    """

    primaries: int
    transfer: int
    matrix: int
    peak_nits: float
    is_deep_av1: bool
    is_limited: bool = False


# Of an AV1 and of an HEVC configuration: where they say that there is nothing but grey, and the
# first that there are more than eight bits of it.
_AV1_CONFIGURATION = b"av1C"
_AV1_FORMAT_AT = 2
_AV1_DEEP_BIT = 0b1000000
_AV1_GREY_BIT = 0b10000
_HEVC_CONFIGURATION = b"hvcC"
_HEVC_CHROMA_AT = 16
_HEVC_CHROMA_BITS = 0b11


class _Description(NamedTuple):
    """What is said of a picture, and where its coded data begins."""

    properties: list[Property]
    coded: memoryview

    def list_colours(self, *kinds: bytes) -> Iterator[bytes]:
        for each in self.properties:
            if each.kind == _COLOURS and bytes(each.contents[:4]) in kinds:
                yield bytes(each.contents[4:])


def read_box_colours(content: Content) -> BoxColours | None:
    """Read what is said of the picture that is shown; None where nothing is."""
    description = _describe(memoryview(content))
    peak_nits = _find_peak(description.properties)
    is_deep = _is_deep(description.properties)
    for numbers in description.list_colours(_NUMBERS):
        if len(numbers) >= _NUMBERS_BYTES:
            primaries, transfer, matrix, codes = struct.unpack_from(">HHHB", numbers)
            is_limited = not codes & _FULL_RANGE_BIT
            return BoxColours(primaries, transfer, matrix, peak_nits, is_deep, is_limited)
    coded = read_coded_colours(description.coded)
    return None if coded is None else BoxColours(*coded, peak_nits, is_deep)


def read_tile_profile(content: Content) -> bytes | None:
    """Read the profile of a picture whose tiles have it; of the whole its own counts."""
    return next(_describe(memoryview(content)).list_colours(*_PROFILES), None)


def is_grey(content: Content) -> bool:
    """Whether the picture has no colours, though a decoder may make some for its transparency."""
    items = find_items(memoryview(content))
    first = next(iter(items.list_parts(items.primary_id)), items.primary_id)
    for kind, data in items.list_properties(first):
        if kind == _AV1_CONFIGURATION and len(data) > _AV1_FORMAT_AT:
            return bool(data[_AV1_FORMAT_AT] & _AV1_GREY_BIT)
        if kind == _HEVC_CONFIGURATION and len(data) > _HEVC_CHROMA_AT:
            return not data[_HEVC_CHROMA_AT] & _HEVC_CHROMA_BITS
    return False


def _describe(file: memoryview) -> _Description:
    return _describe_film(file) or _describe_still(file)


def _describe_still(file: memoryview) -> _Description:
    """Describe the primary picture (ISO/IEC 23008-12, 6.5.5)."""
    items = find_items(file)
    properties = list(items.list_properties(items.primary_id))
    first = next(iter(items.list_parts(items.primary_id)), items.primary_id)
    for kind in (_COLOURS, _AV1_CONFIGURATION):
        if not any(each.kind == kind for each in properties):
            properties += (each for each in items.list_properties(first) if each.kind == kind)
    coded = memoryview(b"")
    if items.list_kinds().get(first) == _AV1:
        start, length = next(iter(items.list_pieces().get(first, ())), (0, 0))
        coded = file[start : start + length]
    return _Description(properties, coded)


def _describe_film(file: memoryview) -> _Description | None:
    """Describe the first track that is no transparency; None if the file is no film."""
    if bytes(file[8:12]) != _FILM:
        return None
    for kind, track in list_boxes(find_box(file, b"moov")):
        if kind != b"trak" or b"auxl" in dict(list_boxes(find_box(track, b"tref"))):
            continue
        table = track
        for name in (b"mdia", b"minf", b"stbl"):
            table = find_box(table, name)
        entries = list_boxes(find_box(table, b"stsd")[_BEFORE_ENTRIES_BYTES:])
        entry = dict(entries).get(_AV1)
        if entry is not None:
            properties = [Property(*box) for box in list_boxes(entry[_BEFORE_BOXES_BYTES:])]
            offsets = find_box(table, b"stco")[_BEFORE_OFFSETS_BYTES:]
            start = int.from_bytes(offsets[:_OFFSET_BYTES], "big")
            return _Description(properties, file[start:] if start else offsets[:0])
    return None


def _is_deep(properties: list[Property]) -> bool:
    """Whether AV1 has coded more than eight bits (AV1-ISOBMFF, 2.3.3)."""
    formats = (
        each.contents[_AV1_FORMAT_AT]
        for each in properties
        if each.kind == _AV1_CONFIGURATION and len(each.contents) > _AV1_FORMAT_AT
    )
    return bool(next(formats, 0) & _AV1_DEEP_BIT)


def _find_peak(properties: list[Property]) -> float:
    """Find how bright the brightest is, or else the display that it was made for; or 0."""
    peaks: dict[bytes, float] = {}
    for kind, data in properties:
        if kind == b"clli" and len(data) >= 4:
            peaks[kind] = int.from_bytes(data[:2], "big")
        elif kind == b"mdcv" and len(data) >= 24:
            peaks[kind] = int.from_bytes(data[16:20], "big") / _PARTS_OF_A_NIT
    return peaks.get(b"clli") or peaks.get(b"mdcv") or 0
