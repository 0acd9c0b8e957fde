"""Proves that thumbnails show what was asked of their master, sharp, in its colours, and clean."""

import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageCms, ImageStat

from errors import BadPicture, BrokenPicture, EmptyFile, NotAPicture, TruncatedPicture
from image_utils import make_master, make_renditions
from pictures.encoding import JPEG_QUALITY, encode
from pictures.renditions import Fit, Rendition, RenditionFormat, resolve_rendition
from pictures.served_files import is_served_file
from tests.support.pictures import corners, encoded, jpeg, quarters

JPEG = RenditionFormat.JPEG
# A mean over channels and pixels, of 255; a mark for what must not be passed on.
MOST_DIFFERENCE = 4.0
MARK = b"SECRET"
XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Artist="SECRET"/></rdf:RDF>
</x:xmpmeta>"""


def draw(width_px: int, height_px: int) -> Image.Image:
    """Coarse grain in the brightness, and slow changes of the colour."""
    grain = Image.effect_noise((width_px // 16 + 1, height_px // 16 + 1), 60)
    sharp = grain.resize((width_px, height_px), Image.Resampling.BICUBIC)
    slow = Image.linear_gradient("L").resize((width_px, height_px))
    return Image.merge("RGB", (sharp, ImageChops.add(sharp, slow, 2), sharp))


def opened(file: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(file))
    picture.load()
    return picture


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean absolute difference of two pictures' channels, of 255."""
    means = ImageStat.Stat(ImageChops.difference(one, other)).mean
    return sum(means) / len(means)


def ask(
    master: bytes, width: int, height: int, fit: Fit, file_format: RenditionFormat = JPEG
) -> Rendition:
    return resolve_rendition(width, height, fit, file_format, opened(master).size)


def make(
    master: bytes, width: int, height: int, fit: Fit, file_format: RenditionFormat = JPEG
) -> Image.Image:
    (made,) = make_renditions(master, [ask(master, width, height, fit, file_format)])
    return opened(made.content)


MASTER = make_master(encoded(draw(1200, 800), "PNG", compress_level=1)).content
QUARTERS = jpeg(600, 400)


def test_one_master_gives_all_that_were_asked_for_in_their_order() -> None:
    wanted = [
        ask(MASTER, width, 0, Fit.INSIDE, file_format)
        for file_format in reversed(RenditionFormat)
        for width in (160, 90, 300)
    ]
    wanted.insert(4, ask(MASTER, 80, 80, Fit.COVER))
    made = make_renditions(MASTER, wanted)
    assert len(made) == len(wanted)
    for rendition, picture in zip(wanted, made, strict=True):
        assert is_served_file(picture.content, rendition)
        shown = opened(picture.content)
        assert shown.size == rendition.size == (picture.width_px, picture.height_px)
        assert shown.format == rendition.format.name
        assert picture.content_type == Image.MIME[rendition.format.name]
    assert len({picture.filename for picture in made}) == len(made)
    assert len({picture.sha256 for picture in made}) == len(made)


@pytest.mark.parametrize("file_format", RenditionFormat)
@pytest.mark.parametrize(
    "asked",
    [
        (1200, 0, Fit.INSIDE),
        (800, 0, Fit.INSIDE),
        (299, 0, Fit.INSIDE),
        (150, 0, Fit.INSIDE),
        (300, 300, Fit.COVER),
        (101, 300, Fit.COVER),
        (640, 100, Fit.COVER),
    ],
)
def test_it_looks_like_the_textbooks(
    file_format: RenditionFormat, asked: tuple[int, int, Fit]
) -> None:
    made = make(MASTER, *asked, file_format).convert("RGB")
    master = opened(MASTER)
    scale = max(made.width / master.width, made.height / master.height)
    left = (master.width - made.width / scale) / 2
    top = (master.height - made.height / scale) / 2
    box = (left, top, master.width - left, master.height - top)
    scaled = master.resize(made.size, Image.Resampling.LANCZOS, box)
    textbook = opened(encode(scaled, file_format)).convert("RGB")
    measured = difference(made, textbook)
    assert measured < MOST_DIFFERENCE
    shifted = ImageChops.offset(textbook, 1, 0)
    assert difference(made, shifted) > 1.5 * measured, "too coarse a measure"


def test_what_others_are_made_changes_nothing_where_one_is_large() -> None:
    small = ask(MASTER, 90, 90, Fit.COVER)
    large = ask(MASTER, 1100, 0, Fit.INSIDE)
    first, _ = make_renditions(MASTER, [small, large])
    _, _, second = make_renditions(MASTER, [large, ask(MASTER, 640, 0, Fit.CONTAIN), small])
    assert first.sha256 == second.sha256


def test_cover_shows_the_centre() -> None:
    assert corners(encoded(make(QUARTERS, 100, 100, Fit.COVER))) == [
        *("red", "green", "blue", "white"),
    ]
    striped = Image.new("RGB", (900, 300), "red")
    striped.paste("lime", (300, 0, 600, 300))
    square = make(encoded(striped, quality=95), 290, 290, Fit.COVER)
    assert difference(square, Image.new("RGB", square.size, "lime")) < 4
    # Less than was asked for, of the same shape.
    assert make(encoded(striped), 900, 900, Fit.COVER).size == (300, 300)


@pytest.mark.parametrize(
    ("box", "shown"),
    [
        ((200, 200), (0, 33, 200, 167)),
        ((600, 100), (225, 0, 375, 100)),
        ((700, 500), (50, 50, 650, 450)),  # not enlarged
    ],
)
@pytest.mark.parametrize("file_format", RenditionFormat)
def test_contain_lays_all_of_it_on_white(
    box: tuple[int, int], shown: tuple[int, int, int, int], file_format: RenditionFormat
) -> None:
    dark = encoded(Image.new("RGB", (600, 400), (10, 20, 30)), quality=95)
    made = make(dark, *box, Fit.CONTAIN, file_format).convert("RGB")
    wanted = Image.new("RGB", box, "white")
    wanted.paste((10, 20, 30), shown)
    assert made.size == box
    # The coder blurs the edge; half of a pixel may be off.
    assert difference(made, wanted) < 3
    inside = made.crop((shown[0] + 8, shown[1] + 8, shown[2] - 8, shown[3] - 8))
    assert difference(inside, Image.new("RGB", inside.size, (10, 20, 30))) < 3


def test_a_side_of_one_pixel_is_one() -> None:
    for size in ((1600, 1), (1, 1600), (1, 1)):
        master = make_master(encoded(Image.new("RGB", size, "navy"))).content
        for file_format in RenditionFormat:
            assert make(master, 40, 40, Fit.INSIDE, file_format).size == tuple(
                max(1, side // 40) for side in size
            )


def full_of_metadata() -> bytes:
    """A master that carries all that Pillow's writers would copy, which none of ours does."""
    exif = Image.Exif()
    exif[0x013B] = MARK.decode()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return encoded(
        draw(320, 240),
        quality=90,
        icc_profile=profile,
        exif=exif,
        xmp=XMP,
        comment=MARK,
        dpi=(300, 300),
    )


def test_nothing_but_the_picture_is_in_them(tmp_path: Path) -> None:
    master = full_of_metadata()
    assert master.count(MARK) == 3
    wanted = [
        ask(master, *asked, file_format)
        for file_format in RenditionFormat
        # Scaled, as it is, on white: each has a picture of its own.
        for asked in ((100, 0, Fit.INSIDE), (320, 240, Fit.INSIDE), (90, 90, Fit.CONTAIN))
    ]
    for rendition, made in zip(wanted, make_renditions(master, wanted), strict=True):
        assert MARK not in made.content
        assert is_served_file(made.content, rendition)
        assert (
            not {"icc_profile", "exif", "xmp", "comment", "dpi"} & opened(made.content).info.keys()
        )
        (tmp_path / made.filename).write_bytes(made.content)
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")
    (tmp_path / "master.jpg").write_bytes(master)
    run = subprocess.run(
        ["exiftool", "-j", "-G0", "-a", "-u", *sorted(tmp_path.iterdir())],
        capture_output=True,
        check=True,
    )
    for tags in json.loads(run.stdout):
        groups = {tag.partition(":")[0] for tag in tags} - {"SourceFile", "ExifTool", "Composite"}
        if tags["SourceFile"].endswith("master.jpg"):
            assert groups >= {"EXIF", "XMP", "ICC_Profile"}, (
                "the reader does not see what it should"
            )
        else:
            assert groups <= {"File", "JFIF", "RIFF", "QuickTime", "Meta"}, tags


def test_their_jpeg_is_encoded_as_a_masters_is() -> None:
    master = make_master(encoded(draw(200, 150), "PNG")).content
    made = make(master, 200, 150, Fit.INSIDE)
    again = encoded(opened(master), quality=JPEG_QUALITY, optimize=True)
    assert made == opened(again)


NO_MASTERS: dict[str, tuple[bytes, type[BadPicture]]] = {
    "nothing": (b"", EmptyFile),
    "no picture": (b"hello", NotAPicture),
    "cut short": (QUARTERS[: len(QUARTERS) // 2], TruncatedPicture),
    "a PNG": (encoded(quarters(60, 40), "PNG"), BrokenPicture),
    "a WebP": (encoded(quarters(60, 40), "WEBP"), BrokenPicture),
    "progressive": (jpeg(60, 40, progressive=True), BrokenPicture),
    "grey": (encoded(quarters(60, 40).convert("L")), BrokenPicture),
    "CMYK": (encoded(quarters(60, 40).convert("CMYK")), BrokenPicture),
    "larger than a master": (encoded(Image.new("RGB", (1601, 8))), BrokenPicture),
}


@pytest.mark.parametrize("name", NO_MASTERS)
def test_what_is_no_master_is_refused(name: str) -> None:
    content, refusal = NO_MASTERS[name]
    with pytest.raises(refusal):
        make_renditions(content, [Rendition(30, 20, Fit.INSIDE, JPEG)])


def test_what_is_no_job_for_this_master_is_an_error() -> None:
    with pytest.raises(ValueError, match="rendition"):
        make_renditions(QUARTERS, [Rendition(601, 400, Fit.COVER, JPEG)])
