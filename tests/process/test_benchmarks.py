"""Proves that each benchmark runs, on small pictures, and prints its table for people to read."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image, ImageFilter

from benchmarks import image_step, memory, replace, streaming, thumbnails
from benchmarks.load import Answer
from benchmarks.textbook import textbook_image
from photos import WantedFormat
from pictures import examine
from tests.support.pictures import corners, encoded, phone_photo, quarters
from tests.support.services import ROOT, Account, Service

# Below the limit of a test, so that nothing that the command started outlives it.
LONGEST_SECONDS = 100


def run(*command: str) -> str:
    """What a command prints; it must succeed."""
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            printed, _ = process.communicate(timeout=LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, printed
    return printed


def test_the_image_step_is_measured_beside_the_textbooks() -> None:
    printed = run(
        "benchmarks.image_step", "--sizes", "0.05", "30", "--kinds", "png", "--rounds", "1"
    )
    (*_, line) = printed.splitlines()
    kind, megapixels, *numbers = line.split()
    assert (kind, megapixels, len(numbers)) == ("png", "0.05", 7), (
        printed
    )  # and none of 30 megapixels
    assert float(numbers[-1]) > 0.9, "the two pictures are not alike"


def test_the_memory_is_measured_beside_the_textbooks(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    printed = run(
        "benchmarks.memory", "--clients", "2", "--divide-sides", "20", "--json", str(found)
    )
    lines = printed.splitlines()[2:]
    assert [line.split()[0] for line in lines] == ["Darkroom"] * 3 + ["textbook"] * 3, printed
    assert all(" 2/2 " in line for line in lines), printed
    rows = json.loads(found.read_text())
    assert [row["phase"] for row in rows[:3]] == [
        "0.12 MP jpeg",
        "0.06 MP progressive",
        "0.06 MP flat png",
    ]
    assert all(answer["status"] == 200 for row in rows for answer in row["answers"])
    assert all(
        row["idle"]["rss_bytes"] >= row["idle"]["pss_bytes"] > 0 and row["health"]["p50_ms"] > 0
        for row in rows
    )


def test_the_memory_of_a_service_is_that_of_its_children_and_files_in_memory_but_not_of_postgres(
    tmp_path: Path,
) -> None:
    (tmp_path / "postgres").symlink_to(sys.executable)
    wait = "print(flush=True); input()"
    holder = "held = b'x' * 40_000_000"
    in_memory = "import os; file = os.memfd_create('held'); os.write(file, bytes(20_000_000))"

    def rss_bytes(program: str, child: list[str]) -> int:
        start = (
            f"import subprocess; child = subprocess.Popen({child}, stdin=0, stdout=subprocess.PIPE)"
        )
        whole = (
            f"{program}; {start}; child.stdout.readline(); {wait}; child.stdin = None; child.wait()"
        )
        command = [sys.executable, "-c", whole]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            found = memory.measure_memory(process.pid).rss_bytes
            process.communicate("\n\n")
        return found

    python = sys.executable
    postgres = str(tmp_path / "postgres")
    plain = rss_bytes("pass", [python, "-c", wait])
    assert 35e6 < rss_bytes("pass", [python, "-c", f"{holder}; {wait}"]) - plain < 50e6
    assert 15e6 < rss_bytes(in_memory, [python, "-c", wait]) - plain < 30e6
    assert rss_bytes("pass", [postgres, "-c", f"{holder}; {wait}"]) < plain + 5e6


def test_the_textbook_makes_an_upright_picture() -> None:
    made = textbook_image(phone_photo(400, 300))
    assert Image.open(io.BytesIO(made)).size == (300, 300)
    assert corners(made) == ["red", "green", "blue", "white"]


def test_similarity_is_one_for_the_same_and_less_for_another_picture() -> None:
    picture = image_step.draw_photo(60, 50).convert("L")
    blurred = picture.filter(ImageFilter.GaussianBlur(1))
    more_blurred = picture.filter(ImageFilter.GaussianBlur(3))
    assert image_step.compare_by_ssim(picture, picture) == 1
    assert (
        0.2
        < image_step.compare_by_ssim(picture, more_blurred)
        < image_step.compare_by_ssim(picture, blurred)
        < 0.95
    )


def test_the_image_step_is_checked_on_a_large_jpeg() -> None:
    served = encoded(image_step.draw_photo(60, 50))
    other = encoded(image_step.draw_photo(60, 50, seed=2))

    def row(cpu_ms: float, content: bytes) -> image_step.Row:
        textbook = image_step.Measured(320, 1, served)
        darkroom = image_step.Measured(cpu_ms, 1, content)
        return image_step.Row("jpeg", 12, 1, textbook, darkroom)

    assert image_step.find_shortfalls([row(100, served)]) == []
    assert len(image_step.find_shortfalls([row(100.1, served)])) == 1
    assert len(image_step.find_shortfalls([row(100, other)])) == 1
    refused = image_step.Row(
        "jpeg", 12, 1, image_step.Measured(320, 1, served), image_step.Measured(refusal="Broken")
    )
    assert len(image_step.find_shortfalls([refused])) == 2
    assert len(image_step.find_shortfalls([])) == 1


def test_the_memory_is_checked_in_every_phase() -> None:
    def row(status: int, seconds: float, over_idle_bytes: int) -> memory.Row:
        over_idle = memory.Memory(over_idle_bytes, 0)
        health = memory.Health(1, 1, 1, 0)
        return memory.Row(
            "Darkroom", "", [Answer(status, 1, seconds)], 1, memory.Memory(1, 1), over_idle, health
        )

    good = row(200, 60, 250_000_000)
    assert memory.find_shortfalls([good, good], 250_000_000) == []
    for bad in (row(503, 60, 1), row(200, 60.1, 1), row(200, 60, 250_000_001)):
        assert len(memory.find_shortfalls([good, bad], 250_000_000)) == 1


def test_each_core_but_one_may_take_the_dearest_picture_more(tmp_path: Path) -> None:
    files = memory.make_pictures(tmp_path, 20).values()
    dearest_bytes = max(examine(file.read_bytes())[1].memory_bytes for file in files)
    assert memory.find_most_over_idle_bytes(files, 1) == 250_000_000
    assert memory.find_most_over_idle_bytes(files, 2) == 250_000_000 + dearest_bytes
    assert memory.find_most_over_idle_bytes(files, 5) == 250_000_000 + 4 * dearest_bytes


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a copy without its history")
def test_replacing_a_picture_is_measured_beside_an_older_commit() -> None:
    printed = run(
        "benchmarks.replace",
        "HEAD",
        *("--pictures", "jpeg-40kB", "--rounds", "1", "--uploads", "9"),
    )
    first, last = printed.splitlines()[3:]
    name, number, *columns = first.split()
    assert (name, number) == ("jpeg-40kB", "1"), printed
    assert last.split() == [name, "median", *columns], printed
    base_rate, here_rate, rate_ratio, base_cpu, here_cpu, cpu_ratio, *postgres = map(float, columns)
    assert here_rate / base_rate == pytest.approx(rate_ratio, rel=0.1), printed
    assert here_cpu / base_cpu == pytest.approx(cpu_ratio, rel=0.1), printed
    assert all(cpu_ms > 0 for cpu_ms in postgres), printed


def test_what_a_replacement_costs_is_checked_on_the_medians_of_the_ratios() -> None:
    def rounds(requests: Sequence[float], cpu_ms: Sequence[float]) -> list[replace.Round]:
        base = [replace.Cost(1, 1, 1), replace.Cost(10, 10, 1), replace.Cost(100, 100, 1)]
        here = [replace.Cost(*costs, 1) for costs in zip(requests, cpu_ms, strict=True)]
        return [replace.Round(*costs) for costs in zip(base, here, strict=True)]

    small, large, webp = replace.PICTURES
    good = rounds((0.1, 16, 160), (0.65, 6.5, 1000))
    slow = rounds((1.5, 15, 9000), (0.65, 6.5, 65))
    costly = rounds((1.6, 16, 160), (0.1, 6.6, 66))
    assert replace.find_shortfalls(small, good) == []
    assert len(replace.find_shortfalls(small, slow)) == 1
    assert len(replace.find_shortfalls(small, costly)) == 1
    assert replace.find_shortfalls(large, rounds((1, 1, 1), (1, 9, 90))) == []
    assert len(replace.find_shortfalls(large, rounds((9, 99, 999), (0.1, 9.1, 91)))) == 1
    assert replace.find_shortfalls(webp, rounds((1, 13, 130), (2, 20, 200))) == []
    assert len(replace.find_shortfalls(webp, rounds((9, 12, 120), (0.1, 1, 10)))) == 1


@pytest.mark.parametrize(
    ("status", "image_files"), [(200, ["a.jpg", "b.jpg", "a.jpg"]), (503, ["a.jpg"])]
)
def test_only_a_new_picture_counts_as_replaced(status: int, image_files: list[str]) -> None:
    answers = iter(image_files)

    class Answers(BaseHTTPRequestHandler):
        def do_PATCH(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            content = json.dumps({"image_file": next(answers)}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        service = Service({}, port=server.server_address[1])
        client = replace.Client(service, Account(1, "", "", ""))
        for _ in image_files[:-1]:
            client.replace_picture(b"a form")
        with pytest.raises(RuntimeError):
            client.replace_picture(b"a form")
        client.close()
        server.shutdown()


def test_streaming_is_measured_beside_a_queue_and_a_thread() -> None:
    printed = run("benchmarks.streaming", "--mib", "12", "--rounds", "1")
    lines = printed.splitlines()[2:]
    assert [line.split()[0] for line in lines] == list(streaming.CHECKSUMS), printed
    for line in lines:
        _, _, forum_seconds, _, _, own_seconds, *_, ratio = line.split()
        assert float(forum_seconds) / float(own_seconds) == pytest.approx(float(ratio), rel=0.2)


def test_replacing_a_picture_is_measured_beside_photos() -> None:
    printed = run("benchmarks.beside_photos", "--rounds", "1", "--uploads", "2")
    _, line, last = printed.splitlines()
    number, alone_ms, beside_ms, photos, ratio = line.split()
    assert (number, int(photos) > 0) == ("1", True), printed
    assert float(beside_ms) / float(alone_ms) == pytest.approx(float(ratio), rel=0.05)
    assert last.startswith(ratio)


def test_streaming_is_checked_on_its_speed_and_its_memory() -> None:
    def rounds(seconds: float, added_bytes: int) -> list[streaming.Round]:
        forum = streaming.Cost(1.5, 1, 1)
        return [
            streaming.Round(forum, streaming.Cost(own_seconds, 1, added_bytes))
            for own_seconds in (seconds / 2, seconds, seconds * 2)
        ]

    most_bytes = streaming.MOST_OVER_IDLE_BYTES
    assert streaming.find_shortfalls("", rounds(1, most_bytes)) == []
    assert len(streaming.find_shortfalls("", rounds(1.01, most_bytes))) == 1
    assert len(streaming.find_shortfalls("", rounds(1, most_bytes + 1))) == 1


@pytest.mark.skipif(
    not thumbnails.find_node(), reason="scripts/compare_thumbnails has brought no thumbor and ipx"
)
def test_a_thumbnail_is_measured_beside_thumbor_and_ipx() -> None:
    sizes = ("--megapixels", "1", "--photos", "4", "--rounds", "1")
    *lines, jpeg, webp, masters, _ = run("benchmarks.thumbnails", *sizes).splitlines()[2:]
    assert jpeg.startswith("jpeg") and webp.startswith("webp") and webp.count(" of 255") == 3
    assert [line.split()[:2] for line in lines] == [
        *(["jpeg", "1"], ["webp", "1"]),
        *(["jpeg", "median"], ["webp", "median"]),
    ]
    assert " ms a photo here" in masters
    own_ms, postgres_ms, thumbor_ms, ipx_ms, to_thumbor, to_ipx = map(float, lines[0].split()[2:])
    assert (own_ms + postgres_ms) / thumbor_ms == pytest.approx(to_thumbor, abs=0.01)
    assert (own_ms + postgres_ms) / ipx_ms == pytest.approx(to_ipx, abs=0.01)


def test_a_thumbnail_is_checked_on_its_cost_beside_each_with_postgres() -> None:
    def rounds(cpu_ms: float, postgres_ms: float) -> list[thumbnails.Round]:
        others = {"thumbor": thumbnails.Cost(200, 0), "ipx": thumbnails.Cost(40, 0)}
        return [
            thumbnails.Round(thumbnails.Cost(own_ms, postgres_ms), others)
            for own_ms in (cpu_ms / 2, cpu_ms, cpu_ms * 2)
        ]

    assert thumbnails.find_shortfalls(rounds(30, 10)) == []
    assert len(thumbnails.find_shortfalls(rounds(30, 10.1))) == 1, "more than ipx"
    assert len(thumbnails.find_shortfalls(rounds(40.1, 10))) == 2, "and more than thumbor's quarter"


@pytest.mark.parametrize(
    ("content", "is_right"),
    [
        (encoded(quarters(300, 300)), True),
        (encoded(quarters(300, 299)), False),
        (encoded(quarters(300, 300), "WEBP"), False),
        (encoded(quarters(300, 300).transpose(Image.Transpose.ROTATE_180)), False),
    ],
)
def test_a_thumbnail_that_was_not_asked_for_is_not_measured(content: bytes, is_right: bool) -> None:
    reference = quarters(300, 300)
    if is_right:
        thumbnails.check_thumbnail(content, WantedFormat.JPEG, reference)
    else:
        with pytest.raises(RuntimeError):
            thumbnails.check_thumbnail(content, WantedFormat.JPEG, reference)
