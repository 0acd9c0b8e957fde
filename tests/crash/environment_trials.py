"""The ways in which the crash runner makes a service die where its store is not what it seems.

A store that loses its marker, another one in its place, and one that answers too slowly to be of
use: nothing may be believed of it, and nothing may be lost or forgotten meanwhile.
"""

import time
from contextlib import AbstractContextManager
from functools import partial

from tests.crash.clients import load
from tests.crash.findings import Finding
from tests.crash.lane import Lane
from tests.crash.waiting import Trial, expect


def store_dribbles(method: str, lane: Lane) -> int:
    """The store does what it is asked, and then answers by a byte at a time."""
    assert lane.store is not None
    lane.start()
    began = lane.store.plan(method, "dribble", nth=lane.random.randint(1, 4))
    with load(lane):
        expect(lane, began.wait)
        time.sleep(lane.random.uniform(0.1, 0.8))
        lane.kill_under_load()
    return 0


def marker_missing(lane: Lane) -> int:
    """The store's marker goes away under the load, and comes back after the death."""
    return _killed_where_nothing_is_believed(lane, lane.marker_hidden())


def another_place(lane: Lane) -> int:
    """An empty folder, or none, stands where the store was; for a bucket after the death only.

    A service proves a bucket not for each call, and no bucket changes under one that runs.
    """
    if lane.store is None:
        return _killed_where_nothing_is_believed(lane, lane.store_elsewhere())
    lane.start()
    with load(lane):
        time.sleep(lane.random.uniform(0.2, 0.6))
        lane.kill_under_load()
    with lane.store_elsewhere():
        _expect_nothing_believed(lane)
    return 0


def _killed_where_nothing_is_believed(
    lane: Lane, believing_ends: AbstractContextManager[None]
) -> int:
    lane.start()
    with load(lane):
        time.sleep(lane.random.uniform(0.1, 0.4))
        with believing_ends:
            time.sleep(lane.random.uniform(0.1, 0.4))
            lane.kill_under_load()
            _expect_nothing_believed(lane)
    return 0


def _expect_nothing_believed(lane: Lane) -> None:
    """A pass of the reaper forgets no row, and no service starts."""
    lane.kill()
    lane.state.leave_doomed()
    rows = lane.state.count_files()
    lane.reap()
    if lane.state.count_files() != rows:
        lane.findings.append(Finding("lost", "rows were forgotten, whose objects lie elsewhere"))
    lane.expect_no_start()


def environment_trials(store: str) -> dict[str, Trial]:
    """Every one of these ways, by name."""
    named: dict[str, Trial] = {
        "store's marker missing, then kill": marker_missing,
        "another place for the store, and kill": another_place,
    }
    if store == "s3":
        named["kill while the store dribbles, a put"] = partial(store_dribbles, "PUT")
        named["kill while the store dribbles, a deletion"] = partial(store_dribbles, "DELETE")
    return named
