"""What a JPEG file says of its picture, and where the picture ends, read from its segments.

Nothing is decoded: markers and lengths are all that counts (ITU T.81, annex B).
"""

import re
from dataclasses import dataclass

from pictures.reading import LONGEST_SEARCH_BYTES, MOST_STEPS, Reading, Stretch
from pictures.values import Content, Header

# Of a picture that cannot be decoded line by line: its coefficients are kept, two bytes each.
_COEFFICIENT_BYTES = 2
_MARKER = re.compile(rb"\xff")
# What ends a stretch of coded data: no stuffed byte, no restart, nothing else without a length; and
# of several FF the last one counts.
SEGMENT_OR_END = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_END_MARKER = 0xD9
_SCANNED_BYTES = 1024 * 1024


@dataclass(frozen=True)
class _Frame:
    """A frame header (B.2.2), behind its length."""

    marker: int
    body: Content

    def read_samplings(self) -> list[tuple[int, int]]:
        """Read how many samples across and down each component has in a block."""
        count = self.body[5] if len(self.body) > 5 else 0
        return [divmod(both, 16) for both in self.body[7 : 6 + 3 * count : 3]]


def read_jpeg() -> Reading[Header | None]:
    """Read the frame header, and whether one scan holds all components (B.2).

    The header's `metadata_bytes` is also where the first scan begins.
    """
    position = 2
    frame: _Frame | None = None
    for _ in range(MOST_STEPS):
        head = yield Stretch(position, 4, 4)
        if head[:1] != b"\xff":
            # Junk is passed over, as libjpeg does.
            junk_bytes = yield from _measure_junk(position)
            if junk_bytes is None:
                return None
            position += junk_bytes
            head = yield Stretch(position, 4, 4)
        if len(head) < 4:
            return None
        marker = head[1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD9:  # these have no length
            position += 2
            continue
        length = int.from_bytes(head[2:], "big")
        body_bytes = max(0, length - 2)
        if marker == 0xDA:
            first = yield Stretch(position + 4, 1, min(1, body_bytes))
            components_in_scan = first[0] if first else 0
            return None if frame is None else _tell_jpeg(frame, components_in_scan, position)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            body = yield Stretch(position + 4, body_bytes, body_bytes)
            frame = _Frame(marker, body)
        position += 2 + max(2, length)
    return None


def _measure_junk(position: int) -> Reading[int | None]:
    """Count the bytes before the next marker; None if there is none near."""
    junk_bytes = 0
    while junk_bytes < LONGEST_SEARCH_BYTES:
        stretch = yield Stretch(position + junk_bytes, 1, LONGEST_SEARCH_BYTES - junk_bytes)
        if not stretch:
            break
        found = _MARKER.search(stretch)
        if found is not None:
            return junk_bytes + found.start()
        junk_bytes += len(stretch)
    return None


def _tell_jpeg(frame: _Frame, components_in_scan: int, metadata_bytes: int) -> Header | None:
    samplings = frame.read_samplings()
    if not samplings or not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in samplings):
        return None
    height_px = int.from_bytes(frame.body[1:3], "big")
    width_px = int.from_bytes(frame.body[3:5], "big")
    is_sequential = frame.marker in (0xC0, 0xC1)  # and Huffman's
    if is_sequential and components_in_scan == len(samplings):
        return Header("JPEG", width_px, height_px, 0, metadata_bytes, is_baseline=True)
    # Each component is kept at its own sampling.
    largest = max(h for h, _ in samplings) * max(v for _, v in samplings)
    coefficients_per_pixel = sum(h * v for h, v in samplings) / largest
    bytes_per_pixel = _COEFFICIENT_BYTES * coefficients_per_pixel
    return Header("JPEG", width_px, height_px, bytes_per_pixel, metadata_bytes)


def find_jpeg_end(position: int) -> Reading[int | None]:
    """Find where the picture ends whose first scan begins here: behind its end marker.

    That is told with its last byte. None if there is no such marker, or more segments come before
    it than any picture has.
    """
    for _ in range(MOST_STEPS):
        marker_position = yield from _find_segment_or_end(position)
        if marker_position is None:
            return None
        head = yield Stretch(marker_position, 2, 4)
        if head[1] == _END_MARKER:
            return marker_position + 2
        if len(head) < 4:
            head = yield Stretch(marker_position, 4, 4)
        position = marker_position + 2 + max(2, int.from_bytes(head[2:], "big"))
    return None


def _find_segment_or_end(position: int) -> Reading[int | None]:
    """Find the next marker that ends coded data. Its first byte may be the last that has come."""
    while True:
        stretch = yield Stretch(position, 2, _SCANNED_BYTES)
        found = SEGMENT_OR_END.search(stretch)
        if found is not None:
            return position + found.start()
        if len(stretch) < 2:
            return None
        position += len(stretch) - 1
