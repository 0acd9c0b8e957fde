"""The fuzz, in short: a broken file becomes a picture or a refusal; anything else is noticed."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from struct import pack

import httpx
import pytest

from errors import Busy, NotAPicture
from image_utils import ProcessedImage, process_profile_image
from pictures.costs import DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS, examine
from pictures.pool import DecoderPool
from tests.fuzz import fields, files, runs, seeds
from tests.support.pictures import encoded, jpeg, quarters
from tests.support.services import ROOT, Service

FILES = 1200
FILES_OVER_HTTP = 60
# What each of these kinds of file shows must have come up, or the mutations do not reach far
# enough.
USUAL = {
    "truncated_picture",
    "broken_picture",
    "not_a_picture",
    "unsupported_format",
    "too_many_pixels",
}
# Nothing in the script takes a hundredth of it, but for what sleeps for ever.
SHORT_SECONDS = 3.0


@pytest.fixture(scope="module")
def sound_seeds() -> list[files.Seed]:
    return files.make_seeds()


def test_every_picture_that_mutations_begin_with_is_sound(sound_seeds: list[files.Seed]) -> None:
    outcomes = [runs.judge(process_profile_image, content) for content in seeds.make_taken()]
    assert set(outcomes) == {runs.ACCEPTED}
    sides = [len(seed.sides) for seed in sound_seeds[: len(outcomes)]]
    assert min(sides) > 0, "where the sides of one stand was not found"


def test_a_file_is_the_same_whenever_it_is_made(sound_seeds: list[files.Seed]) -> None:
    time.sleep(1.1)  # some formats hold the second in which they were made
    first = files.Files("1", sound_seeds)
    again = files.Files("1", files.make_seeds())
    other = files.Files("2", sound_seeds)
    numbers = range(200)
    assert [first[number] for number in numbers] == [again[number] for number in numbers]
    differ = sum(first[number] != other[number] for number in numbers)
    assert differ > 0.9 * len(numbers)


def test_nothing_but_a_picture_or_a_refusal_comes_of_a_broken_file(
    sound_seeds: list[files.Seed], tmp_path: Path
) -> None:
    report = runs.Report(files.Files("short", sound_seeds), tmp_path)
    runs.run_functions(report, range(FILES), lanes=1)
    assert report.findings == Counter(), [path.read_text() for path in tmp_path.glob("*.txt")]
    assert report.outcomes.total() == FILES
    assert set(report.outcomes) >= {runs.ACCEPTED, *USUAL}
    assert 0.1 < report.outcomes[runs.ACCEPTED] / FILES < 0.9


def test_over_http_it_is_the_same(
    shared_service: Service, sound_seeds: list[files.Seed], tmp_path: Path
) -> None:
    report = runs.Report(files.Files("short", sound_seeds), tmp_path)
    runs.run_http(report, range(FILES_OVER_HTTP), shared_service)
    assert report.findings == Counter(), [path.read_text() for path in tmp_path.glob("*.txt")]
    assert report.outcomes.total() == FILES_OVER_HTTP
    assert report.outcomes[runs.ACCEPTED] > 0


def test_a_refused_file_takes_nothing_from_the_next() -> None:
    """A decoder's limit counts what it holds already, so what a refusal kept would be missing."""
    sound = encoded(quarters(64, 64), "PNG")
    large = fields.repair_checksums(sound[:16] + pack(">II", 4900, 4900) + sound[24:])
    with closing(DecoderPool()) as pool:

        def decode(content: bytes) -> ProcessedImage:
            _, cost = examine(content)
            return pool.process_profile_image(
                content, cost, None, DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS
            )

        for _ in range(2):
            assert runs.judge(decode, large) in ("truncated_picture", "broken_picture")
            assert runs.judge(decode, sound) == runs.ACCEPTED


SCRIPT = (
    b"fine",
    b"refuse",
    b"die",
    b"raise",
    b"balloon",
    b"sleep",
    b"busy",
    b"half",
    b"refuse",
    b"fine",
)


class Scripted(files.Files):
    """Files that say what becomes of them."""

    def __getitem__(self, number: int) -> bytes:
        return SCRIPT[number]


def follow(content: bytes) -> ProcessedImage:
    """A picture step with all the defects that a file may ask for."""
    made = process_profile_image(jpeg(64, 64))
    match content:
        case b"refuse":
            raise NotAPicture
        case b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        case b"raise":
            raise ValueError
        case b"balloon":
            bytes(2 * runs.MEMORY_BYTES)
        case b"sleep":
            time.sleep(3600)
        case b"busy":
            raise Busy
        case b"half":
            return dataclasses.replace(made, content=made.content[: len(made.content) // 2])
    return made


def test_whatever_else_comes_of_a_file_is_noticed_and_the_file_is_kept(tmp_path: Path) -> None:
    report = runs.Report(Scripted("1", []), tmp_path / "kept")
    runs.run_functions(report, range(len(SCRIPT)), 1, follow, SHORT_SECONDS)
    assert report.outcomes == {runs.ACCEPTED: 2, "not_a_picture": 2}
    where = [kind for kind in report.findings if kind.startswith("ValueError at test_fuzz.py:")]
    assert len(where) == 1
    expected = (
        runs.DEATH,
        runs.HANG,
        runs.OUT_OF_MEMORY,
        "busy 503",
        "not a square of ours",
        *where,
    )
    assert report.findings == dict.fromkeys(expected, 1)
    kept = {path.name: path.read_bytes() for path in report.keep.iterdir() if not path.suffix}
    assert kept == {
        "2": b"die",
        "3": b"raise",
        "4": b"balloon",
        "5": b"sleep",
        "6": b"busy",
        "7": b"half",
    }
    summary = report.summary()
    assert (summary["files"], summary["deaths"], summary["hangs"]) == (len(SCRIPT), 1, 1)


PROBLEM = {"content-type": "application/problem+json"}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (httpx.Response(200, json={"image_file": "a.jpg"}), runs.ACCEPTED),
        (httpx.Response(413, headers=PROBLEM, json={"code": "too_many_pixels"}), "too_many_pixels"),
        (httpx.Response(200, json={"image_file": None}), runs.Finding),
        (httpx.Response(200, text="image_file"), runs.Finding),
        (httpx.Response(204), runs.Finding),
        (httpx.Response(400, headers=PROBLEM, json={"code": "unheard_of"}), runs.Finding),
        (httpx.Response(400, headers=PROBLEM, json={"code": "too_many_pixels"}), runs.Finding),
        (httpx.Response(400, json={"code": "not_a_picture"}), runs.Finding),
        (httpx.Response(500, headers=PROBLEM, json={"code": "internal_error"}), runs.Finding),
        (httpx.Response(502, text="Bad gateway"), runs.Finding),
    ],
)
def test_only_an_accepted_picture_or_a_known_4xx_is_a_good_answer(
    answer: httpx.Response, outcome: object
) -> None:
    judged = runs.judge_answer(answer, runs.find_codes())
    assert judged == outcome if isinstance(outcome, str) else isinstance(judged, runs.Finding)


def test_the_command_repeats_one_file_and_says_what_it_does(
    sound_seeds: list[files.Seed], tmp_path: Path
) -> None:
    made = files.Files("short", sound_seeds)
    refused = next(
        n for n in range(100) if runs.judge(process_profile_image, made[n]) == "broken_picture"
    )
    command = [
        sys.executable,
        "-m",
        "tests.fuzz",
        "--seed",
        "short",
        "--only",
        str(refused),
        "--keep",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" in done.stdout and "BrokenPicture" in done.stdout
    assert '"broken_picture": 1' in done.stdout
    assert (tmp_path / str(refused)).read_bytes() == made[refused]
