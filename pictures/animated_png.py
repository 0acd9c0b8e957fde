"""The first frame of an animated PNG whose own picture is no frame of its animation.

Browsers show that frame, and never the picture, which is for readers that know no animations (PNG
3, 4.9). The decoder is shown a PNG of the frame alone.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from pictures.png_chunks import PIXELS, Chunk
from pictures.values import Content

_CONTROL = b"acTL"
_FRAME = b"fcTL"
_FRAME_PIXELS = b"fdAT"
# How many frames there are, and how often they are played (PNG 3, 11.3.6.1 and 7.1).
_CONTROL_COUNTS = struct.Struct(">2I")
_MOST_COUNT = 2**31 - 1
_SEQUENCE_BYTES = 4
# A number, the frame's sides and its place; the rest is about the frames behind it (PNG 3,
# 11.3.6.2).
_FRAME_CONTROL = struct.Struct(">5I6x")
_SIDES = struct.Struct(">2I")
_HEAD = b"IHDR"
_SIGNATURE_BYTES = 8
_SIDES_START = 16


class FirstFrame(NamedTuple):
    """A PNG of the frame, and where it lies on a canvas of these sides."""

    content: bytes
    canvas_size: tuple[int, int]
    box: tuple[int, int, int, int]


def find_first_frame(content: Content, chunks: Sequence[Chunk]) -> FirstFrame | None:
    """Find the frame that is shown in place of the PNG's own picture; None where that one is.

    That is so too where something about the frame is wrong.
    """
    own_picture_at = _find(chunks, PIXELS)
    if own_picture_at is None:
        return None
    before = chunks[:own_picture_at]
    control_at = _find(before, _CONTROL)
    if control_at is None or _find(before, _FRAME) is not None:
        return None
    has_frames = _has_frames(_read_sound(content, before[control_at]))
    frame, pixels = _list_first_frame(chunks[own_picture_at:])
    if not has_frames or frame is None or not _are_numbered(content, pixels):
        return None
    control = _read_sound(content, frame)
    if len(control) != _FRAME_CONTROL.size:
        return None
    _, width, height, left, top = _FRAME_CONTROL.unpack(control)
    canvas_size = _SIDES.unpack_from(content, _SIDES_START)
    box = (left, top, left + width, top + height)
    if not (width and height and box[2] <= canvas_size[0] and box[3] <= canvas_size[1]):
        return None
    return FirstFrame(_make_png(content, chunks, pixels, (width, height)), canvas_size, box)


def _find(chunks: Sequence[Chunk], kind: bytes) -> int | None:
    return next((number for number, chunk in enumerate(chunks) if chunk.kind == kind), None)


def _read_sound(content: Content, chunk: Chunk) -> bytes:
    """Read what the chunk holds, or nothing where its checksum is wrong."""
    summed = bytes(content[chunk.start + 4 : chunk.data_end])
    if zlib.crc32(summed) != int.from_bytes(content[chunk.data_end : chunk.end], "big"):
        return b""
    return summed[4:]


def _has_frames(control: bytes) -> bool:
    """Whether an animation has frames; one of more than a PNG can count is none for browsers."""
    if len(control) != _CONTROL_COUNTS.size:
        return False
    frame_count, play_count = _CONTROL_COUNTS.unpack(control)
    are_counted: bool = frame_count > 0 and max(frame_count, play_count) <= _MOST_COUNT
    return are_counted


def _list_first_frame(chunks: Sequence[Chunk]) -> tuple[Chunk | None, list[Chunk]]:
    """List the chunks of the first frame that has pixels, and the one that says where it lies."""
    frame: Chunk | None = None
    pixels: list[Chunk] = []
    for chunk in chunks:
        if chunk.kind == _FRAME:
            if pixels:
                break
            frame = chunk
        elif chunk.kind == _FRAME_PIXELS:
            pixels.append(chunk)
    return frame, pixels


def _are_numbered(content: Content, pixels: Sequence[Chunk]) -> bool:
    """Whether there are any, one behind the other; the file may end within the last."""
    if not pixels or pixels[-1].data_start + _SEQUENCE_BYTES >= len(content):
        return False
    numbers = [
        int.from_bytes(content[chunk.data_start : chunk.data_start + _SEQUENCE_BYTES], "big")
        for chunk in pixels
    ]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _make_png(
    content: Content, chunks: Sequence[Chunk], pixels: Sequence[Chunk], size: tuple[int, int]
) -> bytes:
    """Make a PNG of the frame alone; what stands beside the pixels stays."""
    parts: list[Content] = [content[:_SIGNATURE_BYTES]]
    is_made = False
    for chunk in chunks:
        if chunk.kind == _HEAD:
            rest = content[chunk.data_start + _SIDES.size : chunk.data_end]
            parts.append(_make_chunk(_HEAD, _SIDES.pack(*size) + bytes(rest)))
        elif chunk.kind == PIXELS:
            if not is_made:
                parts += [_make_pixels(content, each) for each in pixels]
            is_made = True
        elif chunk.kind not in (_FRAME, _FRAME_PIXELS):
            parts.append(content[chunk.start : chunk.end])
    return b"".join(parts)


def _make_pixels(content: Content, chunk: Chunk) -> bytes:
    return _make_chunk(PIXELS, content[chunk.data_start + _SEQUENCE_BYTES : chunk.data_end])


def _make_chunk(kind: bytes, data: Content) -> bytes:
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return b"".join((len(data).to_bytes(4, "big"), kind, data, checksum.to_bytes(4, "big")))
