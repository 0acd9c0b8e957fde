"""Proves that service and decoder understand each other, and that no lie of a decoder is taken."""

import dataclasses

import pytest

import errors
from errors import DarkroomError
from pictures import Crop
from pictures.confinement import EVERY_LAYER, NO_LAYER, Layer
from pictures.foreign import KINDS
from pictures.messages import (
    HEAD_BYTES,
    READY_BYTES,
    Job,
    Made,
    Nonsense,
    Ready,
    Refused,
    Rendered,
    read_head,
    refuse,
)
from pictures.renditions import Fit, Rendition, RenditionFormat
from pictures.served_jpeg import count_most_bytes
from pictures.values import (
    CLEAR,
    METADATA_NAMES,
    NOTE_NAMES,
    THUMBNAIL_SIDE_PX,
    Background,
    DeclaredSides,
)

JOB = Job(5, 6, 0.5, None, 7, 8)
THUMBHASH = "3OcRJYB4d3h/iIeHeEh3eIhw+j2w"
MADE = Made(1234, 300, 300, "#0a1b2c", THUMBHASH, ("exif", "gps"), ("tone_mapped",))
RENDITIONS = (
    Rendition(160, 107, Fit.INSIDE, RenditionFormat.WEBP),
    Rendition(64, 64, Fit.COVER, RenditionFormat.AVIF),
    Rendition(64, 64, Fit.CONTAIN, RenditionFormat.JPEG),
)
RENDERING = dataclasses.replace(JOB, renditions=RENDITIONS)
RENDERED = Rendered(RENDITIONS[1], 1234)
# Where the parts of a head stand: the mark, the length of what follows, the sides, the colour, the
# names of metadata, the notes, the length of the hash or code, and that itself.
FOLLOWING = slice(1, 5)
WIDTH = 5
HEIGHT = 7
NOTES = 14
TEXT_LENGTH = 15
TEXT = 16
REFUSALS: list[DarkroomError] = [
    errors.BrokenPicture(),
    errors.UndecodablePicture(),
    errors.EmptyFile(),
    errors.TruncatedPicture.with_numbers(file_bytes=1_234_567),
    errors.TruncatedPicture.with_share(0.5),
    errors.BrokenPicture.with_share(0.11),
    errors.BadCrop.with_numbers(width=640, height=480),
    errors.TooManyPixels.with_numbers(
        width_px=20_000, height_px=20_000, millions=400, most_millions=50
    ),
    errors.TooManyPixels.with_numbers(
        width_px=20_000, height_px=20_000, millions=400, most_millions=1e-06
    ),
    errors.SideTooLong.with_numbers(width_px=70_000, height_px=1, most_px=65_535),
    *(errors.UnsupportedFormat(kind.sentence) for kind in KINDS),
]


@pytest.mark.parametrize("crop", [None, Crop(1, 2, 3)])
@pytest.mark.parametrize("whole", [None, DeclaredSides(4000, 3000, True)])
def test_a_job_is_read_as_it_was_written(crop: Crop | None, whole: DeclaredSides | None) -> None:
    background: Background = (1, 2, 3) if whole is None else "auto"
    job = Job(5, 6, 0.5, crop, 7, 8, whole, background=background)
    line = job.to_line()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert Job.from_line(line) == job


def test_a_job_of_several_pictures_is_read_as_it_was_written() -> None:
    assert Job.from_line(RENDERING.to_line()) == RENDERING
    assert RENDERING.picture_count == 3
    assert JOB.picture_count == 1


@pytest.mark.parametrize("layers", [NO_LAYER, Layer.LANDLOCK, EVERY_LAYER])
def test_the_first_word_is_read_as_it_was_written(layers: Layer) -> None:
    ready = Ready(layers, 123 << 30)
    assert len(ready.to_bytes()) == READY_BYTES
    assert Ready.from_bytes(ready.to_bytes()) == ready


@pytest.mark.parametrize("said", [b"", b"!", bytes(READY_BYTES), b"!\xff".ljust(READY_BYTES)])
def test_another_first_word_is_not_taken(said: bytes) -> None:
    with pytest.raises(Nonsense):
        Ready.from_bytes(said)


def test_the_head_of_a_picture_is_read_as_it_was_written() -> None:
    assert len(MADE.to_bytes()) == HEAD_BYTES
    assert read_head(MADE.to_bytes(), JOB) == MADE
    everything = dataclasses.replace(MADE, removed_metadata=METADATA_NAMES, notes=NOTE_NAMES)
    assert read_head(everything.to_bytes(), JOB) == everything
    nothing = dataclasses.replace(MADE, removed_metadata=(), notes=())
    assert read_head(nothing.to_bytes(), JOB) == nothing


MAY_BE_CLEAR = dataclasses.replace(JOB, background=CLEAR)
MADE_CLEAR = dataclasses.replace(MADE, format=RenditionFormat.WEBP)


def test_a_webp_is_the_answer_only_where_the_picture_may_stay_transparent() -> None:
    assert Job.from_line(MAY_BE_CLEAR.to_line()) == MAY_BE_CLEAR
    for made in (MADE, MADE_CLEAR):
        assert read_head(made.to_bytes(), MAY_BE_CLEAR) == made
    of_all = dataclasses.replace(MAY_BE_CLEAR, whole=DeclaredSides(300, 300, True))
    renditions = dataclasses.replace(MAY_BE_CLEAR, renditions=RENDITIONS)
    for job in (JOB, dataclasses.replace(JOB, background="auto"), of_all, renditions):
        with pytest.raises(Nonsense):
            read_head(MADE_CLEAR.to_bytes(), job)


def put(head: bytes, place: slice | int, said: bytes) -> bytes:
    changed = bytearray(head)
    at = place if isinstance(place, slice) else slice(place, place + len(said))
    changed[at] = said
    return bytes(changed)


def test_the_head_of_a_rendition_is_read_as_it_was_written() -> None:
    assert len(RENDERED.to_bytes()) == HEAD_BYTES
    assert read_head(RENDERED.to_bytes(), RENDERING, 1) == RENDERED
    longest = dataclasses.replace(RENDERED, following_bytes=count_most_bytes((64, 64)))
    assert read_head(longest.to_bytes(), RENDERING, 1) == longest


LIES_ABOUT_RENDITIONS = {
    "the sides of another one": (RENDERED.to_bytes(), 0),
    "another width": (put(RENDERED.to_bytes(), WIDTH, b"\0\x41"), 1),
    "another height": (put(RENDERED.to_bytes(), HEIGHT, b"\0\x41"), 1),
    "no file": (put(RENDERED.to_bytes(), FOLLOWING, bytes(4)), 1),
    "a file too long": (
        Rendered(RENDITIONS[1], count_most_bytes((64, 64)) + 1).to_bytes(),
        1,
    ),
    "a colour": (put(RENDERED.to_bytes(), NOTES - 5, b"\1"), 1),
    "names of metadata": (put(RENDERED.to_bytes(), NOTES - 1, b"\1"), 1),
    "notes": (put(RENDERED.to_bytes(), NOTES, b"\1"), 1),
    "a hash": (put(RENDERED.to_bytes(), TEXT_LENGTH, b"\1a"), 1),
    "text that has no length": (put(RENDERED.to_bytes(), TEXT, b"a"), 1),
    "half a head": (RENDERED.to_bytes()[:20], 1),
    "a square": (MADE.to_bytes(), 0),
    "a refusal behind a picture": (Refused("bad_crop", 5).to_bytes(), 1),
}


@pytest.mark.parametrize("lie", LIES_ABOUT_RENDITIONS)
def test_what_is_no_head_of_this_rendition_is_not_taken(lie: str) -> None:
    head, pictures_before = LIES_ABOUT_RENDITIONS[lie]
    with pytest.raises(Nonsense):
        read_head(head, RENDERING, pictures_before)


def test_a_rendition_is_no_answer_to_another_job() -> None:
    assert read_head(Refused("bad_crop", 5).to_bytes(), RENDERING)
    with pytest.raises(Nonsense):
        read_head(Rendered(RENDITIONS[1], 1234).to_bytes(), JOB)


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: error.detail)
def test_a_refusal_becomes_the_same_error(error: DarkroomError) -> None:
    refused, sentence = refuse(error)
    head = read_head(refused.to_bytes(), JOB)
    assert isinstance(head, Refused)
    assert head.following_bytes == len(sentence)
    read = head.finish(sentence)
    assert type(read) is type(error)
    assert read.detail == error.detail


@pytest.mark.parametrize(
    "sentence",
    [
        b"",
        b"\xff\xfe",
        b"Please log in again at evil.test.",
        errors.BrokenPicture.sentence.encode() + b" <script>",
        errors.BrokenPicture.sentence.encode() + b"\n",
        errors.NotAPicture.sentence.encode(),
        b"The crop lies outside the picture, which is evil x 1 pixels when upright.",
    ],
)
@pytest.mark.parametrize("code", ["broken_picture", "bad_crop"])
def test_a_sentence_that_this_refusal_never_says_is_not_taken(code: str, sentence: bytes) -> None:
    with pytest.raises(Nonsense):
        Refused(code, len(sentence)).finish(sentence)


LIES = {
    "no head": b"",
    "half a head": MADE.to_bytes()[:20],
    "zeros": bytes(HEAD_BYTES),
    "another mark": put(MADE.to_bytes(), 0, b"["),
    "no picture": put(MADE.to_bytes(), FOLLOWING, bytes(4)),
    "a picture too long": put(
        MADE.to_bytes(), FOLLOWING, (count_most_bytes((300, 300)) + 1).to_bytes(4, "big")
    ),
    "another width": put(MADE.to_bytes(), WIDTH, b"\1\0"),
    "another height": put(MADE.to_bytes(), HEIGHT, b"\xff\xff"),
    "no sides": put(MADE.to_bytes(), WIDTH, bytes(4)),
    "a hash too short": put(MADE.to_bytes(), TEXT_LENGTH, b"\x04"),
    "a hash too long": put(MADE.to_bytes(), TEXT_LENGTH, b"\x1f"),
    "no such refusal": Refused("none", 5).to_bytes(),
    # Those are not a decoder's to say.
    "an error of ours": Refused("internal_error", 5).to_bytes(),
    "a lack of resources": Refused("busy", 5).to_bytes(),
    "a code that is no text": put(Refused("bad_crop", 5).to_bytes(), TEXT, b"\xff"),
    "no sentence": Refused("bad_crop", 0).to_bytes(),
    "a sentence too long": Refused("bad_crop", 401).to_bytes(),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_is_no_head_of_an_answer_is_not_taken(lie: str) -> None:
    with pytest.raises(Nonsense):
        read_head(LIES[lie], JOB)


SIDES = DeclaredSides(4000, 3000, are_exact=True)
VAGUE_SIDES = DeclaredSides(4032, 3024, are_exact=False)
MASTERS = [
    (SIDES, (1600, 1200), True),
    (SIDES, (1200, 1600), True),  # turned upright
    (SIDES, (1600, 1201), False),
    (SIDES, (1600, 1600), False),
    (SIDES, (800, 600), False),
    (SIDES, (4000, 3000), False),
    (SIDES, (300, 300), False),
    (DeclaredSides(9, 4, are_exact=True), (9, 4), True),
    (DeclaredSides(9, 4, are_exact=True), (4, 9), True),
    (DeclaredSides(9, 4, are_exact=True), (1600, 711), False),
    (DeclaredSides(30_000, 2, are_exact=True), (1600, 1), True),
    (DeclaredSides(30_000, 2, are_exact=True), (1600, 0), False),
    # Of a HEIC, a part may be shown.
    (VAGUE_SIDES, (1600, 1200), True),
    (VAGUE_SIDES, (1190, 1600), True),
    (VAGUE_SIDES, (1601, 1200), False),
    (VAGUE_SIDES, (0, 1200), False),
    (DeclaredSides(64, 32, are_exact=False), (64, 32), True),
    (DeclaredSides(64, 32, are_exact=False), (30, 60), True),
    (DeclaredSides(64, 32, are_exact=False), (64, 33), False),
]
THUMBNAILS = [
    (DeclaredSides(4000, 3000, True, THUMBNAIL_SIDE_PX), (300, 225), True),
    (DeclaredSides(4000, 3000, True, THUMBNAIL_SIDE_PX), (225, 300), True),
    (DeclaredSides(4000, 3000, True, THUMBNAIL_SIDE_PX), (1600, 1200), False),
    (DeclaredSides(4000, 3000, True, THUMBNAIL_SIDE_PX), (300, 300), False),
    (DeclaredSides(90, 40, True, THUMBNAIL_SIDE_PX), (90, 40), True),
    (DeclaredSides(4032, 3024, False, THUMBNAIL_SIDE_PX), (300, 300), True),
    (DeclaredSides(4032, 3024, False, THUMBNAIL_SIDE_PX), (301, 225), False),
]


@pytest.mark.parametrize(("declared", "size", "is_taken"), MASTERS + THUMBNAILS)
def test_what_is_fitted_in_has_the_sides_that_its_file_gives_it(
    declared: DeclaredSides, size: tuple[int, int], is_taken: bool
) -> None:
    job = dataclasses.replace(JOB, whole=declared)
    made = dataclasses.replace(MADE, width_px=size[0], height_px=size[1])
    if is_taken:
        assert read_head(made.to_bytes(), job) == made
    else:
        with pytest.raises(Nonsense):
            read_head(made.to_bytes(), job)


def test_a_long_master_is_taken_and_a_longer_one_is_not() -> None:
    job = dataclasses.replace(JOB, whole=SIDES)
    most_bytes = count_most_bytes((1600, 1200))
    made = dataclasses.replace(MADE, following_bytes=most_bytes, width_px=1600, height_px=1200)
    assert read_head(made.to_bytes(), job) == made
    longer = dataclasses.replace(made, following_bytes=most_bytes + 1)
    with pytest.raises(Nonsense):
        read_head(longer.to_bytes(), job)
