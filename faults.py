"""The named crash points, which do nothing unless the environment switches one on.

`DARKROOM_FAULT=after_put:kill` kills the process where it first reaches that
point, `after_put:kill:3` the third time; several are separated by commas.
What each point leaves behind and who heals it is told in docs/guarantees.md. In production none
can be switched on.
"""

import os
import signal
from threading import Lock
from typing import Final

VARIABLE: Final = "DARKROOM_FAULT"

POINTS: Final = (
    "during_decode",  # the file is with its decoder, the answer is not yet there
    "before_announce",
    "after_announce",  # the pending row is committed, no byte is stored
    "during_put",  # disk: the draft is written, its final name not yet there
    "after_link",  # disk: the name is there, its folder not yet synced
    "part_put",  # of a file that is stored while it arrives; the upload is open
    "upload_completed",  # its parts are one object
    "original_put",  # there is no master yet
    "after_put",
    "inside_swap",  # all is said to the database but COMMIT
    "after_commit",  # before the old object is deleted
    "before_answer",
    "master_put",
    "inside_photo_swap",
    "inside_words",  # of a photo
    "visibility_moved",
    "inside_photo_deletion",
    "inside_single_thumbnail",
    "inside_single_thumbnail_deletion",
    "inside_removal",  # of a picture
    "inside_account_deletion",
    "release_claimed",  # by the request that let go of it
    "reaper_claimed",
    "after_unlink",  # disk: the name is gone, its folder not yet synced
    "object_deleted",  # the row is still there
    "sweep_listed",
    "thumbnail_claimed",  # its row names nobody but its maker
    "thumbnail_put",  # all of one decode are stored, and pending
    "thumbnail_published",  # all is said to the database but COMMIT
    "job_taken",  # its row says so, nothing of it is done
)
ACTIONS: Final = {
    "kill": "SIGKILL",
    "stop": "SIGSTOP",
    "term": "SIGTERM",
    "raise": None,
}


class FaultInjected(Exception):
    """What the action `raise` raises: an error that no code expects."""


_lock = Lock()
# Point -> action, and how many times it is still to be passed.
_armed: dict[str, tuple[str, int]] = {}


def arm(faults: str) -> None:
    """Switch on these faults, POINT:ACTION[:NTH] and a comma between two, in place of any others.

    Raises ValueError for names that do not exist, so that no test rests on a misspelt one.
    """
    _armed.clear()
    for fault in faults.split(",") if faults else ():
        point, _, what = fault.partition(":")
        action, _, nth = what.partition(":")
        nth = nth or "1"
        if point not in POINTS or action not in ACTIONS or not nth.isdigit():
            raise ValueError(
                f"{VARIABLE}={faults}: give POINT:ACTION[:NTH] of {POINTS} and {tuple(ACTIONS)}"
            )
        _armed[point] = (action, int(nth))


def arm_from_environment() -> None:
    """Switch on what the environment asks for, if it does; not for production (config.py)."""
    asked_for = os.environ.get(VARIABLE)
    if asked_for:
        arm(asked_for)


def reached(point: str) -> None:
    """Do what a test has asked for at this point; else nothing. For any thread."""
    if point not in _armed:
        return
    with _lock:
        action, left = _armed[point]
        _armed[point] = (action, left - 1)
    if left != 1:
        return
    name = ACTIONS[action]
    if name is None:
        raise FaultInjected(point)
    os.kill(os.getpid(), signal.Signals[name])
