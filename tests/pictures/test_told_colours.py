"""Proves that colours which a file tells in numbers are shown as Chromium shows them.

The codes were measured in Chromium 156 (headless, sRGB): each file in an `<img>`, its pixels read
from a screenshot.
"""

import io
import struct
import zlib
from collections.abc import Callable, Sequence

import pytest
from PIL import Image

from errors import TruncatedPicture
from image_utils import make_master, make_thumbnail, process_profile_image
from pictures.items import MOST_ASSOCIATION_BOXES
from pictures.told_colours import read_told_colours
from pictures.values import ProcessedImage
from tests.support.pictures import (
    Colour,
    Sample,
    encoded,
    grey_profile,
    patch_middle,
    patch_rows,
    patches,
    png,
    png_chunk,
    rgb_profile,
    with_chunk,
    with_segment,
)

Codes = tuple[int, int]
Make = Callable[[bytes], ProcessedImage]
ALL = pytest.mark.parametrize("make", [process_profile_image, make_master, make_thumbnail])
# What the coding as JPEG does to a flat square, of 255: to a grey one hardly anything.
NEAR = 5
NEAR_GREY = 2
RGB8 = 2
RGBA8 = 6
GREY = 0
# CICP (ITU-T H.273) of Display P3, and of BT.2100.
P3 = (12, 13)
PQ = (9, 16)
HLG = (9, 18)
SAMPLES = [
    *((60, 60, 60), (120, 90, 60), (90, 120, 150)),
    *((148, 148, 148), (180, 150, 130), (190, 120, 200)),
    *((150, 200, 120), (220, 230, 200), (40, 100, 170)),
]
SHOWN: dict[str, tuple[Codes, list[Colour]]] = {
    "Display P3": (
        P3,
        [
            *((60, 60, 60), (126, 88, 55), (81, 121, 153)),
            *((148, 148, 148), (186, 149, 127), (202, 116, 205)),
            *((135, 202, 110), (218, 230, 197), (0, 102, 175)),
        ],
    ),
    "PQ, BT.2020": (
        PQ,
        [
            *((26, 26, 26), (137, 50, 12), (0, 118, 200)),
            *((187, 187, 187), (255, 129, 92), (255, 0, 255)),
            *((0, 255, 0), (195, 255, 141), (0, 64, 240)),
        ],
    ),
    "PQ, P3": (
        (12, 16),
        [
            *((26, 26, 26), (122, 58, 14), (38, 115, 199)),
            *((187, 187, 187), (255, 150, 99), (238, 43, 255)),
            *((0, 255, 0), (210, 255, 146), (0, 65, 239)),
        ],
    ),
    "PQ, BT.709": (
        (1, 16),
        [
            *((26, 26, 26), (114, 61, 26), (61, 114, 194)),
            *((187, 187, 187), (255, 161, 113), (226, 67, 255)),
            *((116, 255, 66), (220, 255, 159), (7, 66, 235)),
        ],
    ),
    "HLG, BT.2020": (
        HLG,
        [
            *((39, 39, 39), (101, 64, 39), (43, 94, 119)),
            *((120, 120, 120), (180, 119, 103), (203, 80, 198)),
            *((37, 206, 84), (202, 236, 169), (0, 77, 138)),
        ],
    ),
    "HLG, P3": (
        (12, 18),
        [
            *((39, 39, 39), (93, 66, 40), (63, 93, 119)),
            *((120, 120, 120), (167, 122, 103), (187, 93, 196)),
            *((105, 203, 88), (209, 235, 171), (0, 76, 138)),
        ],
    ),
}
# Nits, and the codes that show them by the brightest light that the file tells of.
GREYS_NITS = (10, 50, 100, 203, 300, 400, 600, 800, 1000)
GREYS_SHOWN = {
    None: (43, 98, 136, 187, 211, 223, 239, 248, 255),
    203: (62, 135, 188, 255, 255, 255, 255, 255, 255),
    400: (55, 122, 167, 229, 248, 255, 255, 255, 255),
    600: (51, 112, 155, 212, 234, 244, 255, 255, 255),
    1000: (43, 98, 136, 187, 211, 223, 239, 248, 255),
    4000: (43, 98, 136, 187, 201, 207, 215, 221, 226),
}
HLG_CODES = (0.25, 0.5, 0.75, 0.9, 1, 0, 0, 0, 0)
HLG_SHOWN = {
    None: (43, 99, 187, 234, 255, 0, 0, 0, 0),
    400: (54, 123, 230, 255, 255, 0, 0, 0, 0),
    2000: (43, 99, 188, 221, 238, 0, 0, 0, 0),
}
# By what a browser or a camera shows a code of 128 in each curve of H.273, in PNG and in AVIF.
CURVES = {
    1: (121, 128),
    4: (129, 129),
    5: (106, 106),
    6: (121, 128),
    7: (141, 141),
    8: (188, 188),
    13: (128, 128),
    14: (121, 128),
    15: (121, 128),
    17: (118, 118),
}
# A reddish, a bluish and a greenish colour of each set of primaries, in sRGB's curve.
PRIMARIES_OF = [(234, 51, 35), (100, 150, 200), (20, 200, 90)]
PRIMARIES = {
    4: [(255, 29, 0), (37, 155, 204), (0, 197, 82)],
    5: [(238, 51, 35), (97, 150, 200), (0, 200, 92)],
    6: [(228, 61, 33), (105, 150, 200), (54, 197, 89)],
    8: [(255, 0, 0), (72, 151, 204), (0, 205, 78)],
    9: [(255, 0, 2), (0, 154, 205), (0, 211, 67)],
    10: [(255, 0, 72), (0, 186, 205), (0, 255, 0)],
    11: [(249, 1, 3), (88, 151, 205), (0, 204, 73)],
    12: [(255, 0, 0), (83, 152, 205), (0, 204, 73)],
    22: [(236, 62, 33), (98, 151, 200), (0, 196, 90)],
}


def pq_code(nits: float) -> float:
    """BT.2100, table 4."""
    bent = (nits / 10_000) ** 0.1593017578125
    code: float = ((0.8359375 + 18.8515625 * bent) / (1 + 18.6875 * bent)) ** 78.84375
    return code


def cicp(codes: Codes, matrix: int = 0, full_range: int = 1) -> bytes:
    return png_chunk(b"cICP", bytes((*codes, matrix, full_range)))


def gamma(value: int) -> bytes:
    return png_chunk(b"gAMA", struct.pack(">I", value))


def chromaticities(*values: int) -> bytes:
    return png_chunk(b"cHRM", struct.pack(">8I", *values))


P3_POINTS = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
SRGB_CHUNK = png_chunk(b"sRGB", b"\0")
# Light, linear, in sRGB's primaries (as XYZ under D50): 128 is shown as 188.
LINEAR_PROFILE = rgb_profile(
    ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)),
    lambda value: value,
)


def profile_chunk(profile: bytes) -> bytes:
    return png_chunk(b"iCCP", b"test\0\0" + zlib.compress(profile))


def fill(samples: Sequence[Sample]) -> list[Sample]:
    """Nine of them."""
    return [*samples, *[samples[-1]] * (9 - len(samples))]


def told_png(samples: Sequence[Sample], *chunks: bytes, depth: int = 8, kind: int = RGB8) -> bytes:
    return png(patch_rows(fill(samples)), depth, kind, *chunks)


def behind_pixels(content: bytes, chunk: bytes) -> bytes:
    end = content.index(b"IEND") - 4
    return content[:end] + chunk + content[end:]


def with_bad_checksum(chunk: bytes) -> bytes:
    return chunk[:-4] + bytes(byte ^ 0xFF for byte in chunk[-4:])


def told_boxes(samples: Sequence[Sample], kind: str, codes: Codes, **options: object) -> bytes:
    """An AVIF or HEIC that says these numbers in place of its writer's."""
    options |= {"subsampling": "4:4:4"} if kind == "AVIF" else {"chroma": 444}
    content = encoded(patches("RGB", fill(samples)), kind, quality=100, **options)
    at = content.index(b"nclx") + 4
    return content[:at] + struct.pack(">HH", *codes) + content[at + 4 :]


def with_light_level(content: bytes, nits: int) -> bytes:
    """The same AVIF, with a box more among its properties that tells how bright it is."""
    box = struct.pack(">I4sHH", 12, b"clli", nits, 0)
    properties = content.index(b"ipco") - 4
    properties_bytes = int.from_bytes(content[properties : properties + 4], "big")
    count = len(list_boxes(content[properties + 8 : properties + properties_bytes]))
    associations = content.index(b"ipma", properties) - 4
    associations_bytes = int.from_bytes(content[associations : associations + 4], "big")
    old = content[associations : associations + associations_bytes]
    new = struct.pack(">I", associations_bytes + 1) + old[4:18] + bytes((old[18] + 1,))
    new += old[19:] + bytes((count + 1,))
    ends = properties + properties_bytes
    grown = bytearray(content[:ends] + box + content[ends:associations] + new)
    grown += content[associations + associations_bytes :]
    for name, more in ((b"meta", 13), (b"iprp", 13), (b"ipco", 12)):
        at = grown.index(name) - 4
        grown[at : at + 4] = (int.from_bytes(grown[at : at + 4], "big") + more).to_bytes(4, "big")
    # Where the coded picture lies: the last but one number of the only item's place.
    at = grown.index(b"iloc") + 4 + 4 + 2 + 2 + 2 + 2 + 2
    grown[at : at + 4] = (int.from_bytes(grown[at : at + 4], "big") + 13).to_bytes(4, "big")
    return bytes(grown)


def list_boxes(contents: bytes) -> list[bytes]:
    found = []
    position = 0
    while position < len(contents):
        size = int.from_bytes(contents[position : position + 4], "big")
        found.append(contents[position + 4 : position + 8])
        position += size
    return found


def read_patches(picture: ProcessedImage) -> list[Colour]:
    shown = Image.open(io.BytesIO(picture.content)).convert("RGB")
    colours = []
    for number in range(9):
        colour = shown.getpixel(patch_middle(number, shown.width))
        assert isinstance(colour, tuple)
        colours.append((colour[0], colour[1], colour[2]))
    return colours


def assert_near(shown: Sequence[Colour], wanted: Sequence[Colour], most: int = NEAR) -> None:
    distances = [
        max(abs(a - b) for a, b in zip(one, other, strict=True))
        for one, other in zip(shown, wanted, strict=False)
    ]
    assert max(distances) <= most, (distances, shown, wanted)


def assert_greys(content: bytes, wanted: Sequence[int]) -> None:
    shown = read_patches(process_profile_image(content))
    assert_near(shown, [(grey, grey, grey) for grey in wanted], NEAR_GREY)


@ALL
@pytest.mark.parametrize("name", SHOWN)
def test_a_png_is_shown_in_the_colours_that_its_codes_stand_for(name: str, make: Make) -> None:
    codes, wanted = SHOWN[name]
    picture = make(told_png(SAMPLES, cicp(codes)))
    assert_near(read_patches(picture), wanted)
    assert picture.notes == (() if codes == P3 else ("tone_mapped",))


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
@pytest.mark.parametrize("name", SHOWN)
def test_an_avif_and_a_heic_are_shown_in_the_same_colours(name: str, kind: str) -> None:
    codes, wanted = SHOWN[name]
    content = told_boxes(SAMPLES, kind, codes)
    picture = process_profile_image(content)
    # The file's own coding may miss by a code, which is several of sRGB.
    decoded = encoded(Image.open(io.BytesIO(content)).convert("RGB"), "PNG")
    as_png = process_profile_image(with_chunk(decoded, b"cICP", bytes((*codes, 0, 1))))
    assert_near(read_patches(picture), read_patches(as_png), NEAR_GREY)
    assert_near(read_patches(picture)[:4], wanted[:4])
    assert picture.notes == (() if codes == P3 else ("tone_mapped",))


@pytest.mark.parametrize("peak", GREYS_SHOWN)
def test_greys_of_pq_are_shown_by_their_light_and_the_brightest(peak: int | None) -> None:
    samples = [(round(pq_code(nits) * 65535),) * 3 for nits in GREYS_NITS]
    level = [] if peak is None else [png_chunk(b"cLLI", struct.pack(">II", peak * 10_000, 0))]
    assert_greys(told_png(samples, cicp(PQ), *level, depth=16), GREYS_SHOWN[peak])


def test_the_display_that_a_picture_was_graded_on_counts_where_nothing_else_is_told() -> None:
    samples = [(round(pq_code(nits) * 65535),) * 3 for nits in GREYS_NITS]
    display = png_chunk(b"mDCV", struct.pack(">8HII", *[0] * 8, 4000 * 10_000, 50))
    unknown = png_chunk(b"cLLI", struct.pack(">II", 0, 100 * 10_000))
    known = png_chunk(b"cLLI", struct.pack(">II", 600 * 10_000, 0))
    for level, peak in (((), 4000), ((unknown,), 4000), ((known,), 600)):
        content = told_png(samples, cicp(PQ), display, *level, depth=16)
        assert_greys(content, GREYS_SHOWN[peak])


@pytest.mark.parametrize("peak", HLG_SHOWN)
def test_greys_of_hlg(peak: int | None) -> None:
    samples = [(round(code * 65535),) * 3 for code in HLG_CODES]
    level = [] if peak is None else [png_chunk(b"cLLI", struct.pack(">II", peak * 10_000, 0))]
    assert_greys(told_png(samples, cicp(HLG), *level, depth=16), HLG_SHOWN[peak])


def test_an_avif_tells_how_bright_it_is_in_a_box() -> None:
    samples = [(round(pq_code(nits) * 255),) * 3 for nits in GREYS_NITS]
    content = told_boxes(samples, "AVIF", PQ)
    bright = with_light_level(content, 4000)
    told = read_told_colours(bright, "AVIF")
    assert told is not None
    assert told.peak_nits == 4000
    shown = read_patches(process_profile_image(bright))
    assert_near(shown, [(grey,) * 3 for grey in GREYS_SHOWN[4000]], NEAR)


@pytest.mark.parametrize("curve", CURVES)
def test_every_curve_is_followed_in_a_png_and_a_camera_s_is_srgb_elsewhere(curve: int) -> None:
    in_png, in_avif = CURVES[curve]
    samples = [(128, 128, 128)]
    assert_greys(told_png(samples, cicp((12, curve))), [in_png])
    assert_greys(told_boxes(samples, "AVIF", (12, curve)), [in_avif])


@pytest.mark.parametrize("codes", [PQ, HLG, (12, 8)])
def test_numbers_with_a_matrix_of_the_primaries_are_passed_over_in_an_avif(codes: Codes) -> None:
    content = told_boxes([(128, 128, 128)], "AVIF", codes)
    at = content.index(b"nclx") + 8
    derived = content[:at] + struct.pack(">H", 12) + content[at + 2 :]
    assert read_told_colours(content, "AVIF") is not None
    assert_greys(derived, [128])
    assert process_profile_image(derived).notes == ()


@pytest.mark.parametrize("primaries", PRIMARIES)
def test_all_primaries_are_followed(primaries: int) -> None:
    picture = process_profile_image(told_png(PRIMARIES_OF, cicp((primaries, 13))))
    assert_near(read_patches(picture), PRIMARIES[primaries])


AS_IT_IS = 128
LIT = 188
P3_RED = [(234, 51, 35)]
RED_AS_P3 = (255, 0, 0)
DROPPED = {
    "limited range": cicp(P3, full_range=0),
    "a matrix": cicp(P3, matrix=1),
    "primaries that are not told": cicp((2, 13)),
    "a curve that is not told": cicp((12, 2)),
    "primaries that there are not": cicp((200, 13)),
    "too short": png_chunk(b"cICP", b"\x0c\x0d\0"),
    "too long": png_chunk(b"cICP", b"\x0c\x0d\0\1\0"),
}


@pytest.mark.parametrize("name", DROPPED)
def test_codes_that_do_not_say_all_are_passed_over(name: str) -> None:
    picture = process_profile_image(told_png(P3_RED, DROPPED[name]))
    assert_near(read_patches(picture), P3_RED)
    assert_greys(told_png([(128,) * 3], DROPPED[name], gamma(100_000)), [LIT])


def test_codes_go_before_a_profile_and_all_else_in_a_png() -> None:
    others = [profile_chunk(LINEAR_PROFILE), SRGB_CHUNK, gamma(100_000)]
    for chunks in ([cicp(P3), *others], [*others, cicp(P3)]):
        picture = process_profile_image(told_png(P3_RED, *chunks))
        assert_near(read_patches(picture), [RED_AS_P3])


def test_a_profile_goes_before_srgb_and_gamma_and_srgb_before_gamma() -> None:
    grey = [(128,) * 3]
    half = gamma(50_000)
    assert_greys(told_png(grey, profile_chunk(LINEAR_PROFILE), half), [LIT])
    assert_greys(told_png(grey, half, SRGB_CHUNK), [AS_IT_IS])
    assert_greys(told_png(grey, half), [137])
    assert_greys(told_png(grey, profile_chunk(b"none"), half), [137])
    assert_greys(told_png(grey, png_chunk(b"sRGB", b"\x09"), half), [137])
    for broken in (b"", b"\0\0", b"\x09"):
        content = told_png(grey, png_chunk(b"sRGB", broken), half)
        assert read_told_colours(content, "PNG") is not None, broken


GAMMAS = {
    100_000: LIT,
    50_000: 137,
    47_800: 134,
    47_700: AS_IT_IS,
    45_455: AS_IT_IS,
    43_200: AS_IT_IS,
    43_100: 124,
    20_000: 50,
    1_000_000: 247,
    1: 0,
    0: AS_IT_IS,
    2**32 - 1: 255,
}


@pytest.mark.parametrize("value", GAMMAS)
def test_a_gamma_counts_unless_it_is_about_that_of_srgb(value: int) -> None:
    assert_greys(told_png([(128,) * 3], gamma(value)), [GAMMAS[value]])
    assert_greys(told_png([(128,)], gamma(value), kind=GREY), [GAMMAS[value]])


def test_the_first_gamma_counts_and_a_broken_one_does_not() -> None:
    grey = [(128,) * 3]
    assert_greys(told_png(grey, gamma(100_000), gamma(50_000)), [LIT])
    for broken in (b"", b"\0\1\x86", struct.pack(">IB", 100_000, 0)):
        content = told_png(grey, png_chunk(b"gAMA", broken))
        assert read_told_colours(content, "PNG") is None, broken


@pytest.mark.parametrize("chunk", [cicp((12, 8)), gamma(100_000), profile_chunk(LINEAR_PROFILE)])
def test_nothing_counts_behind_the_pixels(chunk: bytes) -> None:
    grey = [(128,) * 3]
    assert_greys(told_png(grey, chunk), [LIT])
    assert_greys(behind_pixels(told_png(grey), chunk), [AS_IT_IS])


def test_what_does_not_fit_its_checksum_tells_nothing() -> None:
    content = told_png(P3_RED, with_bad_checksum(cicp(P3)))
    assert read_told_colours(content, "PNG") is None
    assert read_told_colours(told_png(P3_RED, cicp(P3)), "PNG") is not None


CHROMATICITIES = {
    "with a gamma": ([gamma(45_455), chromaticities(*P3_POINTS)], RED_AS_P3),
    "before it": ([chromaticities(*P3_POINTS), gamma(45_455)], RED_AS_P3),
    "alone": ([chromaticities(*P3_POINTS)], P3_RED[0]),
    "too long, with a gamma": ([gamma(100_000), png_chunk(b"cHRM", bytes(33))], (246, 124, 104)),
    # Then the gamma does not count either.
    "all zero": ([gamma(100_000), chromaticities(*[0] * 8)], P3_RED[0]),
    "on a line": (
        [
            gamma(100_000),
            chromaticities(31270, 32900, 30000, 30000, 40000, 40000, 50000, 50000),
        ],
        P3_RED[0],
    ),
    "no such colours": ([gamma(100_000), chromaticities(*[2**31] * 8)], P3_RED[0]),
    "one of them": (
        [gamma(100_000), chromaticities(*P3_POINTS[:2], 120_000, *P3_POINTS[3:])],
        P3_RED[0],
    ),
    "another white": (
        [gamma(45_455), chromaticities(34570, 35850, *P3_POINTS[2:])],
        (255, 0, 0),
    ),
}


@pytest.mark.parametrize("name", CHROMATICITIES)
def test_chromaticities_count_only_together_with_a_gamma(name: str) -> None:
    chunks, wanted = CHROMATICITIES[name]
    assert_near(read_patches(process_profile_image(told_png(P3_RED, *chunks))), [wanted])


def test_greys_stay_grey_whatever_the_white() -> None:
    chunks = [gamma(45_455), chromaticities(44757, 40745, *P3_POINTS[2:])]
    assert_greys(told_png([(128,) * 3], *chunks), [129])


def test_a_profile_goes_before_the_codes_of_an_avif() -> None:
    grey = [(128,) * 3]
    content = told_boxes(grey, "AVIF", PQ, icc_profile=LINEAR_PROFILE)
    assert_greys(content, [LIT])
    assert process_profile_image(content).notes == ()
    assert_greys(told_boxes(grey, "AVIF", (12, 8), icc_profile=b"none"), [LIT])


def hdr_profile(codes: Codes, full_range: int = 1) -> bytes:
    """Of light that is linear, but for what it says in numbers."""
    tag = b"cicp\0\0\0\0" + bytes((*codes, 0, full_range))
    head = LINEAR_PROFILE[:128]
    table = LINEAR_PROFILE[128:]
    count = int.from_bytes(table[:4], "big")
    entries = table[4 : 4 + 12 * count]
    moved = b"".join(
        struct.pack(">4sII", name, at + 12, length)
        for name, at, length in struct.iter_unpack(">4sII", entries)
    )
    data = table[4 + 12 * count :]
    moved += struct.pack(">4sII", b"cicp", len(LINEAR_PROFILE) + 12, len(tag))
    whole = head + struct.pack(">I", count + 1) + moved + data + tag
    return len(whole).to_bytes(4, "big") + whole[4:]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_profile_of_hdr_is_followed_by_its_numbers(kind: str) -> None:
    grey = Image.new("RGB", (64, 64), (148, 148, 148))
    content = encoded(grey, kind, icc_profile=hdr_profile(PQ))
    assert_greys(content, [187])
    assert process_profile_image(content).notes == ("tone_mapped",)
    for other in (hdr_profile(P3), hdr_profile(PQ, full_range=0)):
        ordinary = process_profile_image(encoded(grey, kind, icc_profile=other))
        assert_near(read_patches(ordinary), [(200, 200, 200)], NEAR_GREY)
        assert ordinary.notes == ()


def test_what_is_transparent_is_converted_before_it_is_laid_on_white() -> None:
    content = told_png([(148, 148, 148, 128)], cicp(PQ), kind=RGBA8)
    picture = process_profile_image(content)
    assert_near(read_patches(picture), [(221, 221, 221)], NEAR_GREY)
    assert picture.notes == ("transparency_flattened", "tone_mapped")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "AVIF", "HEIF"])
def test_a_grey_picture_follows_a_grey_profile_and_one_of_colours(kind: str) -> None:
    grey = Image.new("L", (64, 64), 128)
    for profile in (grey_profile(lambda value: value), LINEAR_PROFILE):
        assert_greys(encoded(grey, kind, icc_profile=profile), [LIT])


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_no_end_of_a_box_is_an_error(kind: str) -> None:
    content = told_boxes(P3_RED, kind, P3)
    assert read_told_colours(content, kind) is not None
    for end in range(0, content.index(b"mdat"), 3):
        assert read_told_colours(content[:end], kind) in (None, read_told_colours(content, kind))
        read_told_colours(content[:end] + b"\xff" * 8 + content[end + 8 :], kind)


def test_two_boxes_of_associations_are_read_and_a_hundred_are_not() -> None:
    content = told_boxes(P3_RED, "AVIF", P3)
    at = content.index(b"ipma") - 4
    empty = struct.pack(">I4sII", 16, b"ipma", 0, 0)
    for count, is_told in ((1, True), (MOST_ASSOCIATION_BOXES, False)):
        doubled = bytearray(content[:at] + empty * count + content[at:])
        for name in (b"meta", b"iprp"):
            start = doubled.index(name) - 4
            grown = int.from_bytes(doubled[start : start + 4], "big") + 16 * count
            doubled[start : start + 4] = grown.to_bytes(4, "big")
        assert (read_told_colours(bytes(doubled), "AVIF") is not None) == is_told


@ALL
def test_a_small_picture_is_enlarged_as_it_is_shown(make: Make) -> None:
    """Between a dark and a light half lies the mean of the codes that are shown, not of others."""
    halves = [[(0,)] * 15 + [(255,)] * 15] * 30
    content = png(halves, 8, GREY, gamma(100_000))
    shown = Image.open(io.BytesIO(make(content).content)).convert("L")
    plain = Image.open(io.BytesIO(make(png(halves, 8, GREY)).content)).convert("L")
    assert shown.tobytes() == plain.tobytes(), "black and white stay as they are"
    clear = png([[(0, 128)] * 15 + [(255, 128)] * 15] * 30, 8, 4, gamma(100_000))
    assert make(clear).notes == ("transparency_flattened",)


@ALL
@pytest.mark.parametrize("side_px", [64, 600])
def test_a_picture_of_which_half_is_missing_is_refused_whatever_its_colours(
    side_px: int, make: Make
) -> None:
    noise = [[((x * y * 37) % 251,) for x in range(side_px)] for y in range(side_px)]
    content = png(noise, 8, GREY, gamma(100_000))
    assert make(content).notes == ()
    with pytest.raises(TruncatedPicture):
        make(content[: len(content) // 2])
    profiled = encoded(Image.effect_noise((side_px, side_px), 90).convert("RGB"), "JPEG")
    profiled = with_segment(profiled, 0xE2, b"ICC_PROFILE\0\1\1" + hdr_profile(PQ))
    assert make(profiled).notes == ("tone_mapped",)
    with pytest.raises(TruncatedPicture):
        make(profiled[: len(profiled) * 3 // 4])
