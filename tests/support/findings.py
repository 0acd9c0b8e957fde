"""What a report of `check` finds, as its JSON tells it."""

from typing import Any

LISTS = ("missing", "wrong", "unreadable", "unexplained", "unreferenced", "dangling")


def findings(report: dict[str, Any]) -> dict[str, list[str]]:
    """The lists that are not empty; the counts must agree with them."""
    assert {name: len(report[name]) for name in LISTS} == report["counts"]
    found = {name: sorted(report[name]) for name in LISTS if report[name]}
    assert report["ok"] == (not found)
    return found
