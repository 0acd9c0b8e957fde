"""The crash contract, in short: every crash point
once, and each mechanism taken out once is noticed.
"""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash import runner, trials
from tests.support import warm
from tests.support.services import ROOT

# One kill at each point of either store, and for one
# client and for many of them a trial that drops answers.
DROPS = 2 * trials.DROPS_A_TRIAL
SEED = "short"
MUTANTS = sorted((ROOT / "tests" / "crash" / "mutants").glob("*.patch"))
# What a mutant breaks shows in every second turn or more of the trials that its patch names.
TURNS = 5


def short_run(store: str) -> list[tuple[str, str]]:
    return runner.dealt(len(trials.trials(store)), DROPS, SEED, store)


@pytest.mark.store
@pytest.mark.timeout(300)
def test_nothing_is_lost_or_leaked_wherever_the_service_is_killed(
    request: pytest.FixtureRequest, new_database: Callable[[], str], tmp_path: Path
) -> None:
    store = request.config.getoption("--store")
    report = runner.run_lane(tmp_path, new_database(), store, short_run(store))
    assert report.is_clean, f"{report.table()}\n{report.total.findings}"
    assert set(report.lines) == {*trials.trials(store), *trials.DROPS}, "some point had no turn"
    assert report.total.drops >= DROPS
    idle = [
        name
        for name, line in report.lines.items()
        if not line.kills and not name.startswith("SIGTERM")
    ]
    assert idle == [], "there every trial ends with a kill; after SIGTERM the service may be faster"


def broken_by(patch: Path, folder: Path) -> Path:
    """A copy of the code without one of its mechanisms."""
    copy = folder / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "docs", "static"))
    (copy / "static").symlink_to(ROOT / "static")
    subprocess.run(["patch", "--quiet", "-p1", "-i", str(patch)], cwd=copy, check=True)
    return copy


@pytest.mark.timeout(300)
@pytest.mark.parametrize("patch", MUTANTS, ids=lambda path: path.stem)
def test_the_crash_run_notices_that_a_mechanism_is_taken_out(
    patch: Path, new_database: Callable[[], str], tmp_path: Path
) -> None:
    """The trials that the patch names come first, since
    the run ends at the first finding; then all others.
    """
    named = re.findall(r"^Found by: (.*)$", patch.read_text(), re.MULTILINE)
    assert named and set(named) <= {name for _, name in short_run("local")}
    plan = [(f"{SEED}-{turn}", name) for turn in range(TURNS) for name in named] + short_run(
        "local"
    )
    lane = tmp_path / "lane"
    lane.mkdir()
    report = runner.run_lane(
        lane, new_database(), "local", plan, end=tmp_path / "found", code=broken_by(patch, tmp_path)
    )
    assert report.total.findings, report.table()


def test_the_command_ends_with_1_when_something_was_found(tmp_path: Path) -> None:
    copy = broken_by(ROOT / "tests" / "crash" / "mutants" / "reused_key.patch", tmp_path)
    words = [
        "--kills",
        "1",
        "--drops",
        "0",
        "--lanes",
        "1",
        "--only",
        "kill at after_announce",
        "--stop-at-first",
    ]
    run = warm.run("-m", "tests.crash", *words, env={}, cwd=copy)
    assert run.returncode == 1, run.stdout + run.stderr
    assert re.search(r"^wrong at «kill at after_announce», ", run.stdout, re.MULTILINE), (
        run.stdout + run.stderr
    )


def test_each_mechanism_of_the_promise_has_its_mutant() -> None:
    required = {
        *(
            "swap_before_put",
            "delete_before_commit",
            "no_lock",
            "delete_on_commit_error",
            "no_pending_row",
            "reused_key",
        ),
    }
    assert required <= {patch.stem for patch in MUTANTS}
