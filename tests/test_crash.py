"""The crash contract, in short: every crash point a few times, and each mechanism taken out once is noticed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import crash, crash_trials
from tests.services import ROOT

# Once over all points of either store, and some.
KILLS, DROPS, SEED = 40, 20, "short"
MUTANTS = sorted((ROOT / "tests" / "mutants").glob("*.patch"))


@pytest.mark.store
@pytest.mark.timeout(300)
def test_nothing_is_lost_or_leaked_wherever_the_service_is_killed(request: pytest.FixtureRequest) -> None:
    store = request.config.getoption("--store")
    report = crash.run(KILLS, SEED, store, lanes=2, drops=DROPS)
    assert report.is_clean, f"{report.table()}\n{report.total.findings}"
    assert set(report.lines) == {*crash_trials.trials(store), *crash_trials.DROPS}, "some point had no turn"
    assert report.total.drops >= DROPS
    idle = [name for name, line in report.lines.items() if not line.kills and not name.startswith("SIGTERM")]
    assert idle == [], "there every trial ends with a kill; after SIGTERM the service may be faster"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("patch", MUTANTS, ids=lambda path: path.stem)
def test_the_crash_run_notices_that_a_mechanism_is_taken_out(patch: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "docs", "static")
    shutil.copytree(ROOT, copy, ignore=ignored)
    (copy / "static").symlink_to(ROOT / "static")
    subprocess.run(["patch", "--quiet", "-p1", "-i", str(patch)], cwd=copy, check=True)
    command = [sys.executable, "-m", "tests.crash", "--kills", str(KILLS), "--drops", str(DROPS), "--seed", SEED]
    run = subprocess.run([*command, "--stop-at-first"], cwd=copy, capture_output=True, text=True)
    assert run.returncode == 1, run.stdout + run.stderr
    assert re.search(r"^(lost|leaked|wrong) at ", run.stdout, re.MULTILINE), run.stdout + run.stderr


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
