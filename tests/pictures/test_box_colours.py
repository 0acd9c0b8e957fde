"""The colours of an AVIF are told by its boxes and its stream, in the order in which browsers look.

Each expectation was seen in Chromium 156, but those of HEIC, which it does not read.
"""

import io
import re
import struct
from collections.abc import Sequence

import pytest
from PIL import Image

from image_utils import process_profile_image
from pictures.av1_header import read_coded_colours
from pictures.told_colours import ToldColours, read_told_colours
from pictures.tone_mapping import map_tones
from tests.support.heic import (
    Coded,
    code_avif_tile,
    code_tile,
    nclx,
    put_together,
    with_profile,
    with_transparency,
)
from tests.support.pictures import encoded, grey_profile, rgb_profile

# The red of sRGB in Display P3, and where it lies if its numbers are not followed.
CODES = (234, 51, 35)
FOLLOWED = (255, 0, 0)
# What Pillow writes, and what is told in its place; the matrix stays.
SRGB = (1, 13, 6)
P3 = (12, 13, 6)
PQ = (9, 16, 6)
NEAR = 4
TILE = (128, 128)
SIZE = (256, 128)
RED_AND_GREEN_EXCHANGED = rgb_profile(
    ((0.385, 0.717, 0.097), (0.436, 0.222, 0.014), (0.143, 0.061, 0.714)), lambda value: value**2.2
)
EXCHANGED = (47, 234, 30)
LINEAR_GREY = grey_profile(lambda value: value)
# A stream begins with an empty delimiter and its sequence header (AV1, 5.3).
STREAM_START = b"\x12\x00\x0a"


def flat(colour: tuple[int, int, int] = CODES) -> Image.Image:
    return Image.new("RGB", TILE, colour)


def still() -> bytes:
    return encoded(flat(), "AVIF", quality=100, speed=10)


def film() -> bytes:
    after = flat((10, 90, 200))
    return encoded(flat(), "AVIF", quality=100, speed=10, save_all=True, append_images=[after])


def in_stream(content: bytes, numbers: Sequence[int]) -> bytes:
    """The same with these numbers in the first sequence header, which stand at any bit there."""
    start = content.index(STREAM_START) + len(STREAM_START) + 1
    end = start + content[start - 1]
    header = content[start:end]
    bits = "".join(f"{byte:08b}" for byte in header)
    old, new = ("".join(f"{number:08b}" for number in each) for each in (SRGB, numbers))
    assert bits.count(old) == 1
    written = int(bits.replace(old, new), 2).to_bytes(len(header), "big")
    return content[:start] + written + content[end:]


def in_box(content: bytes, numbers: Sequence[int], which: int = 0) -> bytes:
    """The same with these numbers in the first or second box of colours."""
    before, *rest = content.split(b"nclx")
    rest[which] = struct.pack(">HHH", *numbers) + rest[which][6:]
    return b"nclx".join((before, *rest))


def without_box(content: bytes, which: int | None = None) -> bytes:
    pieces = content.split(b"colrnclx")
    assert len(pieces) > 1
    joined = pieces[0]
    for number, piece in enumerate(pieces[1:]):
        joined += (b"skipnclx" if which in (None, number) else b"colrnclx") + piece
    return joined


def of_tiles(
    coded: Coded, of_whole: Sequence[bytes] = (), told_of_tiles: Sequence[bytes] = ()
) -> bytes:
    return put_together([coded], TILE, SIZE, told_of_whole=of_whole, told_of_tiles=told_of_tiles)


def av1_tile(numbers: Sequence[int] = SRGB) -> Coded:
    coded = code_avif_tile(flat(), quality=100)
    return coded._replace(data=in_stream(coded.data, numbers))


def shown(content: bytes) -> tuple[int, ...]:
    picture = Image.open(io.BytesIO(process_profile_image(content).content))
    return tuple(picture.convert("RGB").crop((150, 150, 151, 151)).tobytes())


def assert_shown(content: bytes, wanted: tuple[int, int, int]) -> None:
    found = shown(content)
    assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) <= NEAR, (found, wanted)


STILLS = {
    "neither says more": (without_box(still()), CODES),
    "the stream says it": (in_stream(without_box(still()), P3), FOLLOWED),
    "the box goes before the stream": (in_stream(still(), P3), CODES),
    "the box alone": (in_box(still(), P3), FOLLOWED),
}
FILMS = {
    "only the still picture says it": (in_box(film(), P3, 0), CODES),
    "its first frame says it": (in_box(film(), P3, 1), FOLLOWED),
    "its first frame alone": (in_box(without_box(film(), 0), P3, 1), FOLLOWED),
    "its stream says it": (in_stream(without_box(film()), P3), FOLLOWED),
    "the still picture says it, its first frame nothing": (
        in_box(without_box(film(), 1), P3, 0),
        CODES,
    ),
    "it is shown as a still picture": (
        in_box(film(), P3, 0).replace(b"ftypavis", b"ftypavif"),
        FOLLOWED,
    ),
}
TILED = {
    "nothing is told": (of_tiles(av1_tile()), CODES),
    "the whole": (of_tiles(av1_tile(), [nclx(*P3)]), FOLLOWED),
    "its tiles": (of_tiles(av1_tile(), [], [nclx(*P3)]), FOLLOWED),
    "its first tile's stream": (of_tiles(av1_tile(P3)), FOLLOWED),
    "the whole before its tiles": (of_tiles(av1_tile(), [nclx(*SRGB)], [nclx(*P3)]), CODES),
    "the whole before the stream": (of_tiles(av1_tile(P3), [nclx(*SRGB)]), CODES),
    "its tiles before the stream": (of_tiles(av1_tile(P3), [], [nclx(*SRGB)]), CODES),
    "a profile of its tiles": (
        of_tiles(av1_tile(), [], [with_profile(RED_AND_GREEN_EXCHANGED)]),
        EXCHANGED,
    ),
    "a profile of the whole before numbers of its tiles": (
        of_tiles(av1_tile(), [with_profile(RED_AND_GREEN_EXCHANGED)], [nclx(*P3)]),
        EXCHANGED,
    ),
}


@pytest.mark.parametrize("case", [*STILLS, *FILMS, *TILED])
def test_colours_are_those_that_browsers_find(case: str) -> None:
    content, wanted = (STILLS | FILMS | TILED)[case]
    assert_shown(content, wanted)


def test_the_transparency_of_a_film_tells_nothing_of_its_colours() -> None:
    """Its track may stand before that of the colours."""
    frames = [Image.new("RGBA", TILE, (*CODES, 255)), Image.new("RGBA", TILE, (10, 90, 200, 9))]
    content = encoded(frames[0], "AVIF", quality=100, save_all=True, append_images=frames[1:])
    followed = in_box(content, P3, 1)
    first, second = (found.start() - 4 for found in re.finditer(b"trak", followed))
    end = second + int.from_bytes(followed[second : second + 4], "big")
    assert b"auxl" in followed[second:end] and b"auxl" not in followed[first:second]
    swapped = followed[:first] + followed[second:end] + followed[first:second] + followed[end:]
    for each in (followed, swapped):
        assert_shown(each, FOLLOWED)


def test_hdr_in_the_stream_alone_is_tone_mapped() -> None:
    made = process_profile_image(in_stream(without_box(still()), PQ))
    assert "tone_mapped" in made.notes
    assert_shown(in_stream(without_box(still()), PQ), FOLLOWED)


def deep(content: bytes) -> bytes:
    """The same, of which the boxes say that ten bits were coded."""
    before, *rest = content.split(b"av1C")
    said = [each[:2] + bytes((each[2] | 0x40,)) + each[3:] for each in rest]
    return b"av1C".join((before, *said))


PQ_STILL = in_box(still(), PQ)
DEEP = {
    "still": PQ_STILL,
    "film": in_box(film(), PQ, 1),
    "tiles": of_tiles(av1_tile(), [], [nclx(*PQ)]),
}


@pytest.mark.parametrize("case", DEEP)
def test_what_colours_of_ten_bits_lack_in_eight_is_added(case: str) -> None:
    told = read_told_colours(DEEP[case], "AVIF")
    told_deep = read_told_colours(deep(DEEP[case]), "AVIF")
    assert told is not None and not any(told.cut_codes)
    assert told_deep is not None and all(told_deep.cut_codes)
    limited = read_told_colours(re.sub(rb"(?s)(nclx.{6})\x80", rb"\1\0", deep(DEEP[case])), "AVIF")
    assert limited is not None and limited.cut_codes > told_deep.cut_codes
    # What has this matrix is decoded in another way.
    derived = in_box(deep(still()), (9, 16, 7))
    told_derived = read_told_colours(derived, "AVIF")
    assert told_derived is not None and not any(told_derived.cut_codes)


def test_of_ten_bits_only_colours_lack_something() -> None:
    told, told_deep = (read_told_colours(each, "AVIF") for each in (PQ_STILL, deep(PQ_STILL)))
    assert told is not None and told_deep is not None

    def show(colour: tuple[int, int, int], colours: ToldColours) -> tuple[int, ...]:
        return tuple(map_tones(flat(colour), colours).crop((0, 0, 1, 1)).tobytes())

    plain = show((110, 110, 120), told)
    mended = show((110, 110, 120), told_deep)
    changes = [after - before for before, after in zip(plain, mended, strict=True)]
    assert changes[0] > 0 > changes[1] and changes[2] > 0
    assert max(map(abs, changes)) <= NEAR
    for grey in (0, 1, 110, 254, 255):
        assert show((grey,) * 3, told_deep) == show((grey,) * 3, told)


def test_tiles_of_a_heic_tell_as_well() -> None:
    content = of_tiles(code_tile(flat()), [], [nclx(*P3)])
    assert_shown(content, FOLLOWED)
    assert read_told_colours(of_tiles(code_tile(flat())), "HEIF") is None


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_grey_with_transparency_follows_a_profile_of_grey(kind: str) -> None:
    code = code_avif_tile if kind == "AVIF" else code_tile
    grey, half, opaque = (code(Image.new("L", TILE, value)) for value in (128, 128, 255))
    profile = [with_profile(LINEAR_GREY)]
    assert_shown(with_transparency(grey, opaque, TILE), (128, 128, 128))
    assert_shown(with_transparency(grey, opaque, TILE, profile), (188, 188, 188))
    on_white = (188 * 128 + 255 * 127) // 255
    assert_shown(with_transparency(grey, half, TILE, profile), (on_white, on_white, on_white))


def test_colours_do_not_follow_a_profile_of_grey() -> None:
    coloured = code_avif_tile(flat(), quality=100)
    opaque = code_avif_tile(Image.new("L", TILE, 255))
    content = with_transparency(coloured, opaque, TILE, [with_profile(LINEAR_GREY)])
    assert_shown(content, CODES)


# Value and length of each field of sequence_header_obu() (AV1, 5.5.1) before color_config().
Fields = list[tuple[int, int]]
SIDES: Fields = [(9, 4), (9, 4), (799, 10), (599, 10)]
NUMBERS: Fields = [(12, 8), (16, 8), (9, 8)]
FULL_HEADERS: dict[str, Fields] = {
    "reduced": [(0, 3), (1, 1), (1, 1), (8, 5), *SIDES, (0, 3), (0, 3), (0, 1), (0, 1), (1, 1)],
    "twelve bits of the professional profile": [
        *((2, 3), (1, 1), (1, 1), (8, 5), *SIDES, (0, 3), (0, 3)),
        *((1, 1), (1, 1), (0, 1), (1, 1)),
    ],
    "the high profile has no grey": [
        *((1, 3), (1, 1), (1, 1), (8, 5), *SIDES, (0, 3), (0, 3), (0, 1), (1, 1)),
    ],
    "times, a model, delays, tiers and frame numbers": [
        *((0, 3), (0, 1), (0, 1)),
        # Timing, equal intervals (4 as uvlc), and a model with delays of 10 bits.
        *((1, 1), (1, 32), (25, 32), (1, 1), (0b00101, 5), (1, 1), (9, 5), (7, 32), (3, 5), (3, 5)),
        # A delay of display, and two operating points, the first with a tier and delays.
        *((1, 1), (1, 5)),
        *((5, 12), (9, 5), (1, 1), (1, 1), (99, 10), (88, 10), (0, 1), (1, 1), (6, 4)),
        *((6, 12), (7, 5), (0, 1), (0, 1)),
        *SIDES,
        # Numbers of frames; tools; hints of order; screen content that is not chosen.
        *((1, 1), (5, 4), (2, 3), (5, 3), (9, 4), (1, 1), (3, 2)),
        *((0, 1), (1, 1), (0, 1), (1, 1), (6, 3), (7, 3), (1, 1), (0, 1), (1, 1)),
    ],
}


@pytest.mark.parametrize("name", FULL_HEADERS)
def test_whatever_stands_before_the_colours_is_passed_over(name: str) -> None:
    fields = [*FULL_HEADERS[name], *NUMBERS]
    bits = "".join(f"{value:0{length}b}" for value, length in fields)
    bits += "0" * (-len(bits) % 8)
    header = int(bits, 2).to_bytes(len(bits) // 8, "big")
    assert read_coded_colours(bytes((0x0A, len(header))) + header) == (12, 16, 9)
    assert read_coded_colours(b"\x12\x00" + bytes((0x08,)) + header) == (12, 16, 9)
    other_unit = bytes((0x2A, 200, 1)) + bytes(200)
    assert read_coded_colours(other_unit + bytes((0x0E, 0, len(header))) + header) == (12, 16, 9)


def test_a_stream_that_is_cut_or_says_nothing_has_no_colours() -> None:
    stream = av1_tile(P3).data
    assert read_coded_colours(stream) == P3
    for length in range(len(stream)):
        assert read_coded_colours(stream[:length]) is None or length > len(STREAM_START)
    for nothing in (b"", b"\xff" * 40, b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff", bytes(64)):
        read_coded_colours(nothing)
