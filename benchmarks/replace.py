"""What replacing a picture costs here and in an older commit, measured in turns.

`python -m benchmarks.replace BASE [--pictures NAME ...] [--rounds N] [--uploads N] [--check]`

Both serve all the time, on one Postgres and one S3 server, and are loaded in turns by eight
clients. The time on the clock is that of the whole machine; CPU time is that of the service and of
all processes below it.
"""

import argparse
import io
import json
import math
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from queue import SimpleQueue
from statistics import median

from benchmarks.image_step import draw_photo, encode, find_sides
from benchmarks.load import Pipe, apart
from benchmarks.memory import read_cpu_seconds, read_cpu_seconds_alone
from ops import embedded_postgres
from tests.support.databases import make_database
from tests.support.s3 import FakeS3
from tests.support.services import FORM, ROOT, Account, Service, form, part, postmaster

# In flight at once, each on a connection of its own and for an account of its own.
CLIENTS = 8
# Before each round: connections are opened, statements prepared, and whatever slept is awake.
WARM_UPLOADS = CLIENTS
# What others do on the machine falls on both of a round, or else on one of seven.
ROUNDS = 7
# Far above any answer; who waits longer has found a defect.
ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class Picture:
    """A picture that is sent, how often in a round, and what `--check` asks of the ratios.

    A round takes two to four seconds: hundreds of ticks of the clock that counts CPU time.
    """

    name: str
    kind: str
    megapixels: float
    uploads: int
    least_requests_ratio: float = 0.0
    most_cpu_ratio: float = math.inf


PICTURES = (
    Picture("jpeg-40kB", "jpeg", 0.1, 240, least_requests_ratio=1.6, most_cpu_ratio=0.65),
    Picture("jpeg-12MP", "jpeg", 12.0, 64, most_cpu_ratio=0.9),
    Picture("webp-4MP", "webp", 4.0, 32, least_requests_ratio=1.3),
)


@dataclass(frozen=True)
class Cost:
    """What a round came to: CPU times are for one request."""

    requests_per_second: float
    cpu_ms: float
    postgres_cpu_ms: float


@dataclass(frozen=True)
class Round:
    """One picture in both services, one right after the other."""

    base: Cost
    here: Cost

    @property
    def requests_ratio(self) -> float:
        return self.here.requests_per_second / self.base.requests_per_second

    @property
    def cpu_ratio(self) -> float:
        return self.here.cpu_ms / self.base.cpu_ms

    @property
    def columns(self) -> tuple[float, ...]:
        """The numbers of a line of the table."""
        return (
            self.base.requests_per_second,
            self.here.requests_per_second,
            self.requests_ratio,
            self.base.cpu_ms,
            self.here.cpu_ms,
            self.cpu_ratio,
            self.base.postgres_cpu_ms,
            self.here.postgres_cpu_ms,
        )


HEADING = (
    f"{'':<20}{'requests a second':>24}{'CPU ms a request':>24}{'Postgres CPU ms':>18}\n"
    f"{'picture':<12}{'round':>8}{'base':>9}{'here':>8}{'ratio':>7}"
    f"{'base':>9}{'here':>8}{'ratio':>7}{'base':>10}{'here':>8}"
)


def format_line(name: str, round_name: str, columns: Sequence[float]) -> str:
    """Put the columns of a round, or their medians, under the heading."""
    base_rate, here_rate, rate_ratio, base_cpu, here_cpu, cpu_ratio, *postgres = columns
    return (
        f"{name:<12}{round_name:>8}{base_rate:>9.1f}{here_rate:>8.1f}{rate_ratio:>7.2f}"
        f"{base_cpu:>9.2f}{here_cpu:>8.2f}{cpu_ratio:>7.2f}{postgres[0]:>10.2f}{postgres[1]:>8.2f}"
    )


def find_medians(rounds: Sequence[Round]) -> list[float]:
    """Find the median of each column; that of a ratio is the median of the rounds' ratios."""
    return [median(column) for column in zip(*(each.columns for each in rounds), strict=True)]


class Client:
    """One person who replaces their picture again and again, on a connection that stays open."""

    def __init__(self, service: Service, account: Account) -> None:
        self._connection = HTTPConnection(service.host, service.port, timeout=ANSWER_SECONDS)
        self._path = f"/users/{account.id}/picture"
        self._headers = {**account.headers, **FORM}
        self._seen_files: set[str] = set()

    def replace_picture(self, body: bytes) -> None:
        """Send a form; raises RuntimeError unless the answer is 200 with a file of a new name."""
        with suppress(BrokenPipeError, ConnectionResetError):  # refused early: the answer is there
            self._connection.request("PATCH", self._path, body, self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        image_file = json.loads(content)["image_file"] if answer.status == 200 else None
        if image_file is None or image_file in self._seen_files:
            raise RuntimeError(f"{answer.status} {content!r} is no answer to a new picture")
        self._seen_files.add(image_file)

    def close(self) -> None:
        """Close the connection, which the service would do while it is not asked."""
        self._connection.close()


class Loaded:
    """A service that is loaded, and the Postgres behind it."""

    def __init__(self, service: Service, postmaster_pid: int) -> None:
        self._service = service
        self._postmaster_pid = postmaster_pid
        accounts = [service.register(f"client-{number}") for number in range(CLIENTS)]
        self._clients = [Client(service, account) for account in accounts]

    def run_round(self, body: bytes, uploads: int) -> Cost:
        """Send the form so many times, after some that do not count."""
        assert self._service.process is not None
        service_pid = self._service.process.pid
        self._send(body, WARM_UPLOADS)
        cpu_before = read_cpu_seconds(service_pid)
        postgres_before = read_postgres_cpu_seconds(self._postmaster_pid)
        started = time.perf_counter()
        self._send(body, uploads)
        wall_seconds = time.perf_counter() - started
        worked_seconds = read_cpu_seconds(service_pid) - cpu_before
        postgres_seconds = read_postgres_cpu_seconds(self._postmaster_pid) - postgres_before
        for client in self._clients:
            client.close()
        return Cost(
            uploads / wall_seconds,
            worked_seconds * 1000 / uploads,
            postgres_seconds * 1000 / uploads,
        )

    def _send(self, body: bytes, uploads: int) -> None:
        """Each client sends its next one as soon as it is answered, until all are sent."""
        idle: SimpleQueue[Client] = SimpleQueue()
        for client in self._clients:
            idle.put(client)

        def send_one(_: int) -> None:
            client = idle.get()
            try:
                client.replace_picture(body)
            finally:
                idle.put(client)

        with ThreadPoolExecutor(len(self._clients)) as pool:
            list(pool.map(send_one, range(uploads)))


def read_postgres_cpu_seconds(postmaster_pid: int) -> float:
    """Read what a Postgres and its processes have worked so far, with those that have ended."""
    children = Path(f"/proc/{postmaster_pid}/task/{postmaster_pid}/children").read_text()
    pids = [postmaster_pid, *map(int, children.split())]
    return sum(read_cpu_seconds_alone(pid) for pid in pids)


def check_out(commit: str, folder: Path) -> str:
    """Write the files of a commit of this repository into a folder; returns its short name."""
    git = ("git", "-C", str(ROOT))
    archive = subprocess.run([*git, "archive", commit], stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        # Python 3.11.2 knows of no filter; the archive is git's own.
        files.extraction_filter = getattr(tarfile, "data_filter", None)
        files.extractall(folder)
    named = subprocess.run(
        [*git, "rev-parse", "--short", commit], stdout=subprocess.PIPE, text=True, check=True
    )
    return named.stdout.strip()


@contextmanager
def running_s3() -> Iterator[dict[str, str]]:
    """An S3 server in a process of its own; yields the settings of a service that uses it.

    It is the stand-in of the tests, which takes a small part of the CPU time that moto does.
    """
    with apart(_serve_s3) as server:
        yield server.recv()
        server.send("end")


def _serve_s3(pipe: Pipe) -> None:
    with FakeS3() as server:
        pipe.send("ready")
        pipe.send(server.settings())
        pipe.recv()


@contextmanager
def loaded_service(code: Path, settings: dict[str, str], postmaster_pid: int) -> Iterator[Loaded]:
    """The service of a checkout, with accounts, until the context ends."""
    # By way of `env` it is a process as an operator's; a fork of the tests' warm process has most
    # of its objects spared by the collector.
    service = Service(settings, command=["env", sys.executable, str(code / "main.py")])
    service.start()
    try:
        yield Loaded(service, postmaster_pid)
    finally:
        service.stop()


@contextmanager
def both_services(base: Path, folder: Path) -> Iterator[tuple[Loaded, Loaded]]:
    """The services of the older commit and of this checkout, each with a database of its own."""
    with ExitStack() as stack:
        # It is forked, so it comes before Postgres and its thread.
        s3 = stack.enter_context(running_s3())
        url = stack.enter_context(embedded_postgres.running(folder))
        loaded = []
        for name, code in (("base", base), ("here", ROOT)):
            settings = {
                **s3,
                "DATA_DIR": str(folder / name),
                "DATABASE_URL": make_database(url, None),
                "DARKROOM_ENV_FILE": "",
            }
            service = loaded_service(code, settings, postmaster(folder))
            loaded.append(stack.enter_context(service))
        yield loaded[0], loaded[1]


def find_shortfalls(picture: Picture, rounds: Sequence[Round]) -> list[str]:
    """Find what is missing to what `--check` asks for, as sentences."""
    missing = []
    requests_ratio = median(each.requests_ratio for each in rounds)
    cpu_ratio = median(each.cpu_ratio for each in rounds)
    if requests_ratio < picture.least_requests_ratio:
        missing.append(
            f"{picture.name}: {requests_ratio:.2f} times the requests,"
            f" not {picture.least_requests_ratio}."
        )
    if cpu_ratio > picture.most_cpu_ratio:
        missing.append(
            f"{picture.name}: {cpu_ratio:.2f} of the CPU time, not {picture.most_cpu_ratio}."
        )
    return missing


def main(arguments: list[str]) -> int:
    names = [picture.name for picture in PICTURES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replace")
    parser.add_argument("base", help="an older commit of this repository")
    parser.add_argument("--pictures", nargs="+", default=names, choices=names, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--uploads", type=int, help="of each picture in each round")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 unless it costs as little as it should"
    )
    options = parser.parse_args(arguments)
    missing = []
    medians = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        commit = check_out(options.base, folder / "code")
        with both_services(folder / "code", folder / "data") as (base, here):
            print(f"base: {commit}, here: {ROOT}\n{HEADING}", flush=True)
            for picture in PICTURES:
                if picture.name not in options.pictures:
                    continue
                file = encode(draw_photo(*find_sides(picture.megapixels)), picture.kind)
                body = form(part(file))
                uploads = options.uploads or picture.uploads
                rounds = []
                for number in range(options.rounds):
                    base_cost = base.run_round(body, uploads)
                    here_cost = here.run_round(body, uploads)
                    rounds.append(Round(base_cost, here_cost))
                    print(
                        format_line(picture.name, str(number + 1), rounds[-1].columns), flush=True
                    )
                medians.append(format_line(picture.name, "median", find_medians(rounds)))
                missing += find_shortfalls(picture, rounds)
    print("\n".join(medians))
    if not options.check:
        return 0
    for sentence in missing:
        print(sentence)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
