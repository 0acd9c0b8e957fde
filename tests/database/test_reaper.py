"""Proves that the reaper finishes what a crash or an outage left, and touches nothing else."""

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from files import reaper
from tests.support import rows
from tests.support.pictures import jpeg
from tests.support.s3 import BUCKET, FakeS3
from tests.support.services import Service, wait_until
from tests.support.stock import HOUR_SECONDS, Stock

pytestmark = pytest.mark.backends


def test_one_pass_finishes_what_is_due_and_touches_nothing_else(stock: Stock) -> None:
    expired = stock.row("pending")
    expired_unput = stock.row("pending", stored=False)
    doomed = stock.row("doomed")
    doomed_gone = stock.row("doomed", stored=False)
    cut_off = stock.row("deleting")
    kept = {
        stock.row("pending", due_in_seconds=HOUR_SECONDS): "pending",
        stock.row("doomed", due_in_seconds=HOUR_SECONDS): "doomed",
        stock.row("deleting", due_in_seconds=HOUR_SECONDS): "deleting",
        stock.row("live"): "live",
        stock.row("live", due_in_seconds=HOUR_SECONDS): "live",
    }
    stock.put("profile_pics/of-somebody-else.jpg")
    run = stock.run("reap")
    assert (run.returncode, run.stdout) == (0, "5 files were due.\n"), run.stderr
    # What was never known to be put stays as a tombstone: its bytes may arrive yet.
    assert stock.states() == {**kept, expired: "deleting", expired_unput: "deleting"}
    assert stock.objects() == {*kept, "profile_pics/of-somebody-else.jpg"}
    assert {doomed, doomed_gone, cut_off}.isdisjoint(stock.states())
    assert stock.reap() == 0


def test_what_arrives_after_its_deletion_is_deleted_a_second_time(stock: Stock) -> None:
    key = stock.row("pending", stored=False)
    assert stock.reap() == 1
    row = stock.read(key)
    assert row["state"] == "deleting" and row["next_attempt_at"] == row["tombstone_until"]
    assert row["tombstone_until"] - row["state_changed_at"] == timedelta(days=1)
    stock.put(key)  # by a process that was stopped before its put and goes on now
    assert stock.reap() == 0 and stock.objects() == {key}, "a day has not passed"
    stock.make_due(key)
    assert stock.reap() == 1
    assert (stock.states(), stock.objects()) == ({key: "deleting"}, set()), (
        "looked at early, it stays a tombstone"
    )
    stock.put(key)
    stock.end_tombstone(key)
    assert stock.reap() == 1
    assert (stock.states(), stock.objects()) == ({}, set())


def test_an_outage_of_the_store_postpones_with_growing_backoff_and_loses_nothing(
    planned_stock: Stock, store: FakeS3
) -> None:
    key = planned_stock.row("doomed", stored=False)
    tombstone = planned_stock.row("pending", stored=False)
    live = planned_stock.row("live", stored=False)
    store.objects.update({key: b"x", tombstone: b"x", live: b"x"})
    store.always["DELETE"] = "500"
    waits = []
    for attempt in range(1, 7):
        assert planned_stock.reap() == 2
        for failing in (key, tombstone):
            row = planned_stock.read(failing)
            assert (row["state"], row["attempts"]) == ("deleting", attempt)
        row = planned_stock.read(key)
        waits.append((row["next_attempt_at"] - row["now"]).total_seconds())
        assert planned_stock.reap() == 0, "it was tried again before its time"
        planned_stock.make_due(key)
        planned_stock.make_due(tombstone)
    # Five seconds, doubling, a quarter more or less: two steps always grow, whatever the spread.
    assert all(later > earlier for earlier, later in zip(waits, waits[2:], strict=False)), waits
    assert waits[0] > 0 and waits[-1] > 100, waits
    planned_stock.service.sql("UPDATE stored_files SET attempts = 40 WHERE key = $1", key)
    assert planned_stock.reap() == 2
    wait = planned_stock.read(key)["next_attempt_at"] - planned_stock.read(key)["now"]
    assert wait.total_seconds() < 2 * 3600, (
        "a store that comes back after a week is noticed within hours"
    )
    assert set(store.objects) == {key, tombstone, live}
    store.always["DELETE"] = "ok"
    planned_stock.make_due(key)
    planned_stock.make_due(tombstone)
    assert planned_stock.reap() == 2
    assert planned_stock.states() == {tombstone: "deleting", live: "live"}
    assert set(store.objects) == {live}


def test_a_store_that_cannot_be_reached_at_all_is_an_outage_too(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    with FakeS3() as gone:
        settings = gone.settings()
    data = {"DATABASE_URL": new_database(), "DATA_DIR": str(tmp_path / "data")}
    stock = Stock({**data, **settings})
    key = stock.row("doomed", stored=False)
    assert stock.reap() == 1
    assert stock.states() == {key: "deleting"}


def test_one_file_that_keeps_failing_does_not_hold_up_the_others(stock: Stock) -> None:
    unknown = stock.row("doomed", storage="a-store-that-the-settings-forgot", stored=False)
    others = [stock.row("doomed") for _ in range(20)]
    assert stock.reap() == 21
    assert stock.states() == {unknown: "deleting"} and stock.objects().isdisjoint(others)


def test_two_reapers_at_once_share_the_work_and_claim_nothing_twice(
    planned_stock: Stock, store: FakeS3
) -> None:
    rows.insert_numbered_files(
        planned_stock.service, range(200), "doomed", storage="s3", bucket=BUCKET
    )
    keys = set(planned_stock.states())
    store.objects.update(dict.fromkeys(keys, b"x"))
    store.always["DELETE"] = "hang"  # until both have claimed
    with ThreadPoolExecutor(2) as pool:
        reapers = [pool.submit(planned_stock.run, "reap") for _ in range(2)]
        states = planned_stock.states
        wait_until(
            lambda: Counter(states().values())["deleting"] == 2 * reaper.FIRST_BATCH,
            "both reapers have claimed",
        )
        store.gate.set()
        runs = [each.result() for each in reapers]
    assert [run.returncode for run in runs] == [0, 0], runs
    tried = [int(run.stdout.split()[0]) for run in runs]
    assert sum(tried) == 200 and min(tried) > 0, tried
    assert sorted(store.keys("DELETE")) == sorted(keys), "some object was deleted twice, or never"
    assert (planned_stock.states(), store.objects) == ({}, {})


def test_old_drafts_of_the_local_store_are_removed(local_stock: Stock) -> None:
    live = local_stock.row("live")
    drafts = local_stock.path(".drafts")
    drafts.mkdir(exist_ok=True)
    old = drafts / "old"
    young = drafts / "young"
    ages_seconds = {
        old: reaper.LEFTOVER_AGE_SECONDS + 60,
        young: reaper.LEFTOVER_AGE_SECONDS - 600,
    }
    for draft, age_seconds in ages_seconds.items():
        draft.write_bytes(b"half a picture")
        modified_at = time.time() - age_seconds
        os.utime(draft, (modified_at, modified_at))
    local_stock.reap()
    assert (old.exists(), young.exists()) == (False, True)
    assert live in local_stock.objects()


def test_a_service_killed_right_after_its_put_leaves_a_row_that_the_next_one_finishes(
    planned_stock: Stock, store: FakeS3
) -> None:
    often = {"PENDING_EXPIRY_SECONDS": "0.1", "REAPER_INTERVAL_SECONDS": "0.1"}
    settings = {**planned_stock.settings, **often}
    # The first one's reaper must not come before the kill.
    service = Service({**settings, "REAPER_INTERVAL_SECONDS": "3600"})
    service.start()
    try:
        alice = service.register()
        shown = service.patch_picture(alice, jpeg()).json()["image_file"]
        store.plan("PUT", "ok", then=lambda: service.stop(signal.SIGKILL))
        with ThreadPoolExecutor(1) as pool, pytest.raises(httpx.TransportError):
            pool.submit(service.patch_picture, alice, jpeg()).result()
        key = store.keys("PUT")[-1]
        kept = f"profile_pics/{shown}"
        assert planned_stock.states() == {kept: "live", key: "pending"}
        assert set(store.objects) == {kept, key}
        service.settings = settings
        service.start()
        wait_until(
            lambda: planned_stock.states().get(key) == "deleting", "the expired row is claimed"
        )
        wait_until(lambda: set(store.objects) == {kept}, "its object is deleted")
        planned_stock.end_tombstone(key)
        wait_until(
            lambda: planned_stock.states() == {kept: "live"},
            "the tombstone goes when its day is over",
        )
        assert set(store.objects) == {kept}
        with service.client() as client:
            assert client.get(f"/users/{alice.id}").json()["image_file"] == shown
    finally:
        service.stop(signal.SIGKILL)


def test_a_service_killed_after_its_commit_leaves_the_old_object_to_the_next_one(
    planned_stock: Stock, store: FakeS3
) -> None:
    service = Service({**planned_stock.settings, "REAPER_INTERVAL_SECONDS": "0.1"})
    service.start()
    try:
        alice = service.register()
        old = f"profile_pics/{service.patch_picture(alice, jpeg()).json()['image_file']}"
        store.plan("DELETE", "hang")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(service.patch_picture, alice, jpeg())
            wait_until(
                lambda: store.hanging == {old}, "the store is asked to delete the old object"
            )
            service.stop(signal.SIGKILL)
            with contextlib.suppress(httpx.TransportError):
                answer.result()
        (new,) = set(planned_stock.states()) - {old}
        assert planned_stock.states() == {old: "deleting", new: "live"}
        service.start()
        planned_stock.make_due(old)
        wait_until(
            lambda: planned_stock.states() == {new: "live"}, "the reaper finishes the deletion"
        )
        assert set(store.objects) == {new}
    finally:
        service.stop(signal.SIGKILL)


def test_a_store_that_is_away_is_asked_for_one_batch_a_pass(
    planned_stock: Stock, store: FakeS3
) -> None:
    keys = [planned_stock.row("doomed", stored=False) for _ in range(3 * reaper.FIRST_BATCH)]
    store.always["DELETE"] = "500"
    assert planned_stock.reap() == reaper.FIRST_BATCH, (
        "the next pass, and other places, wait for no more than that"
    )
    store.always["DELETE"] = "ok"
    assert planned_stock.reap() == 2 * reaper.FIRST_BATCH
    assert len(planned_stock.states()) == reaper.FIRST_BATCH, "those that failed have their backoff"
    assert set(store.keys("DELETE")) == set(keys)
