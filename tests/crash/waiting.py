"""Faults that are ordered of a lane, and the wait until they have happened."""

import threading
import time
from collections.abc import Callable

from tests.crash.lane import FAULT_SECONDS, Lane, Missed

# A trial starts the service, lets clients change accounts until the fault happens, and ends
# with one kill -9 under their load. It returns how many answers to COMMIT were dropped.
Trial = Callable[[Lane], int]
DROPS_A_TRIAL = 10
# The announcement of any file, as it is on the wire; a transaction of its own.
ANNOUNCE = "INSERT INTO stored_files"


def expect(lane: Lane, happened: Callable[[float], bool]) -> None:
    """Wait for it.

    Raises Missed when it does not come to be, at once if clients were already answered wrongly.
    """
    deadline = time.monotonic() + FAULT_SECONDS
    while not happened(0.05):
        if lane.findings or time.monotonic() > deadline:
            raise Missed


def expect_end(lane: Lane) -> None:
    expect(lane, lane.has_ended)
    lane.kills += 1


def lose(
    lane: Lane, statement: str, nth: int = 1, replies: float = 0.7
) -> tuple[threading.Event, bool]:
    """Order that a COMMIT loses its answer, never arrives or arrives late.

    Returns the order's Event, and whether it was the answer.
    """
    how = lane.random.random()
    if how < replies:
        return lane.postgres.lose_reply(statement, nth=nth), True
    if how < (1 + replies) / 2:
        return lane.postgres.lose_request(statement, nth=nth), False
    seconds = lane.random.uniform(0.05, 0.5)
    return lane.postgres.late(statement, nth=nth, seconds=seconds), False
