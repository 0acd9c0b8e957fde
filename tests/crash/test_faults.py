"""Proves that a crash point does what it is told, once, and nothing unless it is switched on."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

import faults
from tests.support.services import ROOT


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


def test_no_point_does_anything_by_itself() -> None:
    for point in faults.POINTS:
        faults.reached(point)


def test_a_fault_happens_the_nth_time_and_never_again() -> None:
    faults.arm("after_put:raise:2,after_commit:raise")
    faults.reached("after_put")
    with pytest.raises(faults.FaultInjected):
        faults.reached("after_put")
    faults.reached("after_put")
    with pytest.raises(faults.FaultInjected):
        faults.reached("after_commit")


@pytest.mark.parametrize(
    "wrong", ["after_putt:kill", "after_put", "after_put:explode", "after_put:kill:soon", ":", ","]
)
def test_a_name_that_does_not_exist_stops_the_start(wrong: str) -> None:
    environment = {**os.environ, faults.VARIABLE: wrong}
    run = subprocess.run(
        [sys.executable, "-c", "import config"], cwd=ROOT, env=environment, capture_output=True
    )
    assert run.returncode == 1 and b"give POINT:ACTION" in run.stderr


def test_every_point_stands_somewhere_in_the_code_and_no_other_does() -> None:
    modules = [*ROOT.glob("*.py"), *ROOT.glob("[a-z]*/*.py")]  # at the root, and in the rooms
    code = "".join(path.read_text() for path in modules)
    reached = set(re.findall(r'faults\.reached\("(\w+)"\)', code))
    # A noun of the heart tells `commit` the name of its own.
    reached |= set(re.findall(r'change\.commit\(\w+, "(\w+)"', code))
    assert reached == set(faults.POINTS)
