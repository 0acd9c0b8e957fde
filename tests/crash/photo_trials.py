"""The ways in which the crash runner makes a service die that are about photos."""

import signal
import time
from functools import partial

from tests.crash.clients import load
from tests.crash.lane import Lane
from tests.crash.photo_clients import ADDING, Shares
from tests.crash.waiting import ANNOUNCE, DROPS_A_TRIAL, expect, expect_end, lose

# Statements as they are on the wire (photos/statements.py).
INSERT_PHOTO = "INSERT INTO photos"
OF_PHOTOS = (
    *(INSERT_PHOTO, "UPDATE photos SET", "DELETE FROM photos WHERE photos.id"),
    *("INSERT INTO single_thumbnails", "DELETE FROM single_thumbnails WHERE single_thumbnails.id"),
)
EVERY_COMMIT: Shares = {"add": 1, "replace": 1, "describe": 1, "move": 1, "delete": 1, "single": 2}
# What photos come to only, and what clients do so that they come to it.
_STORING: Shares = {"add": 1, "replace": 2}
_IN_PARTS: Shares = {"add in parts": 1}
_SINGLE: Shares = {"add": 1, "single": 10}
PHOTO_POINTS: dict[str, Shares] = {
    "part_put": _IN_PARTS,
    "upload_completed": _IN_PARTS,
    "original_put": _STORING,
    "master_put": _STORING,
    "inside_photo_swap": _STORING,
    "inside_words": {"add": 1, "describe": 4},
    "visibility_moved": {"add": 1, "move": 4},
    "inside_photo_deletion": {"add": 1, "delete": 2},
    "inside_single_thumbnail": _SINGLE,
    "inside_single_thumbnail_deletion": _SINGLE,
}


def killed_among_photos(point: str, lane: Lane) -> int:
    """Killed at a point that only changes of photos come to."""
    lane.start(f"{point}:kill:{lane.random.randint(1, 4)}")
    with load(lane, pictures=False, photos=PHOTO_POINTS[point]):
        expect_end(lane)
    return 0


def reaper_passes_before_the_master(lane: Lane) -> int:
    """The original of a photo is stored and reaped, and then its master is announced."""
    lane.start()
    passed = lane.postgres.before(ANNOUNCE, nth=2, then=lane.reap)
    with load(lane, pictures=False, many=False, photos=ADDING):
        expect(lane, passed.wait)
        time.sleep(lane.random.uniform(0.1, 0.3))
        lane.kill_under_load()
    return 0


def photo_killed_with_commit_in_flight(lane: Lane) -> int:
    """The COMMIT of a new photo is sent and done; the process dies before its answer comes."""
    lane.start()
    dropped = lane.postgres.lose_reply(
        INSERT_PHOTO,
        nth=lane.random.randint(1, 2),
        then=partial(lane.signal, signal.SIGKILL),
    )
    with load(lane, pictures=False, photos=ADDING):
        expect(lane, dropped.wait)
        expect_end(lane)
    return 0


def upload_answer_lost(lane: Lane) -> int:
    """The store has begun or completed an upload in parts, and nobody is there to be told."""
    assert lane.store is not None
    lane.start()
    kill = partial(lane.signal, signal.SIGKILL)
    happened = lane.store.plan("POST", "ok", nth=lane.random.randint(1, 4), then=kill)
    with load(lane, pictures=False, photos=PHOTO_POINTS["part_put"]):
        expect(lane, happened.wait)
        expect_end(lane)
    return 0


def photo_commits_dropped(lane: Lane) -> int:
    """COMMITs of photos lose their answer, never arrive or arrive late; the service lives on."""
    lane.start()
    count = 0
    with load(lane, pictures=False, many=False, photos=EVERY_COMMIT) as ending:
        while count < DROPS_A_TRIAL and not ending.is_set():
            happened, is_dropped = lose(lane, lane.random.choice(OF_PHOTOS), replies=0.5)
            expect(lane, happened.wait)
            count += is_dropped
        lane.kill_under_load()
    return count
