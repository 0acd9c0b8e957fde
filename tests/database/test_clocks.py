"""Proves that no wrong clock of the database makes anyone forget, or expire what is under way."""

import json
from datetime import timedelta

import pytest

from files import clocks, statements
from files.clocks import PENDING_SLACK, SLACK
from tests.support.stock import HOUR_SECONDS, Stock

pytestmark = pytest.mark.backends

YEAR_SECONDS = 365 * 24 * HOUR_SECONDS
DAY_SECONDS = 24 * HOUR_SECONDS


def shift(stock: Stock, key: str, **columns: float) -> None:
    """Set times of a row so many seconds from now."""
    for column, seconds in columns.items():
        stock.service.sql(
            f"UPDATE stored_files SET {column} = now() + make_interval(secs => $2) WHERE key = $1",
            key,
            seconds,
        )


def find_due_seconds(stock: Stock, key: str) -> float:
    row = stock.read(key)
    left: timedelta = row["next_attempt_at"] - row["now"]
    return left.total_seconds()


@pytest.mark.parametrize("state", ["doomed", "deleting"])
def test_what_was_let_go_while_the_clock_was_ahead_is_deleted_all_the_same(
    stock: Stock, state: str
) -> None:
    key = stock.row(state, due_in_seconds=YEAR_SECONDS)
    shift(stock, key, state_changed_at=YEAR_SECONDS)
    assert stock.reap() == 1
    assert (stock.states(), stock.objects()) == ({}, set())


def test_what_was_announced_while_the_clock_was_ahead_has_its_whole_time_and_then_expires(
    stock: Stock,
) -> None:
    key = stock.row("pending", due_in_seconds=YEAR_SECONDS)
    assert stock.reap() == 0, "an upload may be under way"
    expiry_seconds = stock.parsed_settings.pending_expiry_seconds
    assert expiry_seconds - 60 < find_due_seconds(stock, key) <= expiry_seconds
    assert (stock.states(), stock.objects()) == ({key: "pending"}, {key})
    stock.make_due(key)
    assert stock.reap() == 1
    assert (stock.states(), stock.objects()) == ({key: "deleting"}, set())


def test_a_tombstone_of_a_clock_that_was_ahead_rests_for_a_day(stock: Stock) -> None:
    key = stock.row("deleting", stored=False)
    shift(stock, key, tombstone_until=YEAR_SECONDS, next_attempt_at=YEAR_SECONDS)
    assert stock.reap() == 1
    assert DAY_SECONDS - 60 < find_due_seconds(stock, key) <= DAY_SECONDS
    assert stock.reap() == 0, "it is looked at once a day, not once a pass"
    stock.end_tombstone(key)
    assert stock.reap() == 1
    assert stock.states() == {}


def test_what_is_as_far_off_as_it_may_be_is_left_alone(stock: Stock) -> None:
    stock.change_settings(OLD_PICTURE_GRACE_SECONDS=str(HOUR_SECONDS))
    expiry_seconds = stock.parsed_settings.pending_expiry_seconds
    pending_seconds = expiry_seconds + PENDING_SLACK.total_seconds() - 60
    backoff_seconds = statements.LONGEST_BACKOFF.total_seconds()
    due = {
        stock.row("pending", due_in_seconds=pending_seconds): pending_seconds,
        stock.row("doomed", due_in_seconds=HOUR_SECONDS): HOUR_SECONDS,
        stock.row("deleting", due_in_seconds=backoff_seconds): backoff_seconds,
        stock.row("live", due_in_seconds=YEAR_SECONDS): YEAR_SECONDS,
    }
    resting = stock.row("deleting", due_in_seconds=DAY_SECONDS, stored=False)
    shift(stock, resting, tombstone_until=DAY_SECONDS)
    assert stock.reap() == 0
    for key, seconds in {**due, resting: DAY_SECONDS}.items():
        assert abs(find_due_seconds(stock, key) - seconds) < 60, stock.read(key)["state"]


def test_a_grace_ends_though_the_clock_was_ahead_when_it_began(stock: Stock) -> None:
    stock.change_settings(OLD_PICTURE_GRACE_SECONDS=str(HOUR_SECONDS))
    key = stock.row("doomed", due_in_seconds=YEAR_SECONDS)
    assert stock.reap() == 0
    assert HOUR_SECONDS - 60 < find_due_seconds(stock, key) <= HOUR_SECONDS
    assert stock.objects() == {key}


def test_check_tells_of_deletions_that_nobody_does_and_that_are_too_far_off(stock: Stock) -> None:
    overdue_seconds = clocks.OVERDUE.total_seconds()
    stock.row("doomed", due_in_seconds=-overdue_seconds - 60)
    stock.row("deleting", due_in_seconds=-overdue_seconds - 60)
    stock.row("doomed", due_in_seconds=60 - overdue_seconds)
    stock.picture()
    stock.service.sql(
        "UPDATE stored_files SET next_attempt_at = now() - interval '1 year' WHERE state = 'live'"
    )
    stock.row("deleting", due_in_seconds=YEAR_SECONDS)
    run = stock.run("check")
    report = json.loads(run.stdout)
    assert (report["overdue"], report["far_off"], report["ok"]) == (2, 1, False)
    assert run.returncode == 1
    first, second = run.stderr.splitlines()
    assert first.startswith("2 deletions have been due for over ten minutes.")
    assert second.startswith("1 deletions are due further off than anything puts them")


def test_requeue_brings_back_what_is_too_far_off(stock: Stock) -> None:
    key = stock.row("doomed", due_in_seconds=YEAR_SECONDS)
    announced = stock.row("pending", due_in_seconds=YEAR_SECONDS)
    kept = stock.row("doomed", due_in_seconds=SLACK.total_seconds() / 2)
    run = stock.run("requeue")
    assert (run.returncode, run.stdout) == (0, "2 deletions are due now.\n"), run.stderr
    assert find_due_seconds(stock, key) <= 0 < find_due_seconds(stock, announced) < HOUR_SECONDS
    assert find_due_seconds(stock, kept) > 0
