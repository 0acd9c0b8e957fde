"""Proves that a wish for a thumbnail is one value, and its address good for nothing else."""

import dataclasses
import hashlib
import hmac
import json
import random
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from pydantic import ValidationError

from config import Settings
from errors import BadSignature, BadThumbnail, LinkExpired
from models import Photo, StoredFile, Visibility
from photos import MOST_SIDE_PX, MOST_SIZES, ThumbnailLinks, ThumbnailOptions, WantedFormat
from photos.options import parse_sizes, write_rendition
from photos.thumbnail_links import PRIVATE_SECONDS
from photos.thumbnails import PRESET_FORMATS
from pictures import Fit, RenditionFormat
from pictures.renditions import MOST_RENDITIONS
from tests.support.backends import make_settings

SECRET = "a secret of thirty-two characters or more"
PUBLIC = Photo(id=7, visibility=Visibility.PUBLIC)
PRIVATE = Photo(id=7, visibility=Visibility.PRIVATE)
OPTIONS = ThumbnailOptions(480, 320, Fit.COVER)
NOW_SECONDS = 1_900_000_000
LONGEST_RENDITION = 40  # characters that the table keeps

SIZES = {
    "480x320": (480, 320, Fit.INSIDE),
    "480x": (480, None, Fit.INSIDE),
    "x320": (None, 320, Fit.INSIDE),
    "96x96:cover": (96, 96, Fit.COVER),
    "x320:contain": (None, 320, Fit.CONTAIN),
    f"{MOST_SIDE_PX}x1:inside": (MOST_SIDE_PX, 1, Fit.INSIDE),
}
NO_SIZES = [
    *("", "x", "480", "x:cover", "0x0", "0x320", "480x0", "-1x5", "4097x5", "100000x", "x999999"),
    *("480x320:", "480x320:crop", "480x320:COVER", "480x320:cover:inside", "480 x 320", "480X320"),
    *("480x320 ", "480x320\n", "4.5x3", "1e3x5", "\u0664x\u0664"),
]


def make_master(width_px: int = 1600, height_px: int = 1200) -> StoredFile:
    return StoredFile(width_px=width_px, height_px=height_px)


def make_links(**settings: str) -> ThumbnailLinks:
    return ThumbnailLinks(make_settings({"SECRET_KEY": SECRET, **settings}))


def draw_options(drawn: random.Random) -> ThumbnailOptions:
    width_px = drawn.choice((None, 1, MOST_SIDE_PX, drawn.randint(1, MOST_SIDE_PX)))
    height_px = drawn.choice((1, drawn.randint(1, MOST_SIDE_PX)))
    if drawn.random() < 0.2:
        return ThumbnailOptions(height_px, None, drawn.choice([*Fit]))
    return ThumbnailOptions(
        width_px, height_px, drawn.choice([*Fit]), drawn.choice([*WantedFormat])
    )


@pytest.mark.parametrize("text", SIZES)
def test_a_size_of_a_list_is_read(text: str) -> None:
    assert ThumbnailOptions.parse_size(text) == ThumbnailOptions(*SIZES[text])


@pytest.mark.parametrize("text", NO_SIZES)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadThumbnail):
        ThumbnailOptions.parse_size(text)


def test_a_list_of_sizes_is_read_by_how_each_is_written() -> None:
    assert parse_sizes("") == {}
    parsed = parse_sizes(",".join(SIZES))
    assert parsed == {text: ThumbnailOptions(*SIZES[text]) for text in SIZES}
    most = [f"{side_px}x" for side_px in range(1, MOST_SIZES + 1)]
    assert list(parse_sizes(",".join(most))) == most
    for wrong in (",".join([*most, "9x"]), ",".join(["1x"] * 9), "480x320,nothing"):
        with pytest.raises(BadThumbnail):
            parse_sizes(wrong)


def test_sides_are_possible_and_at_least_one_is_given() -> None:
    for sides in ((None, None), (0, None), (None, 0), (0, 5), (-1, 5), (5, MOST_SIDE_PX + 1)):
        with pytest.raises(BadThumbnail):
            ThumbnailOptions(*sides)


def test_options_are_written_in_one_way_and_read_back_as_the_same_value() -> None:
    assert OPTIONS.write_query() == "w=480&h=320&fit=cover&format=auto"
    assert ThumbnailOptions(None, 9, format=WantedFormat.AVIF).write_query() == (
        "h=9&fit=inside&format=avif"
    )
    drawn = random.Random(3)
    written: dict[str, ThumbnailOptions] = {}
    for _ in range(2000):
        options = draw_options(drawn)
        query = options.write_query()
        assert written.setdefault(query, options) == options
        values = dict(parse_qsl(query, strict_parsing=True))
        read = ThumbnailOptions(
            int(values["w"]) if "w" in values else None,
            int(values["h"]) if "h" in values else None,
            Fit(values["fit"]),
            WantedFormat(values["format"]),
        )
        assert (read, read.write_query()) == (options, query)


def test_what_is_made_is_never_larger_than_the_master_and_has_one_name() -> None:
    drawn = random.Random(4)
    for _ in range(2000):
        options = draw_options(drawn)
        master = make_master(drawn.randint(1, 1600), drawn.randint(1, 1600))
        assert master.width_px and master.height_px
        rendition = options.resolve(master, "")
        longest_width_px = options.width_px or master.width_px
        longest_height_px = options.height_px or master.height_px
        if rendition.fit is not Fit.CONTAIN:  # which is white around it
            longest_width_px = min(longest_width_px, master.width_px)
            longest_height_px = min(longest_height_px, master.height_px)
        assert 0 < rendition.width_px <= longest_width_px, (options, master.width_px)
        assert 0 < rendition.height_px <= longest_height_px, (options, master.height_px)
        name = write_rendition(rendition)
        assert len(name) <= LONGEST_RENDITION
        again = dataclasses.replace(
            ThumbnailOptions.parse_size(name.rpartition(":")[0]),
            format=WantedFormat(name.rpartition(":")[2]),
        )
        assert again.resolve(master, "") == rendition


def test_wishes_with_one_result_are_made_once() -> None:
    names = {
        write_rendition(ThumbnailOptions(*sides).resolve(make_master(300, 200), ""))
        for sides in ((300, None), (None, 200), (1600, None), (640, 900), (4096, 4096))
    }
    assert names == {"300x200:inside:jpeg"}


@pytest.mark.parametrize(
    ("accepted", "wanted"),
    [
        ("image/avif,image/webp,image/apng,*/*;q=0.8", RenditionFormat.WEBP),
        ("text/html, image/webp;q=0.5", RenditionFormat.WEBP),
        ("image/jpeg,*/*", RenditionFormat.JPEG),
        ("*/*", RenditionFormat.JPEG),
        ("", RenditionFormat.JPEG),
    ],
)
def test_without_a_format_the_browser_chooses(accepted: str, wanted: RenditionFormat) -> None:
    assert OPTIONS.resolve(make_master(), accepted).format is wanted


def test_a_format_that_is_named_is_made_whatever_the_browser_takes() -> None:
    for wanted in (WantedFormat.JPEG, WantedFormat.WEBP, WantedFormat.AVIF):
        options = dataclasses.replace(OPTIONS, format=wanted)
        for accepted in ("", "image/webp"):
            assert options.resolve(make_master(), accepted).format.value == wanted.value


def read_address(address: str) -> tuple[ThumbnailOptions, int | None, str]:
    """What the service is asked by an address: the options, the end, and the signature."""
    values = dict(parse_qsl(urlsplit(address).query, strict_parsing=True))
    options = ThumbnailOptions(
        int(values["w"]), int(values["h"]), Fit(values["fit"]), WantedFormat(values["format"])
    )
    return options, int(values["expires"]) if "expires" in values else None, values["sig"]


def test_an_address_is_good_for_what_it_says_and_for_nothing_else() -> None:
    links = make_links(PUBLIC_URL="https://photos.example.com", API_PREFIX="/api")
    address = links.write_address(PUBLIC, OPTIONS)
    assert address.startswith("https://photos.example.com/api/photos/7/thumbnail?w=480&h=320&")
    options, expires_at, signature = read_address(address)
    assert (options, expires_at) == (OPTIONS, None)
    links.check(7, options, None, signature)
    changed: list[tuple[int, ThumbnailOptions, int | None, str]] = [
        (8, options, None, signature),
        (7, dataclasses.replace(options, width_px=481), None, signature),
        (7, dataclasses.replace(options, width_px=None), None, signature),
        (7, dataclasses.replace(options, height_px=None), None, signature),
        (7, dataclasses.replace(options, fit=Fit.CONTAIN), None, signature),
        (7, dataclasses.replace(options, format=WantedFormat.WEBP), None, signature),
        (7, options, 4_000_000_000, signature),
        (7, options, None, signature[:-1]),
        (7, options, None, signature[:-1] + chr(ord(signature[-1]) ^ 1)),
        (7, options, None, signature.upper()),
        (7, options, None, ""),
        (7, options, None, "ä" * 64),
    ]
    for change in changed:
        with pytest.raises(BadSignature):
            links.check(*change)


def test_the_address_of_a_private_photo_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    links = make_links()
    monkeypatch.setattr(time, "time", lambda: NOW_SECONDS + 0.5)
    options, expires_at, signature = read_address(links.write_address(PRIVATE, OPTIONS))
    assert expires_at == NOW_SECONDS + PRIVATE_SECONDS
    links.check(7, options, expires_at, signature)
    for changed in (expires_at + 1, expires_at - 1, None):
        with pytest.raises(BadSignature):
            links.check(7, options, changed, signature)
    monkeypatch.setattr(time, "time", lambda: NOW_SECONDS + PRIVATE_SECONDS - 0.5)
    links.check(7, options, expires_at, signature)
    monkeypatch.setattr(time, "time", lambda: float(NOW_SECONDS + PRIVATE_SECONDS))
    with pytest.raises(LinkExpired):
        links.check(7, options, expires_at, signature)
    with pytest.raises(BadSignature):  # which says nothing of when it ended
        links.check(8, options, expires_at, signature)


def sign(key: bytes, said: str) -> str:
    return hmac.new(key, said.encode(), hashlib.sha256).hexdigest()


def test_the_secret_signs_for_this_purpose_alone() -> None:
    links = make_links()
    said = f"thumbnail:7?{OPTIONS.write_query()}"
    derived = hmac.digest(SECRET.encode(), b"darkroom: addresses of thumbnails", "sha256")
    links.check(7, OPTIONS, None, sign(derived, said))
    of_objects = hmac.digest(SECRET.encode(), b"darkroom: links to private objects", "sha256")
    for key in (SECRET.encode(), of_objects):
        with pytest.raises(BadSignature):
            links.check(7, OPTIONS, None, sign(key, said))
    for other in (said.removeprefix("thumbnail:"), said.replace("thumbnail", "photo"), ""):
        with pytest.raises(BadSignature):
            links.check(7, OPTIONS, None, sign(derived, other))
    with pytest.raises(BadSignature):
        make_links(SECRET_KEY=SECRET[::-1]).check(7, OPTIONS, None, sign(derived, said))


def test_the_first_key_signs_and_all_are_accepted() -> None:
    new = "the key of today, which is long enough"
    old = new.replace("today", "yesterday")
    foreign = new.replace("today", "somebody else")
    links = make_links(THUMBNAIL_KEYS=json.dumps([new, old]))
    said = f"thumbnail:7?{OPTIONS.write_query()}"
    _, _, signature = read_address(links.write_address(PUBLIC, OPTIONS))
    assert signature == sign(new.encode(), said)
    for key in (new, old):
        links.check(7, OPTIONS, None, sign(key.encode(), said))
    by_secret = read_address(make_links().write_address(PUBLIC, OPTIONS))[2]
    for refused in (sign(foreign.encode(), said), by_secret):
        with pytest.raises(BadSignature):
            links.check(7, OPTIONS, None, refused)
    with pytest.raises(BadSignature):
        make_links(THUMBNAIL_KEYS=json.dumps([new])).check(
            7, OPTIONS, None, sign(old.encode(), said)
        )


def test_a_page_that_a_server_writes_signs_as_the_page_for_frontends_shows() -> None:
    page = Path(__file__).parents[2] / "docs" / "frontend.md"
    (block,) = re.findall(r"<!-- signs -->\n```python\n(.*?)```", page.read_text(), re.DOTALL)
    names: dict[str, Any] = {"KEY": "today", "API": "https://photos.example.com"}
    exec(block, names)
    links = make_links(THUMBNAIL_KEYS="today,yesterday", PUBLIC_URL=names["API"])
    for fit in Fit:
        written = names["write_thumbnail_address"](7, 480, 320, fit.value)
        assert written == links.write_address(PUBLIC, ThumbnailOptions(480, 320, fit))


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    links = make_links()
    _, _, signature = read_address(links.write_address(PUBLIC, OPTIONS))
    compared: list[tuple[bytes, bytes]] = []

    def refuse(signed: bytes, given: bytes) -> bool:
        compared.append((signed, given))
        return False

    monkeypatch.setattr(hmac, "compare_digest", refuse)
    with pytest.raises(BadSignature):  # though it is the right one: nothing else compares
        links.check(7, OPTIONS, None, signature)
    assert compared == [(signature.encode(), signature.encode())]


def test_the_address_of_a_preset_needs_no_signature() -> None:
    assert make_links().write_preset_address(PUBLIC, 320, WantedFormat.WEBP) == (
        "/photos/7/thumbnail?preset=320&format=webp"
    )


def test_keys_and_widths_are_read_from_an_environment() -> None:
    settings: Settings = make_settings(
        {"THUMBNAIL_KEYS": "new, old", "THUMBNAIL_WIDTHS": "[96, 480]"}
    )
    assert [key.get_secret_value() for key in settings.thumbnail_keys] == ["new", "old"]
    assert settings.thumbnail_widths == [96, 480]


def test_presets_are_at_most_as_many_as_one_decode_makes() -> None:
    widths = [100 + number for number in range(MOST_RENDITIONS // len(PRESET_FORMATS))]
    assert make_settings({"THUMBNAIL_WIDTHS": str(widths)}).thumbnail_widths == widths
    with pytest.raises(ValidationError, match="at most 8"):
        make_settings({"THUMBNAIL_WIDTHS": str([*widths, 99])})
