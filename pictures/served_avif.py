"""Whether bytes are an AVIF as a rendition has it: these boxes, one picture, and no other.

A decoder may have been taken over, and what it answers is served under our name: no metadata,
profile, thumbnail or second picture passes, and nothing before or behind. Known to the service, so
no decoding library is loaded.
"""

import re
from collections.abc import Iterator

_BOX_HEAD_BYTES = 8
# AV1, 5.3.2: the heads of the three parts of the coded picture, each of which tells its length: a
# delimiter, the header of the sequence, and the frame.
_DELIMITER = b"\x12\0"
_SEQUENCE_HEAD = 0x0A
_FRAME_HEAD = 0x32
_LONGEST_LENGTH_BYTES = 4
# AV1, 5.5.1 and 5.5.2, in bits: a still picture of the main profile, and its level; its sides; five
# tools that it may use, and between them that it is not enlarged; eight bits in three planes in
# sRGB's colours (CICP 1, 13, 6), full range, colour halved on both sides; no film grain.
_STILL_PICTURE = "00011(?P<level>[01]{5})"
_REST = f"[01]{{3}}0[01]{{2}}001{1:08b}{13:08b}{6:08b}10000" + "10{0,7}"
_MOST_SEQUENCE_BYTES = 16


def is_served_avif(avif: bytes, size: tuple[int, int]) -> bool:
    """Whether it is one of ours and of these sides. The picture is not decoded."""
    # Whatever its level is, the head has one length.
    head_bytes = len(_write_head(size, 0, 0))
    coded = avif[head_bytes:]
    level = _read_level(coded, size)
    return level is not None and avif.startswith(_write_head(size, level, len(coded)))


def _write_head(size: tuple[int, int], level: int, coded_bytes: int) -> bytes:
    """Write what libavif does before the coded picture (ISO/IEC 14496-12 and 23008-12)."""
    brands = _box("ftyp", b"avif\0\0\0\0" + b"avif" + b"mif1" + b"miaf" + b"MA1B")
    handler = _full_box("hdlr", b"\0\0\0\0" + b"pict" + bytes(12) + b"\0")
    primary = _full_box("pitm", _write(1, 2))
    entry = _full_box("infe", _write(1, 2) + b"\0\0" + b"av01" + b"Color\0", version=2)
    information = _full_box("iinf", _write(1, 2) + entry)
    sides = b"".join(_write(side_px, 4) for side_px in size)
    properties = (
        _full_box("ispe", sides)
        + _full_box("pixi", b"\3\x08\x08\x08")
        + _box("av1C", bytes((0x81, level, 0x0C, 0)))
        + _box("colr", b"nclx" + _write(1, 2) + _write(13, 2) + _write(6, 2) + b"\x80")
    )
    # Of the one item, all four; whoever cannot read the codec's may not show it.
    associations = _full_box("ipma", _write(1, 4) + _write(1, 2) + b"\4\1\2\x83\4")
    places = _box("iprp", _box("ipco", properties) + associations)

    def write_meta(position: int) -> bytes:
        extent = _write(1, 2) + _write(position, 4) + _write(coded_bytes, 4)
        location = _full_box("iloc", b"\x44\0" + _write(1, 2) + _write(1, 2) + b"\0\0" + extent)
        return _full_box("meta", handler + primary + location + information + places)

    data_head = _write(_BOX_HEAD_BYTES + coded_bytes, 4) + b"mdat"
    position = len(brands) + len(write_meta(0)) + len(data_head)
    return brands + write_meta(position) + data_head


def _box(kind: str, body: bytes) -> bytes:
    return _write(_BOX_HEAD_BYTES + len(body), 4) + kind.encode() + body


def _full_box(kind: str, body: bytes, version: int = 0) -> bytes:
    return _box(kind, bytes((version, 0, 0, 0)) + body)


def _write(number: int, length_bytes: int) -> bytes:
    return number.to_bytes(length_bytes, "big")


def _read_level(coded: bytes, size: tuple[int, int]) -> int | None:
    """Read the level of a coded picture of these sides; None if it is none of ours."""
    if not coded.startswith(_DELIMITER):
        return None
    sequence = _read_part(coded, len(_DELIMITER), _SEQUENCE_HEAD)
    if sequence is None or len(sequence) > _MOST_SEQUENCE_BYTES:
        return None
    frame = _read_part(coded, sequence.stop, _FRAME_HEAD)
    if frame is None or frame.stop != len(coded) or frame.start == frame.stop:
        return None
    return _read_sequence(coded[sequence.start : sequence.stop], size)


def _read_part(coded: bytes, position: int, head: int) -> range | None:
    """Find where the body lies of the part that begins here, which must have this head."""
    if coded[position : position + 1] != bytes((head,)):
        return None
    length = 0
    for place, byte in enumerate(coded[position + 1 : position + 1 + _LONGEST_LENGTH_BYTES]):
        length |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            start = position + 2 + place
            return range(start, start + length) if start + length <= len(coded) else None
    return None


def _read_sequence(header: bytes, size: tuple[int, int]) -> int | None:
    """Read the level in the header of a sequence of such pictures; None if it is another."""
    bits = "".join(f"{byte:08b}" for byte in header)
    found = re.fullmatch(_STILL_PICTURE + "".join(_write_sides(size)) + _REST, bits)
    return None if found is None else int(found["level"], 2)


def _write_sides(size: tuple[int, int]) -> Iterator[str]:
    """Write how many bits each side takes, less one, and then the sides, less one."""
    lengths = [max(1, (side_px - 1).bit_length()) for side_px in size]
    yield from (f"{length - 1:04b}" for length in lengths)
    yield from (f"{side_px - 1:0{length}b}" for side_px, length in zip(size, lengths, strict=True))
