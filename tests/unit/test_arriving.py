"""Proves that a file is judged while it arrives as it is when it is there, and no later than that.

However it is cut into pieces: by hand, at random, and a byte at a time.
"""

import random
import struct
import tracemalloc
from collections.abc import Iterable, Iterator

import pytest
from PIL import Image

from errors import (
    DarkroomError,
    NotAPicture,
    SideTooLong,
    TooManyPixels,
    UnsupportedFormat,
)
from pictures.arriving import ArrivedPicture, HeaderWatch
from pictures.costs import examine
from pictures.formats import Extent
from pictures.reading import LONGEST_SEARCH_BYTES, Reading, Stretch
from pictures.values import Header
from tests.support.gallery import CASES
from tests.support.pictures import encoded, exif_block, jpeg, quarters, with_chunk, with_segment

LIMITS = (50_000_000, 25_000_000)
SMALL_LIMITS = (5_000, 2_000)
MIB = 1024 * 1024
HEIC_START = struct.pack(">I4s12s", 20, b"ftyp", b"heic\0\0\0\0heic")
PROGRESSIVE = jpeg(200, 150, progressive=True)
THUMBNAIL = jpeg(160, 120)


def cut(content: bytes, piece_bytes: int) -> Iterator[bytes]:
    for start in range(0, len(content), piece_bytes):
        yield content[start : start + piece_bytes]


def cut_anywhere(content: bytes, seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    start = 0
    while start < len(content):
        end = start + rng.choice((1, 2, 3, 10, 50, 1000))
        yield content[start:end]
        start = end


def watch(pieces: Iterable[bytes], limits: tuple[int, int] = LIMITS) -> ArrivedPicture:
    header_watch = HeaderWatch(*limits)
    fed_bytes = 0
    end_bytes = None
    for piece in pieces:
        header_watch.feed(piece)
        if end_bytes is None and header_watch.picture_bytes is not None:
            end_bytes = header_watch.picture_bytes
            assert fed_bytes < end_bytes <= fed_bytes + len(piece), "known with its last byte"
        fed_bytes += len(piece)
    return header_watch.finish()


def judge(pieces: Iterable[bytes], limits: tuple[int, int] = LIMITS) -> Header | tuple[str, str]:
    try:
        return watch(pieces, limits).header
    except DarkroomError as err:
        return err.code, err.detail


def judge_whole(content: bytes, limits: tuple[int, int] = LIMITS) -> Header | tuple[str, str]:
    try:
        return examine(content, None, *limits)[0]
    except DarkroomError as err:
        return err.code, err.detail


def damage(content: bytes, seed: int) -> bytes:
    """Change, repeat or leave out a little, most often near the beginning."""
    rng = random.Random(seed)
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 3))):
        at = rng.randrange(min(len(damaged), rng.choice((40, 400, 100_000))))
        change = rng.randrange(3)
        if change == 0:
            damaged[at] = rng.choice((0, 1, 0xFF, rng.randrange(256)))
        elif change == 1:
            del damaged[at : at + rng.choice((1, 4, 30))]
        else:
            damaged[at:at] = damaged[at : at + rng.choice((1, 4, 30))]
    return bytes(damaged)


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_picture_is_judged_as_the_whole_file_is(name: str) -> None:
    content = CASES[name].make()
    arrived = watch(cut_anywhere(content, seed=1))
    header, cost = examine(content, None, *LIMITS)
    assert arrived.header == header
    assert arrived.size_bytes == len(content)
    assert arrived.cost.memory_bytes >= cost.memory_bytes
    for piece_bytes in (1, 7, 4096, len(content)):
        assert watch(cut(content, piece_bytes)) == arrived
    assert judge(cut(content, 5), SMALL_LIMITS) == judge_whole(content, SMALL_LIMITS)


@pytest.mark.parametrize("name", [*CASES][::6])
def test_what_is_damaged_or_cut_short_is_refused_as_the_whole_file_is(name: str) -> None:
    content = CASES[name].make()
    rng = random.Random(name)
    ends = [*range(40), *(rng.randrange(len(content)) for _ in range(20))]
    files = [content[:end] for end in ends] + [damage(content, seed) for seed in range(30)]
    for file in files:
        expected = judge_whole(file)
        assert judge(cut_anywhere(file, seed=2)) == expected
        assert judge(cut(file, 1)) == expected


HOSTILE = {
    "nothing": b"",
    "spaces": b" " * 20_000,
    "a PDF": b"\r\n" * 400 + b"%PDF-1.7" + bytes(9000),
    "JPEG segments": b"\xff\xd8" + b"\xff\xe0\0\2" * 9000,
    "JPEG junk": b"\xff\xd8\xff\0" + bytes(70_000) + b"\xff\xd9",
    "JPEG junk that is passed over": jpeg()[:2] + b"\xff\1" + bytes(60_000) + jpeg()[2:],
    "JPEG junk before a tiny scan": jpeg(8, 8)[:20] + bytes(9000) + jpeg(8, 8)[20:],
    "a JPEG of its ends only": b"\xff\xd8\xff\xe0\0\2\xff\xd9",
    "a PNG that says another length": with_chunk(encoded(quarters(9, 9), "PNG"), b"tEXt", bytes(99))
    .replace(b"IDAT", b"IDAt"),
    "a GIF of nothing": b"GIF89a" + bytes(20_000),
    "boxes": HEIC_START + struct.pack(">I4s", 8, b"free") * 9000,
    "a box that is cut": HEIC_START + struct.pack(">I4s", 90_000, b"mdat") + bytes(80_000),
    "a box that is not": HEIC_START + struct.pack(">I4s", 80_008, b"mdat") + bytes(80_000),
    "a box without an end": HEIC_START + struct.pack(">I4s", 0, b"mdat") + bytes(80_000),
    "a box longer than any file": HEIC_START + struct.pack(">I4sQ", 1, b"mdat", 2**64 - 1),
    "a meta that is cut": HEIC_START + struct.pack(">I4s", 9000, b"meta") + bytes(100),
    "a meta of nothing, and a cut box": HEIC_START
    + struct.pack(">I4sI", 12, b"meta", 0)
    + struct.pack(">I4s", 99, b"mdat"),
}  # fmt: skip


# What is cut is told from what is broken.
CUT = (
    "a box that is cut",
    "a box longer than any file",
    "a meta that is cut",
    "a meta of nothing, and a cut box",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_made_to_confuse_is_judged_as_the_whole_file_is(name: str) -> None:
    content = HOSTILE[name]
    expected = judge_whole(content)
    if name in CUT:
        assert not isinstance(expected, Header)
        assert expected[0] == "truncated_picture"
    for pieces in (cut(content, 1), cut(content, 3333), cut_anywhere(content, 3), [content]):
        assert judge(pieces) == expected


@pytest.mark.parametrize(
    ("content", "refusal", "most_bytes"),
    [
        (b"hello", NotAPicture, 9000),
        (b"%PDF-1.7", UnsupportedFormat, 9000),
        (b"PK\x03\x04", UnsupportedFormat, 9000),
        (jpeg(100, 100), TooManyPixels, 1000),
        (encoded(quarters(100, 100), "PNG"), TooManyPixels, 100),
        (encoded(quarters(100, 100), "WEBP"), TooManyPixels, 200),
        (encoded(quarters(100, 100), "GIF"), TooManyPixels, 1000),
        (encoded(quarters(100, 100), "AVIF", speed=10), TooManyPixels, 1000),
    ],
)
def test_it_is_refused_long_before_it_has_arrived(
    content: bytes, refusal: type[DarkroomError], most_bytes: int
) -> None:
    header_watch = HeaderWatch(*SMALL_LIMITS)
    fed_bytes = 0
    with pytest.raises(refusal):
        for piece in cut(content.ljust(MIB, b"\1"), 50):
            fed_bytes += len(piece)
            header_watch.feed(piece)
    assert fed_bytes <= most_bytes


def test_a_side_that_is_too_long_is_refused_at_once() -> None:
    png = encoded(Image.new("1", (70_000, 1)), "PNG")
    with pytest.raises(SideTooLong):
        HeaderWatch(*LIMITS).feed(png[:33])


def test_the_type_is_told_as_soon_as_the_header_was_judged() -> None:
    header_watch = HeaderWatch(*LIMITS)
    content = jpeg()
    scan = content.index(b"\xff\xda")
    header_watch.feed(content[:scan])
    assert header_watch.content_type is None
    header_watch.feed(content[scan : scan + 5])
    assert header_watch.content_type == "image/jpeg"


ENDS = {
    "baseline": jpeg(200, 150),
    "grey": encoded(quarters(200, 150).convert("L")),
    "progressive": PROGRESSIVE,
    "restarts": jpeg(200, 150, restart_marker_blocks=1),
    "fill bytes before the end": jpeg(200, 150)[:-2] + b"\xff\xff\xff\xff\xd9",
    "a thumbnail with its own end": with_segment(jpeg(200, 150), 0xE1, b"Exif\0\0" + THUMBNAIL),
    "a comment between scans": PROGRESSIVE[: PROGRESSIVE.rindex(b"\xff\xda")]
    + b"\xff\xfe\0\4\xff\xd9"
    + PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") :],
    "metadata behind the picture": with_segment(jpeg(), 0xE1, exif_block([])),
}


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("behind", [b"", b"\0" * 100_000, b"\xff\xd9", jpeg(), b"\xff\xd8\xff"])
def test_a_jpeg_ends_behind_its_end_marker(name: str, behind: bytes) -> None:
    picture = ENDS[name]
    content = picture + behind
    for piece_bytes in (1, 2, 3, 1000, len(content)):
        arrived = watch(cut(content, piece_bytes))
        assert arrived.picture_bytes == len(picture)
        assert arrived.size_bytes == len(content)
        if behind == b"\0" * 100_000 and piece_bytes == 1:
            break


def test_a_jpeg_without_an_end_goes_on_to_the_end_of_the_file() -> None:
    content = jpeg()[:-2] + bytes(100)
    assert watch([content]).picture_bytes == len(content)
    many = jpeg()[:-2] + b"\xff\xfe\0\2" * 9000 + b"\xff\xd9" + bytes(9)
    assert watch([many]).picture_bytes == len(many), "more segments than a picture has"


def test_of_a_png_that_is_cut_within_its_pixels_the_rest_is_no_metadata() -> None:
    content = encoded(quarters(64, 64), "PNG", compress_level=0)
    pixels = content.index(b"IDAT") - 4
    header = watch([content[: pixels + 3000]]).header
    assert header.metadata_bytes == pixels


def test_the_cost_is_that_of_the_picture_and_not_of_what_stands_behind_it() -> None:
    content = jpeg()
    assert watch([content, bytes(9 * MIB)]).cost == watch([content]).cost
    assert watch([encoded(quarters(9, 9), "GIF"), bytes(MIB)]).cost.memory_bytes > MIB


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "HEIF", "pixels before sizes", "junk"])
def test_little_of_a_long_file_is_kept(kind: str) -> None:
    if kind == "pixels before sizes":
        start = HEIC_START + struct.pack(">I4s", 64 * MIB, b"mdat")
    elif kind == "junk":
        start = b"\xff\xd8" + b"\xff\xe0\0\2" * 9000
    else:
        start = encoded(quarters(64, 64), kind)
    piece = b"\xff\0" * (32 * 1024)
    header_watch = HeaderWatch(*LIMITS)
    header_watch.feed(start)
    tracemalloc.start()
    try:
        for _ in range(64):
            header_watch.feed(piece)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes <= 6 * LONGEST_SEARCH_BYTES


class Counting:
    """A reader between, which counts the bytes that the one behind it is given."""

    def __init__(self, reading: Reading[Extent]) -> None:
        self._reading = reading
        self.given_bytes = 0

    def send(self, stretch: bytes) -> Stretch:
        self.given_bytes += len(stretch)
        return self._reading.send(stretch)


def test_no_byte_is_read_twice_however_much_came_before_it() -> None:
    header_watch = HeaderWatch(*LIMITS)
    counting = Counting(header_watch._reading._reading)
    header_watch._reading._reading = counting  # type: ignore[assignment]
    pieces = [jpeg()[:-2], *[b"\1" * 1000] * 2000]
    for piece in pieces:
        header_watch.feed(piece)
    # But for the one on the border of two pieces, and what is read of the header.
    assert counting.given_bytes <= 1.05 * sum(map(len, pieces))
