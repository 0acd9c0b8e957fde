"""32 large pictures at once, three times over.

`scripts/dev python -m benchmarks.memory [--json FILE] [--without-textbook]` prints how many were
taken, what memory the service's processes (without Postgres) needed over idle, and how long
/health/live took meanwhile; below it the same for the textbook's service. Exits with 1 unless
Darkroom takes all of them, each within a minute, in at most 250 MB over idle and the dearest of the
pictures for each core but one, since no core waits for memory: as many are decoded at once.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from benchmarks.image_step import draw_photo, encode
from benchmarks.load import LONGEST_SECONDS, Answer, apart, probe, send_all
from pictures import examine
from tests.support.services import ROOT, Service

# Kind, width, height, and whether it is of one colour: a small file that decodes to as much as any
# other.
PHASES = (
    ("jpeg", 8000, 6000, False),
    ("progressive", 6000, 4000, False),
    ("png", 6000, 4000, True),
)
CLIENTS = 32
# One picture that is decoded, the decoders by themselves, and the bodies, which with this limit of
# uploads may take 72 MiB. It was asked for all cores together when these pictures had to be decoded
# one after the other, for want of a budget.
MOST_WITH_ONE_CORE_BYTES = 250_000_000
MAX_UPLOAD_SIZE_BYTES = 64 * 1024 * 1024
SAMPLE_SECONDS = 0.05
# Some ten samples of a service that does nothing.
IDLE_SECONDS = 0.5
# What the service's own timers may use meanwhile.
TIMERS_CPU_SECONDS = 0.02
# What clients that gave up have left behind may go on for so long; then the next phase begins
# anyway.
SETTLE_SECONDS = 60.0

SMAPS_FIELDS = ("Rss:", "Pss:", "Pss_Shmem:")


@dataclass(frozen=True)
class Memory:
    """Of a tree of processes. RSS counts what processes share in each of them, PSS once."""

    rss_bytes: int
    pss_bytes: int


@dataclass(frozen=True)
class Health:
    """How long /health/live took, and how often it failed."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    failures: int


@dataclass(frozen=True)
class Row:
    """One phase on one service."""

    service: str
    phase: str
    answers: list[Answer]
    cpu_seconds: float
    idle: Memory
    over_idle: Memory  # at the peak of either
    health: Health

    @property
    def taken(self) -> int:
        return sum(
            answer.status == 200 and answer.seconds <= LONGEST_SECONDS for answer in self.answers
        )

    def __str__(self) -> str:
        tries = sum(answer.tries for answer in self.answers)
        slowest_seconds = max(answer.seconds for answer in self.answers)
        health = self.health
        others = Counter(answer.status for answer in self.answers if answer.status != 200)
        cells = (
            f"{self.service:<10}{self.phase:<19}{self.taken:>3}/{len(self.answers):<3}{tries:>6}",
            f"{slowest_seconds:>8.1f}{self.cpu_seconds:>8.1f}{self.idle.rss_bytes / 1e6:>9.0f}",
            f"{self.over_idle.rss_bytes / 1e6:>8.0f}{self.over_idle.pss_bytes / 1e6:>8.0f}",
            f"{health.p50_ms:>9.1f}{health.p99_ms:>8.1f}{health.max_ms:>8.1f}{health.failures:>6}",
        )
        told = (f"  {count} x {status or 'no answer'}" for status, count in sorted(others.items()))
        return "".join(cells) + "".join(told)


HEADING = (
    f"{'':<42}{'slowest':>8}{'CPU':>8}{'idle MB':>9}{'peak over idle':>16}"
    f"{'/health/live, ms':>25}\n"
    f"{'service':<10}{'pictures':<19}{'200':>3}{'':<4}{'tries':>6}{'s':>8}{'s':>8}{'RSS':>9}"
    f"{'RSS':>8}{'PSS':>8}{'p50':>9}{'p99':>8}{'max':>8}{'fails':>6}"
)


def measure_memory(root: int) -> Memory:
    """Measure what a process and all below it hold now, mapped or in files that live in memory.

    Postgres does not count.
    """
    totals = dict.fromkeys(SMAPS_FIELDS, 0)
    held: dict[int, int] = {}  # bytes by inode
    for pid in _tree(root):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            for line in lines:
                name, *fields = line.split()
                if name in totals:
                    totals[name] += int(fields[0]) * 1024
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if str(entry.readlink()).startswith(("/memfd:", "/dev/shm/")):
                        status = entry.stat()
                        held[status.st_ino] = status.st_blocks * 512
    unmapped = max(0, sum(held.values()) - totals["Pss_Shmem:"])
    return Memory(totals["Rss:"] + unmapped, totals["Pss:"] + unmapped)


def _tree(root: int) -> Iterator[int]:
    """The process and all below it, without Postgres."""
    below: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                name, _, rest = (
                    Path(f"/proc/{entry.name}/stat").read_text().partition("(")[2].rpartition(")")
                )
                if name != "postgres":
                    below.setdefault(int(rest.split()[1]), []).append(int(entry.name))
    todo = [root]
    while todo:
        pid = todo.pop()
        yield pid
        todo += below.get(pid, [])


def forget_peaks(root: int) -> None:
    """Let the peak of a process and of all below it begin anew (proc_pid_clear_refs(5))."""
    for pid in _tree(root):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def read_peak_bytes(root: int) -> int:
    """Read the most that was mapped since then, summed over the processes.

    Each had its own peak, perhaps not at the same moment, so that it is never too little. The
    kernel keeps it, which costs whoever is measured nothing, unlike sampling.
    """
    total_bytes = 0
    for pid in _tree(root):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    total_bytes += int(line.split()[1]) * 1024
    return total_bytes


def read_cpu_seconds(root: int) -> float:
    """Read what a process and all below it have worked so far, with those that have ended."""
    return sum(read_cpu_seconds_alone(pid) for pid in _tree(root))


def read_cpu_seconds_alone(pid: int) -> float:
    """Read what a process has worked so far, with its children that have ended.

    One that has ended itself counts as nothing: it counts in its parent.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    # User, system, and the same of children that ended.
    ticks = sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def wait_until_idle(root: int) -> Memory:
    """Measure the least of some samples, once the processes do nothing any more."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        before = read_cpu_seconds(root)
        samples = []
        until = time.monotonic() + IDLE_SECONDS
        while time.monotonic() < until:
            samples.append(measure_memory(root))
            time.sleep(SAMPLE_SECONDS)
        if read_cpu_seconds(root) - before <= TIMERS_CPU_SECONDS or time.monotonic() > deadline:
            return Memory(min(s.rss_bytes for s in samples), min(s.pss_bytes for s in samples))


def run_phase(
    service: Service,
    name: str,
    phase: str,
    file: Path,
    people: Sequence[tuple[int, str]],
    idle: Memory,
) -> Row:
    """All clients at once, while the memory is watched and the health asked for."""
    assert service.process is not None
    root = service.process.pid
    with (
        apart(send_all, service.port, people, file) as clients,
        apart(probe, service.port) as prober,
    ):
        before = read_cpu_seconds(root)
        clients.send("go")
        samples = [measure_memory(root)]
        while not clients.poll(SAMPLE_SECONDS):
            samples.append(measure_memory(root))
        answers = clients.recv()
        worked = read_cpu_seconds(root) - before
        prober.send("end")
        taken, failures = prober.recv()
    over_idle = Memory(
        max(sample.rss_bytes for sample in samples) - idle.rss_bytes,
        max(sample.pss_bytes for sample in samples) - idle.pss_bytes,
    )
    taken_ms = sorted(seconds * 1000 for seconds in taken)
    half = len(taken_ms) // 2
    most = len(taken_ms) * 99 // 100
    health = Health(taken_ms[half], taken_ms[most], taken_ms[-1], failures)
    return Row(name, phase, answers, worked, idle, over_idle, health)


def make_pictures(folder: Path, divisor: int) -> dict[str, Path]:
    """The file of each phase by its name, with every side divided."""
    files = {}
    for kind, width, height, is_flat in PHASES:
        size = (width // divisor, height // divisor)
        name = f"{size[0] * size[1] / 1e6:.3g} MP {'flat ' if is_flat else ''}{kind}"
        files[name] = folder / f"{kind}.bytes"
        picture = Image.new("RGB", size, (90, 140, 200)) if is_flat else draw_photo(*size)
        files[name].write_bytes(encode(picture, kind))
    return files


@contextmanager
def running_darkroom(folder: Path) -> Iterator[Service]:
    """The service on its defaults in a folder, but for the size of uploads."""
    settings = {
        "MAX_UPLOAD_SIZE_BYTES": str(MAX_UPLOAD_SIZE_BYTES),
        "STORAGE": "local",
        "DARKROOM_ENV_FILE": "",
    }
    yield from _running(
        Service(
            {"DATA_DIR": str(folder), **settings}, command=[sys.executable, str(ROOT / "main.py")]
        )
    )


@contextmanager
def running_textbook(folder: Path) -> Iterator[Service]:
    """The textbook's service, which limits its own address space."""
    service = Service({"DATA_DIR": str(folder)})
    program = str(ROOT / "benchmarks" / "textbook.py")
    service.command = [
        sys.executable,
        program,
        "--port",
        str(service.port),
        "--folder",
        str(folder),
    ]
    yield from _running(service)


def _running(service: Service) -> Iterator[Service]:
    service.start()
    try:
        yield service
    finally:
        service.stop()


def find_most_over_idle_bytes(files: Iterable[Path], cores: int) -> int:
    """Find what the service may take over idle: for one core, and each other one's dearest picture.

    The price of a picture is what decoding it may take (pictures/costs.py).
    """
    dearest_bytes = max(examine(file.read_bytes())[1].memory_bytes for file in files)
    return MOST_WITH_ONE_CORE_BYTES + (cores - 1) * dearest_bytes


def find_shortfalls(rows: Sequence[Row], most_over_idle_bytes: int) -> list[str]:
    """Find what Darkroom did not do, as sentences."""
    missing = []
    for row in rows:
        if row.taken < len(row.answers):
            missing.append(f"{row.phase}: {row.taken} of {len(row.answers)} were taken in time.")
        if row.over_idle.rss_bytes > most_over_idle_bytes:
            missing.append(
                f"{row.phase}: {row.over_idle.rss_bytes / 1e6:.0f} MB over idle,"
                f" not {most_over_idle_bytes / 1e6:.0f}."
            )
    return missing


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument(
        "--divide-sides", type=int, default=1, help="for a quick look: pictures of smaller sides"
    )
    parser.add_argument(
        "--without-textbook", action="store_true", help="spares a machine that has no 12 GB to give"
    )
    parser.add_argument("--json", type=Path, help="a file for all that was measured")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    print(HEADING)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = make_pictures(folder, options.divide_sides)
        most_over_idle_bytes = find_most_over_idle_bytes(files.values(), os.cpu_count() or 1)
        with running_darkroom(folder / "darkroom") as service:
            accounts = [service.register(f"client-{number}") for number in range(options.clients)]
            people = [(account.id, account.token) for account in accounts]
            rows += _run(service, "Darkroom", files, people)
        if not options.without_textbook:
            with running_textbook(folder / "textbook") as service:
                rows += _run(service, "textbook", files, people)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    own_rows = [row for row in rows if row.service == "Darkroom"]
    missing = find_shortfalls(own_rows, most_over_idle_bytes)
    for sentence in missing:
        print(sentence)
    return 1 if missing else 0


def _run(
    service: Service, name: str, files: dict[str, Path], people: Sequence[tuple[int, str]]
) -> list[Row]:
    assert service.process is not None
    rows: list[Row] = []
    for phase, file in files.items():
        # What it still does for the last phase is no part of the next.
        now = wait_until_idle(service.process.pid)
        rows.append(run_phase(service, name, phase, file, people, rows[0].idle if rows else now))
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
