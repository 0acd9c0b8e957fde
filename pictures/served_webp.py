"""Whether bytes are a WebP as a rendition has it: one lossy picture in one chunk, and no other.

A decoder may have been taken over, and what it answers is served under our name: no metadata,
animation, transparency or second picture passes, and nothing before or behind. Known to the
service, so no decoding library is loaded.
"""

import struct

# RFC 9649, 2.3, 2.4 and 2.5: a file in the simple form, whose chunk libwebp fills up to an even
# length by itself.
_CONTAINER = struct.Struct("<4sI4s4sI")
_RIFF_HEAD_BYTES = 8
# RFC 6386, 9.1: the frame's tag, its start code, and the sides, whose upper bits would scale it.
_FRAME = struct.Struct("<3s3sHH")
_START_CODE = b"\x9d\x01\x2a"
# Of the tag: a key frame of version 0 that is shown; the rest is the length of the first partition.
_TAG_BITS = 5
_TAG = 0b10000


def is_served_webp(webp: bytes, size: tuple[int, int]) -> bool:
    """Whether it is one of ours and of these sides. The picture is not decoded."""
    head_bytes = _CONTAINER.size + _FRAME.size
    if len(webp) <= head_bytes or len(webp) % 2:
        return False
    container = (b"RIFF", len(webp) - _RIFF_HEAD_BYTES, b"WEBP", b"VP8 ", _count_behind(webp))
    if not webp.startswith(_CONTAINER.pack(*container)):
        return False
    tag, start_code, width_px, height_px = _FRAME.unpack_from(webp, _CONTAINER.size)
    if start_code != _START_CODE or (width_px, height_px) != size:
        return False
    first_partition_bytes, kind = divmod(int.from_bytes(tag, "little"), 1 << _TAG_BITS)
    return kind == _TAG and 0 < first_partition_bytes < len(webp) - head_bytes


def _count_behind(webp: bytes) -> int:
    """Count the bytes behind the chunk's head."""
    return len(webp) - _CONTAINER.size
