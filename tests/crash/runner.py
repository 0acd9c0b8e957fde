"""Kills the service at each crash point, under load, and compares what is left with what was told.

`scripts/dev python -m tests.crash --kills 2000 --seed 1 --store s3 --lanes 4` deals the kills
evenly over the points and prints for each how many pictures were lost, how many objects or rows
leaked, and how many answers were wrong. The exit status is 0 only if all three are 0 and every
fault that was ordered did happen.
"""

import argparse
import contextlib
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from ops import embedded_postgres
from tests.crash.findings import KINDS, Finding, Kind
from tests.crash.lane import Lane, Missed
from tests.crash.trials import DROPS, SERVER_KILLS, trials
from tests.crash.waiting import DROPS_A_TRIAL, Trial
from tests.support.databases import execute, make_database
from tests.support.pooler import pooled
from tests.support.services import ROOT, s3_server

# Of the longest name of a trial.
NAME_WIDTH = 46
# More than two services use at once, which wait for the server and not for the pooler.
POOLED_CONNECTIONS = 40


@dataclass
class Line:
    """What came of one kind of trial."""

    kills: int = 0
    drops: int = 0
    missed: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: "Line") -> None:
        self.kills += other.kills
        self.drops += other.drops
        self.missed += other.missed
        self.findings += other.findings

    def count(self, *kinds: Kind) -> int:
        return sum(finding.kind in kinds for finding in self.findings)


@dataclass
class Report:
    """The table of a run."""

    lines: dict[str, Line] = field(default_factory=dict)

    def add(self, name: str, line: Line) -> None:
        self.lines.setdefault(name, Line()).add(line)

    @property
    def total(self) -> Line:
        total = Line()
        for line in self.lines.values():
            total.add(line)
        return total

    @property
    def is_clean(self) -> bool:
        return not self.total.findings and not self.total.missed

    def table(self) -> str:
        columns = ("kills", "drops", "lost", "leaked", "wrong", "missed")
        rows = [" " * NAME_WIDTH + "".join(f"{column:>7}" for column in columns)]
        for name, line in [*self.lines.items(), ("in all", self.total)]:
            found = [line.count(kind) for kind in KINDS]
            numbers = [line.kills, line.drops, *found, line.missed]
            rows.append(f"{name:{NAME_WIDTH}}" + "".join(f"{number:7}" for number in numbers))
        return "\n".join(rows)


def run(
    kills: int,
    seed: str,
    store: str,
    lanes: int,
    *,
    drops: int,
    only: str = "",
    trial: str | None = None,
    stops_at_first: bool = False,
    has_pooler: bool = False,
) -> Report:
    """Deal the kills over the points and the lanes; `drops`
    is how many COMMITs lose their answer beside them.
    """
    plan = dealt(kills, drops, seed, store, only)
    if trial is not None:
        plan = [(trial, plan[-1][1])]
    report = Report()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pool = stack.enter_context(
            ProcessPoolExecutor(lanes, mp_context=multiprocessing.get_context("spawn"))
        )
        running = []
        for number in range(lanes):
            (folder / f"lane{number}").mkdir()
            mine = plan[number::lanes]
            end = folder / "found" if stops_at_first else None
            server_dir = folder / f"server{number}"
            database = stack.enter_context(run_server(server_dir))
            running.append(
                pool.submit(
                    run_lane,
                    folder / f"lane{number}",
                    database,
                    store,
                    mine,
                    end,
                    server_dir=server_dir,
                    has_pooler=has_pooler,
                )
            )
        for done in as_completed(running):
            for name, line in done.result().lines.items():
                report.add(name, line)
    report.lines = {
        name: report.lines[name]
        for name in [*trials(store), *SERVER_KILLS, *DROPS]
        if name in report.lines
    }
    return report


def dealt(
    kills: int,
    drops: int,
    seed: str,
    store: str,
    only: str = "",
    *,
    has_server: bool = True,
) -> list[tuple[str, str]]:
    """A seed and a name for each trial: those that drop
    answers, then the kills, one point after the other.

    Without a server of its own a lane kills the service only.
    """
    known = trials(store) | (SERVER_KILLS if has_server else {})
    names = [name for name in known | DROPS if name == only] or [
        name for name in known if only in name
    ]
    named = [list(DROPS)[number % len(DROPS)] for number in range(-(-drops // DROPS_A_TRIAL))]
    named += [names[number % len(names)] for number in range(kills)] if names else []
    return [(f"{seed}-{index}", name) for index, name in enumerate(named)]


def run_lane(
    folder: Path,
    database: str,
    store: str,
    plan: list[tuple[str, str]],
    end: Path | None = None,
    code: Path = ROOT,
    ends_at: tuple[Kind, ...] = KINDS,
    server_dir: Path | None = None,
    has_pooler: bool = False,
) -> Report:
    """One trial after another on one database and one store.

    With `end`, until a lane has made that file, which it does at its first finding that is of a
    kind in `ends_at`.
    """
    known = trials(store) | SERVER_KILLS | DROPS
    report = Report()
    with _lane(folder, database, store, code, server_dir, has_pooler) as lane:
        lane.ensure_accounts()
        for seed, name in plan:
            lane.random.seed(seed)
            line = _try(lane, known[name])
            report.add(name, line)
            for finding in line.findings:
                print(f"{finding.kind} at «{name}», seed {seed}: {finding.sentence}", flush=True)
            if end is not None and any(finding.kind in ends_at for finding in line.findings):
                end.touch()
            if end is not None and end.exists():
                break
    return report


def _try(lane: Lane, trial: Trial) -> Line:
    line = Line()
    lane.findings = []
    lane.short_lived = []
    lane.postgres.orders.clear()
    lane.kills = 0
    try:
        line.drops = trial(lane)
    except Missed:
        line.missed = 0 if lane.findings else 1
    lane.kill()
    line.kills = lane.kills
    lane.postgres.refuse(False)
    lane.compare()
    line.findings = list(lane.findings)
    if line.findings:
        lane.state.clear()
        lane.accounts = []
    lane.ensure_accounts()
    return line


@contextlib.contextmanager
def _lane(
    folder: Path,
    database: str,
    store: str,
    code: Path,
    server_dir: Path | None,
    has_pooler: bool,
) -> Iterator[Lane]:
    with contextlib.ExitStack() as stack:
        endpoint = stack.enter_context(s3_server("moto")) if store == "s3" else None
        pooler_url = None
        if has_pooler:
            pooler = pooled(database, folder, "transaction", POOLED_CONNECTIONS)
            pooler_url = stack.enter_context(pooler)
        lane = Lane(folder, database, endpoint, code, server_dir, pooler_url)
        try:
            yield lane
        finally:
            lane.close()


@contextlib.contextmanager
def run_server(folder: Path) -> Iterator[str]:
    """Run a Postgres of a lane's own, and yield the URL of a migrated database there.

    The server and its roles are tuned for speed: what does not insist on waiting for the disk is on
    it only after ten seconds, and so not there after a kill.
    """
    with embedded_postgres.running(folder) as url:
        execute(url, "ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()")
        execute(url, "ALTER ROLE ALL SET synchronous_commit = off")
        yield make_database(url, _migrated(url))


def _migrated(url: str) -> str:
    import asyncio

    from sqlalchemy.engine import make_url

    import database

    asyncio.run(
        database.migrate(
            make_url(url).set(database="darkroom").render_as_string(hide_password=False)
        )
    )
    return "darkroom"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument(
        "--kills", type=int, default=100, help="how often the service is killed, in all"
    )
    parser.add_argument(
        "--drops", type=int, help="how many COMMITs lose their answer (a quarter of the kills)"
    )
    parser.add_argument("--seed", default="1", help="a finding names the seed of its trial")
    parser.add_argument("--store", choices=["local", "s3"], default="local")
    parser.add_argument(
        "--lanes", type=int, default=2, help="how many services at once, each with its own database"
    )
    parser.add_argument("--only", default="", help="only the points whose name contains this")
    parser.add_argument(
        "--trial",
        help="repeat one trial by the seed that a finding names, with its point as --only",
    )
    parser.add_argument(
        "--pooler",
        action="store_true",
        help="the services reach Postgres through pgbouncer in transaction mode",
    )
    parser.add_argument("--stop-at-first", action="store_true", help="end at the first finding")
    given = parser.parse_args()
    started = time.monotonic()
    report = run(
        given.kills,
        given.seed,
        given.store,
        given.lanes,
        drops=given.kills // 4 if given.drops is None else given.drops,
        only=given.only,
        trial=given.trial,
        stops_at_first=given.stop_at_first,
        has_pooler=given.pooler,
    )
    print(report.table())
    seconds = time.monotonic() - started
    way = ", through pgbouncer" if given.pooler else ""
    ran = f"seed {given.seed}, store {given.store}{way}, {given.lanes} lanes"
    print(f"{ran}, {seconds:.0f} seconds")
    return 0 if report.is_clean else 1
