"""Whether bytes are a JPEG as the image step writes it: these segments, in this order, no others.

A decoder may have been taken over by its file, and what it answers is served under our name: no
comment, profile or second picture passes, and nothing before or behind. Known to the service, so no
decoding library is loaded.
"""

import re
import struct

# Pure noise has less than one for each pixel, in whole blocks of 16 x 16; and the tables.
_MOST_BYTES_PER_PIXEL = 3
_MOST_TABLE_BYTES = 1024
_BLOCK_SIDE_PX = 16

_START = b"\xff\xd8" + b"\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
# ITU T.81, B.2.2 and B.2.4.1: two quantisation tables of 64 bytes, and a baseline frame of three
# components, of which the first has twice the samples of the others on either side.
_TABLE = b"\xff\xdb\0\x43%c[^\0]{64}"
_FRAME = struct.Struct("!5sHH10s")
_FRAME_HEAD = b"\xff\xc0\0\x11\x08"
_FRAME_COMPONENTS = b"\x03\x01\x22\0\x02\x11\x01\x03\x11\x01"
_SCAN = b"\xff\xda\0\x0c\x03\x01\0\x02\x11\x03\x11\0\x3f\0"
_UP_TO_FRAME = re.compile(re.escape(_START) + _TABLE % 0 + _TABLE % 1, re.DOTALL)
# B.2.4.2: how many codes there are of each of 16 lengths, then what each code stands for.
_CODES_HEAD = struct.Struct("!2sHB16s")
# What codes may stand for: the bits of a difference (F.1.2.1); a run of up to 15 zeros, with the
# bits of what ends it, the end of a block, or 16 zeros (F.1.2.2).
_DIFFERENCES = frozenset(range(12))
_RUNS = frozenset(zeros << 4 | bits for zeros in range(16) for bits in range(1, 11)) | {0x00, 0xF0}
# The tables by number.
_CODES = {0x00: _DIFFERENCES, 0x10: _RUNS, 0x01: _DIFFERENCES, 0x11: _RUNS}
_LONGEST_CODE_BITS = 16
# B.1.1.5: in the coded picture every FF is followed by a zero. No restart markers are written.
_MARKER = re.compile(rb"\xff[^\0]", re.DOTALL)
_END = b"\xff\xd9"


def count_most_bytes(size: tuple[int, int]) -> int:
    """Count what the longest JPEG of these sides may have, or any shorter kind of file."""
    width_px, height_px = (_round_up(side) for side in size)
    return _MOST_TABLE_BYTES + _MOST_BYTES_PER_PIXEL * width_px * height_px


def _round_up(side_px: int) -> int:
    return -(-side_px // _BLOCK_SIDE_PX) * _BLOCK_SIDE_PX


def is_served_jpeg(jpeg: bytes, size: tuple[int, int]) -> bool:
    """Whether it is one of ours and of these sides, from the first byte to the last.

    The picture is not decoded.
    """
    beginning = _UP_TO_FRAME.match(jpeg)
    if beginning is None:
        return False
    width_px, height_px = size
    frame = _FRAME.pack(_FRAME_HEAD, height_px, width_px, _FRAME_COMPONENTS)
    if not jpeg.startswith(frame, beginning.end()):
        return False
    position = beginning.end() + len(frame)
    for number in _CODES:
        length = _measure_codes(jpeg, position, number)
        if length is None:
            return False
        position += length
    if not jpeg.startswith(_SCAN, position):
        return False
    marker = _MARKER.search(jpeg, position + len(_SCAN))
    return marker is not None and marker.group() == _END and marker.end() == len(jpeg)


def _measure_codes(jpeg: bytes, position: int, number: int) -> int | None:
    """Measure the segment of these codes, from its marker on; None if it is another."""
    if position + _CODES_HEAD.size > len(jpeg):
        return None
    marker, length, found_number, counts = _CODES_HEAD.unpack_from(jpeg, position)
    is_sound = marker == b"\xff\xc4" and found_number == number and _can_be_codes(counts)
    if not is_sound or length != _CODES_HEAD.size - len(marker) + sum(counts):
        return None
    meanings = jpeg[position + _CODES_HEAD.size : position + len(marker) + length]
    is_each_one = 0 < len(set(meanings)) == len(meanings)
    if not is_each_one or not _CODES[number].issuperset(meanings):
        return None
    whole_bytes: int = len(marker) + length
    return whole_bytes


def _can_be_codes(counts: bytes) -> bool:
    """Whether so many codes of each length leave one code of ones over, which no table may have."""
    taken = sum(count << (_LONGEST_CODE_BITS - bits) for bits, count in enumerate(counts, start=1))
    return taken < 1 << _LONGEST_CODE_BITS
