"""The comparison with Chromium tells each class of difference, and counts what no list excuses."""

import io
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.pictures import beside_chromium
from tests.support.browser import require_chromium
from tests.support.chromium import ChromiumHangs, open_chromium
from tests.support.likeness import compare
from tests.support.pictures import XYZ, cmyk_profile, encoded, jpeg, quarters, with_chunk

SIDE = 300
SIDEWAYS = Image.Exif()
SIDEWAYS[0x0112] = 3


def veil() -> Image.Image:
    """Black that shows through the more the higher it lies."""
    black = Image.new("RGB", (256, 256))
    black.putalpha(Image.linear_gradient("L"))
    return black


def with_wrong_chroma(avif: bytes) -> bytes:
    """Say in its box that the picture has colour in each pixel, which its coding contradicts."""
    at = avif.index(b"av1C") + len(b"av1C") + 2
    return avif[:at] + bytes((avif[at] & ~0b1100,)) + avif[at + 1 :]


TWO_FRAMES: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", (256, 256))]}


def red_ink() -> bytes:
    """A JPEG of black ink alone, which is red by its profile, where the others make up black."""

    def find_lab(cyan: int, magenta: int, yellow: int, black: int) -> XYZ:
        others = cyan + magenta + yellow
        if black and not others:
            return 50.0, 60.0, 40.0
        return (100.0 - 33 * others) * (others < 3), 0.0, 0.0

    ink = Image.new("CMYK", (64, 64), (0, 0, 0, 255))
    return encoded(ink, quality=95, icc_profile=cmyk_profile(find_lab))


def with_marker(content: bytes, share: float) -> bytes:
    """Put a marker into the coded data of a JPEG, where libjpeg finds no more data."""
    at = int(len(content) * share)
    return content[:at] + b"\xff\xf7" + content[at:]


FILES = {
    "alike.jpg": jpeg(640, 480),
    "tiny.png": encoded(quarters(3, 2), "PNG"),
    "text.png": b"no picture at all",
    "drawing.bmp": encoded(quarters(40, 40), "BMP"),
    "photo.heic": encoded(quarters(64, 64), "HEIF"),
    # Chromium gives it its sides, and no pixels.
    "coded.avif": with_wrong_chroma(encoded(quarters(64, 64), "AVIF")),
    "ink.jpg": red_ink(),
    "veil.avif": encoded(veil(), "AVIF", quality=90),
    "film.avif": encoded(Image.new("RGB", (256, 256), (200, 60, 99)), "AVIF", **TWO_FRAMES),
    # That a browser leaves it is on record, so it stays a difference.
    "turned.webp": encoded(quarters(320, 320), "WEBP", exif=SIDEWAYS),
    "half.jpg": jpeg(640, 640)[:3000],
    "damaged.jpg": with_marker(jpeg(640, 640), 0.5),
    "lacking.jpg": with_marker(jpeg(640, 640), 0.99),
    "bomb.png": with_chunk(
        encoded(quarters(40, 40), "PNG"), b"zTXt", b"bomb\0\0" + zlib.compress(bytes(5 * 2**20))
    ),
}
CLASSES = {
    "alike.jpg": beside_chromium.ALIKE,
    "tiny.png": beside_chromium.SCALED_OTHERWISE,
    "text.png": beside_chromium.REFUSED_BY_BOTH,
    "drawing.bmp": beside_chromium.REFUSED_HERE,
    "photo.heic": beside_chromium.REFUSED_THERE,
    "coded.avif": beside_chromium.SHOWN_CLEAR_THERE,
    "veil.avif": beside_chromium.STRETCHED_THERE,
    "film.avif": beside_chromium.STRETCHED_THERE,
    "ink.jpg": beside_chromium.MIXED_THERE,
    "turned.webp": "turned",
    "half.jpg": beside_chromium.REFUSED_HERE_IN_PART_THERE,
    "damaged.jpg": beside_chromium.REFUSED_HERE_IN_PART_THERE,
    "lacking.jpg": beside_chromium.IN_PART_THERE,
    "bomb.png": beside_chromium.REFUSED_HERE,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    require_chromium()
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name, content in FILES.items():
        (pictures / name).write_bytes(content)
    return pictures


def write_list(path: Path, *lines: tuple[str, ...]) -> Path:
    names = ("kind", "format", "note", "reason", "evidence")
    path.write_text("".join("\t".join(line) + "\n" for line in (names, *lines)))
    return path


def test_each_class_is_told_and_what_nothing_explains_fails(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        ("turned", "WEBP", "*", "phones write it", "a record"),
        (beside_chromium.REFUSED_THERE, "HEIF", "*", "it cannot", "measured"),
        (beside_chromium.SHOWN_CLEAR_THERE, "AVIF", "*", "we can", "measured"),
        (beside_chromium.STRETCHED_THERE, "AVIF", "transparency", "it is a fault", "measured"),
        (beside_chromium.STRETCHED_THERE, "AVIF", "*film", "it is one as well", "measured"),
        (beside_chromium.MIXED_THERE, "JPEG", "*", "it is not so printed", "measured"),
        (beside_chromium.REFUSED_HERE, "*", "unsupported_format", "not taken", "docs"),
        (beside_chromium.REFUSED_HERE, "PNG", "*; texts that burst", "an attack", "docs"),
        (beside_chromium.REFUSED_HERE_IN_PART_THERE, "JPEG", "broken*grey there", "lost", "docs"),
        (beside_chromium.IN_PART_THERE, "JPEG", "*grey there, the rest is alike", "lost", "docs"),
    ]
    explained = write_list(tmp_path / "list.tsv", *lines)
    kept = tmp_path / "kept"
    arguments = [str(folder), "--explained", str(explained), "--keep", str(kept)]
    assert beside_chromium.main(arguments) == 1
    said = capsys.readouterr().out
    classes = list(CLASSES.values())
    for name, kind in CLASSES.items():
        assert (f"{name}: {kind}" in said) == (kind not in beside_chromium.AGREEMENTS), name
        count = 1 if kind == beside_chromium.REFUSED_HERE_IN_PART_THERE else classes.count(kind)
        assert f"     {count} {kind}" in said
    assert said.count("(explained) ") == said.count("explained 1: ") == len(lines)
    assert said.endswith("\n1 differences that nothing explains\n")
    assert [path.name for path in kept.iterdir()] == ["half.jpg.png"]


def make_see_through(opacity: int) -> Image.Image:
    """The quarters, and in their middle a window."""
    picture = quarters(400, 320).convert("RGBA")
    picture.paste((180, 20, 90, opacity), (120, 40, 280, 280))
    return picture


def test_what_stays_transparent_is_as_transparent_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_chromium()
    for kind, opacity in {"PNG": 120, "WEBP": 120, "GIF": 0}.items():
        (tmp_path / f"window.{kind}").write_bytes(encoded(make_see_through(opacity), kind))
    assert beside_chromium.main([str(tmp_path), "--transparent"]) == 0
    assert "     3 alike" in capsys.readouterr().out


def test_white_that_is_less_opaque_differs_on_a_dark_page() -> None:
    white = Image.new("RGBA", (SIDE, SIDE), (255, 255, 255, 255))
    faint = Image.new("RGBA", (SIDE, SIDE), (255, 255, 255, 120))
    assert compare(white, white).kind is None
    difference = compare(faint, white)
    assert difference.kind == "colour"
    assert difference.note.endswith(" on a dark page")


def test_a_picture_that_hangs_costs_itself_only() -> None:
    require_chromium()
    with open_chromium(most_seconds=0) as chromium:
        with pytest.raises(ChromiumHangs):
            chromium.show(FILES["alike.jpg"])
        chromium.most_seconds = 30
        shown = chromium.show(FILES["alike.jpg"])
    assert shown is not None and (shown.width_px, shown.height_px) == (640, 480)


def test_the_list_of_the_project_is_short_and_gives_evidence(tmp_path: Path) -> None:
    beside_chromium.read_explanations(beside_chromium.EXPLAINED)
    line = ("*", "*", "*", "because", "measured")
    with pytest.raises(ValueError, match="more than 10"):
        beside_chromium.read_explanations(write_list(tmp_path / "long.tsv", *[line] * 11))
    with pytest.raises(ValueError, match="leaves something out"):
        beside_chromium.read_explanations(
            write_list(tmp_path / "none.tsv", ("*", "*", "*", "", ""))
        )


def test_what_sets_two_squares_apart_is_named() -> None:
    theirs = quarters(SIDE, SIDE).convert("RGBA")

    def name(ours: Image.Image) -> str | None:
        coded = Image.open(io.BytesIO(encoded(ours.convert("RGB"), quality=85)))
        return compare(coded.convert("RGB"), theirs).kind

    assert name(theirs) is None
    assert name(theirs.transpose(Image.Transpose.ROTATE_90)) == "turned"
    assert name(theirs.point(lambda value: value * 9 // 10)) == "colour"
    assert name(Image.new("RGB", theirs.size, (0, 0, 0))) == "differs"
    cut_short = theirs.copy()
    cut_short.paste((255, 255, 255, 255), (0, 280, SIDE, SIDE))
    assert name(cut_short) == "in part here"
    theirs.paste((0, 0, 0, 0), (0, 280, SIDE, SIDE))
    assert name(cut_short) is None
    assert name(quarters(SIDE, SIDE)) == "in part there"
    coded = Image.open(io.BytesIO(encoded(quarters(SIDE, SIDE), quality=85))).convert("RGB")
    assert compare(coded, theirs).note == "6.7% is clear there, the rest is alike"
    assert compare(Image.new("RGB", theirs.size), theirs).note.endswith("the rest differs")
