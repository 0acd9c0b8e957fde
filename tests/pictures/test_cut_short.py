"""Proves what becomes of a file that was cut: served with a little white, or else refused."""

import io
import random
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image, ImageChops

from errors import BrokenPicture, TruncatedPicture
from image_utils import make_master, make_renditions, make_thumbnail, process_profile_image
from pictures import pillow
from pictures.formats import read_header
from pictures.jpeg_picture import JpegPicture
from pictures.renditions import Fit, Rendition, RenditionFormat
from pictures.values import Crop
from tests.support.pictures import GifFrame, encoded, gif, png, png_chunk

SCAN_OF_ONE = b"\xff\xda\0\x08\1"
END = b"\xff\xd9"
SIDE_PX = 320
# A block of a JPEG with halved colour is 16 pixels, and so is a row of them of the 400.
WIDE = (400, 320)


@pytest.fixture(autouse=True)
def _configured() -> None:
    pillow.configure()


def detailed(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Smooth spots of all colours: no two blocks are the same, and each takes some bytes."""
    small = (size[0] // 5 + 1, size[1] // 5 + 1)
    rng = random.Random(3)
    spots = Image.frombytes("RGB", small, rng.randbytes(3 * small[0] * small[1]))
    return spots.resize(size, Image.Resampling.BICUBIC).convert(mode)


def darkest(picture: Image.Image) -> int:
    return min(picture.convert("L").tobytes())


def lightest(picture: Image.Image) -> int:
    return max(picture.convert("L").tobytes())


def decode(jpeg: bytes) -> Image.Image:
    """What libjpeg makes of a file, at an eighth of its sides."""
    picture = Image.open(io.BytesIO(jpeg))
    picture.draft(None, (picture.width // 8, picture.height // 8))
    picture.load()
    return picture


def count_lost_blocks(jpeg: bytes, cut: bytes, unit_px: int) -> int:
    """How many units of a whole file are other ones, or grey, in a cut one that was ended."""
    difference = ImageChops.difference(decode(jpeg), decode(cut))
    side = unit_px // 8
    across = -(-difference.width // side)
    down = -(-difference.height // side)
    for row in range(down):
        strip = (0, row * side, difference.width, (row + 1) * side)
        box = difference.crop(strip).getbbox(alpha_only=False)
        if box is not None:
            return (down - row) * across - box[0] // side
    return 0


def open_jpeg(content: bytes) -> JpegPicture:
    picture = JpegPicture(content, read_header(content))
    picture.load()
    return picture


BASELINE: dict[str, tuple[str, int, dict[str, Any]]] = {
    "halved colour": ("RGB", 16, {"subsampling": 2}),
    "full colour": ("RGB", 8, {"subsampling": 0}),
    "grey": ("L", 8, {}),
    "four inks": ("CMYK", 8, {}),
    "restarts": ("RGB", 16, {"subsampling": 2, "restart_marker_blocks": 7}),
}


@pytest.mark.parametrize("with_end", [False, True], ids=["no end", "with an end"])
@pytest.mark.parametrize("kind", BASELINE)
def test_exactly_the_blocks_that_did_not_arrive_of_a_baseline_jpeg_are_lost(
    kind: str, with_end: bool
) -> None:
    mode, unit_px, options = BASELINE[kind]
    jpeg = encoded(detailed((320, 240), mode), quality=85, **options)
    units = (320 // unit_px) * (240 // unit_px)
    for kept in (0.99, 0.95, 0.9, 0.5):
        cut = jpeg[: int(len(jpeg) * kept)].rstrip(b"\xff")
        arrival = open_jpeg(cut + END if with_end else cut).arrival
        lost_pixels = sum((right - left) * (low - top) for left, top, right, low in arrival.lost)
        expected = count_lost_blocks(jpeg, cut + END, unit_px)
        # The unit in which the file was cut may have its mean, or not.
        assert abs(lost_pixels / unit_px**2 - expected) <= 1
        assert arrival.is_cut_short and 0 < lost_pixels <= units * unit_px**2


def test_at_no_place_is_more_of_a_jpeg_lost_the_later_it_was_cut() -> None:
    jpeg = encoded(detailed((160, 120)), quality=85, restart_marker_blocks=3)
    start = jpeg.index(b"\xff\xda") + 40
    shares = []
    for end in range(start, len(jpeg), 41):
        lost = open_jpeg(jpeg[:end]).arrival.lost
        shares.append(sum((right - left) * (low - top) for left, top, right, low in lost))
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.95 * 160 * 120 and shares[-1] < 0.02 * 160 * 120


def test_noise_that_looks_like_a_frame_behind_the_pixels_of_a_jpeg_is_passed_over() -> None:
    jpeg = encoded(detailed(WIDE), quality=85)
    whole = process_profile_image(jpeg)
    noise = b"\xff\xc3\x80\x37\x7f" + bytes(range(200))
    served = process_profile_image(jpeg[:-2] + noise + END)
    assert (served.sha256, served.notes) == (whole.sha256, ("cut_short",))
    with pytest.raises(BrokenPicture, match=r"damaged: [89]\d % of it can be read"):
        process_profile_image(jpeg[: len(jpeg) * 9 // 10] + noise + END)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_is_served_whole(progressive: bool) -> None:
    jpeg = encoded(detailed(WIDE), quality=85, progressive=progressive)
    whole = process_profile_image(jpeg)
    for cut_bytes in (1, 2):
        served = process_profile_image(jpeg[:-cut_bytes])
        assert served.sha256 == whole.sha256
        assert served.notes == ("cut_short",) and whole.notes == ()


def test_what_little_is_missing_of_a_jpeg_is_white() -> None:
    jpeg = encoded(detailed(WIDE).point(lambda value: value // 2), quality=90)
    served = process_profile_image(jpeg[: len(jpeg) * 99 // 100], Crop(80, 0, 320))
    picture = Image.open(io.BytesIO(served.content))
    assert served.notes == ("cut_short",)
    assert darkest(picture.crop((290, 292, 300, 300))) > 240
    assert lightest(picture.crop((0, 0, 300, 270))) < 200


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("grey", [127, 128, 129])
def test_a_grey_picture_is_not_taken_for_one_without_data(grey: int, progressive: bool) -> None:
    picture = Image.new("RGB", WIDE, (grey, grey, grey))
    picture.paste(detailed((400, 200)), (0, 0))
    served = process_profile_image(encoded(picture, quality=85, progressive=progressive))
    assert served.notes == ()
    middle = Image.open(io.BytesIO(served.content)).getpixel((150, 290))
    assert middle == pytest.approx((grey, grey, grey), abs=2)


def test_later_scans_of_a_progressive_jpeg_cost_sharpness_and_no_area() -> None:
    jpeg = encoded(detailed(WIDE), quality=85, progressive=True)
    second_scan = [found.start() for found in re.finditer(b"\xff\xda", jpeg)][1]
    for end in (second_scan + 40, len(jpeg) // 2, len(jpeg) - 300):
        for tail in (b"", END):
            served = process_profile_image(jpeg[:end] + tail)
            assert "cut_short" in served.notes or tail
    in_the_first = jpeg.index(b"\xff\xda") + (second_scan - jpeg.index(b"\xff\xda")) // 2
    for tail in (b"", END):
        with pytest.raises(TruncatedPicture, match=r": [3-6]\d % of it arrived"):
            process_profile_image(jpeg[:in_the_first] + tail)


def test_a_jpeg_without_one_of_its_colours_is_refused() -> None:
    """Scans of one component each, as a few programs write them: the last of them is missing."""
    jpeg = encoded(detailed((160, 120)), quality=85, progressive=True)
    layout = split_first_scan(jpeg)
    assert process_profile_image(b"".join(layout) + END).notes == ()
    for missing in (1, 2):
        with pytest.raises(TruncatedPicture, match=r": 0 % of it arrived"):
            process_profile_image(b"".join(layout[:-missing]) + END)
    cut = b"".join(layout)
    with pytest.raises(TruncatedPicture, match=r": [1-9]\d % of it arrived"):
        process_profile_image(cut[: -len(layout[-1]) // 2] + END)


def split_first_scan(jpeg: bytes) -> list[bytes]:
    """The same frame in three scans of one component, all of it in each; with the head first."""
    grey = [encoded(band, quality=85, progressive=True) for band in bands(jpeg)]
    head = jpeg[: jpeg.index(b"\xff\xc4")].replace(b"\x01\x22\x00", b"\x01\x11\x00")
    scans = []
    for number, band in enumerate(grey, start=1):
        first = band.index(b"\xff\xc4")
        second = [found.start() for found in re.finditer(b"\xff\xc4", band)][1]
        own = SCAN_OF_ONE + bytes((number,))
        scans.append(band[first:second].replace(SCAN_OF_ONE + b"\1", own))
    return [head, *scans]


def bands(jpeg: bytes) -> tuple[Image.Image, ...]:
    return Image.open(io.BytesIO(jpeg)).convert("YCbCr").split()


def test_the_share_is_that_of_the_wanted_square() -> None:
    jpeg = encoded(detailed((320, 640)), quality=85)
    half = jpeg[: len(jpeg) * 6 // 10]
    served = process_profile_image(half, Crop(0, 0, 320))
    assert served.notes == ("cut_short",)
    with pytest.raises(TruncatedPicture, match=r": [45]\d % of it arrived"):
        process_profile_image(half, Crop(0, 220, 320))
    for make in (make_master, make_thumbnail):
        with pytest.raises(TruncatedPicture, match=r": [56]\d % of it arrived"):
            make(half)
        assert make(jpeg[:-40]).notes == ("cut_short",)


def test_no_rendition_is_made_of_a_master_that_was_cut() -> None:
    master = encoded(detailed(WIDE), quality=85)
    rendition = Rendition(100, 80, Fit.INSIDE, RenditionFormat.JPEG)
    assert make_renditions(master, [rendition])
    for cut in (master[: len(master) // 2] + END, master[:-64]):
        with pytest.raises(TruncatedPicture):
            make_renditions(cut, [rendition])


def with_rows(content: bytes, share: float, *, is_ended: bool) -> bytes:
    """A PNG of whose coded pixels only this share of the rows is left, with an end or cut there."""
    at = content.index(b"IDAT")
    coded = b"".join(chunk for kind, chunk in list_chunks(content) if kind == b"IDAT")
    raw = zlib.decompress(coded)
    left = raw[: int(len(raw) * share)]
    if is_ended:
        return content[: at - 4] + png_chunk(b"IDAT", zlib.compress(left)) + png_chunk(b"IEND", b"")
    stream = zlib.compressobj()
    cut = stream.compress(left) + stream.flush(zlib.Z_SYNC_FLUSH)
    return content[: at - 4] + struct.pack(">I", max(len(coded), len(cut) + 99)) + b"IDAT" + cut


def list_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(content):
        length = struct.unpack(">I", content[at : at + 4])[0]
        yield content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        at += 12 + length


def make_png(mode: str) -> bytes:
    if mode == "I;16":
        return encoded(detailed((SIDE_PX, SIDE_PX), "L").convert("I;16"), "PNG")
    if mode == "P":
        return encoded(detailed((SIDE_PX, SIDE_PX)).quantize(256, Image.Quantize.FASTOCTREE), "PNG")
    dark = detailed((SIDE_PX, SIDE_PX)).point(lambda value: value // 2)
    return encoded(dark.convert(mode), "PNG")


@pytest.mark.parametrize("is_ended", [False, True], ids=["cut", "with an end"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16", "RGB", "RGBA"])
def test_the_rows_that_did_not_arrive_of_a_png_are_white(mode: str, is_ended: bool) -> None:
    content = make_png(mode)
    for share, least in ((0.985, 0.97), (0.5, 0.49)):
        cut = with_rows(content, share, is_ended=is_ended)
        if share < 0.98:
            with pytest.raises(TruncatedPicture, match=r": (4\d|50) % of it arrived"):
                process_profile_image(cut)
            continue
        served = process_profile_image(cut)
        assert "cut_short" in served.notes
        picture = Image.open(io.BytesIO(served.content)).convert("L")
        whole = Image.open(io.BytesIO(process_profile_image(content).content)).convert("L")
        kept = (0, 0, 300, int(300 * least) - 8)
        assert lightest(ImageChops.difference(picture.crop(kept), whole.crop(kept))) < 40
        assert darkest(picture.crop((0, 297, 300, 300))) > 225


def test_the_last_pass_of_an_interlaced_png_may_end_before_its_last_row() -> None:
    rows = [[(x % 256, y % 256, 99) for x in range(64)] for y in range(321)]
    content = png(rows, 8, 2, interlaced=True)
    assert process_profile_image(content).notes == ()
    cut = with_rows(content, 0.997, is_ended=True)
    assert process_profile_image(cut, Crop(0, 200, 64)).notes == ("cut_short",)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_a_whole_png_whose_last_row_is_like_the_mark_is_whole(mode: str) -> None:
    colours: dict[str, int | tuple[int, ...]] = {
        "1": 1,
        "L": 137,
        "LA": (137, 1),
        "P": 255,
        "RGB": (137, 7, 253),
    }
    colour = colours.get(mode, (137, 7, 253, 1))
    served = process_profile_image(encoded(Image.new(mode, (SIDE_PX, SIDE_PX), colour), "PNG"))
    assert "cut_short" not in served.notes


def test_a_png_without_its_last_chunk_is_served_whole() -> None:
    content = make_png("RGB")
    whole = process_profile_image(content)
    for cut_bytes in (4, 12, 16, 20):
        served = process_profile_image(content[:-cut_bytes])
        assert served.sha256 == whole.sha256
        assert served.notes == (("cut_short",) if cut_bytes > 4 else ())


def test_a_png_whose_pixels_turn_into_nonsense_is_called_broken() -> None:
    content = bytearray(make_png("RGB"))
    content[len(content) // 2] ^= 0xFF
    content[len(content) // 2 + 1] ^= 0xFF
    with pytest.raises(BrokenPicture):
        process_profile_image(bytes(content))


def make_gif(is_interlaced: bool, colours: int = 100) -> bytes:
    rows = [[(x * y + x) % colours for x in range(SIDE_PX)] for y in range(SIDE_PX)]
    palette = [(index, index // 2, 40) for index in range(colours)]
    return gif(SIDE_PX, palette, GifFrame(rows, is_interlaced=is_interlaced))


@pytest.mark.parametrize("tail", [b"", b"\0;"], ids=["cut", "with an end"])
@pytest.mark.parametrize("is_interlaced", [False, True])
def test_the_rows_that_did_not_arrive_of_a_gif_are_white(is_interlaced: bool, tail: bytes) -> None:
    content = make_gif(is_interlaced)
    served = process_profile_image(content[:-1200] + tail)
    assert served.notes == ("cut_short",)
    picture = Image.open(io.BytesIO(served.content)).convert("L")
    if is_interlaced:
        half = process_profile_image(content[: len(content) // 2] + tail)
        assert half.notes == ("cut_short",)
        return
    assert darkest(picture.crop((0, 298, 300, 300))) > 225
    assert lightest(picture.crop((0, 0, 300, 280))) < 200
    with pytest.raises(TruncatedPicture, match=r": [45]\d % of it arrived"):
        process_profile_image(content[: len(content) // 2] + tail)


def test_a_gif_that_only_lacks_its_end_is_whole() -> None:
    content = make_gif(is_interlaced=False)
    whole = process_profile_image(content)
    for cut_bytes, notes in ((1, ()), *((cut, ("cut_short",)) for cut in (2, 3))):
        served = process_profile_image(content[:-cut_bytes])
        assert (served.sha256, served.notes) == (whole.sha256, notes)


def test_a_gif_that_is_all_of_the_mark_is_whole() -> None:
    for index in (249, 251):
        picture = Image.new("P", (SIDE_PX, SIDE_PX), index)
        picture.putpalette([value for each in range(256) for value in (each, 9, each)])
        assert process_profile_image(encoded(picture, "GIF")).notes == ()


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_of_what_no_browser_shows_in_part_nothing_is_served(kind: str) -> None:
    content = encoded(detailed(WIDE), kind)
    with pytest.raises(TruncatedPicture):
        process_profile_image(content[:-64])
