"""What the doctor shows: lines for eyes, as they come, or one JSON document at the end."""

import json
import sys
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from doctor.findings import MARKS, Cure, Finding, Outcome

_COUNTED = {Outcome.ADVICE: "with advice"}
_CLEAR_LINE = "\r\x1b[2K"


class Report(Protocol):
    """Where findings go."""

    def begin(self, settings: Mapping[str, str]) -> None:
        """Say what is examined; no secret is among it."""

    def work_on(self, what: str) -> None:
        """Say what is being done now, to who watches."""

    def add(self, finding: Finding) -> None:
        """Tell the end of a step."""

    def end(self, verdict: str, milliseconds: int) -> None:
        """Tell the whole."""


class TextReport:
    """Lines for a person; on a terminal also what is being done, in a line that goes again."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._is_terminal = self._out.isatty()
        self._findings: list[Finding] = []
        self._cures: set[Cure] = set()

    def begin(self, settings: Mapping[str, str]) -> None:
        for name, value in settings.items():
            self._print(f"{name}={value}")

    def work_on(self, what: str) -> None:
        if self._is_terminal:
            self._out.write(f"{_CLEAR_LINE}  {what} ...")
            self._out.flush()

    def add(self, finding: Finding) -> None:
        self._findings.append(finding)
        if self._is_terminal:
            self._out.write(_CLEAR_LINE)
        took = "" if finding.milliseconds is None else f" ({finding.milliseconds} ms)"
        self._print(f"{MARKS[finding.outcome]} {finding.step}: {finding.what}{took}")
        if finding.cure is not None:
            self._tell_cure(finding.cure)

    def _tell_cure(self, cure: Cure) -> None:
        self._print(f"  {cure.sentence}")
        if cure.pastes and cure in self._cures:
            self._print("    (the text is shown above)")
            return
        self._cures.add(cure)
        for paste in cure.pastes:
            for line in paste.text.splitlines():
                self._print(f"    {line}")

    def end(self, verdict: str, milliseconds: int) -> None:
        if self._is_terminal:
            self._out.write(_CLEAR_LINE)
        counts = [
            f"{count} {_COUNTED.get(outcome, outcome.value)}"
            for outcome in Outcome
            if (count := sum(each.outcome is outcome for each in self._findings))
        ]
        self._print(f"The bucket is {verdict}: {', '.join(counts)} ({milliseconds} ms).")

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)


class JsonReport:
    """One JSON document, when all is done."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._settings: Mapping[str, str] = {}
        self._findings: list[Finding] = []

    def begin(self, settings: Mapping[str, str]) -> None:
        self._settings = settings

    def work_on(self, what: str) -> None:
        pass

    def add(self, finding: Finding) -> None:
        self._findings.append(finding)

    def end(self, verdict: str, milliseconds: int) -> None:
        document: dict[str, Any] = {
            "settings": dict(self._settings),
            "steps": [finding.as_json() for finding in self._findings],
            "verdict": verdict,
            "milliseconds": milliseconds,
        }
        print(json.dumps(document, indent=2, ensure_ascii=False), file=self._out, flush=True)
