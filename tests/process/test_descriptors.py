"""A service may have as many files and connections open as the system allows it, up to a bound."""

import json
import os

import pytest

from ops import serving
from tests.support import warm
from tests.support.services import ROOT

HARD_LIMIT = 1_000
PREPARE = """
import json, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))
from ops import process
process.MOST_DESCRIPTORS = {bound}
process.prepare("json")
print(json.dumps(resource.getrlimit(resource.RLIMIT_NOFILE)))
"""


@pytest.mark.parametrize("bound", [500, 65_536])
def test_descriptors_are_asked_for_up_to_a_bound(bound: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = warm.run("-c", PREPARE.format(hard=HARD_LIMIT, bound=bound), cwd=ROOT, env=environment)
    assert json.loads(done.stdout) == [min(HARD_LIMIT, bound), HARD_LIMIT], done.stderr


def test_no_more_connections_are_taken_than_there_are_descriptors_for() -> None:
    program = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1000))
from config import Settings
from ops import serving
for asked in (100, 5000):
    made = serving._make_config("main:app", Settings(max_connections=asked))
    print(made.http.keywords["settings"].max_connections)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = warm.run("-c", program, cwd=ROOT, env=environment)
    assert done.stdout.split() == ["100", str(1000 - serving.DESCRIPTORS_BESIDE)], done.stderr
