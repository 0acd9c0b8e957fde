"""What an AV1 stream says of its colours in its sequence header (AV1, 5.5), and nothing else."""

from typing import NamedTuple

from pictures.values import Content

# A still picture has its header at once, or behind a delimiter.
_MOST_UNITS = 8
_SEQUENCE_HEADER = 1
# The header is never longer.
_HEADER_BYTES = 128
_LONGEST_SIZE_BYTES = 8
_MAIN_PROFILES_WITH_GREY = (0, 2)
_PROFESSIONAL = 2
_HAS_TIER = 8
_CHOOSE = 2


class CodedColours(NamedTuple):
    """Numbers of CICP (ITU-T H.273)."""

    primaries: int
    transfer: int
    matrix: int


class _Bits:
    """The bits of a header; behind its end they are 0."""

    def __init__(self, header: Content) -> None:
        self._bits = int.from_bytes(header, "big")
        self._left = 8 * len(header)

    def read(self, count: int = 1) -> int:
        self._left -= count
        if self._left < 0:
            return 0
        return self._bits >> self._left & ((1 << count) - 1)

    def read_variable(self) -> int:
        """uvlc() (4.10.3)."""
        zeros = 0
        while zeros < 32 and not self.read():
            zeros += 1
        return self.read(zeros) + (1 << zeros) - 1


def read_coded_colours(stream: Content) -> CodedColours | None:
    """Read them out of the first sequence header; None where there is none, or it says nothing."""
    position = 0
    for _ in range(_MOST_UNITS):
        if position >= len(stream):
            return None
        head = stream[position]
        kind = head >> 3 & 15
        has_extension = head >> 2 & 1
        has_size = head >> 1 & 1
        position += 1 + has_extension
        size = len(stream) - position
        if has_size:
            size, size_bytes = _read_size(stream, position)
            position += size_bytes
        if kind == _SEQUENCE_HEADER:
            return _read_header(stream[position : position + min(size, _HEADER_BYTES)])
        position += size
    return None


def _read_size(stream: Content, position: int) -> tuple[int, int]:
    """leb128() (4.10.5), and how many bytes that are."""
    size = 0
    for number, byte in enumerate(stream[position : position + _LONGEST_SIZE_BYTES]):
        size |= (byte & 0x7F) << 7 * number
        if not byte & 0x80:
            return size, number + 1
    return size, _LONGEST_SIZE_BYTES


def _read_header(header: Content) -> CodedColours | None:
    """sequence_header_obu() (5.5.1)."""
    bits = _Bits(header)
    profile = bits.read(3)
    bits.read()
    is_reduced = bits.read()
    if is_reduced:
        bits.read(5)
    else:
        _skip_operating_points(bits)
    side_bits = (bits.read(4) + 1, bits.read(4) + 1)
    bits.read(sum(side_bits))
    if not is_reduced and bits.read():
        bits.read(7)
    bits.read(3)
    if not is_reduced:
        _skip_tools(bits)
    bits.read(3)
    return _read_colours(bits, profile)


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.read():
        bits.read(64)
        if bits.read():
            bits.read_variable()
        if bits.read():
            delay_bits = bits.read(5) + 1
            bits.read(42)
    has_display_delay = bits.read()
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) >= _HAS_TIER:
            bits.read()
        if delay_bits and bits.read():
            bits.read(2 * delay_bits + 1)
        if has_display_delay and bits.read():
            bits.read(4)


def _skip_tools(bits: _Bits) -> None:
    bits.read(4)
    has_order_hint = bits.read()
    if has_order_hint:
        bits.read(2)
    is_screen_content = _CHOOSE if bits.read() else bits.read()
    if is_screen_content and not bits.read():
        bits.read()
    if has_order_hint:
        bits.read(3)


def _read_colours(bits: _Bits, profile: int) -> CodedColours | None:
    """color_config() (5.5.2), as far as it says what colours mean."""
    is_deep = bits.read()
    if is_deep and profile == _PROFESSIONAL:
        bits.read()
    if profile in _MAIN_PROFILES_WITH_GREY:
        bits.read()
    if not bits.read():
        return None
    return CodedColours(bits.read(8), bits.read(8), bits.read(8))
