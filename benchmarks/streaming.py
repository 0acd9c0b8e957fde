"""What streaming one large photo to S3 costs here and in the pattern that forums teach.

`python -m benchmarks.streaming [--mib N] [--rounds N] [--check]`

Both serve all the time, on one S3 server that keeps no more than the first bytes, and are sent the
same JPEG, padded with zeros, in turns, once without the padding before. The time on the clock is
from the first byte to the 201; the memory is that of all processes of a service at their peaks,
without Postgres, over what it is idle.
"""

import argparse
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from statistics import median

from benchmarks.image_step import draw_photo, encode, find_sides
from benchmarks.load import Pipe, apart
from benchmarks.memory import (
    forget_peaks,
    read_cpu_seconds,
    read_peak_bytes,
    wait_until_idle,
)
from benchmarks.s3_sink import BUCKET, serve_sink
from config import MIB
from ops import embedded_postgres
from tests.support.databases import make_database
from tests.support.services import ROOT, Service

# Small, for what is measured is streaming; the other pattern decodes nothing at all.
MEGAPIXELS = 1.0
# What a photo is padded to.
SIZE_MIB = 1024
ROUNDS = 7
CHECKSUMS = ("when_supported", "when_required")
# What --check asks for, of the medians.
LEAST_SPEED_RATIO = 1.5
MOST_OVER_IDLE_BYTES = 64 * MIB
# Far above any answer; who waits longer has found a defect.
ANSWER_SECONDS = 120.0


@dataclass(frozen=True)
class Cost:
    """What one upload came to; the memory is what was added at the peak."""

    seconds: float
    cpu_seconds: float
    added_bytes: int

    def __str__(self) -> str:
        return f"{self.seconds:>8.2f}{self.cpu_seconds:>8.2f}{self.added_bytes / MIB:>8.0f}"


@dataclass(frozen=True)
class Round:
    """The same upload to both, one right after the other."""

    forum: Cost
    here: Cost

    @property
    def speed_ratio(self) -> float:
        return self.forum.seconds / self.here.seconds


HEADING = (
    f"{'':<23}{'queue and thread':>24}{'here':>24}\n"
    f"{'checksums':<16}{'round':>7}"
    + f"{'s':>8}{'CPU s':>8}{'RSS MiB':>8}" * 2
    + f"{'times as fast':>15}"
)


def send_photo(pipe: Pipe, port: int, headers: dict[str, str], path: Path) -> None:
    """Send the file as the bare body of a POST when told to; then send the seconds it took."""
    size_bytes = path.stat().st_size
    lines = ["POST /photos HTTP/1.1", "Host: localhost", f"Content-Length: {size_bytes}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    pipe.send("ready")
    pipe.recv()
    with (
        path.open("rb") as file,
        socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS) as connection,
    ):
        started = time.perf_counter()
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        connection.sendfile(file)
        answer = HTTPResponse(connection)
        answer.begin()
        content = answer.read()
        seconds = time.perf_counter() - started
    pipe.send((seconds, answer.status, content))


def measure(service: Service, headers: dict[str, str], path: Path) -> Cost:
    """Send the file once. Raises RuntimeError unless it is taken."""
    assert service.process is not None
    root = service.process.pid
    idle = wait_until_idle(root)
    sending = (service.port, {"Content-Type": "image/jpeg", **headers}, path)
    with apart(send_photo, *sending) as client:
        cpu_before = read_cpu_seconds(root)
        forget_peaks(root)
        client.send("go")
        seconds, status, content = client.recv()
        cpu_seconds = read_cpu_seconds(root) - cpu_before
        peak_bytes = read_peak_bytes(root)
    if status != 201:
        raise RuntimeError(f"{status} {content!r} is no answer to a photo")
    return Cost(seconds, cpu_seconds, peak_bytes - idle.rss_bytes)


def make_photo(path: Path) -> None:
    path.write_bytes(encode(draw_photo(*find_sides(MEGAPIXELS)), "jpeg"))


def pad(photo: Path, path: Path, size_bytes: int) -> None:
    """Write the photo with zeros behind it, as a file with a hole."""
    path.write_bytes(photo.read_bytes())
    os.truncate(path, size_bytes)


@contextmanager
def running(service: Service) -> Iterator[Service]:
    service.start()
    try:
        yield service
    finally:
        service.stop()


def make_forum_service(folder: Path, s3_url: str, checksums: str) -> Service:
    """Make the pattern's service, not yet started."""
    service = Service({"DATA_DIR": str(folder), "PYTHONPATH": str(ROOT)})
    service.command = [
        *("env", sys.executable, "-m", "benchmarks.queue_and_thread"),
        *("--port", str(service.port), "--endpoint", s3_url, "--bucket", BUCKET),
        *("--checksums", checksums),
    ]
    return service


def make_own_service(
    folder: Path, s3_url: str, checksums: str, database_url: str, size_bytes: int
) -> Service:
    """Make this checkout's service, not yet started."""
    settings = {
        "STORAGE": "s3",
        "S3_BUCKET_NAME": BUCKET,
        "S3_ENDPOINT_URL": s3_url,
        "S3_ACCESS_KEY_ID": "test",
        "S3_SECRET_ACCESS_KEY": "test",
        "S3_CHECKSUMS": checksums,
        "DATABASE_URL": database_url,
        "DATA_DIR": str(folder),
        "MAX_PHOTO_SIZE_BYTES": str(size_bytes),
        "DARKROOM_ENV_FILE": "",
    }
    return Service(settings, command=["env", sys.executable, str(ROOT / "main.py")])


def find_shortfalls(checksums: str, rounds: Sequence[Round]) -> list[str]:
    """Find what is missing to what `--check` asks for, as sentences."""
    missing = []
    ratio = median(each.speed_ratio for each in rounds)
    if ratio < LEAST_SPEED_RATIO:
        missing.append(f"{checksums}: {ratio:.2f} times as fast, not {LEAST_SPEED_RATIO}.")
    most_bytes = max(each.here.added_bytes for each in rounds)
    if most_bytes > MOST_OVER_IDLE_BYTES:
        missing.append(
            f"{checksums}: {most_bytes / MIB:.0f} MiB over idle,"
            f" not {MOST_OVER_IDLE_BYTES / MIB:.0f}."
        )
    return missing


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming")
    parser.add_argument("--mib", type=int, default=SIZE_MIB, help="what the photo is padded to")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 unless it is as fast and small as asked"
    )
    options = parser.parse_args(arguments)
    missing = []
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        small = folder / "small.jpg"
        photo = folder / "photo.jpg"
        make_photo(small)
        pad(small, photo, options.mib * MIB)
        # It is forked, so it comes before Postgres and its thread.
        sink = stack.enter_context(apart(serve_sink))
        stack.callback(sink.send, "end")
        s3_url = sink.recv()
        postgres_url = stack.enter_context(embedded_postgres.running(folder))
        print(HEADING, flush=True)
        for checksums in CHECKSUMS:
            forum = make_forum_service(folder / f"forum-{checksums}", s3_url, checksums)
            database_url = make_database(postgres_url, None)
            own = make_own_service(
                folder / f"own-{checksums}", s3_url, checksums, database_url, options.mib * MIB
            )
            rounds = []
            with running(forum), running(own):
                account = own.register()
                # What the first photo of all starts, and loads, stays: it is no memory of a stream.
                measure(forum, {}, small)
                measure(own, account.headers, small)
                for number in range(options.rounds):
                    costs = Round(measure(forum, {}, photo), measure(own, account.headers, photo))
                    rounds.append(costs)
                    print(
                        f"{checksums:<16}{number + 1:>7}{costs.forum}{costs.here}"
                        f"{costs.speed_ratio:>15.2f}",
                        flush=True,
                    )
            missing += find_shortfalls(checksums, rounds)
    if not options.check:
        return 0
    for sentence in missing:
        print(sentence)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
