"""What clients asked for and were told, and which pictures an account may show after that."""

import threading
import time
from dataclasses import dataclass, field
from typing import Literal

# Told: the answer said so · refused: it said that nothing
# was changed · unknown: no answer, or one that did not know
Outcome = Literal["told", "refused", "unknown"]
GONE = "the account is gone"


@dataclass
class Change:
    """One request for a change; `wanted` is the checksum
    of the picture that would show, None, or GONE.
    """

    wanted: str | None
    started: float = field(default_factory=time.monotonic)
    ended: float = float("inf")
    outcome: Outcome = "unknown"

    def end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        if outcome != "unknown":  # else it may take effect at any later time
            self.ended = time.monotonic()

    def know_no_more(self) -> None:
        """Told 503 `outcome_unknown`: it has the account's
        lock or is over, so what begins now comes later.
        """
        self.ended = time.monotonic()


class History:
    """All changes of one account since it was last known what it shows. For any thread."""

    def __init__(self, shows: str | None) -> None:
        self._lock = threading.Lock()
        self.restart(shows)

    def restart(self, shows: str | None) -> None:
        """Forget all but what the account shows now."""
        self._changes = [Change(shows, float("-inf"), float("-inf"), "told")]

    def begin(self, wanted: str | None) -> Change:
        change = Change(wanted)
        with self._lock:
            self._changes.append(change)
        return change

    def may_be_gone(self) -> bool:
        return any(change.wanted == GONE for change in self._changes)

    def possible(self) -> set[str | None]:
        """What the account may show now: of every change that happened or
        may have, unless one that surely happened began after it was over.
        """
        made = [change for change in self._changes if change.outcome != "refused"]
        surely = [change for change in made if change.outcome == "told"]
        if any(change.wanted == GONE for change in surely):
            return {GONE}
        return {
            change.wanted
            for change in made
            if not any(later.started > change.ended for later in surely)
        }
