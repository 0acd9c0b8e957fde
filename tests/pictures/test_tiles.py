"""A HEIC of tiles comes out as it does when all of it is decoded at once, of which it holds little.

What libheif makes of the whole is the measure; its own turning of sides that are odd is not.
"""

import io
import struct
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from errors import BrokenPicture, TruncatedPicture
from image_utils import make_master, process_profile_image
from pictures import pillow
from pictures.costs import examine, price_master
from pictures.formats import read_header
from pictures.parsers import open_picture
from pictures.values import Crop
from tests.support.heic import (
    Coded,
    box,
    code_tile,
    nclx,
    put_together,
    put_together_of_pictures,
)
from tests.support.pictures import encoded, rgb_profile

TILE_PX = 128
TILE = (TILE_PX, TILE_PX)
# Of which the last tiles show a part.
SIZE = (320, 200)
# As XYZ under D50.
RED_AND_GREEN_EXCHANGED = ((0.385, 0.717, 0.097), (0.436, 0.222, 0.014), (0.143, 0.061, 0.714))
TURNS: dict[str, list[tuple[bytes, int]]] = {
    "upright": [],
    "to the left": [(b"irot", 1)],
    "upside down": [(b"irot", 2)],
    "to the right": [(b"irot", 3)],
    "top to bottom": [(b"imir", 0)],
    "left to right": [(b"imir", 1)],
    "turned and mirrored": [(b"irot", 1), (b"imir", 0)],
    "mirrored and turned": [(b"imir", 0), (b"irot", 3)],
}


@pytest.fixture(autouse=True)
def _configured() -> None:
    pillow.configure()


def spotted(size: tuple[int, int] = SIZE) -> Image.Image:
    """No two tiles are the same, nor a tile and itself turned."""
    spots = [Image.effect_noise((size[0] // 8, size[1] // 8), 90) for _ in range(3)]
    return Image.merge("RGB", spots).resize(size, Image.Resampling.BICUBIC)


def tiled(size: tuple[int, int] = SIZE, turns: Any = (), **options: Any) -> bytes:
    told = [box(kind, bytes((number,))) for kind, number in turns]
    return put_together_of_pictures(
        spotted(size), TILE, told_of_whole=[nclx(1, 13, 1), *told], **options
    )


def decode_whole(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as picture:
        return picture.convert("RGB")


def decode(content: bytes, factor: int = 1) -> Image.Image:
    header = read_header(content)
    assert header.tile_size == TILE
    with open_picture(content, header) as picture:
        picture.draft(None, (picture.width // factor, picture.height // factor))
        return picture.convert("RGB")


def differ_by(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    return max(ImageStat.Stat(ImageChops.difference(one, other)).mean)


@pytest.mark.parametrize("factor", [1, 2, 8])
@pytest.mark.parametrize("turns", TURNS)
def test_tiles_are_turned_and_put_where_they_belong(turns: str, factor: int) -> None:
    content = tiled(turns=TURNS[turns])
    assert differ_by(decode(content, factor), decode_whole(content).reduce(factor)) == 0


@pytest.mark.parametrize(
    ("turns", "crop"),
    [
        ("upright", None),
        ("to the left", Crop(50, 300, 1210)),
        ("turned and mirrored", Crop(600, 700, 650)),
    ],
)
def test_a_square_of_reduced_tiles_is_that_of_the_whole(turns: str, crop: Crop | None) -> None:
    told = [box(kind, bytes((number,))) for kind, number in TURNS[turns]]
    smooth = spotted().resize((1280, 800), Image.Resampling.BICUBIC).crop((0, 0, *TILE))
    content = put_together([code_tile(smooth)], TILE, (1664, 1280), told_of_whole=told)
    as_png = encoded(decode_whole(content), "PNG", compress_level=1)
    squares = [square_of(process_profile_image(each, crop).content) for each in (content, as_png)]
    # Two ways to average, and JPEG.
    assert differ_by(*squares) < 2


def test_sides_that_are_odd_are_decoded_as_they_are() -> None:
    content = tiled((331, 211))
    assert decode(content).size == (331, 211)
    assert differ_by(decode(content), decode_whole(content)) == 0
    assert process_profile_image(content).content


@pytest.mark.parametrize("chroma", [420, 422])
@pytest.mark.parametrize(
    ("of_whole", "of_tiles"),
    [
        ((), ()),
        ((1, 13, 6), ()),
        ((), (1, 13, 1)),
        ((9, 16, 9), (1, 13, 6)),
        ((1, 13, 1, 0), (1, 13, 6)),
    ],
)
def test_colours_are_coded_as_the_whole_says_or_else_its_tiles(
    chroma: int, of_whole: tuple[int, ...], of_tiles: tuple[int, ...]
) -> None:
    content = put_together_of_pictures(
        spotted(),
        TILE,
        chroma=chroma,
        told_of_whole=[nclx(*of_whole)] if of_whole else [],
        told_of_tiles=[nclx(*of_tiles)] if of_tiles else [],
    )
    assert differ_by(decode(content), decode_whole(content)) == 0


def test_a_profile_of_the_whole_is_followed_and_leaves_the_tiles_their_own() -> None:
    profile = rgb_profile(RED_AND_GREEN_EXCHANGED, lambda value: value**2.2)
    shown = spotted()
    with_profile = put_together_of_pictures(
        shown,
        TILE,
        told_of_whole=[box(b"colr", b"prof" + profile)],
        told_of_tiles=[nclx(1, 13, 1)],
    )
    plain = put_together_of_pictures(shown, TILE, told_of_tiles=[nclx(1, 13, 1)])
    assert len(with_profile) > len(plain)
    header = read_header(with_profile)
    with open_picture(with_profile, header) as picture:
        assert picture.info["icc_profile"] == profile
        assert differ_by(picture.convert("RGB"), decode_whole(plain)) == 0
    made = process_profile_image(with_profile)
    assert "icc_profile" in made.removed_metadata
    assert differ_by(square_of(made.content), square_of(process_profile_image(plain).content)) > 20


def square_of(served: bytes) -> Image.Image:
    return Image.open(io.BytesIO(served)).convert("RGB")


NOT_OF_TILES: dict[str, dict[str, Any]] = {
    "a part of it is shown": {
        "told_of_whole": [box(b"clap", struct.pack(">8I", 300, 1, 200, 1, 0, 1, 0, 1))]
    },
    "its tiles are turned": {"told_of_tiles": [box(b"irot", b"\2")]},
    "something unknown is said of it": {"told_of_whole": [box(b"abcd", bytes(4))]},
    "a tile is missing": {"missing_tiles": 1},
    "there are tiles outside": {"columns": 4},
}


@pytest.mark.parametrize("case", NOT_OF_TILES)
def test_what_only_libheif_knows_to_put_together_is_left_to_it(case: str) -> None:
    content = put_together_of_pictures(spotted(), TILE, **NOT_OF_TILES[case])
    header = read_header(content)
    assert (header.format, header.tile_size) == ("HEIF", None)
    plain = read_header(tiled())
    assert plain.tile_size == TILE
    assert examine(content)[1].memory_bytes > examine(tiled())[1].memory_bytes
    with pytest.raises(TruncatedPicture):  # where libheif shows green
        process_profile_image(content[: len(content) // 2])


def test_transparency_is_left_to_libheif() -> None:
    picture = spotted()
    picture.putalpha(128)
    out = io.BytesIO()
    picture.save(out, "HEIF", quality=80, tile_size=TILE_PX)
    header = read_header(out.getvalue())
    assert header.tile_size is None
    assert "transparency_flattened" in process_profile_image(out.getvalue()).notes


def test_more_tiles_than_any_picture_has_are_left_to_libheif() -> None:
    coded = code_tile(spotted((64, 64)))
    for across, is_tiled in ((20, True), (25, False)):
        size = (64 * across, 64 * 50)
        content = put_together([coded], (64, 64), size)
        assert (read_header(content).tile_size == (64, 64)) == is_tiled, across


def lacking(content: bytes, coded: Coded) -> bytes:
    """The same with zeros instead of this tile."""
    assert content.count(coded.data) == 1
    return content.replace(coded.data, bytes(len(coded.data)))


def of_64_tiles() -> tuple[bytes, list[Coded]]:
    tiles = [code_tile(spotted((64, 64)).point(lambda value: value // 2)) for _ in range(64)]
    return put_together(tiles, (64, 64), (512, 512), told_of_whole=[nclx(1, 13, 1)]), tiles


def test_a_tile_that_never_arrived_is_white_and_too_many_are_refused() -> None:
    """One of 64 is 1.6 %. Where libheif decodes the whole, they are green."""
    content, tiles = of_64_tiles()
    assert process_profile_image(content).notes == ()
    last_start = content.index(tiles[-1].data)
    cut = content[: last_start + 10]
    for make in (process_profile_image, make_master):
        made = make(cut)
        assert made.notes == ("cut_short",)
        shown = square_of(made.content)
        side = shown.width
        assert min(shown.crop((side - 5, side - 5, side, side)).tobytes()) > 245
        assert max(shown.crop((0, side - 5, side - side // 6, side)).tobytes()) < 200
    with pytest.raises(TruncatedPicture, match="96 %"):
        process_profile_image(content[: content.index(tiles[-2].data) + 10])


def test_tiles_that_make_no_sense_are_lost_as_well() -> None:
    content, tiles = of_64_tiles()
    assert process_profile_image(lacking(content, tiles[10])).notes == ("cut_short",)
    with pytest.raises(BrokenPicture):
        process_profile_image(lacking(lacking(content, tiles[10]), tiles[40]))


def test_a_tile_of_other_sides_than_it_says_is_lost() -> None:
    content = put_together([code_tile(spotted((64, 64)))], TILE, SIZE)
    assert read_header(content).tile_size == TILE
    with pytest.raises(BrokenPicture):
        process_profile_image(content)


def test_of_tiles_little_more_than_one_is_held() -> None:
    """So a camera's 45 megapixels are taken, which take too much memory at once."""
    flat = code_tile(Image.new("RGB", (64, 64)), chroma=422)
    # Nothing is decoded: its sides are what it is said to be.
    content = put_together([flat], (4096, 2752), (8192, 5464))
    header, cost = examine(content)
    assert header.tile_size == (4096, 2752)
    assert cost.memory_bytes < 180 * 1024 * 1024
    assert price_master(header, len(content)).memory_bytes < 240 * 1024 * 1024
    phone = examine(put_together([flat], (512, 512), (8064, 6048)))[1]
    assert phone.memory_bytes < 32 * 1024 * 1024
