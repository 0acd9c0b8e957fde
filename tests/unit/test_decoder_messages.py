"""Proves that service and decoder understand each other, and that no lie of a decoder is taken."""

import json
from typing import Any

import pytest

import errors
from pictures import Crop
from pictures.messages import (
    MOST_ANSWER_BYTES,
    Job,
    Made,
    Nonsense,
    Refused,
    read_answer,
)

JPEG = b"\xff\xd8" + bytes(8)
MADE = Made(len(JPEG), "#0a1b2c", "3OcRJYB4d3h/iIeHeEh3eIhw+j2w", ("exif", "gps"))
FIELDS: dict[str, Any] = json.loads(MADE.to_line())


@pytest.mark.parametrize("crop", [None, Crop(1, 2, 3)])
def test_a_job_is_read_as_it_was_written(crop: Crop | None) -> None:
    job = Job(5, 6, 0.5, crop, 7, 8)
    line = job.to_line()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert Job.from_line(line) == job


@pytest.mark.parametrize("answer", [MADE, Refused("bad_crop", "Says why.\nOn two lines.")])
def test_an_answer_is_read_as_it_was_written(answer: Made | Refused) -> None:
    line = answer.to_line()
    assert line.count(b"\n") == 1
    assert read_answer(line) == answer


def test_a_refusal_becomes_the_error_with_its_sentence() -> None:
    refused = read_answer(Refused("too_many_pixels", "Far too many.").to_line())
    assert isinstance(refused, Refused)
    error = refused.to_error()
    assert type(error) is errors.TooManyPixels
    assert error.detail == "Far too many."


def test_a_picture_is_named_and_hashed_by_the_service() -> None:
    picture = MADE.finish(JPEG)
    assert (picture.content, picture.content_type) == (JPEG, "image/jpeg")
    assert picture.removed_metadata == ("exif", "gps")
    assert picture.filename != MADE.finish(JPEG).filename


@pytest.mark.parametrize("jpeg", [b"", JPEG[:-1], JPEG + b"\0", b"<html>....", b"GIF89a...."])
def test_other_bytes_than_a_jpeg_of_the_announced_length_are_not_taken(jpeg: bytes) -> None:
    with pytest.raises(Nonsense):
        MADE.finish(jpeg)


NO_HASHES: tuple[object, ...] = ("", "AAAA", "A" * 41, "<script>", "AAAAAAAA\n", [], None)
LIES: tuple[dict[str, Any], ...] = (
    *({"jpeg_bytes": count} for count in (0, -1, MOST_ANSWER_BYTES + 1, 1.5, True, "9", None)),
    *({"dominant_colour": colour} for colour in ("#0A1B2C", "#0a1b2", "red", "#0a1b2c\n", 7, None)),
    *({"thumbhash": text} for text in NO_HASHES),
    *({"removed_metadata": names} for names in (["more"], [["exif"]], "exif", {"exif": 1}, None)),
)


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_lie_about_a_picture_is_not_taken(lie: dict[str, Any]) -> None:
    with pytest.raises(Nonsense):
        read_answer(json.dumps({**FIELDS, **lie}).encode())


@pytest.mark.parametrize("missing", FIELDS)
def test_an_answer_that_lacks_something_is_not_taken(missing: str) -> None:
    fields = {name: value for name, value in FIELDS.items() if name != missing}
    with pytest.raises(Nonsense):
        read_answer(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"\n", b"nonsense\n", b"[]\n", b"7\n", b"null\n", b'"code"\n', b"\xff\n", b"{}\n"),
        b"[" * 100_000,
        *(b'{"code": "none", "sentence": ""}', b'{"code": [], "sentence": ""}'),
        *(b'{"code": "bad_crop"}', b'{"code": "bad_crop", "sentence": {}}'),
        # Those are not a decoder's to say.
        *(b'{"code": "internal_error", "sentence": ""}', b'{"code": "busy", "sentence": ""}'),
    ],
)
def test_what_is_no_answer_is_not_taken(line: bytes) -> None:
    with pytest.raises(Nonsense):
        read_answer(line)
