"""Proves that no metadata of a file reaches the served picture, and that all of it is named.

The judge is exiftool, an independent reader, and a plain search through the bytes.
"""

import json
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from PIL import Image

from image_utils import make_master, process_profile_image
from tests.support.pictures import (
    EXIF_ARTIST,
    ExifEntry,
    GifFrame,
    corners,
    encoded,
    exif_block,
    gif,
    png_chunk,
    quarters,
    rgb_profile,
    with_chunk,
    with_segment,
)
from tests.support.services import Account, Service

pillow_heif.register_heif_opener()

# What nobody else may learn, and what a server or a browser might run.
MARK = b"SECRET-OF-THE-SENDER <?php system($_GET[0]) ?><script>alert(1)</script>"
# Of the mark, and of the places where such things live.
LEFTOVERS = (
    *(
        b"SECRET",
        b"<?php",
        b"<script",
        b"Exif",
        b"II*\0",
        b"MM\0*",
        b"adobe",
        b"Adobe",
        b"xmpmeta",
        b"xpacket",
    ),
    *(
        b"ICC_PROFILE",
        b"acsp",
        b"Photoshop",
        b"8BIM",
        b"JFXX",
        b"MPF",
        b"IEND",
        b"tEXt",
        b"ftyp",
        b"mdat",
        b"WEBP",
    ),
)
ARTIST: ExifEntry = (EXIF_ARTIST, "ascii", MARK + b"\0")
PLACE: list[ExifEntry] = [
    (1, "ascii", b"N\0"),
    (2, "rational", (52, 1, 31, 1, 12, 1)),
    (29, "ascii", b"SECRET-DAY\0"),
]
MINIATURE = encoded(quarters(16, 16), comment=MARK)
EXIF = exif_block([ARTIST])
EXIF_AND_PLACE = exif_block([ARTIST], gps=PLACE)
EXIF_AND_THUMBNAIL = exif_block([ARTIST], thumbnail=MINIATURE)
ALL_EXIF = exif_block([ARTIST], gps=PLACE, thumbnail=MINIATURE)
XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description'
    b' rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
    b' tiff:Artist="SECRET-OF-THE-SENDER"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
ICC = rgb_profile(((0.5, 0.25, 0.0), (0.3, 0.68, 0.06), (0.16, 0.07, 0.76)), lambda value: value**2)
# A title (IIM 4.2, 2:05) in Photoshop's block of resources.
_TITLE = b"\x1c\2\5" + len(MARK).to_bytes(2, "big") + MARK
IPTC = b"8BIM\4\4\0\0" + len(_TITLE).to_bytes(4, "big") + _TITLE + bytes(len(_TITLE) % 2)


def made(kind: str, **options: Any) -> bytes:
    return encoded(quarters(96, 64), kind, **options)


def in_jpeg(*segments: tuple[int, bytes]) -> bytes:
    content = made("JPEG")
    for marker, data in segments:
        content = with_segment(content, marker, data)
    return content


def in_png(*chunks: tuple[bytes, bytes], before: bytes = b"IDAT") -> bytes:
    content = made("PNG")
    for kind, data in chunks:
        content = with_chunk(content, kind, data, before)
    return content


def in_gif(*extensions: tuple[int, bytes]) -> bytes:
    """The quarters, with extensions of these labels (GIF89a, 24 and 26) before them."""
    rows = [[0] * 48 + [1] * 48] * 48 + [[2] * 48 + [3] * 48] * 48
    palette = [(220, 30, 30), (30, 180, 60), (40, 60, 220), (245, 245, 245)]
    return gif(
        96,
        palette,
        GifFrame(rows),
        extra=b"".join(b"!" + bytes((label,)) + data for label, data in extensions),
    )


def in_words(kind: bytes, data: bytes) -> bytes:
    """As ImageMagick keeps in a PNG's text what it once had no chunk for."""
    return (
        b"Raw profile type "
        + kind
        + b"\0\n"
        + kind
        + b"\n%8d\n" % len(data)
        + data.hex().encode()
        + b"\n"
    )


JPEG_EXIF = b"Exif\0\0"
JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
JPEG_ICC = b"ICC_PROFILE\0\1\1" + ICC
PNG_ICC = b"test\0\0" + zlib.compress(ICC)
PNG_XMP = b"XML:com.adobe.xmp\0\0\0\0\0" + XMP
GIF_COMMENT = bytes((len(MARK),)) + MARK + b"\0"
# An XMP packet stands in a GIF as it is; its trailer leads whoever takes it for blocks to its end
# (XMP part 3, 1.1.2).
GIF_XMP = b"\x0bXMP DataXMP" + XMP + b"\1" + bytes(range(255, -1, -1)) + b"\0"

# A gain map, as its maker names it: in XMP, in a segment of its own, by the pictures behind it.
HDR_XMP = XMP.replace(
    b"xmlns:tiff=", b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" xmlns:tiff='
)
JPEG_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4) + MARK
# A manifest's beginning (C2PA 2.1, A.3), and its box.
JPEG_C2PA = b"JP\0\1\0\0\0\1" + (8 + len(MARK)).to_bytes(4, "big") + b"jumb" + MARK
C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


def with_box(kind: str, name: bytes, data: bytes) -> bytes:
    return made(kind) + (len(data) + 8).to_bytes(4, "big") + name + data


def animated(kind: str) -> bytes:
    return made(kind, save_all=True, append_images=[quarters(96, 64).rotate(180)])


def with_second_picture(kind_number: int) -> bytes:
    """A JPEG with another behind it, of this kind (CIPA DC-007, 5.2.3.3.1)."""
    content = animated("MPO")
    index = content.index(b"MPF\0") + 40  # behind its directory
    second = content.index(struct.pack("<L", 0x030000), index) + 16
    return content[:second] + struct.pack("<L", kind_number) + content[second + 4 :]


Carrier = tuple[Callable[[], bytes], tuple[str, ...]]

# A file with each kind of metadata alone, and the names under which it must be told. First those
# with none at all.
CARRIERS: dict[str, Carrier] = {
    **{
        f"{kind} plain": (partial(made, kind), ())
        for kind in ("JPEG", "PNG", "WEBP", "AVIF", "HEIF")
    },
    "GIF plain": (in_gif, ()),
    "JPEG EXIF": (partial(in_jpeg, (0xE1, JPEG_EXIF + EXIF)), ("exif",)),
    "JPEG GPS": (partial(in_jpeg, (0xE1, JPEG_EXIF + EXIF_AND_PLACE)), ("exif", "gps")),
    "JPEG thumbnail": (
        partial(in_jpeg, (0xE1, JPEG_EXIF + EXIF_AND_THUMBNAIL)),
        ("exif", "thumbnail"),
    ),
    "JPEG XMP": (partial(in_jpeg, (0xE1, JPEG_XMP + XMP)), ("xmp",)),
    "JPEG IPTC": (partial(in_jpeg, (0xED, b"Photoshop 3.0\0" + IPTC)), ("iptc",)),
    "JPEG ICC": (partial(in_jpeg, (0xE2, JPEG_ICC)), ("icc_profile",)),
    "JPEG comment": (partial(in_jpeg, (0xFE, MARK)), ("comment",)),
    "PNG EXIF": (partial(in_png, (b"eXIf", EXIF)), ("exif",)),
    "PNG GPS": (partial(in_png, (b"eXIf", EXIF_AND_PLACE)), ("exif", "gps")),
    "PNG thumbnail": (partial(in_png, (b"eXIf", EXIF_AND_THUMBNAIL)), ("exif", "thumbnail")),
    "PNG XMP": (partial(in_png, (b"iTXt", PNG_XMP)), ("xmp",)),
    "PNG ICC": (partial(in_png, (b"iCCP", PNG_ICC)), ("icc_profile",)),
    "PNG text": (partial(in_png, (b"tEXt", b"Author\0" + MARK)), ("text",)),
    "PNG comment": (partial(in_png, (b"tEXt", b"comment\0" + MARK)), ("text",)),
    "PNG packed text": (partial(in_png, (b"zTXt", b"Author\0\0" + zlib.compress(MARK))), ("text",)),
    "PNG international text": (partial(in_png, (b"iTXt", b"Author\0\0\0\0\0" + MARK)), ("text",)),
    "PNG text at the end": (
        partial(in_png, (b"tEXt", b"Author\0" + MARK), before=b"IEND"),
        ("text",),
    ),
    "PNG EXIF at the end": (partial(in_png, (b"eXIf", EXIF), before=b"IEND"), ("exif",)),
    "PNG EXIF as text": (
        partial(in_png, (b"tEXt", in_words(b"exif", JPEG_EXIF + EXIF))),
        ("exif",),
    ),
    "PNG IPTC as text": (partial(in_png, (b"tEXt", in_words(b"iptc", IPTC))), ("iptc",)),
    "GIF comment": (partial(in_gif, (0xFE, GIF_COMMENT)), ("comment",)),
    "GIF XMP": (partial(in_gif, (0xFF, GIF_XMP)), ("xmp",)),
    **{
        f"{kind} {name}": (partial(made, kind, **given), names)
        for kind in ("WEBP", "AVIF", "HEIF")
        for name, given, names in (
            ("EXIF", {"exif": EXIF}, ("exif",)),
            ("GPS", {"exif": EXIF_AND_PLACE}, ("exif", "gps")),
            ("thumbnail", {"exif": EXIF_AND_THUMBNAIL}, ("exif", "thumbnail")),
            ("XMP", {"xmp": XMP}, ("xmp",)),
            ("ICC", {"icc_profile": ICC}, ("icc_profile",)),
        )
    },
    "HEIF thumbnail of its own": (partial(made, "HEIF", thumbnails=[32]), ("thumbnail",)),
    **{
        f"{kind} animation": (partial(animated, kind), ("animation",))
        for kind in ("GIF", "PNG", "WEBP", "AVIF")
    },
    "HEIF, several pictures": (partial(animated, "HEIF"), ()),
    "JPEG gain map": (partial(in_jpeg, (0xE2, JPEG_GAIN_MAP)), ("gain_map",)),
    "JPEG gain map in XMP": (partial(in_jpeg, (0xE1, JPEG_XMP + HDR_XMP)), ("gain_map", "xmp")),
    "JPEG gain map behind it": (partial(with_second_picture, 0), ("gain_map",)),
    "JPEG preview behind it": (partial(with_second_picture, 0x010002), ()),
    "JPEG for both eyes": (partial(with_second_picture, 0x020002), ()),
    "HEIF gain map": (
        partial(with_box, "HEIF", b"free", b"urn:com:apple:photo:2020:aux:hdrgainmap\0" + MARK),
        ("gain_map",),
    ),
    "AVIF gain map": (
        partial(with_box, "AVIF", b"free", b"infe\2\0\0\0\0\2\0\0tmap" + MARK),
        ("gain_map",),
    ),
    "JPEG C2PA": (partial(in_jpeg, (0xEB, JPEG_C2PA)), ("c2pa",)),
    "PNG C2PA": (partial(in_png, (b"caBX", MARK)), ("c2pa",)),
    "PNG C2PA at the end": (partial(in_png, (b"caBX", MARK), before=b"IEND"), ("c2pa",)),
    **{
        f"{kind} C2PA": (partial(with_box, kind, b"uuid", C2PA_UUID + MARK), ("c2pa",))
        for kind in ("AVIF", "HEIF")
    },
}


def full_jpeg() -> bytes:
    """Everything at once, twice where it may come twice, and more after the end."""
    extended = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + bytes(4) + bytes(4) + MARK
    return (
        in_jpeg(
            *((0xFE, MARK), (0xFE, MARK), (0xE2, JPEG_ICC), (0xED, b"Photoshop 3.0\0" + IPTC)),
            *((0xE1, extended), (0xE1, JPEG_XMP + XMP), (0xE1, JPEG_EXIF + ALL_EXIF)),
            *((0xEB, MARK), (0xEF, MARK), (0xE0, b"JFXX\0\x10" + MINIATURE)),
        )
        + MARK
        + made("JPEG", comment=MARK)
    )


def full_png() -> bytes:
    early = in_png(
        *((b"eXIf", ALL_EXIF), (b"iCCP", PNG_ICC), (b"iTXt", PNG_XMP)),
        *((b"tEXt", b"Author\0" + MARK), (b"tEXt", b"Author\0" + MARK), (b"prVt", MARK)),
        (b"tEXt", in_words(b"iptc", IPTC)),
    )
    for kind, data in (
        (b"zTXt", b"Comment\0\0" + zlib.compress(MARK)),
        (b"tIME", b"\7\xea\1\2\3\4\5"),
        (b"prVt", MARK),
    ):
        early = with_chunk(early, kind, data, b"IEND")
    return early + png_chunk(b"tEXt", b"Author\0" + MARK) + MARK


def full_other(kind: str) -> bytes:
    content = made(kind, exif=ALL_EXIF, xmp=XMP, icc_profile=ICC)
    if kind == "WEBP":
        return content + MARK
    return content + (len(MARK) + 8).to_bytes(4, "big") + b"free" + MARK


def full_gif() -> bytes:
    return (
        in_gif((0xFE, GIF_COMMENT), (0xFF, GIF_XMP), (0xFF, b"\x0bSOMEBODY1.0" + GIF_COMMENT))
        + MARK
    )


FULL: dict[str, Carrier] = {
    "JPEG full": (full_jpeg, ("comment", "exif", "gps", "icc_profile", "iptc", "thumbnail", "xmp")),
    "PNG full": (full_png, ("exif", "gps", "icc_profile", "iptc", "text", "thumbnail", "xmp")),
    "GIF full": (full_gif, ("comment", "xmp")),
    **{
        f"{kind} full": (
            partial(full_other, kind),
            ("exif", "gps", "icc_profile", "thumbnail", "xmp"),
        )
        for kind in ("WEBP", "AVIF", "HEIF")
    },
}
ALL = {**CARRIERS, **FULL}


@pytest.mark.parametrize("name", ALL)
def test_what_was_removed_is_named_and_nothing_else(name: str) -> None:
    make, names = ALL[name]
    assert process_profile_image(make()).removed_metadata == names
    assert make_master(make()).removed_metadata == names


def assert_clean(served: bytes) -> None:
    """Start, JFIF, tables, frame, one scan and the end, and none of what such things begin with."""
    assert [left for left in LEFTOVERS if left in served] == []
    position = 2
    markers = []
    while (marker := served[position + 1]) != 0xDA:
        markers.append(marker)
        position += 2 + int.from_bytes(served[position + 2 : position + 4], "big")
    assert set(markers) == {0xE0, 0xDB, 0xC0, 0xC4}, (
        "there is a comment or an application's segment"
    )
    assert served.index(b"\xff\xd9", position) == len(served) - 2, (
        "there is something after the end"
    )


@pytest.mark.parametrize("name", ALL)
def test_no_byte_of_it_is_left(name: str) -> None:
    content = ALL[name][0]()
    assert b"SECRET" in content or not name.endswith("full")
    served = process_profile_image(content).content
    assert_clean(served)
    assert corners(served) == ["red", "green", "blue", "white"]


Tags = dict[str, Any]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Tags, Tags]]:
    """What exiftool finds in each file and in the picture made of it.

    It starts once for all, because it is slow.
    """
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")
    folder = tmp_path_factory.mktemp("metadata")
    for number, (make, _) in enumerate(ALL.values()):
        content = make()
        Path(folder, f"{number}.sent").write_bytes(content)
        Path(folder, f"{number}.served").write_bytes(process_profile_image(content).content)
    Path(folder, "clean.served").write_bytes(
        encoded(Image.new("RGB", (300, 300), "red"), quality=85, optimize=True)
    )
    run = subprocess.run(
        ["exiftool", "-j", "-G1", "-a", "-u", *sorted(folder.iterdir())],
        capture_output=True,
        check=True,
    )
    found = {Path(tags["SourceFile"]).name: tags for tags in json.loads(run.stdout)}
    numbers = {name: str(number) for number, name in enumerate(ALL)} | {"clean": "clean"}
    return lambda name: (found.get(f"{numbers[name]}.sent", {}), found[f"{numbers[name]}.served"])


# What exiftool's groups and tags are among ours.
GROUPS = {
    **{
        "IFD0": "exif",
        "GPS": "gps",
        "IFD1": "thumbnail",
        "IPTC": "iptc",
        "ICC-header": "icc_profile",
    },
    **{"XMP-tiff": "xmp", "File:Comment": "comment", "GIF:Comment": "comment"},
    **{f"PNG:{key}": "text" for key in ("Author", "Comment", "comment")},
}


@pytest.mark.parametrize("name", ALL)
def test_an_independent_reader_finds_in_the_file_what_was_named_and_in_the_picture_nothing(
    name: str, read: Callable[[str], tuple[Tags, Tags]]
) -> None:
    sent, served = read(name)
    seen = {GROUPS.get(tag) or GROUPS.get(tag.partition(":")[0]) for tag in sent} - {None}
    if name != "HEIF thumbnail of its own":  # which exiftool does not tell
        told = tuple(each for each in ALL[name][1] if each in GROUPS.values())
        assert tuple(sorted(str(each) for each in seen)) == told, sent
    assert served.keys() == read("clean")[1].keys()


@pytest.mark.parametrize(
    "keyword",
    [
        *(
            "transparency",
            "interlace",
            "photoshop",
            "exif",
            "icc_profile",
            "xmp",
            "comment",
            "gamma",
            "dpi",
        ),
        *("background", "default_image", "loop", "adobe", "jfif"),
    ],
)
@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_a_text_in_a_png_cannot_pass_for_something_else(keyword: str, before: bytes) -> None:
    """Pillow keeps texts under their own keywords, beside what it has to know itself."""
    plain = process_profile_image(in_png())
    picture = process_profile_image(
        in_png((b"tEXt", keyword.encode() + b"\0" + b"1"), before=before)
    )
    assert picture.content == plain.content
    assert picture.removed_metadata == ("text",)


def test_over_http_the_answer_names_what_was_removed_and_the_picture_has_none_of_it(
    shared_service: Service, account: Account
) -> None:
    answer = shared_service.patch_picture(account, full_jpeg())
    assert answer.status_code == 200, answer.text
    assert answer.json()["removed_metadata"] == list(FULL["JPEG full"][1])
    assert_clean(shared_service.get_picture(answer.json()["image_path"]).content)
    assert answer.json()["notes"] == []
    answer = shared_service.patch_picture(account, made("PNG"), filename="plain.png")
    assert answer.json()["removed_metadata"] == []


def test_over_http_the_answer_notes_what_is_shown_otherwise(
    shared_service: Service, account: Account
) -> None:
    answer = shared_service.patch_picture(account, animated("PNG"), filename="film.png")
    assert answer.status_code == 200, answer.text
    assert answer.json()["notes"] == ["animation_reduced"]
