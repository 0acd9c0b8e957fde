"""Proves that a fault beside the pixels refuses no picture and changes none."""

import struct
import zlib
from collections.abc import Iterator

import pytest
from PIL import Image

from errors import BrokenPicture
from image_utils import process_profile_image
from pictures.item_properties import hide_groups, merge_associations
from tests.support.pictures import (
    EXIF_ARTIST,
    EXIF_ORIENTATION,
    RED,
    corners,
    encoded,
    exif_block,
    exif_directory,
    quarters,
    with_chunk,
    with_segment,
)

UPRIGHT = ["red", "green", "blue", "white"]
JPEG = encoded(quarters(96, 64), quality=95)
PNG = encoded(quarters(96, 64), "PNG")
PALETTE = encoded(quarters(96, 64).quantize(8), "PNG")
SMALL = (64, 96)
PLAIN = process_profile_image(JPEG).sha256
PLAIN_PNG = process_profile_image(PNG).sha256

SEGMENTS: dict[str, tuple[int, bytes]] = {
    "JFIF of 5 bytes": (0xE0, b"JFIF\0"),
    "JFIF of 6 bytes": (0xE0, b"JFIF\0\1"),
    "Adobe of 5 bytes": (0xEE, b"Adobe"),
    "Adobe of 6 bytes": (0xEE, b"Adobe\0"),
    "ICC without anything": (0xE2, b"ICC_PROFILE\0"),
    "ICC without data": (0xE2, b"ICC_PROFILE\0\1\1"),
    "ICC with half a head": (0xE2, b"ICC_PROFILE\0\1"),
    "Photoshop cut in a name": (0xED, b"Photoshop 3.0\08BIM\4\4"),
    "Photoshop cut in a size": (0xED, b"Photoshop 3.0\08BIM\3\xed\0\0\0\0"),
    "Photoshop with a short resolution": (0xED, b"Photoshop 3.0\08BIM\3\xed\0\0\0\0\0\1x\0"),
    "EXIF without anything": (0xE1, b"Exif\0\0"),
    "EXIF of noise": (0xE1, b"Exif\0\0" + bytes(range(64))),
    "MPF of noise": (0xE2, b"MPF\0xxxxxxxx"),
    "FlashPix": (0xE2, b"FPXR\0"),
    "XMP without anything": (0xE1, b"http://ns.adobe.com/xap/1.0/\0"),
    "empty": (0xE9, b""),
    "an empty comment": (0xFE, b""),
}


@pytest.mark.parametrize("kind", SEGMENTS)
def test_no_segment_of_a_jpeg_refuses_it(kind: str) -> None:
    marker, data = SEGMENTS[kind]
    assert process_profile_image(with_segment(JPEG, marker, data)).sha256 == PLAIN


def test_a_profile_in_pieces_of_which_one_is_empty_is_passed_over() -> None:
    pieces = (b"ICC_PROFILE\0\1\2" + b"x" * 40, b"ICC_PROFILE\0\2\2")
    content = JPEG
    for piece in pieces:
        content = with_segment(content, 0xE2, piece)
    assert process_profile_image(content).sha256 == PLAIN


def test_a_scan_is_counted_where_one_begins() -> None:
    progressive = encoded(quarters(96, 64), quality=95, progressive=True)
    whole = process_profile_image(progressive)
    hidden = with_segment(progressive, 0xEB, b"\xff\xda" * 200)
    assert process_profile_image(hidden).sha256 == whole.sha256
    last = progressive.rindex(b"\xff\xda")
    many = progressive[:last] + progressive[last:-2] * 100 + progressive[-2:]
    with pytest.raises(BrokenPicture):
        process_profile_image(many)


def test_a_frame_of_a_webcam_has_the_standard_tables() -> None:
    """Motion JPEG leaves them out; Pillow's encoder writes the standard ones unless told to."""
    content = JPEG
    while b"\xff\xc4" in content:
        at = content.index(b"\xff\xc4")
        length = struct.unpack(">H", content[at + 2 : at + 4])[0]
        content = content[:at] + content[at + 2 + length :]
    served = process_profile_image(content[:-2])
    assert served.sha256 == PLAIN and served.notes == ("cut_short",)


CHUNKS = [
    *("pHYs", "sRGB", "gAMA", "cHRM", "tIME", "bKGD", "hIST", "sBIT", "iCCP", "zTXt", "iTXt"),
    *("tEXt", "eXIf", "sPLT", "cICP", "mDCV", "cLLI", "acTL", "fcTL", "fdAT", "abCd", "tRNS"),
]


@pytest.mark.filterwarnings("ignore:Invalid APNG")
@pytest.mark.parametrize("before", [b"IDAT", b"IEND"], ids=["before", "behind"])
@pytest.mark.parametrize("kind", CHUNKS)
def test_no_chunk_beside_the_pixels_refuses_a_png(kind: str, before: bytes) -> None:
    for data in (b"", b"\xff", b"\0\0\0\0", bytes(40)):
        if (data and kind == "fcTL") or (kind == "tRNS" and len(data) > 4):
            continue  # these say something
        content = with_chunk(PNG, kind.encode(), data, before)
        assert process_profile_image(content).sha256 == PLAIN_PNG, data
        # And with a wrong checksum.
        at = content.index(kind.encode()) + 4 + len(data)
        wrong = content[:at] + bytes((content[at] ^ 1,)) + content[at + 1 :]
        assert process_profile_image(wrong).sha256 == PLAIN_PNG, data


def test_a_wrong_checksum_takes_the_chunk_with_it() -> None:
    red_is_clear = with_chunk(PNG, b"tRNS", struct.pack(">HHH", *RED))
    assert "transparency_flattened" in process_profile_image(red_is_clear).notes
    at = red_is_clear.index(b"tRNS") + 10
    wrong = red_is_clear[:at] + b"\0\0\0\0" + red_is_clear[at + 4 :]
    assert process_profile_image(wrong).sha256 == PLAIN_PNG


CARRYING: dict[str, tuple[bytes, bytes]] = {
    "exif": (b"eXIf", b"II*\0\x08\0\0\0\0\0\0\0\0\0"),
    "icc_profile": (b"iCCP", b"a name\0\0" + zlib.compress(bytes(200))),
    "c2pa": (b"caBX", bytes(40)),
    "text": (b"tEXt", b"Author\0somebody"),
    "xmp": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta/>"),
    "iptc": (b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(b"\niptc\n 4\n00000000")),
}


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize("name", CARRYING)
def test_what_a_left_out_chunk_carried_is_named(name: str, before: bytes) -> None:
    kind, data = CARRYING[name]
    content = with_chunk(PNG, kind, data, before)
    assert process_profile_image(content).removed_metadata == (name,)
    end = content.index(kind) + len(kind) + len(data)
    wrong = content[:end] + bytes((content[end] ^ 1,)) + content[end + 1 :]
    served = process_profile_image(wrong)
    assert (served.removed_metadata, served.sha256) == ((name,), PLAIN_PNG)


def test_of_an_empty_chunk_nothing_is_named() -> None:
    for kind in (b"iCCP", b"caBX"):
        assert process_profile_image(with_chunk(PNG, kind, b"")).removed_metadata == ()


def test_a_wrong_checksum_of_the_pixels_changes_nothing() -> None:
    at = PNG.index(b"IEND") - 8
    assert process_profile_image(PNG[:at] + b"\0\0\0\0" + PNG[at + 4 :]).sha256 == PLAIN_PNG
    # Nor that of the stream that they are in.
    stream = PNG[: at - 4] + b"\0\0\0\0" + PNG[at:]
    assert process_profile_image(stream).sha256 == PLAIN_PNG


def test_a_wrong_checksum_of_the_head_is_refused_as_by_browsers() -> None:
    at = PNG.index(b"IHDR") + 4 + 13
    with pytest.raises(BrokenPicture):
        process_profile_image(PNG[:at] + b"\0\0\0\0" + PNG[at + 4 :])


def test_transparency_counts_as_far_as_its_palette_goes() -> None:
    colours = len(chunk_of(PALETTE, b"PLTE")) // 3
    plain = process_profile_image(PALETTE)
    clear = process_profile_image(with_chunk(PALETTE, b"tRNS", bytes(colours)))
    assert "transparency_flattened" in clear.notes
    for length in (colours + 1, 256):
        content = with_chunk(PALETTE, b"tRNS", bytes(length))
        assert process_profile_image(content).sha256 == clear.sha256
    # Longer than any palette, before it, or behind the pixels: browsers pass over it.
    for content in (
        with_chunk(PALETTE, b"tRNS", bytes(300)),
        with_chunk(PALETTE, b"tRNS", bytes(colours), b"PLTE"),
        with_chunk(PALETTE, b"tRNS", bytes(colours), b"IEND"),
    ):
        assert process_profile_image(content).sha256 == plain.sha256
    first = with_chunk(PALETTE, b"tRNS", bytes(colours))
    second = with_chunk(first, b"tRNS", b"\xff" * colours)
    assert process_profile_image(second).sha256 == clear.sha256


def test_pixels_end_with_the_first_chunk_of_another_kind() -> None:
    """Also where that one is left out: what stands behind it is no part of them."""
    pixels = chunk_of(PNG, b"IDAT")
    at = PNG.index(b"IDAT") - 4
    rest = pixels[len(pixels) // 2 :]
    halves = with_chunk(PNG, b"IDAT", pixels[: len(pixels) // 2])
    halves = halves.replace(halves[halves.rindex(b"IDAT") - 4 : halves.index(b"IEND") - 4], b"")
    split = with_chunk(with_chunk(halves, b"gAMA", b"", b"IEND"), b"IDAT", rest, b"IEND")
    assert split[at:] != PNG[at:]
    with pytest.raises(Exception, match="% of it arrived"):
        process_profile_image(split)


def chunk_of(content: bytes, kind: bytes) -> bytes:
    at = content.index(kind)
    return content[at + 4 : at + 4 + struct.unpack(">I", content[at - 4 : at])[0]]


def orientation_block(orientation: int) -> bytes:
    return exif_block([(EXIF_ORIENTATION, "short", (orientation,))])


def xmp_block(orientation: int) -> bytes:
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description'
        b' tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>' % orientation
    )


def turned_by_xmp(kind: str) -> bytes:
    if kind == "JPEG":
        return with_segment(JPEG, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp_block(3))
    # The others' writers may take it out of there and turn the picture themselves.
    if kind == "PNG":
        data = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp_block(3)
        return with_chunk(PNG, b"iTXt", data)
    content = encoded(quarters(96, 64), kind, xmp=xmp_block(1), quality=95)
    assert content.count(xmp_block(1)) == 1
    return content.replace(xmp_block(1), xmp_block(3))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
def test_what_xmp_says_turns_nothing(kind: str) -> None:
    served = process_profile_image(turned_by_xmp(kind))
    assert corners(served.content) == UPRIGHT
    assert served.removed_metadata == ("xmp",)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_of_several_exif_blocks_the_first_counts() -> None:
    silent = exif_block([(EXIF_ARTIST, "ascii", b"me\0")])
    for first in (orientation_block(1), silent, b"xxxxxxxx"):
        content = with_segment(JPEG, 0xE1, b"Exif\0\0" + orientation_block(3))
        content = with_segment(content, 0xE1, b"Exif\0\0" + first)
        assert corners(process_profile_image(content).content) == UPRIGHT
    # Nor does one go on in the next.
    rest = exif_directory([(EXIF_ORIENTATION, "short", (3,))], 8)
    content = with_segment(JPEG, 0xE1, b"Exif\0\0" + rest)
    content = with_segment(content, 0xE1, b"Exif\0\0II*\0\x08\0\0\0")
    assert corners(process_profile_image(content).content) == UPRIGHT
    turned = quarters(96, 64).transpose(Image.Transpose.ROTATE_180)
    content = with_segment(encoded(turned, quality=95), 0xE1, b"Exif\0\0" + orientation_block(3))
    empty = with_segment(content, 0xE1, b"Exif\0\0")
    assert corners(process_profile_image(empty).content) == UPRIGHT
    png = with_chunk(encoded(turned, "PNG"), b"eXIf", orientation_block(3))
    assert corners(process_profile_image(png).content) == UPRIGHT
    twice = with_chunk(png, b"eXIf", orientation_block(1))
    assert corners(process_profile_image(twice).content) == UPRIGHT


def test_exif_behind_the_pixels_of_a_png_turns_nothing_and_is_named() -> None:
    served = process_profile_image(with_chunk(PNG, b"eXIf", orientation_block(3), b"IEND"))
    assert corners(served.content) == UPRIGHT
    assert served.removed_metadata == ("exif",)


def list_boxes(content: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while start < end:
        size = struct.unpack(">I", content[start : start + 4])[0]
        yield content[start + 4 : start + 8], start, start + size
        start += size


def with_two_lists(avif: bytes) -> bytes:
    """The same file, whose one list of properties is in two boxes, as some encoders write it."""
    outer = {kind: (start, end) for kind, start, end in list_boxes(avif, 0, len(avif))}
    meta, meta_end = outer[b"meta"]
    inner = {kind: (start, end) for kind, start, end in list_boxes(avif, meta + 12, meta_end)}
    places, places_end = inner[b"iprp"]
    lists = [box for box in list_boxes(avif, places + 8, places_end) if box[0] == b"ipma"]
    ((_, start, end),) = lists
    body = avif[start + 16 : end]
    first_bytes = 3 + body[2]
    halves = [body[:first_bytes], body[first_bytes:]]
    heads = [struct.pack(">I4sII", 16 + len(half), b"ipma", 0, 1) for half in halves]
    boxes = heads[0] + halves[0] + heads[1] + halves[1]
    moved = bytearray(avif[:start] + boxes + avif[end:])
    for at in (meta, places):
        struct.pack_into(">I", moved, at, struct.unpack(">I", avif[at : at + 4])[0] + 16)
    # Each of the two items lies in one piece (ISO/IEC 14496-12, 8.11.3), 16 bytes further on now.
    locations = inner[b"iloc"][0]
    assert moved[locations + 8 : locations + 16] == b"\0\0\0\0\x44\0\0\2"
    for item in range(2):
        at = locations + 16 + item * 14 + 6
        struct.pack_into(">I", moved, at, struct.unpack(">I", moved[at : at + 4])[0] + 16)
    return bytes(moved)


def test_an_avif_with_two_lists_of_properties_is_served_with_its_transparency() -> None:
    picture = quarters(96, 64).convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 48, 32))
    one = encoded(picture, "AVIF", quality=90)
    two = with_two_lists(one)
    served = process_profile_image(two)
    assert corners(served.content) == ["white", "green", "blue", "white"]
    assert served.sha256 == process_profile_image(one).sha256
    merged = merge_associations(two)
    assert len(merged) == len(two) and merged.count(b"ipma") == 1
    assert merge_associations(one) == one


def test_lists_of_properties_that_make_no_sense_are_left_alone() -> None:
    picture = quarters(96, 64)
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    two = with_two_lists(encoded(picture, "AVIF"))
    at = two.index(b"ipma")
    for place, value in ((at + 8, b"\xff\xff\xff\xff"), (at + 14, b"\xff"), (at - 4, b"\0\0\0\1")):
        broken = two[:place] + value + two[place + len(value) :]
        assert merge_associations(broken) == broken
    for end in range(at - 8, at + 40):
        merge_associations(two[:end])


def with_group(avif: bytes, group: bytes) -> bytes:
    """The same file of one item, with a group of pictures at the end of what describes them."""
    outer = {kind: (start, end) for kind, start, end in list_boxes(avif, 0, len(avif))}
    meta, meta_end = outer[b"meta"]
    inner = {kind: start for kind, start, _ in list_boxes(avif, meta + 12, meta_end)}
    box = struct.pack(">I4s", 8 + len(group), b"grpl") + group
    moved = bytearray(avif[:meta_end] + box + avif[meta_end:])
    locations = inner[b"iloc"]
    assert moved[locations + 8 : locations + 16] == b"\0\0\0\0\x44\0\0\1"
    for at in (meta, locations + 22):
        struct.pack_into(">I", moved, at, struct.unpack_from(">I", avif, at)[0] + len(box))
    return bytes(moved)


def test_an_avif_with_a_pyramid_of_sizes_is_served() -> None:
    """Of which libavif knows nothing: its one layer is a tile of 256 x 256."""
    one = encoded(quarters(96, 64), "AVIF", quality=90)
    expected = process_profile_image(one).sha256
    body = struct.pack(">5I3H", 0, 7, 1, 1, 256 << 16 | 256, 0, 0, 0)
    pyramid = struct.pack(">I4s", 8 + len(body), b"pymd") + body
    for length in (len(pyramid), 30, 12, 3):
        assert process_profile_image(with_group(one, pyramid[:length])).sha256 == expected
    alternatives = with_group(one, pyramid.replace(b"pymd", b"altr"))
    for left_alone in (one, one.replace(b"meta", b"atem"), alternatives):
        assert hide_groups(left_alone) == left_alone
