"""Every way in which the crash runner makes a service die, by name."""

import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

from tests.crash.clients import delete_account, give_photo, load, make_short_lived
from tests.crash.environment_trials import environment_trials
from tests.crash.lane import Lane
from tests.crash.photo_trials import (
    PHOTO_POINTS,
    killed_among_photos,
    photo_commits_dropped,
    photo_killed_with_commit_in_flight,
    reaper_passes_before_the_master,
    upload_answer_lost,
)
from tests.crash.thumbnail_trials import THUMBNAIL_TRIALS
from tests.crash.waiting import ANNOUNCE, DROPS_A_TRIAL, Trial, expect, expect_end, lose

# Statements as they are on the wire (files/statements.py). The last three, the announcement and the
# reaper's claim are transactions of their own.
LOCK = "FROM users WHERE users.id = $1::BIGINT FOR UPDATE"
ATTACH = "SET state=$1::VARCHAR, state_changed_at=now() WHERE"
SWAP = "UPDATE users SET picture_id"
DETACH = "next_attempt_at=(now() + $3::INTERVAL) WHERE"
ACCOUNT = "DELETE FROM users"
CLAIM = "::BIGINT FOR UPDATE SKIP LOCKED"
FORGET = "DELETE FROM stored_files"
# Longer than a trial takes.
GRACE_SECONDS = 600.0


def killed_at(point: str, lane: Lane) -> int:
    nth = lane.random.randint(1, 4) if point != "inside_account_deletion" else 1
    lane.start(f"{point}:kill:{nth}")
    if point == "inside_account_deletion":
        give_photo(lane, lane.accounts[1])
    with load(lane, deleting_account=point == "inside_account_deletion"):
        expect_end(lane)
    return 0


def killed_in_a_grace(point: str, lane: Lane) -> int:
    """What is replaced waits for the end of its grace, which comes after the kill."""
    lane.grace_seconds = GRACE_SECONDS
    try:
        return killed_at(point, lane)
    finally:
        lane.grace_seconds = 0.0


def killed_beside_another(point: str, lane: Lane) -> int:
    """Two services on one database and one store, one of which is killed there, then the other."""
    lane.start(f"{point}:kill:{lane.random.randint(1, 4)}")
    lane.start_second()
    with load(lane) as ending:
        expect_end(lane)
        time.sleep(lane.random.uniform(0.1, 0.4))
        ending.set()
        lane.kill()
    return 0


def server_killed_at(statement: str, lane: Lane) -> int:
    """Postgres is killed with -9 in the midst of a COMMIT and recovers; the service lives on."""
    lane.start()
    crashed = lane.postgres.crash(
        statement,
        nth=lane.random.randint(1, 4) if statement != ACCOUNT else 1,
        seconds=lane.random.uniform(0.0, 0.01),
        then=lane.kill_server,
    )
    with load(lane, deleting_account=statement == ACCOUNT, photos=None):
        expect(lane, crashed.wait)
        lane.state.sql("SELECT 1")  # it has recovered
        time.sleep(lane.random.uniform(0.1, 0.4))
        lane.kill_under_load()
    return 0


def reaper_killed_at(point: str, lane: Lane) -> int:
    """A first kill leaves the reaper something to do, once the lease of the dead is over.

    What it leaves may be nothing, where the change had no old picture: a row of its own is added.
    """
    killed_at("after_commit", lane)
    lane.kills = 0  # this one does not count
    lane.kill()
    lane.state.leave_doomed()
    lane.state.make_due()
    lane.start(f"{point}:kill")
    with load(lane):
        expect_end(lane)
    return 0


def stopped_past_the_expiry_at(point: str, lane: Lane) -> int:
    """Stopped for so long that the reaper of another instance
    takes what was announced; then it goes on for a while.
    """
    lane.start(f"{point}:stop:{lane.random.randint(1, 4)}")
    with load(lane):
        lane.wait_for_stop()
        lane.reap()
        lane.signal(signal.SIGCONT)
        time.sleep(lane.random.uniform(0.1, 0.4))
        lane.kill_under_load()
    return 0


def stopped_past_the_expiry_then_killed(lane: Lane) -> int:
    """The same, but it comes no further than to store what had expired."""
    lane.start("after_announce:stop,after_put:kill")
    with load(lane):
        lane.wait_for_stop()
        lane.reap()
        lane.signal(signal.SIGCONT)
        expect_end(lane)
    return 0


def ended_by_sigterm_at(point: str, lane: Lane) -> int:
    """Told to end, and killed somewhere on the way; again, and sooner, if that was too late."""
    for longest_seconds in (0.3, 0.1, 0.03, 0.0):
        lane.start(f"{point}:term:{lane.random.randint(1, 4)}")
        with load(lane):
            expect(lane, lane.refuses_connections)
            time.sleep(lane.random.uniform(0, longest_seconds))
            lane.kill_under_load()
        if lane.kills:
            break
        lane.kill()
    return 0


def database_restarted_at(point: str, lane: Lane) -> int:
    """Every connection is cut and none is taken for a while, as when Postgres is restarted."""
    lane.start(f"{point}:stop:{lane.random.randint(1, 4)}")
    with load(lane):
        lane.wait_for_stop()
        lane.postgres.refuse(True)
        lane.postgres.cut_all()
        lane.signal(signal.SIGCONT)
        time.sleep(lane.random.uniform(0.05, 0.3))
        lane.postgres.refuse(False)
        time.sleep(lane.random.uniform(0.1, 0.4))
        lane.kill_under_load()
    return 0


def killed_with_commit_in_flight(statement: str, lane: Lane) -> int:
    """The COMMIT is sent and done; the process dies before its answer comes."""
    lane.start()
    dropped = lane.postgres.lose_reply(
        statement,
        nth=lane.random.randint(1, 4) if statement != ACCOUNT else 1,
        then=partial(lane.signal, signal.SIGKILL),
    )
    if statement == ACCOUNT:
        give_photo(lane, lane.accounts[1])
    with load(lane, deleting_account=statement == ACCOUNT):
        expect(lane, _wait_for(lane, statement, dropped))
        expect_end(lane)
    return 0


def killed_before_announcement(lane: Lane) -> int:
    """The row is on its way for so long that a put beside it would be done; it never arrives."""
    lane.start()

    def wait_and_kill() -> None:
        time.sleep(0.3)
        lane.signal(signal.SIGKILL)

    lost = lane.postgres.lose_request(ANNOUNCE, nth=lane.random.randint(1, 4), then=wait_and_kill)
    with load(lane):
        expect(lane, lost.wait)
        expect_end(lane)
    return 0


def commit_lost_and_expired(lane: Lane) -> int:
    """The COMMIT of the swap never arrives; when the process goes on its file has expired."""
    lane.start()
    lost = lane.postgres.lose_request(
        SWAP, nth=lane.random.randint(1, 4), then=partial(lane.signal, signal.SIGSTOP)
    )
    with load(lane):
        expect(lane, lost.wait)
        lane.reap()
        lane.signal(signal.SIGCONT)
        time.sleep(lane.random.uniform(0.1, 0.4))
        lane.kill_under_load()
    return 0


def reaper_passes_before(statement: str, lane: Lane) -> int:
    """All that waits comes due and is reaped, while a swap is about to go on.

    With one client, who looks at what its account shows before it changes it again.
    """
    lane.start()
    passed = lane.postgres.before(statement, nth=lane.random.randint(1, 4), then=lane.reap)
    with load(lane, many=False, photos=None):
        expect(lane, passed.wait)
        time.sleep(lane.random.uniform(0.0, 0.2))
        lane.kill_under_load()
    return 0


def store_answer_lost(method: str, fault: Literal["reset", "ok"], lane: Lane) -> int:
    """The process dies in the middle of a call to the store, or before its answer comes."""
    assert lane.store is not None
    lane.start()
    kill = partial(lane.signal, signal.SIGKILL)
    happened = lane.store.plan(method, fault, nth=lane.random.randint(1, 4), then=kill)
    with load(lane):
        expect(lane, happened.wait)
        expect_end(lane)
    return 0


def commit_answers_dropped(many: bool, lane: Lane) -> int:
    """COMMITs lose their answer, or never arrive, or
    arrive late, one after another; the service lives on.
    """
    lane.start()
    count = 0
    with load(lane, many=many) as ending:
        while count < DROPS_A_TRIAL and not ending.is_set():
            statement = lane.random.choice([SWAP, SWAP, SWAP, ANNOUNCE, CLAIM, FORGET])
            happened, is_dropped = lose(lane, statement, nth=lane.random.randint(1, 3))
            expect(lane, _wait_for(lane, statement, happened))
            count += is_dropped  # the others are there to mix with them
        lane.kill_under_load()
    return count


def removal_commits_dropped(lane: Lane) -> int:
    """The same, where half of the changes take the picture away."""
    lane.start()
    count = 0
    with load(lane, many=False, removals=0.5) as ending:
        while count < DROPS_A_TRIAL and not ending.is_set():
            happened, is_dropped = lose(lane, SWAP, replies=0.5)
            expect(lane, happened.wait)
            count += is_dropped
        lane.kill_under_load()
    return count


def account_commits_dropped(lane: Lane) -> int:
    """The same for deletions of accounts, of which each has one."""
    lane.start()
    count = 0
    with load(lane, many=False, photos=None) as ending:
        while count < DROPS_A_TRIAL and not ending.is_set():
            account = make_short_lived(lane)
            happened, is_dropped = lose(lane, ACCOUNT, replies=0.5)
            delete_account(lane, account)
            expect(lane, happened.wait)
            count += is_dropped
        lane.kill_under_load()
    return count


def _wait_for(lane: Lane, statement: str, happened: threading.Event) -> Callable[[float], bool]:
    """Give a function that waits; where a claim is waited for, the reaper gets something to do."""

    def leave_work_and_wait(wait_seconds: float) -> bool:
        lane.state.leave_doomed()
        return happened.wait(wait_seconds)

    return leave_work_and_wait if statement == CLAIM else happened.wait


def trials(store: str) -> dict[str, Trial]:
    """Every way to die, by name."""
    points = [
        "during_decode",
        "before_announce",
        "after_announce",
        "after_put",
        "inside_swap",
        "after_commit",
    ]
    points += [
        "before_answer",
        "inside_removal",
        "inside_account_deletion",
        "release_claimed",
        "object_deleted",
    ]
    on_disk = ["during_put", "after_link", "after_unlink"] if store == "local" else []
    all_trials: dict[str, Trial] = {
        f"kill at {point}": partial(killed_at, point) for point in points + on_disk
    }
    for point in PHOTO_POINTS:
        all_trials[f"kill at {point}"] = partial(killed_among_photos, point)
    for point in ("after_commit", "inside_account_deletion"):
        all_trials[f"kill at {point}, in a grace"] = partial(killed_in_a_grace, point)
    all_trials |= THUMBNAIL_TRIALS
    all_trials["kill with the COMMIT of a photo sent"] = photo_killed_with_commit_in_flight
    all_trials["reaper before the master is announced"] = reaper_passes_before_the_master
    all_trials["kill at reaper_claimed"] = partial(reaper_killed_at, "reaper_claimed")
    all_trials["kill at object_deleted, by the reaper"] = partial(
        reaper_killed_at, "object_deleted"
    )
    for point in ("after_put", "inside_swap", "after_commit", "object_deleted"):
        all_trials[f"kill at {point}, beside another service"] = partial(
            killed_beside_another, point
        )
    for name, statement in (
        ("announce", ANNOUNCE),
        ("swap", SWAP),
        ("account deletion", ACCOUNT),
        ("claim", CLAIM),
    ):
        all_trials[f"kill with the COMMIT of the {name} sent"] = partial(
            killed_with_commit_in_flight, statement
        )
    all_trials["kill before the announcement arrives"] = killed_before_announcement
    if store == "s3":
        all_trials["kill in the middle of a put"] = partial(store_answer_lost, "PUT", "reset")
        all_trials["kill before the answer to a put"] = partial(store_answer_lost, "PUT", "ok")
        all_trials["kill before the answer to an upload"] = upload_answer_lost
        all_trials["kill before the answer to a deletion"] = partial(
            store_answer_lost, "DELETE", "ok"
        )
    for point in ["after_announce", "after_put", *(["during_put"] if store == "local" else [])]:
        all_trials[f"SIGSTOP past the expiry at {point}"] = partial(
            stopped_past_the_expiry_at, point
        )
    all_trials["SIGSTOP past the expiry, kill at after_put"] = stopped_past_the_expiry_then_killed
    all_trials["COMMIT of the swap lost, SIGSTOP past the expiry"] = commit_lost_and_expired
    for name, statement in (
        ("the swap locks", LOCK),
        ("the swap attaches", ATTACH),
        ("the swap shows", SWAP),
        ("the swap detaches", DETACH),
    ):
        all_trials[f"reaper before {name}"] = partial(reaper_passes_before, statement)
    for point in points[:6]:
        all_trials[f"SIGTERM at {point}, then kill"] = partial(ended_by_sigterm_at, point)
    for point in ("after_announce", "after_put", "inside_swap", "release_claimed"):
        all_trials[f"database gone at {point}, then kill"] = partial(database_restarted_at, point)
    all_trials |= environment_trials(store)
    return all_trials


# Only where the lane's database server is its own.
SERVER_KILLS: dict[str, Trial] = {
    f"Postgres killed in the COMMIT of {name}": partial(server_killed_at, statement)
    for name, statement in (
        ("an announcement", ANNOUNCE),
        ("a swap", SWAP),
        ("an account deletion", ACCOUNT),
    )
}
DROPS: dict[str, Trial] = {
    "COMMITs without an answer, one client": partial(commit_answers_dropped, False),
    "COMMITs without an answer, many clients": partial(commit_answers_dropped, True),
    "COMMITs without an answer, removals": removal_commits_dropped,
    "COMMITs without an answer, accounts": account_commits_dropped,
    "COMMITs without an answer, photos": photo_commits_dropped,
}
