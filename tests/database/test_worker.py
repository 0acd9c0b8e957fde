"""Proves that the worker reaps until it is told to end.

What keeps failing is seen, and can be tried again.
"""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from files import Backends
from ops import failing
from tests.support import warm
from tests.support.s3 import FakeS3
from tests.support.services import ROOT, processes_below, wait_until
from tests.support.stock import Stock


@pytest.fixture
def failing_stock(planned_stock: Stock, store: FakeS3) -> Stock:
    """A stock whose store refuses every deletion."""
    store.always["DELETE"] = "500"
    return planned_stock


@contextlib.contextmanager
def working(settings: dict[str, str], log: Path) -> Iterator[warm.Forked]:
    """A worker, with what it says in a file."""
    environment = {**os.environ, "REAPER_INTERVAL_SECONDS": "0.1", **settings}
    with open(log, "wb") as said:
        process = warm.fork(
            ROOT / "cli.py", "worker", env=environment, cwd=ROOT, stdout=said, stderr=said
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_worker_reaps_until_it_is_told_to_end(
    stock: Stock, tmp_path: Path, how: signal.Signals
) -> None:
    live = stock.row("live")
    log = tmp_path / "worker.log"
    with working(stock.settings, log) as worker:
        for number in (1, 2):
            stock.row("doomed")
            wait_until(lambda: stock.states() == {live: "live"}, "the worker deletes what is due")
            wait_until(partial(has_logged, log, number), "it says so")
        worker.send_signal(how)
        assert worker.wait(30) == 0
    assert stock.objects() == {live}
    assert "Traceback" not in log.read_text()


def has_logged(log: Path, passes: int) -> bool:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line["message"] for line in lines if line["logger"] == "files.reaper"] == [
        "reaped 1 files"
    ] * passes


def test_a_worker_told_to_end_while_the_store_hangs_leaves_the_row_to_the_next(
    planned_stock: Stock, tmp_path: Path, store: FakeS3
) -> None:
    key = planned_stock.row("doomed", stored=False)
    store.objects[key] = b"x"
    store.plan("DELETE", "hang")
    with working(planned_stock.settings, tmp_path / "worker.log") as worker:
        wait_until(lambda: store.hanging == {key}, "the store is asked")
        worker.send_signal(signal.SIGTERM)
        store.gate.set()
        assert worker.wait(30) == 0
    planned_stock.make_due(key)
    planned_stock.reap()
    assert (planned_stock.states(), store.objects) == ({}, {})


def test_a_worker_outlives_an_outage_of_the_store(
    failing_stock: Stock, tmp_path: Path, store: FakeS3
) -> None:
    key = failing_stock.row("doomed", stored=False)
    with working(failing_stock.settings, tmp_path / "worker.log") as worker:
        wait_until(lambda: failing_stock.read(key)["last_error"], "the deletion fails")
        store.always["DELETE"] = "ok"
        failing_stock.make_due(key)
        wait_until(lambda: failing_stock.states() == {}, "it is deleted after all")
        worker.terminate()
        assert worker.wait(30) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_on_the_embedded_database_a_worker_keeps_it_or_joins_it(
    tmp_path: Path, workers: int
) -> None:
    settings = {"DATA_DIR": str(tmp_path), "STORAGE": "local"}
    logs = [tmp_path / f"worker-{number}.log" for number in range(workers)]
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(working(settings, log)) for log in logs]
        for process in running:
            wait_until(partial(catches_sigterm, process.pid), "the worker has begun")
        run = warm.run(ROOT / "cli.py", "check", env={**os.environ, **settings})
        assert (run.returncode, run.stderr) == (0, "")
        for process in reversed(running):
            process.terminate()
            assert process.wait(30) == 0
        wait_until(lambda: not processes_below(tmp_path), "the database has ended")
    assert "Traceback" not in "".join(log.read_text() for log in logs)


def catches_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(
        next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16
    )
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.backends
def test_what_keeps_failing_is_listed_and_can_be_made_due(
    failing_stock: Stock, store: FakeS3
) -> None:
    store.plan("DELETE", "ok")
    resting = failing_stock.row("pending", stored=False)
    assert failing_stock.reap() == 1
    refused = failing_stock.row("doomed", stored=False)
    tombstone = failing_stock.row("pending", stored=False)
    assert failing_stock.reap() == 2
    assert failing_stock.run("failing").stdout == "", "once may be a hiccup"
    failing_stock.make_due(refused)
    failing_stock.make_due(tombstone)
    once = failing_stock.row("doomed", stored=False)
    live = failing_stock.row("live", stored=False)
    assert failing_stock.reap() == 3
    assert failing_stock.states() == dict.fromkeys(
        (refused, tombstone, resting, once), "deleting"
    ) | {live: "live"}
    run = failing_stock.run("failing")
    assert (run.returncode, run.stderr) == (1, "")
    listed = [json.loads(line) for line in run.stdout.splitlines()]
    assert [file["key"] for file in listed] == [refused, tombstone]
    for file in listed:
        row = failing_stock.read(file["key"])
        assert file == {
            **{name: row[name] for name in ("id", "key", "storage", "bucket", "owner_id")},
            "attempts": 2,
            "next_attempt_at": str(row["next_attempt_at"]),
            "last_error": "store_unavailable",
        }
    assert failing_stock.ask(count_failing) == 2
    run = failing_stock.run("requeue")
    assert (run.returncode, run.stdout, run.stderr) == (0, "2 deletions are due now.\n", "")
    run = failing_stock.run("failing")
    assert (run.returncode, run.stdout) == (0, "")
    for key in (refused, tombstone):
        row = failing_stock.read(key)
        assert (row["state"], row["attempts"]) == ("deleting", 0)
        assert row["next_attempt_at"] <= row["now"]
    store.always["DELETE"] = "ok"
    assert failing_stock.reap() == 2
    assert failing_stock.states() == dict.fromkeys((tombstone, resting, once), "deleting") | {
        live: "live"
    }


async def count_failing(backends: Backends) -> int:
    return len([file async for file in failing.find_failing(backends)])
