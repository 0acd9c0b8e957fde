"""Proves the image step: an upright, clean, square JPEG of any accepted file, else a 4xx."""

import dataclasses
import hashlib
import io
import json
import random
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator

import pytest
from PIL import (
    Image,
    ImageChops,
    ImageCms,
    ImageDraw,
    ImageFile,
    ImageOps,
    ImageStat,
    PngImagePlugin,
)

from errors import (
    BadCrop,
    BadPicture,
    BrokenPicture,
    DarkroomError,
    EmptyFile,
    NotAPicture,
    TooManyPixels,
    TruncatedPicture,
    UnsupportedFormat,
)
from image_utils import JPEG_QUALITY, process_profile_image
from pictures.parsers import FORMATS
from pictures.values import PICTURE_SIDE_PX, Crop
from tests.support.pictures import BLUE, GREEN, RED, WHITE, corners, encoded, jpeg, quarters

ORIENTATION = 0x0112
GPS = 0x8825
# How an upright picture is stored under each orientation: the inverse of the turn that shows it.
STORED_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
KINDS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "HEIF")
MARK = "SECRET-OF-THE-SENDER"


def stored(upright: Image.Image, orientation: int, kind: str = "JPEG", **options: object) -> bytes:
    """The file in which a camera held this way stores the picture."""
    turned = upright.transpose(STORED_BY[orientation]) if orientation in STORED_BY else upright
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(turned, kind, exif=exif, **options)


def opened(content: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


def pixel(picture: Image.Image, x: int, y: int) -> tuple[int, int, int]:
    found = picture.convert("RGB").getpixel((x, y))
    assert isinstance(found, tuple)
    return found[0], found[1], found[2]


def is_near(one: tuple[int, ...], other: tuple[int, ...], most: int = 12) -> bool:
    return all(abs(a - b) <= most for a, b in zip(one, other, strict=True))


def colour_of(content: bytes) -> tuple[int, int, int]:
    """The colour in the middle of what the image step makes of a file."""
    return pixel(opened(process_profile_image(content).content), 150, 150)


def detailed(width_px: int, height_px: int, seed: int = 1) -> Image.Image:
    """Lines, discs and noise, as a photograph has them; smoothed, as a lens does it."""
    rng = random.Random(seed)
    picture = Image.linear_gradient("L").resize((width_px, height_px)).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for _ in range(400):
        x = rng.randrange(width_px)
        y = rng.randrange(height_px)
        size = rng.randrange(8, max(9, width_px // 12))
        colour = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        if rng.random() < 0.5:
            draw.ellipse((x, y, x + size, y + size), fill=colour)
        else:
            draw.line(
                (x, y, rng.randrange(width_px), rng.randrange(height_px)),
                fill=colour,
                width=1 + size // 20,
            )
    noise = Image.effect_noise((width_px, height_px), 40).convert("RGB")
    return Image.blend(picture, noise, 0.15)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright(kind: str, orientation: int) -> None:
    content = stored(quarters(640, 480), orientation, kind)
    shown = ImageOps.exif_transpose(opened(content))
    assert shown.size == (640, 480), "the test's own file is not what it says"
    assert corners(process_profile_image(content).content) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize("size", [(4000, 3000), (4001, 2999), (2999, 4001)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_jpeg_that_is_decoded_at_reduced_scale_comes_out_upright(
    size: tuple[int, int], orientation: int
) -> None:
    content = stored(quarters(*size), orientation)
    assert corners(process_profile_image(content).content) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize(
    ("kind", "size"), [("JPEG", (640, 480)), ("PNG", (640, 480)), ("JPEG", (4001, 2999))]
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_crop_is_counted_in_upright_pixels(
    kind: str, size: tuple[int, int], orientation: int
) -> None:
    width, height = size
    content = stored(quarters(width, height), orientation, kind)
    side = height // 2 - 16
    where = {
        RED: (0, 0),
        GREEN: (width - side, 0),
        BLUE: (0, height - side),
        WHITE: (width - side, height - side),
    }
    for colour, (x, y) in where.items():
        made = opened(process_profile_image(content, Crop(x, y, side)).content)
        for at in ((2, 2), (297, 2), (2, 297), (297, 297), (150, 150)):
            assert is_near(pixel(made, *at), colour), (colour, at)
    across = process_profile_image(
        content, Crop(width // 2 - side // 2, height // 2 - side // 2, side)
    )
    assert corners(across.content) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize(
    "crop", [(0, 0, 0), (-1, 0, 10), (0, -1, 10), (541, 0, 100), (0, 381, 100), (0, 0, 481)]
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_crop_outside_the_upright_picture_is_refused(
    crop: tuple[int, int, int], orientation: int
) -> None:
    content = stored(quarters(640, 480), orientation)
    with pytest.raises(BadCrop, match="640 x 480"):
        process_profile_image(content, Crop(*crop))
    process_profile_image(content, Crop(540, 380, 100))


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("JPEG", (640, 480)),
        ("JPEG", (4000, 3000)),
        ("JPEG", (4001, 2999)),
        ("JPEG", (2999, 4001)),
        ("JPEG", (1201, 1801)),
        ("PNG", (1201, 801)),
        ("WEBP", (300, 301)),
    ],
)
@pytest.mark.parametrize("orientation", [1, 4, 6, 7])
def test_the_result_is_exactly_the_centre_square(
    kind: str, size: tuple[int, int], orientation: int
) -> None:
    """A frame six result pixels wide just inside the centre square must fill the result's edges."""
    width, height = size
    side = min(size)
    left = (width - side) // 2
    top = (height - side) // 2
    upright = Image.new("RGB", size, BLUE)
    draw = ImageDraw.Draw(upright)
    frame_px = round(side * 6 / PICTURE_SIDE_PX)
    draw.rectangle((left, top, left + side - 1, top + side - 1), fill=GREEN)
    draw.rectangle(
        (left + frame_px, top + frame_px, left + side - 1 - frame_px, top + side - 1 - frame_px),
        fill=RED,
    )
    options = (
        {"quality": 95, "subsampling": 0}
        if kind == "JPEG"
        else {"lossless": True}
        if kind == "WEBP"
        else {}
    )
    made = opened(process_profile_image(stored(upright, orientation, kind, **options)).content)
    last = PICTURE_SIDE_PX - 1

    def name(x: int, y: int) -> str:
        named = {"frame": GREEN, "outside": BLUE, "inside": RED}
        found = pixel(made, x, y)
        return min(
            named, key=lambda key: sum(abs(a - b) for a, b in zip(named[key], found, strict=True))
        )

    for along in (20, 150, 280):
        for deep, expected in ((2, "frame"), (3, "frame"), (10, "inside")):
            seen = [
                name(deep, along),
                name(last - deep, along),
                name(along, deep),
                name(along, last - deep),
            ]
            assert seen == [expected] * 4, (along, deep)


@pytest.mark.parametrize("size", [(4000, 3000), (2999, 4001), (1280, 720)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_short_way_looks_like_the_textbook_one(size: tuple[int, int], orientation: int) -> None:
    content = stored(detailed(*size), orientation, quality=92)
    upright = ImageOps.exif_transpose(opened(content)).convert("RGB")
    fitted = ImageOps.fit(upright, (PICTURE_SIDE_PX, PICTURE_SIDE_PX), Image.Resampling.LANCZOS)
    textbook = opened(encoded(fitted, quality=JPEG_QUALITY))
    made = opened(process_profile_image(content).content)
    assert difference(made, textbook) < 3.0
    shifted = ImageChops.offset(textbook, 1, 0)
    assert difference(made, shifted) > difference(made, textbook) * 1.5, (
        "the measure cannot tell one pixel"
    )


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean absolute difference of two pictures' channels, of 255."""
    means = ImageStat.Stat(ImageChops.difference(one, other)).mean
    return sum(means) / len(means)


def full_of_metadata(kind: str) -> bytes:
    """A picture with all metadata that the format takes, and the sender's secret in each kind."""
    exif = Image.Exif()
    exif[0x010E] = MARK  # description, artist
    exif[0x013B] = MARK
    exif.get_ifd(GPS).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 17.0)})
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><title>{MARK}</title></x:xmpmeta>'.encode()
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = quarters(320, 240)
    if kind == "JPEG":
        made = encoded(
            picture,
            kind,
            exif=exif,
            xmp=xmp,
            icc_profile=icc,
            comment=MARK.encode(),
            dpi=(300, 300),
        )
        title = b"\x1c\x02\x05" + len(MARK).to_bytes(2, "big") + MARK.encode()  # IPTC 2:05
        title += b"\0" * (len(title) % 2)
        iptc = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + len(title).to_bytes(4, "big") + title
        segment = b"\xff\xed" + (len(iptc) + 2).to_bytes(2, "big") + iptc
        return made[:2] + segment + made[2:] + MARK.encode()
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", MARK)
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        text.add_text("Author", MARK, zip=True)
        return encoded(picture, kind, exif=exif, icc_profile=icc, pnginfo=text, dpi=(300, 300))
    if kind == "GIF":
        return encoded(picture, kind, comment=MARK.encode())
    return encoded(picture, kind, exif=exif, xmp=xmp, icc_profile=icc)


@pytest.mark.parametrize("kind", KINDS)
def test_no_metadata_of_any_kind_is_left(kind: str) -> None:
    content = full_of_metadata(kind)
    assert MARK.encode() in content
    made = process_profile_image(content).content
    assert MARK.encode() not in made and b"ICC" not in made and b"Exif" not in made
    assert set(opened(made).info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert opened(made).info["jfif_density"] == (1, 1)
    # Start, JFIF, tables, baseline frame, scan, end: an APP1 to 15 or a comment would show here.
    assert {marker for marker, _ in segments(made)} == {0xE0, 0xDB, 0xC0, 0xC4, 0xDA}


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("kind", KINDS)
def test_an_independent_reader_finds_no_metadata(kind: str) -> None:
    def read(content: bytes) -> set[str]:
        run = subprocess.run(
            ["exiftool", "-json", "-G", "-"], input=content, capture_output=True, check=True
        )
        return {tag.partition(":")[0] for tag in json.loads(run.stdout)[0]} - {"SourceFile"}

    before = read(full_of_metadata(kind))
    assert before & {"EXIF", "XMP", "IPTC", "ICC_Profile", "GIF"}, (
        "the reader does not see what it should"
    )
    assert read(process_profile_image(full_of_metadata(kind)).content) <= {
        "ExifTool",
        "File",
        "JFIF",
        "Composite",
    }


def segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The marker segments of a JPEG with one scan, up to its end, which must be the file's end."""
    assert content[:2] == b"\xff\xd8"
    position = 2
    while True:
        assert content[position] == 0xFF
        marker = content[position + 1]
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        yield marker, content[position + 4 : position + 2 + length]
        position += 2 + length
        if marker == 0xDA:
            end = content.index(b"\xff\xd9", position)
            assert end + 2 == len(content)
            assert not re.search(rb"\xff[^\x00\xd0-\xd7]", content[position:end])
            return


def test_the_result_is_a_baseline_rgb_jpeg_of_the_promised_size_and_quality() -> None:
    made = process_profile_image(jpeg(1600, 1200))
    picture = opened(made.content)
    assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (300, 300))
    assert (made.width_px, made.height_px, made.content_type) == (300, 300, "image/jpeg")
    assert made.sha256 == hashlib.sha256(made.content).hexdigest()
    assert not picture.info.get("progressive")
    assert (PICTURE_SIDE_PX, JPEG_QUALITY) == (300, 85)
    reference = opened(encoded(quarters(300, 300), quality=85))
    assert tables(picture) == tables(reference)
    assert tables(picture) != tables(opened(encoded(quarters(300, 300), quality=84)))


def tables(picture: Image.Image) -> object:
    """The quantisation tables, which are what a JPEG's quality is."""
    return picture.quantization  # type: ignore[attr-defined]


def test_the_same_picture_gives_the_same_bytes_under_another_name() -> None:
    one = process_profile_image(jpeg())
    other = process_profile_image(jpeg())
    assert one.filename != other.filename
    assert re.fullmatch(r"[0-9a-f]{32}\.jpg", one.filename)
    assert dataclasses.replace(one, filename="") == dataclasses.replace(other, filename="")


def test_the_formats_are_six() -> None:
    assert sorted(FORMATS) == ["AVIF", "GIF", "HEIF", "JPEG", "PNG", "WEBP"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_allowed_format_is_taken(kind: str) -> None:
    assert corners(process_profile_image(encoded(quarters(640, 480), kind)).content) == [
        "red",
        "green",
        "blue",
        "white",
    ]


def test_the_first_picture_of_a_phone_s_mpo_is_taken() -> None:
    content = encoded(
        quarters(640, 480), "MPO", save_all=True, append_images=[Image.new("RGB", (640, 480), RED)]
    )
    assert opened(content).format == "MPO"
    assert corners(process_profile_image(content).content) == ["red", "green", "blue", "white"]


def png_header(width_px: int, height_px: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        )

    size = width_px.to_bytes(4, "big") + height_px.to_bytes(4, "big")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + b"\x08\x02\0\0\0")
        + chunk(b"IDAT", zlib.compress(b"\0"))
    )


def test_a_picture_bomb_is_refused_by_its_header_and_told_both_numbers() -> None:
    with pytest.raises(TooManyPixels) as refused:
        process_profile_image(png_header(20_000, 20_000))
    sentence = refused.value.detail
    assert "20000 x 20000" in sentence and "400.0 million" in sentence and "50 million" in sentence
    with pytest.raises(BadPicture):  # allowed by its size, such a file is broken
        process_profile_image(png_header(200, 200))


def test_a_baseline_jpeg_has_the_larger_limit_and_names_it() -> None:
    content = jpeg(1600, 1200)
    process_profile_image(content, max_pixels=1600 * 1200, max_whole_pixels=1)
    with pytest.raises(TooManyPixels, match=r"1600 x 1200 pixels.*at most 0\.3 million"):
        process_profile_image(content, max_pixels=300_000, max_whole_pixels=10**9)


def test_fill_bytes_comments_and_thumbnails_do_not_hide_a_baseline_jpeg() -> None:
    content = encoded(quarters(1600, 1200), comment=b"\xff\xc2\0\x0b\x08\xff\xda" * 20)
    start = content.index(b"\xff\xdb")
    process_profile_image(
        content[:start] + b"\xff\xff" + content[start:], max_pixels=1600 * 1200, max_whole_pixels=1
    )


def with_smaller_limit(kind: str) -> bytes:
    """A file of 1600 x 1200 pixels that can only be decoded whole."""
    if kind == "progressive":
        return jpeg(1600, 1200, progressive=True)
    if kind != "several scans":
        return encoded(quarters(1600, 1200), kind)
    # Sequential, but one component after the other: libjpeg keeps all coefficients.
    content = jpeg(1600, 1200)
    scan = content.index(b"\xff\xda\x00\x0c\x03")
    return content[:scan] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + content[scan + 14 :]


@pytest.mark.parametrize("kind", ["progressive", "several scans", "PNG", "GIF", "WEBP", "AVIF"])
def test_what_must_be_decoded_whole_has_the_smaller_limit_and_is_not_decoded_past_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = with_smaller_limit(kind)
    loaded = []
    real = ImageFile.ImageFile.load

    def load(picture: ImageFile.ImageFile) -> object:
        loaded.append(picture.format)
        return real(picture)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(TooManyPixels, match=r"at most 0\.[0-9]+ million"):
        process_profile_image(content, max_pixels=10**9, max_whole_pixels=30_000)
    assert loaded == [], "it was decoded before its size was looked at"
    if kind != "several scans":
        process_profile_image(content, max_pixels=1, max_whole_pixels=1600 * 1200)
        assert loaded


def test_a_progressive_jpeg_within_the_limit_is_taken() -> None:
    assert corners(process_profile_image(jpeg(4001, 2999, progressive=True)).content) == [
        "red",
        "green",
        "blue",
        "white",
    ]


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "ICO", "PPM", "TGA", "JPEG2000", "ICNS", "PCX"])
def test_a_picture_of_another_format_is_refused(kind: str) -> None:
    with pytest.raises(
        NotAPicture if kind == "TGA" else UnsupportedFormat
    ):  # which nothing at its beginning tells
        process_profile_image(encoded(quarters(64, 64), kind))


@pytest.mark.parametrize(
    "content",
    [
        b"hello, I am photo.jpg",
        b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>',
        b'<?xml version="1.0"?><!DOCTYPE svg><svg/>',
        b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        b"PK\x03\x04" + b"\0" * 100,
        b"\0",
        b"\0" * 5000,
        b"\xff\xd8",
        b"GIF89a",
        b"RIFF\x10\0\0\0WEBP",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_what_is_no_picture_is_refused_as_such(content: bytes) -> None:
    with pytest.raises(BadPicture) as refused:
        process_profile_image(content)
    assert refused.value.status == 400
    if len(content) > 20:
        assert isinstance(refused.value, NotAPicture | UnsupportedFormat)


def test_an_empty_file_is_called_empty() -> None:
    with pytest.raises(EmptyFile):
        process_profile_image(b"")


@pytest.mark.parametrize("size", [(640, 480), (4000, 3000)])
def test_a_jpeg_that_is_cut_short_is_called_so(size: tuple[int, int]) -> None:
    """One that is decoded line by line; a progressive one: test_cut_short.py."""
    content = encoded(detailed(*size), quality=80)
    for part in (0.3, 0.5, 0.8, 0.98):
        with pytest.raises(TruncatedPicture):
            process_profile_image(content[: int(len(content) * part)])


@pytest.mark.parametrize("kind", KINDS)
def test_no_half_of_a_picture_ever_passes(kind: str) -> None:
    """With EXIF and without: reading the orientation must not swallow what reading pixels says.

    Of what is interlaced an eighth may pass: test_interlace.py.
    """
    exif = Image.Exif()
    exif[ORIENTATION] = 1
    plain: dict[str, object] = {"interlace": 0} if kind == "GIF" else {}
    for options in (plain, {**plain, "exif": exif}):
        content = encoded(detailed(400, 300), kind, **options)
        for tenth in range(1, 10):
            with pytest.raises(BadPicture):
                process_profile_image(content[: len(content) * tenth // 10])


def test_a_png_with_a_damaged_stream_is_called_broken() -> None:
    content = bytearray(encoded(detailed(400, 300), "PNG"))
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    with pytest.raises(BrokenPicture):
        process_profile_image(bytes(content))


def test_a_picture_without_pixels_is_called_broken() -> None:
    with pytest.raises(BadPicture):
        process_profile_image(png_header(0, 100))


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The file with a few bytes changed, lost, doubled, or its end cut off."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(changed))
        match rng.randrange(5):
            case 0:
                changed[at] = rng.randrange(256)
            case 1:
                changed[at] ^= 1 << rng.randrange(8)
            case 2:
                del changed[at : at + rng.randrange(1, 9)]
            case 3:
                changed[at:at] = changed[at : at + rng.randrange(1, 33)]
            case 4:
                changed[at : at + 4] = rng.choice(
                    (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4))
                )
        if len(changed) < 8:
            break
    return bytes(changed[: rng.randrange(1, len(changed) + 1)] if rng.random() < 0.15 else changed)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["anywhere", "in the header"])
def test_whatever_a_broken_file_makes_the_decoder_raise_is_a_4xx(kind: str, where: str) -> None:
    rng = random.Random(f"{kind} {where}")
    sound = [full_of_metadata(kind), encoded(detailed(96, 64), kind)]
    if kind == "JPEG":
        sound.append(encoded(detailed(96, 64), kind, progressive=True))
    refused = 0
    for number in range(120):
        content = sound[number % len(sound)]
        reach = 200 if where == "in the header" else len(content)
        content = mutated(content[:reach], rng) + content[reach:]
        try:
            made = process_profile_image(content, max_pixels=4_000_000, max_whole_pixels=4_000_000)
        except DarkroomError as err:
            assert 400 <= err.status < 500, (number, err)
            refused += 1
        else:
            assert opened(made.content).size == (300, 300), number
    assert refused > 10, "the mutations broke nothing"


def test_an_absurd_orientation_counts_as_upright() -> None:
    for value in (0, 9, 65535):
        exif = Image.Exif()
        exif[ORIENTATION] = value
        content = encoded(quarters(640, 480), exif=exif)
        assert corners(process_profile_image(content).content) == ["red", "green", "blue", "white"]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_truncated_exif_block_is_no_reason_to_refuse() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    block = exif.tobytes()
    content = encoded(quarters(640, 480), exif=block[: len(block) - 7])
    assert corners(process_profile_image(content).content) == ["red", "green", "blue", "white"]


# Red, but for what can only be grey.
@pytest.mark.parametrize(
    ("mode", "kind", "colour", "expected"),
    [
        ("L", "JPEG", 90, (90, 90, 90)),
        ("L", "PNG", 90, (90, 90, 90)),
        ("1", "PNG", 0, (0, 0, 0)),
        ("1", "PNG", 255, (255, 255, 255)),
        ("RGB", "PNG", RED, RED),
        ("RGB", "WEBP", RED, RED),
        ("RGB", "AVIF", RED, RED),
        ("RGB", "GIF", RED, RED),
        ("LA", "PNG", (90, 255), (90, 90, 90)),
        ("LA", "PNG", (90, 0), (255, 255, 255)),
        ("LA", "PNG", (0, 128), (127, 127, 127)),
        ("RGBA", "PNG", (*RED, 255), RED),
        ("RGBA", "PNG", (*RED, 0), (255, 255, 255)),
        ("RGBA", "PNG", (200, 0, 0, 128), (227, 127, 127)),
        ("RGBA", "WEBP", (200, 0, 0, 128), (227, 127, 127)),
        ("RGBA", "AVIF", (200, 0, 0, 128), (227, 127, 127)),
        ("I;16", "PNG", 0x8000, (128, 128, 128)),
        ("I;16", "PNG", 0xFFFF, (255, 255, 255)),
        ("I;16", "PNG", 0x0200, (2, 2, 2)),
        ("CMYK", "JPEG", (0, 255, 255, 0), (254, 0, 0)),
        ("CMYK", "JPEG", (0, 0, 0, 0), (255, 255, 255)),
        ("YCbCr", "JPEG", (76, 85, 255), (254, 0, 0)),
    ],
)
def test_every_mode_keeps_its_colour(
    mode: str, kind: str, colour: int | tuple[int, ...], expected: tuple[int, int, int]
) -> None:
    content = encoded(Image.new(mode, (400, 320), colour), kind)
    if mode not in ("YCbCr", "RGB") and kind in ("PNG", "JPEG"):
        assert opened(content).mode == mode, "the test's own file is not what it says"
    assert is_near(colour_of(content), expected)


def test_a_palette_keeps_its_colours() -> None:
    content = encoded(quarters(640, 480).quantize(16), "PNG")
    assert opened(content).mode == "P"
    assert corners(process_profile_image(content).content) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_the_transparent_colour_of_a_palette_becomes_white(kind: str) -> None:
    picture = Image.new("P", (400, 400), 0)
    picture.putpalette([0, 0, 0, *RED])
    ImageDraw.Draw(picture).rectangle((0, 0, 199, 399), fill=1)
    content = encoded(picture, kind, transparency=0)
    made = opened(process_profile_image(content).content)
    assert is_near(pixel(made, 60, 150), RED) and is_near(pixel(made, 240, 150), (255, 255, 255))


def test_a_single_transparent_colour_becomes_white() -> None:
    content = encoded(Image.new("RGB", (64, 64), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert is_near(colour_of(content), (255, 255, 255))


def test_what_is_hidden_behind_full_transparency_does_not_bleed_in() -> None:
    picture = Image.new("RGBA", (640, 640), (0, 0, 0, 0))
    ImageDraw.Draw(picture).rectangle((0, 0, 319, 639), fill=(*WHITE, 255))
    made = opened(process_profile_image(encoded(picture, "PNG")).content)
    assert min(low for low, _ in made.getextrema()) > 225  # type: ignore[misc]


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 3000), (3000, 1), (2, 1), (7, 5000), (299, 300), (60_000, 8)]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_tiny_and_extremely_narrow_pictures_are_taken(size: tuple[int, int], kind: str) -> None:
    for orientation in (1, 6):
        made = process_profile_image(stored(Image.new("RGB", size, RED), orientation, kind))
        assert opened(made.content).size == (300, 300)
        assert is_near(pixel(opened(made.content), 150, 150), RED)


def test_a_tiny_crop_of_a_large_jpeg_is_not_blurred() -> None:
    """The reduced decode follows the crop: one pixel in four would not show these bars."""
    picture = Image.new("RGB", (4000, 3000), WHITE)
    draw = ImageDraw.Draw(picture)
    for x in range(2000, 2300, 6):
        draw.rectangle((x, 1000, x + 2, 1300), fill=(0, 0, 0))
    made = opened(
        process_profile_image(encoded(picture, quality=95), Crop(2000, 1000, 300)).content
    )
    for x in range(0, 300, 6):
        assert pixel(made, x + 1, 150)[0] < 50 and pixel(made, x + 4, 150)[0] > 200
