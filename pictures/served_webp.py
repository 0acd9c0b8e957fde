"""Whether bytes are a WebP as we write it: one lossy picture, with or without its transparency.

A decoder may have been taken over, and what it answers is served under our name: no metadata,
animation or second picture passes, no transparency but where it is asked for, and nothing before or
behind. Known to the service, so no decoding library is loaded.
"""

import struct

# RFC 9649, 2.3 and 2.4: a file of chunks, each filled up to an even length.
_CONTAINER = struct.Struct("<4sI4s")
_RIFF_HEAD_BYTES = 8
_CHUNK_HEAD = struct.Struct("<4sI")
# 2.5: the simple form is this chunk alone, which libwebp fills up by itself. RFC 6386, 9.1: the
# frame's tag, its start code, and the sides, whose upper bits would scale it.
_PICTURE = b"VP8 "
_FRAME = struct.Struct("<3s3sHH")
_START_CODE = b"\x9d\x01\x2a"
# Of the tag: a key frame of version 0 that is shown; the rest is the length of the first partition.
_TAG_BITS = 5
_TAG = 0b10000
# 2.7: what the extended form has of all that it may have; the sides follow, less one, of 24 bits.
_EXTENDED_HEAD = _CHUNK_HEAD.pack(b"VP8X", 10)
_HAS_TRANSPARENCY_ONLY = bytes((0b10000, 0, 0, 0))
_SIDE_BYTES = 3
# 2.7.1.2: whether the transparency is compressed, and by which of four filters its rows were
# changed before; reduced to fewer levels it is never.
_TRANSPARENCY = b"ALPH"
_COMPRESSED = 0b01
_FILTERS = 0b1100


def is_served_webp(webp: bytes, size: tuple[int, int]) -> bool:
    """Whether it is one of ours and of these sides. The picture is not decoded."""
    return _is_container(webp) and _is_picture(webp, _CONTAINER.size, size)


def is_served_clear_webp(webp: bytes, size: tuple[int, int]) -> bool:
    """Whether it is one of ours of these sides that has its transparency beside its colours.

    Neither is decoded.
    """
    sides = b"".join((side_px - 1).to_bytes(_SIDE_BYTES, "little") for side_px in size)
    head = _EXTENDED_HEAD + _HAS_TRANSPARENCY_ONLY + sides
    if not _is_container(webp) or not webp.startswith(head, _CONTAINER.size):
        return False
    picture_at = _find_behind_transparency(webp, _CONTAINER.size + len(head), size)
    return picture_at is not None and _is_picture(webp, picture_at, size)


def _is_container(webp: bytes) -> bool:
    if len(webp) < _CONTAINER.size:
        return False
    return webp.startswith(_CONTAINER.pack(b"RIFF", len(webp) - _RIFF_HEAD_BYTES, b"WEBP"))


def _is_picture(webp: bytes, at: int, size: tuple[int, int]) -> bool:
    """Whether all that is left from there on is one picture of these sides."""
    head_bytes = _CHUNK_HEAD.size + _FRAME.size
    left_bytes = len(webp) - at
    if left_bytes <= head_bytes or left_bytes % 2:
        return False
    if not webp.startswith(_CHUNK_HEAD.pack(_PICTURE, left_bytes - _CHUNK_HEAD.size), at):
        return False
    tag, start_code, width_px, height_px = _FRAME.unpack_from(webp, at + _CHUNK_HEAD.size)
    if start_code != _START_CODE or (width_px, height_px) != size:
        return False
    first_partition_bytes, kind = divmod(int.from_bytes(tag, "little"), 1 << _TAG_BITS)
    return kind == _TAG and 0 < first_partition_bytes < left_bytes - head_bytes


def _find_behind_transparency(webp: bytes, at: int, size: tuple[int, int]) -> int | None:
    """Find the end of the transparency that begins there; None where there is none of ours."""
    if at + _CHUNK_HEAD.size >= len(webp):
        return None
    name, chunk_bytes = _CHUNK_HEAD.unpack_from(webp, at)
    begin = at + _CHUNK_HEAD.size
    end = begin + chunk_bytes
    filler = webp[end : end + chunk_bytes % 2]
    if name != _TRANSPARENCY or chunk_bytes < 2 or any(filler):
        return None
    how = webp[begin]
    most_bytes = 1 + size[0] * size[1]
    is_long_enough = chunk_bytes <= most_bytes if how & _COMPRESSED else chunk_bytes == most_bytes
    if how & ~(_COMPRESSED | _FILTERS) or not is_long_enough:
        return None
    picture_at: int = end + len(filler)
    return picture_at
