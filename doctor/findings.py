"""What a step of the doctor finds: its outcome, what was seen, and the cure as text to paste."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal


class Outcome(StrEnum):
    """How a step ends. Only a failure makes the whole a failure."""

    PASSED = "passed"
    FAILED = "failed"
    ADVICE = "advice"  # it works, but less is kept of what we promise, or less will be possible
    NOT_PERMITTED = "not permitted to look"
    NOT_TRIED = "not tried"


# What a line begins with.
MARKS = {
    Outcome.PASSED: "✓",
    Outcome.FAILED: "✗",
    Outcome.ADVICE: "!",
    Outcome.NOT_PERMITTED: "?",
    Outcome.NOT_TRIED: "-",
}


@dataclass(frozen=True)
class Paste:
    """A text to paste as it is: into a settings file, into a shell, into a console's editor."""

    kind: Literal["env", "shell", "json"]
    text: str


@dataclass(frozen=True)
class Cure:
    """What to do, in a sentence, and what to paste for it. Of several pastes all are needed."""

    sentence: str
    pastes: tuple[Paste, ...] = ()


@dataclass(frozen=True)
class Finding:
    """The end of one step; `what` is what was seen, and of a failure its cause."""

    step: str
    outcome: Outcome
    what: str
    cure: Cure | None = None
    milliseconds: int | None = None  # how long it took; None where nothing was asked

    def as_json(self) -> dict[str, Any]:
        """Write it as `--json` shows it."""
        found: dict[str, Any] = {"step": self.step, "outcome": self.outcome.value}
        found["what"] = self.what
        if self.cure is not None:
            pastes = [{"kind": each.kind, "text": each.text} for each in self.cure.pastes]
            found["cure"] = {"sentence": self.cure.sentence, "paste": pastes}
        if self.milliseconds is not None:
            found["milliseconds"] = self.milliseconds
        return found


def passed(step: str, what: str) -> Finding:
    """Say that it works."""
    return Finding(step, Outcome.PASSED, what)


def failed(step: str, cause: str, cure: Cure) -> Finding:
    """Say that it does not work."""
    return Finding(step, Outcome.FAILED, cause, cure)


def advise(step: str, what: str, cure: Cure | None = None) -> Finding:
    """Say what is weakened, or will be missed."""
    return Finding(step, Outcome.ADVICE, what, cure)


def may_not_look(step: str, what: str, cure: Cure | None = None) -> Finding:
    """Say that our keys are not allowed to look; the service may not need it."""
    return Finding(step, Outcome.NOT_PERMITTED, what, cure)


def not_tried(step: str, why: str) -> Finding:
    """Say that it was not tried, and why."""
    return Finding(step, Outcome.NOT_TRIED, why)


def is_healthy(findings: Sequence[Finding]) -> bool:
    """Tell whether nothing has failed."""
    return all(finding.outcome is not Outcome.FAILED for finding in findings)
