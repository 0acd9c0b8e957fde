"""The crash contract, in short: every crash point once, and each mechanism taken out is noticed."""

import contextlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash import edits, runner, trials, waiting
from tests.crash.edits import Mutant
from tests.crash.mutants import MUTANTS
from tests.support import warm
from tests.support.services import ROOT

# One kill at each point of either store, and one trial of each sort that drops answers.
DROPS = len(trials.DROPS) * waiting.DROPS_A_TRIAL
SEED = "short"
# It takes minutes, and each share is a test that may run beside the others.
SHARES = 3
# What a mutant breaks shows in every second turn or more of the trials that it names.
TURNS = 5


def short_run(store: str, *, has_server: bool) -> list[tuple[str, str]]:
    kills = len(trials.trials(store)) + (len(trials.SERVER_KILLS) if has_server else 0)
    return runner.dealt(kills, DROPS, SEED, store, has_server=has_server)


@pytest.mark.backends
@pytest.mark.timeout(600)
@pytest.mark.parametrize("share", range(SHARES))
def test_nothing_is_lost_or_leaked_wherever_the_service_is_killed(
    request: pytest.FixtureRequest, tmp_path: Path, share: int
) -> None:
    store = request.config.getoption("--store")
    lane = tmp_path / "lane"
    lane.mkdir()
    server_dir = tmp_path / "server"
    with runner.run_server(server_dir) as database:
        plan = short_run(store, has_server=True)
        every = {*trials.trials(store), *trials.SERVER_KILLS, *trials.DROPS}
        assert {name for _, name in plan} == every, "some point has no turn"
        plan = plan[share::SHARES]
        report = runner.run_lane(lane, database, store, plan, server_dir=server_dir)
    assert report.is_clean, f"{report.table()}\n{report.total.findings}"
    assert set(report.lines) == {name for _, name in plan}
    drops = sum(name in trials.DROPS for _, name in plan)
    assert report.total.drops >= drops * waiting.DROPS_A_TRIAL
    idle = [
        name
        for name, line in report.lines.items()
        if not line.kills and not name.startswith("SIGTERM")
    ]
    assert idle == [], "there every trial ends with a kill; after SIGTERM the service may be faster"


def copy_broken_by(mutant: Mutant, folder: Path) -> Path:
    """A copy of the code without one of its mechanisms."""
    copy = folder / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "docs", "static"))
    (copy / "static").symlink_to(ROOT / "static")
    edits.apply(mutant, copy)
    return copy


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_crash_run_notices_that_a_mechanism_is_taken_out(
    mutant: Mutant, new_database: Callable[[], str], tmp_path: Path
) -> None:
    """The trials that the mutant names come first, since the run ends at the first finding of the
    kind that the mutant must cause; then all others.
    """
    has_server = not trials.SERVER_KILLS.keys().isdisjoint(mutant.found_by)
    others = short_run(mutant.store, has_server=has_server)
    assert set(mutant.found_by) <= {name for _, name in others}
    named = [(f"{SEED}-{turn}", name) for turn in range(TURNS) for name in mutant.found_by]
    lane = tmp_path / "lane"
    lane.mkdir()
    server_dir = tmp_path / "server" if has_server else None
    server = runner.run_server(server_dir) if server_dir else contextlib.nullcontext(new_database())
    with server as database:
        report = runner.run_lane(
            lane,
            database,
            mutant.store,
            named + others,
            end=tmp_path / "found",
            code=copy_broken_by(mutant, tmp_path),
            ends_at=mutant.causes,
            server_dir=server_dir,
        )
    assert report.total.count(*mutant.causes), report.table()


def test_the_command_ends_with_1_when_something_was_found(tmp_path: Path) -> None:
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == "forgotten_expiry")
    (point,) = mutant.found_by
    command = ["tests.crash", "--kills", "1", "--drops", "0", "--lanes", "1"]
    command += ["--only", point, "--stop-at-first"]
    run = warm.run("-m", *command, env={}, cwd=copy_broken_by(mutant, tmp_path))
    said = run.stdout + run.stderr
    assert run.returncode == 1, said
    assert re.search(f"^leaked at «{point}», ", run.stdout, re.MULTILINE), said
