"""Proves that what is asked of a thumbnail becomes one value: clamped, never enlarged."""

import random

import pytest

from pictures.costs import choose_rendition_reduction
from pictures.renditions import (
    MOST_RENDITIONS,
    Fit,
    Rendition,
    RenditionFormat,
    check_renditions,
    resolve_rendition,
)
from pictures.values import MASTER_SIDE_PX

LANDSCAPE = (1600, 1067)
SMALL = (300, 200)
COVER = Fit.COVER
CONTAIN = Fit.CONTAIN
INSIDE = Fit.INSIDE
# The master, what is asked of it, and what that is.
RESOLVED = [
    (LANDSCAPE, (160, 0, INSIDE), (160, 107, INSIDE)),
    (LANDSCAPE, (160, None, INSIDE), (160, 107, INSIDE)),
    (LANDSCAPE, (0, 107, INSIDE), (160, 107, INSIDE)),
    (LANDSCAPE, (160, 160, INSIDE), (160, 107, INSIDE)),
    (LANDSCAPE, (1600, 107, INSIDE), (160, 107, INSIDE)),
    (LANDSCAPE, (5000, 0, INSIDE), (1600, 1067, INSIDE)),
    (LANDSCAPE, (5000, 5000, INSIDE), (1600, 1067, INSIDE)),
    ((1067, 1600), (160, 160, INSIDE), (107, 160, INSIDE)),
    ((1600, 1), (100, 100, INSIDE), (100, 1, INSIDE)),
    ((1, 1600), (0, 10, INSIDE), (1, 10, INSIDE)),
    # What is free is decided by the other side, whatever the fit.
    (LANDSCAPE, (160, 0, COVER), (160, 107, INSIDE)),
    (LANDSCAPE, (0, 107, CONTAIN), (160, 107, INSIDE)),
    # The master's own shape is all of it: one value for one result.
    (LANDSCAPE, (160, 107, COVER), (160, 107, INSIDE)),
    (LANDSCAPE, (160, 107, CONTAIN), (160, 107, INSIDE)),
    (LANDSCAPE, (161, 107, INSIDE), (161, 107, INSIDE)),
    (LANDSCAPE, (1600, 1067, COVER), (1600, 1067, INSIDE)),
    (LANDSCAPE, (300, 300, COVER), (300, 300, COVER)),
    (LANDSCAPE, (480, 1067, COVER), (480, 1067, COVER)),
    # The master is smaller: as much as there is, in the shape that was asked for.
    (SMALL, (400, 400, COVER), (200, 200, COVER)),
    (SMALL, (1000, 200, COVER), (300, 60, COVER)),
    (SMALL, (200, 1000, COVER), (40, 200, COVER)),
    (SMALL, (600, 400, COVER), (300, 200, INSIDE)),
    (SMALL, (10_000, 1, COVER), (300, 1, COVER)),
    # Exactly the box, of white; no larger than any master.
    (SMALL, (100, 100, CONTAIN), (100, 100, CONTAIN)),
    (SMALL, (600, 400, CONTAIN), (600, 400, CONTAIN)),
    (SMALL, (1600, 400, CONTAIN), (1600, 400, CONTAIN)),
    (SMALL, (6400, 1600, CONTAIN), (1600, 400, CONTAIN)),
]


@pytest.mark.parametrize(("master_size", "asked", "wanted"), RESOLVED)
def test_what_is_asked_for_has_one_form(
    master_size: tuple[int, int], asked: tuple[int, int | None, Fit], wanted: tuple[int, int, Fit]
) -> None:
    resolved = resolve_rendition(*asked, RenditionFormat.WEBP, master_size)
    assert resolved == Rendition(*wanted, RenditionFormat.WEBP)


def test_every_form_is_whole_bounded_and_resolves_to_itself() -> None:
    drawn = random.Random(5)
    edges = (1, 2, 3, 1599, 1600)
    for number in range(20_000):
        width, height = (
            edges[drawn.randrange(5)] if drawn.random() < 0.3 else drawn.randint(1, 1600)
            for _ in range(2)
        )
        asked_width = drawn.choice((0, 1, drawn.randint(1, 2000)))
        asked_height = drawn.choice((1, drawn.randint(1, 2000)))
        fit = list(Fit)[number % 3]
        asked = (asked_width, asked_height, fit, RenditionFormat.AVIF)
        resolved = resolve_rendition(*asked, (width, height))
        check_renditions([resolved], (width, height))
        assert 0 < min(resolved.size) <= max(resolved.size) <= MASTER_SIDE_PX
        shown_width, shown_height = resolved.find_shown_size((width, height))
        scaled_width, scaled_height = resolved.find_scaled_size((width, height))
        assert scaled_width <= shown_width + 1e-9, asked
        assert scaled_height <= shown_height + 1e-9, asked
        if fit is INSIDE:
            assert resolved.width_px <= (asked_width or width)
            assert resolved.height_px <= asked_height


@pytest.mark.parametrize("asked", [(0, 0), (None, None), (0, None), (-1, 5), (5, -1)])
def test_no_side_at_all_or_a_negative_one_is_an_error(asked: tuple[int | None, int | None]) -> None:
    for fit in Fit:
        with pytest.raises(ValueError, match="a rendition of"):
            resolve_rendition(*asked, fit, RenditionFormat.JPEG, LANDSCAPE)


def make_many(count: int) -> list[Rendition]:
    return [Rendition(300, 300 - number, COVER, RenditionFormat.JPEG) for number in range(count)]


@pytest.mark.parametrize(
    "renditions",
    [
        [],
        make_many(1) * 2,
        make_many(MOST_RENDITIONS + 1),
        [Rendition(1601, 1067, INSIDE, RenditionFormat.JPEG)],
        [Rendition(160, 107, COVER, RenditionFormat.JPEG)],
        [Rendition(160, 160, INSIDE, RenditionFormat.JPEG)],
        [Rendition(1600, 1600, COVER, RenditionFormat.JPEG)],
        [Rendition(1601, 10, CONTAIN, RenditionFormat.JPEG)],
        [Rendition(0, 10, COVER, RenditionFormat.JPEG)],
    ],
)
def test_what_is_no_job_for_this_master_is_an_error(renditions: list[Rendition]) -> None:
    check_renditions(make_many(MOST_RENDITIONS), LANDSCAPE)
    with pytest.raises(ValueError, match="rendition"):
        check_renditions(renditions, LANDSCAPE)


def test_a_master_is_reduced_as_long_as_each_rendition_keeps_twice_its_sides() -> None:
    def choose(*asked: tuple[int, int, Fit]) -> int:
        renditions = [
            resolve_rendition(*each, RenditionFormat.JPEG, (1600, 1200)) for each in asked
        ]
        return choose_rendition_reduction((1600, 1200), renditions)

    assert choose((1280, 0, INSIDE)) == 1
    assert choose((401, 0, INSIDE)) == 1
    assert choose((400, 0, INSIDE)) == 2
    assert choose((200, 0, INSIDE)) == 4
    assert choose((100, 0, INSIDE)) == 8
    assert choose((10, 0, INSIDE)) == 8
    assert choose((100, 0, INSIDE), (400, 0, INSIDE)) == 2
    # Of which 1200 x 1200 are shown.
    assert choose((300, 300, COVER)) == 2
    assert choose((301, 301, COVER)) == 1
    assert choose((300, 300, CONTAIN)) == 2


def test_a_file_is_named_and_typed_by_its_format() -> None:
    for file_format, (ending, content_type) in {
        RenditionFormat.JPEG: (".jpg", "image/jpeg"),
        RenditionFormat.WEBP: (".webp", "image/webp"),
        RenditionFormat.AVIF: (".avif", "image/avif"),
    }.items():
        rendition = Rendition(7, 5, INSIDE, file_format)
        file = rendition.name_file(b"file")
        other = rendition.name_file(b"file")
        assert file.filename.endswith(ending)
        assert file.filename != other.filename
        assert (file.content_type, file.width_px, file.height_px) == (content_type, 7, 5)
