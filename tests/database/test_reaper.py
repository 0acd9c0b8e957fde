"""Proves that the reaper finishes what a crash or an outage left, and touches nothing else."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

import config
import database
import storage
from files import reaper
from tests.support import warm
from tests.support.pictures import jpeg
from tests.support.planned_s3 import BUCKET, PlannedS3, planned_s3
from tests.support.services import ROOT, SOMEONE_WAITS, Bucket, Service, wait_until

SOON = "now() + interval '1 hour'"
NOW = "now()"
PAST = "now() - interval '1 minute'"


class Place:
    """A database and a store without a running service, and what a crash may have left in both."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.service = Service(settings)
        self.settings = settings

    def put(self, key: str) -> None:
        """Store an object, as a process did that then died."""
        if self.settings["STORAGE"] == "s3":
            Bucket.of(self.settings).client().put_object(
                Bucket=self.settings["S3_BUCKET_NAME"], Key=key, Body=b"x"
            )
        else:
            path = Path(self.settings["DATA_DIR"]) / "media" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")

    def row(
        self, state: str, due: str = PAST, *, stored: bool = True, storage: str | None = None
    ) -> str:
        """Insert a row by hand, with its object or without; return the key."""
        key = f"profile_pics/{uuid.uuid4().hex}.jpg"
        self.service.sql(
            "INSERT INTO stored_files (storage, bucket, key, purpose, state, owner_id, next_attempt_at,"
            " content_type, size_bytes, sha256, width_px, height_px)"
            f" VALUES ($1, $2, $3, 'profile_picture', $4, 1, {due}, 'image/jpeg', 1, 'x', 300, 300)",
            storage or self.settings["STORAGE"],
            self.settings.get("S3_BUCKET_NAME", ""),
            key,
            state,
        )
        if stored:
            self.put(key)
        return key

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command as an operator does."""
        return warm.run(
            ROOT / "cli.py", *arguments, env={**os.environ, **self.settings, **environment}
        )

    def reap(self) -> int:
        """One pass, in this process."""

        async def one_pass() -> int:
            engine = database.connect(self.settings["DATABASE_URL"], 5)
            try:
                return await reaper.reap()
            finally:
                await engine.dispose()

        return asyncio.run(one_pass())

    def states(self) -> dict[str, str]:
        return {
            row["key"]: row["state"]
            for row in self.service.sql("SELECT key, state FROM stored_files")
        }

    def read(self, key: str) -> Any:
        (found,) = self.service.sql("SELECT *, now() AS now FROM stored_files WHERE key = $1", key)
        return found

    def make_due(self, key: str) -> None:
        self.service.sql("UPDATE stored_files SET next_attempt_at = now() WHERE key = $1", key)

    def objects(self) -> set[str]:
        return set(self.service.objects())


@contextlib.contextmanager
def configured(settings: dict[str, str]) -> Iterator[Place]:
    """Let the functions of this process use these settings until the context ends."""
    known = config.Settings.model_validate(
        {name.lower(): value for name, value in settings.items()}
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in known.model_fields_set:
            patch.setattr(config.settings, name, getattr(known, name))
        storage.stores.cache_clear()
        try:
            yield Place(settings)
        finally:
            storage.stores.cache_clear()


@pytest.fixture
def place(
    new_database: Callable[[], str], store_settings: dict[str, str], tmp_path: Path
) -> Iterator[Place]:
    with configured(
        {"DATABASE_URL": new_database(), "DATA_DIR": str(tmp_path / "data"), **store_settings}
    ) as made:
        yield made


@pytest.fixture
def store() -> Iterator[PlannedS3]:
    with planned_s3() as server:
        yield server


@pytest.fixture
def planned_place(
    new_database: Callable[[], str], store: PlannedS3, tmp_path: Path
) -> Iterator[Place]:
    """A place whose store fails by plan."""
    settings = {
        "DATABASE_URL": new_database(),
        "DATA_DIR": str(tmp_path / "data"),
        **store.settings(),
    }
    with configured(settings) as made:
        yield made


def test_one_pass_finishes_what_is_due_and_touches_nothing_else(place: Place) -> None:
    expired = place.row("pending")
    expired_unput = place.row("pending", stored=False)
    doomed = place.row("doomed")
    doomed_gone = place.row("doomed", stored=False)
    cut_off = place.row("deleting")
    kept = {
        place.row("pending", SOON): "pending",
        place.row("doomed", SOON): "doomed",
        place.row("deleting", SOON): "deleting",
        place.row("live", PAST): "live",
        place.row("live", SOON): "live",
    }
    place.put("profile_pics/of-somebody-else.jpg")
    run = place.run("reap")
    assert (run.returncode, run.stdout) == (0, "5 files were due.\n"), run.stderr
    # What was never known to be put stays as a tombstone: its bytes may arrive yet.
    assert place.states() == {**kept, expired: "deleting", expired_unput: "deleting"}
    assert place.objects() == {*kept, "profile_pics/of-somebody-else.jpg"}
    assert {doomed, doomed_gone, cut_off}.isdisjoint(place.states())
    assert place.reap() == 0


def test_what_arrives_after_its_deletion_is_deleted_a_second_time(place: Place) -> None:
    key = place.row("pending", stored=False)
    assert place.reap() == 1
    row = place.read(key)
    assert (
        row["state"] == "deleting" and row["next_attempt_at"] == row["tombstone_until"] > row["now"]
    )
    place.put(key)  # by a process that was stopped before its put and goes on now
    assert place.reap() == 0 and place.objects() == {key}, "a day has not passed"
    place.make_due(key)
    assert place.reap() == 1
    assert (place.states(), place.objects()) == ({key: "deleting"}, set()), (
        "looked at early, it stays a tombstone"
    )
    place.put(key)
    place.service.sql("UPDATE stored_files SET tombstone_until = now(), next_attempt_at = now()")
    assert place.reap() == 1
    assert (place.states(), place.objects()) == ({}, set())


def test_an_outage_of_the_store_postpones_with_growing_backoff_and_loses_nothing(
    planned_place: Place, store: PlannedS3
) -> None:
    key = planned_place.row("doomed", stored=False)
    tombstone = planned_place.row("pending", stored=False)
    live = planned_place.row("live", stored=False)
    store.objects.update({key: b"x", tombstone: b"x", live: b"x"})
    store.always["DELETE"] = "500"
    waits = []
    for attempt in range(1, 7):
        assert planned_place.reap() == 2
        for failing in (key, tombstone):
            row = planned_place.read(failing)
            assert (row["state"], row["attempts"]) == ("deleting", attempt)
        waits.append(
            (
                planned_place.read(key)["next_attempt_at"] - planned_place.read(key)["now"]
            ).total_seconds()
        )
        assert planned_place.reap() == 0, "it was tried again before its time"
        planned_place.make_due(key)
        planned_place.make_due(tombstone)
    # Five seconds, doubling, a quarter more or less: two steps always grow, whatever the spread.
    assert all(later > earlier for earlier, later in zip(waits, waits[2:], strict=False)), waits
    assert waits[0] > 0 and waits[-1] > 100, waits
    planned_place.service.sql("UPDATE stored_files SET attempts = 40 WHERE key = $1", key)
    assert planned_place.reap() == 2
    wait = planned_place.read(key)["next_attempt_at"] - planned_place.read(key)["now"]
    assert wait.total_seconds() < 2 * 3600, (
        "a store that comes back after a week is noticed within hours"
    )
    assert set(store.objects) == {key, tombstone, live}
    store.always["DELETE"] = "ok"
    planned_place.make_due(key)
    planned_place.make_due(tombstone)
    assert planned_place.reap() == 2
    assert planned_place.states() == {tombstone: "deleting", live: "live"}
    assert set(store.objects) == {live}


def test_a_store_that_cannot_be_reached_at_all_is_an_outage_too(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    with planned_s3() as gone:
        settings = gone.settings()
    with configured(
        {"DATABASE_URL": new_database(), "DATA_DIR": str(tmp_path / "data"), **settings}
    ) as place:
        key = place.row("doomed", stored=False)
        assert place.reap() == 1
        assert place.states() == {key: "deleting"}


def test_one_file_that_keeps_failing_does_not_hold_up_the_others(place: Place) -> None:
    unknown = place.row("doomed", storage="a-store-that-the-settings-forgot", stored=False)
    others = [place.row("doomed") for _ in range(20)]
    assert place.reap() == 21
    assert place.states() == {unknown: "deleting"} and place.objects().isdisjoint(others)


def test_two_reapers_at_once_share_the_work_and_claim_nothing_twice(
    planned_place: Place, store: PlannedS3
) -> None:
    planned_place.service.sql(
        "INSERT INTO stored_files (storage, bucket, key, purpose, state, owner_id)"
        " SELECT 's3', $1, 'profile_pics/' || n || '.jpg', 'profile_picture', 'doomed', 1"
        " FROM generate_series(1, 200) AS n",
        BUCKET,
    )
    keys = set(planned_place.states())
    store.objects.update(dict.fromkeys(keys, b"x"))
    with ThreadPoolExecutor(2) as pool:
        with Locked(planned_place.service) as locked:  # so that both begin at the same moment
            reapers = [pool.submit(planned_place.run, "reap") for _ in range(2)]
            wait_until(lambda: locked.waiting() == 2, "both reapers want to claim")
        runs = [reaper.result() for reaper in reapers]
    assert [run.returncode for run in runs] == [0, 0], runs
    tried = [int(run.stdout.split()[0]) for run in runs]
    assert sum(tried) == 200 and min(tried) > 0, tried
    assert sorted(store.keys("DELETE")) == sorted(keys), "some object was deleted twice, or never"
    assert (planned_place.states(), store.objects) == ({}, {})


class Locked:
    """Keeps everyone from changing the stored files until the context ends."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> "Locked":
        url = self._service.settings["DATABASE_URL"].replace("+asyncpg", "")
        self._connection = self._loop.run_until_complete(asyncpg.connect(url))
        self._loop.run_until_complete(
            self._connection.execute("BEGIN; LOCK TABLE stored_files IN EXCLUSIVE MODE")
        )
        return self

    def waiting(self) -> int:
        count: int = self._service.sql(SOMEONE_WAITS)[0][0]
        return count

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._connection.execute("COMMIT"))
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


def test_old_drafts_of_the_local_store_are_removed(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    settings = {
        "DATABASE_URL": new_database(),
        "DATA_DIR": str(tmp_path / "data"),
        "STORAGE": "local",
    }
    with configured(settings) as place:
        live = place.row("live")
        drafts = tmp_path / "data" / "media" / ".drafts"
        drafts.mkdir()
        old = drafts / "old"
        young = drafts / "young"
        for draft, age in (
            (old, reaper.LEFTOVER_AGE_SECONDS + 60),
            (young, reaper.LEFTOVER_AGE_SECONDS - 600),
        ):
            draft.write_bytes(b"half a picture")
            os.utime(draft, (time.time() - age, time.time() - age))
        place.reap()
        assert (old.exists(), young.exists()) == (False, True)
        assert live in place.objects()


def test_a_service_killed_right_after_its_put_leaves_a_row_that_the_next_one_finishes(
    new_database: Callable[[], str], store: PlannedS3, tmp_path: Path
) -> None:
    settings = {
        "DATABASE_URL": new_database(),
        "DATA_DIR": str(tmp_path / "data"),
        **store.settings(),
    }
    settings |= {"PENDING_EXPIRY_SECONDS": "0.1", "REAPER_INTERVAL_SECONDS": "0.1"}
    # The first one's reaper must not come before the kill.
    service = Service({**settings, "REAPER_INTERVAL_SECONDS": "3600"})
    service.start()
    try:
        alice = service.register()
        shown = service.patch_picture(alice, jpeg()).json()["image_file"]
        killed: list[str] = []

        def kill(key: str) -> None:
            killed.append(key)
            service.stop(signal.SIGKILL)

        store.after_put = kill
        with ThreadPoolExecutor(1) as pool, pytest.raises(httpx.TransportError):
            pool.submit(service.patch_picture, alice, jpeg()).result()
        (key,) = killed
        place = Place(settings)
        kept = f"profile_pics/{shown}"
        assert place.states() == {kept: "live", key: "pending"} and set(store.objects) == {
            kept,
            key,
        }
        service.settings = settings
        service.start()
        wait_until(lambda: place.states().get(key) == "deleting", "the expired row is claimed")
        wait_until(lambda: set(store.objects) == {kept}, "its object is deleted")
        place.service.sql(
            "UPDATE stored_files SET tombstone_until = now(), next_attempt_at = now() WHERE key = $1",
            key,
        )
        wait_until(
            lambda: place.states() == {kept: "live"}, "the tombstone goes when its day is over"
        )
        assert set(store.objects) == {kept}
        with service.client() as client:
            assert client.get(f"/users/{alice.id}").json()["image_file"] == shown
    finally:
        service.stop(signal.SIGKILL)


def test_a_service_killed_after_its_commit_leaves_the_old_object_to_the_next_one(
    new_database: Callable[[], str], store: PlannedS3, tmp_path: Path
) -> None:
    settings = {
        "DATABASE_URL": new_database(),
        "DATA_DIR": str(tmp_path / "data"),
        **store.settings(),
    }
    settings |= {"REAPER_INTERVAL_SECONDS": "0.1"}
    service = Service(settings)
    service.start()
    try:
        alice = service.register()
        old = f"profile_pics/{service.patch_picture(alice, jpeg()).json()['image_file']}"
        store.plan["DELETE"].append("hang")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(service.patch_picture, alice, jpeg())
            wait_until(
                lambda: store.hanging == {old}, "the store is asked to delete the old object"
            )
            service.stop(signal.SIGKILL)
            with contextlib.suppress(httpx.TransportError):
                answer.result()
        place = Place(settings)
        (new,) = set(place.states()) - {old}
        assert place.states() == {old: "deleting", new: "live"}
        service.start()
        place.make_due(old)
        wait_until(lambda: place.states() == {new: "live"}, "the reaper finishes the deletion")
        assert set(store.objects) == {new}
    finally:
        service.stop(signal.SIGKILL)


def test_a_store_that_is_away_is_asked_for_one_batch_a_pass(
    planned_place: Place, store: PlannedS3
) -> None:
    keys = [planned_place.row("doomed", stored=False) for _ in range(3 * reaper.BATCH)]
    store.always["DELETE"] = "500"
    assert planned_place.reap() == reaper.BATCH, (
        "the next pass, and other places, wait for no more than that"
    )
    store.always["DELETE"] = "ok"
    assert planned_place.reap() == 2 * reaper.BATCH
    assert len(planned_place.states()) == reaper.BATCH, "those that failed have their backoff"
    assert set(store.keys("DELETE")) == set(keys)
