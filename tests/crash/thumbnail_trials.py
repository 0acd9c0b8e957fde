"""The ways in which the crash runner makes a service die that are about thumbnails and jobs.

Each ends with a service that does what the dead one has begun.
"""

import signal
import time
from collections.abc import Callable
from functools import partial

from tests.crash.clients import load
from tests.crash.lane import Lane
from tests.crash.photo_clients import Shares
from tests.crash.photo_trials import INSERT_PHOTO
from tests.crash.thumbnail_clients import (
    ask_for_thumbnail,
    find_fault,
    load_thumbnail,
)
from tests.crash.thumbnails import (
    FIND_UNFINISHED,
    PRESETS,
    WISHES,
    write_presets,
)
from tests.crash.waiting import Trial, expect, expect_end

# The publication, as it is on the wire (photos/thumbnail_statements.py).
PUBLISH = "UPDATE thumbnails SET file_id"
_LOOKING: Shares = {"add": 2, "replace": 2, "move": 2, "delete": 1, "look": 6}
# Few photos that change all the time and seldom go, so that what is late comes to one of another
# master.
_CHANGING: Shares = {"add": 0.3, "replace": 4, "move": 4, "look": 2, "delete": 0.2}
# So that some of an account's clients go on while others wait for a service that is stopped.
CLIENTS_OF_ONE_GALLERY = 4
# For clients of the other service to come to the end of what they do.
SETTLE_SECONDS = 0.4
# How long a service may come no further with what is due; a job takes far less on a busy machine.
STUCK_SECONDS = 8.0


def _with_presets(trial: Callable[[Lane], None], lane: Lane) -> int:
    """Have presets made during the trial, and look afterwards whether all of them are."""
    newest_id = lane.state.find_newest_file()
    lane.has_presets = True
    try:
        trial(lane)
        lane.kill()
        lane.state.let_claims_end()
        lane.start()
        expect_presets(lane, newest_id)
        expect_every_thumbnail(lane)
        lane.kill()
    finally:
        lane.has_presets = False
    return 0


def expect_presets(lane: Lane, newest_id: int) -> None:
    """Wait until each photo whose master is newer than that has what pages always use of it.

    No job may be left either: what it was to make, a client who asked for it may have had made.
    """
    left: tuple[int, ...] = ()
    deadline = 0.0
    while True:
        unfinished = lane.state.sql(FIND_UNFINISHED, newest_id, len(PRESETS), write_presets())
        ((job_count,),) = lane.state.sql("SELECT count(*) FROM pgqueuer")
        if not unfinished and job_count == 0:
            return
        if (len(unfinished), job_count) != left:
            left = (len(unfinished), job_count)
            deadline = time.monotonic() + STUCK_SECONDS
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    for row in unfinished:
        lane.lost(f"the presets of {row['caption']} were not made by the next service")
    if job_count:
        lane.lost(f"{job_count} jobs were not done by the next service")


def expect_every_thumbnail(lane: Lane) -> None:
    """Ask for every thumbnail of every photo; nothing else goes on, so each is there."""
    accounts = {account.id: account for account in lane.accounts}
    for row in lane.state.sql("SELECT id, owner_id, caption, visibility FROM photos"):
        headers = accounts[row["owner_id"]].headers
        for wish in WISHES:
            path = wish.write_path(row["id"], row["visibility"] == "private")
            asked = ask_for_thumbnail(lane, path, headers, ())
            if asked is None or asked[0][0] != 302:
                lane.wrong(f"there is no {wish.query} of {row['caption']} after the restart")
                return
            served = load_thumbnail(lane, asked[1])
            status, content = served if served else (0, b"")
            fault = find_fault(content, wish.rendition) if status == 200 else f"answers {status}"
            if fault:
                lane.lost(f"the {wish.query} of {row['caption']} {fault} after the restart")


def _kill_at(point: str, lane: Lane) -> None:
    lane.start(f"{point}:kill:{lane.random.randint(1, 6)}")
    with load(lane, pictures=False, photos=_LOOKING):
        expect_end(lane)


def _kill_beside_another(point: str, lane: Lane) -> None:
    """Another service shares the jobs, and goes on with what clients ask for."""
    lane.start(f"{point}:kill:{lane.random.randint(1, 6)}")
    lane.start_second()
    with load(lane, pictures=False, photos=_LOOKING) as ending:
        expect_end(lane)
        time.sleep(lane.random.uniform(0.1, 0.4))
        ending.set()
        lane.kill()


def _stop_while_photos_change(lane: Lane) -> None:
    """What was rendered waits, stored, while another service changes and deletes photos.

    No photo changes after it has come, or nobody would see that.
    """
    lane.start(f"thumbnail_put:stop:{lane.random.randint(1, 4)}")
    lane.start_second()
    with load(
        lane, pictures=False, photos=_CHANGING, clients_of_one_gallery=CLIENTS_OF_ONE_GALLERY
    ) as ending:
        lane.wait_for_stop()
        time.sleep(lane.random.uniform(1.0, 2.0))
        ending.set()
        time.sleep(SETTLE_SECONDS)
        lane.signal(signal.SIGCONT)
        time.sleep(lane.random.uniform(0.1, 0.3))
        lane.kill_under_load()


def _kill_with_commit_in_flight(statement: str, lane: Lane) -> None:
    """The COMMIT is sent and done; the process dies before its answer comes."""
    lane.start()
    dropped = lane.postgres.lose_reply(
        statement,
        nth=lane.random.randint(1, 4),
        then=partial(lane.signal, signal.SIGKILL),
    )
    with load(lane, pictures=False, photos=_LOOKING):
        expect(lane, dropped.wait)
        expect_end(lane)


_WAYS: dict[str, Callable[[Lane], None]] = {
    "kill at thumbnail_claimed": partial(_kill_at, "thumbnail_claimed"),
    "kill at thumbnail_put": partial(_kill_at, "thumbnail_put"),
    "kill at thumbnail_published": partial(_kill_at, "thumbnail_published"),
    "kill at job_taken, of thumbnails": partial(_kill_at, "job_taken"),
    "kill at thumbnail_put, beside another service": partial(_kill_beside_another, "thumbnail_put"),
    "SIGSTOP at thumbnail_put while photos change": _stop_while_photos_change,
    "kill with the COMMIT of a thumbnail sent": partial(_kill_with_commit_in_flight, PUBLISH),
    "kill with the COMMIT of a thumbnail's job sent": partial(
        _kill_with_commit_in_flight, INSERT_PHOTO
    ),
}
THUMBNAIL_TRIALS: dict[str, Trial] = {
    name: partial(_with_presets, way) for name, way in _WAYS.items()
}
