"""Proves that `sweep` cannot destroy live data: each of its rules, one by one."""

import asyncio
import io
import json
import os
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import config
import storage
from ops import check, sweep
from storage import AsyncStore, OpenObject
from tests.support.stock import (
    STRANGER,
    ManyObjects,
    Swept,
    explain,
    fill,
    peak_bytes,
    stored_in,
    swept,
)


@pytest.fixture
def stock(
    new_database: Callable[[], str], store_settings: dict[str, str], tmp_path: Path
) -> Iterator[Swept]:
    with swept(new_database(), tmp_path / "data", store_settings) as made:
        yield made


@pytest.fixture
def local_stock(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Swept]:
    with swept(new_database(), tmp_path / "data") as made:
        yield made


def test_alone_it_reports_and_writes_nothing(stock: Swept) -> None:
    stranger = stock.stranger()
    stock.row("deleting")
    before = stock.tables(), stock.objects()
    for claimed in ("nobody", "this database"):
        report = stock.sweep(deletes=False)
        (place,) = report["places"]
        assert (place["claimed"], place["objects"], place["unexplained"]) == (
            claimed,
            3,
            [stranger],
        )
        assert (report["ok"], place["refused"], place["first_sightings"]) == (
            False,
            None,
            [stranger],
        )
        assert (stock.tables(), stock.objects()) == before
        stock.claim()
        before = stock.tables(), stock.objects()


def test_the_commands_say_what_they_did_and_how_it_ended(local_stock: Swept) -> None:
    stranger = local_stock.stranger()
    place = local_stock.service.sql("SELECT id::text FROM installation")[0][0]

    def sweep(*options: str) -> tuple[int, dict[str, Any], str]:
        run = local_stock.run("sweep", *options)
        report = json.loads(run.stdout)
        assert report["database"] == place
        return run.returncode, report["places"][0], run.stderr

    status, report, said = sweep()
    assert (status, said, report["unexplained"]) == (1, "", [stranger])
    status, report, said = sweep("--delete")
    assert (status, said) == (1, "Nothing was deleted in local: it is claimed by nobody.\n")
    assert report["counts"]["unexplained"] == 1 and local_stock.sightings() == set()
    claim = local_stock.run("sweep", "--claim")
    assert (claim.returncode, claim.stderr) == (
        0,
        "",
    ) and "claimed by this database" in claim.stdout
    status, report, said = sweep("--delete")
    assert (status, said, report["first_sightings"]) == (0, "", [stranger])
    local_stock.remember()
    status, report, said = sweep("--delete", "--limit", "0")
    assert status == 1 and "more than the limit of 0" in said and stranger in local_stock.objects()
    status, report, said = sweep("--delete")
    assert (status, said, report["counts"]["deleted"]) == (0, "", 1)
    assert local_stock.sweep(deletes=False)["ok"]
    assert stranger not in local_stock.objects()


def test_a_claim_is_a_marker_with_the_databases_own_id(stock: Swept) -> None:
    for _ in range(2):
        stock.claim()
    ((own,),) = stock.service.sql("SELECT id::text FROM installation")
    assert stock.service.objects()[sweep.MARKER] == own.encode()
    assert not any(sweep.MARKER.startswith(prefix) for prefix in check.PREFIXES)


def test_another_databases_claim_stands(local_stock: Swept) -> None:
    theirs = str(uuid.uuid4()).encode()
    local_stock.put_content(sweep.MARKER, theirs)
    run = local_stock.run("sweep", "--claim")
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == "The store local is not claimed: it belongs to another database.\n"
    assert local_stock.service.objects()[sweep.MARKER] == theirs


def test_of_two_databases_that_claim_at_once_one_gets_it(
    stock: Swept, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = str(uuid.uuid4()).encode()
    put = AsyncStore.put

    async def late(self: AsyncStore, *args: Any) -> None:
        await asyncio.to_thread(stock.put_content, sweep.MARKER, theirs)
        await put(self, *args)

    monkeypatch.setattr(AsyncStore, "put", late)
    assert stock.ask(sweep.claim)[1] == sweep.ANOTHER_DATABASE
    assert stock.service.objects()[sweep.MARKER] == theirs


@pytest.mark.parametrize("marker", [None, b"", b"another", b"00000000-0000-4000-8000-000000000000"])
def test_where_the_marker_is_not_ours_nothing_is_done(stock: Swept, marker: bytes | None) -> None:
    stranger = stock.stranger()
    if marker is not None:
        stock.put_content(sweep.MARKER, marker)
    here = (stock.settings["STORAGE"], stock.settings.get("S3_BUCKET_NAME", ""), stranger)
    stock.service.sql("INSERT INTO sightings (storage, bucket, key) VALUES ($1, $2, $3)", *here)
    stock.remember()
    before = stock.tables(), stock.service.objects()
    report = stock.sweep()
    (place,) = report["places"]
    whose = "another database" if marker is not None else "nobody"
    assert not report["ok"] and f"it is claimed by {whose}" in place["refused"]
    assert place["counts"]["due"] == 1 and place["counts"]["deleted"] == 0
    assert (stock.tables(), stock.service.objects()) == before


def test_an_object_is_deleted_only_at_a_second_sighting_long_after_the_first(stock: Swept) -> None:
    stock.claim()
    stranger = stock.stranger()
    kept = stock.objects()
    place = stock.sweep_here()
    assert (place["first_sightings"], place["counts"]["deleted"]) == ([stranger], 0)
    assert stock.objects() == kept and stock.sightings() == {stranger}
    stock.remember(long_ago=False)
    for _ in range(2):
        place = stock.sweep_here()
        assert (
            place["first_sightings"],
            place["counts"]["seen_lately"],
            place["counts"]["deleted"],
        ) == ([], 1, 0)
        assert stock.objects() == kept, "the first sighting is too young"
    stock.remember()
    rows = stock.states()
    assert stock.sweep_here(deletes=False)["counts"]["due"] == 1 and stock.objects() == kept
    place = stock.sweep_here()
    assert (place["counts"]["deleted"], place["counts"]["left_to_the_reaper"]) == (1, 0)
    assert stock.objects() == kept - {stranger}
    assert stock.states() == rows and stock.sightings() == set()


def test_a_young_object_is_no_candidate_however_long_ago_its_key_was_seen(
    stock: Swept, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = stock.due_stranger()
    stock.put_content(stranger, b"someone put it again")
    monkeypatch.setattr(sweep, "AGE_FLOOR_SECONDS", 60.0)
    monkeypatch.setattr(config.settings, "pending_expiry_seconds", 600.0)
    place = stock.sweep_here()
    assert (place["too_young"], place["unexplained"], place["counts"]["deleted"]) == (1, [], 0)
    assert stranger in stock.objects()
    assert stock.sightings() == set(), "what was put again is another object, and has not been seen"


def test_the_age_floor_is_above_the_time_that_an_upload_may_take(local_stock: Swept) -> None:
    expiry = config.settings.pending_expiry_seconds
    assert sweep.age_floor_seconds() >= 3600 + expiry > 3600 + storage.STORE_DEADLINE_SECONDS
    local_stock.stranger(is_old=False)
    local_stock.age(STRANGER, 3600 + expiry - 60)
    assert local_stock.sweep_here(deletes=False)["too_young"] == 1
    local_stock.age(STRANGER, 120)
    assert local_stock.sweep_here(deletes=False)["unexplained"] == [STRANGER]


@pytest.mark.parametrize("change", ["vanished", "explained"])
def test_a_sighting_that_no_longer_holds_is_forgotten(stock: Swept, change: str) -> None:
    stock.claim()
    stranger = stock.stranger()
    other = stock.stranger("profile_pics/another.jpg")
    stock.sweep()
    stock.remember(long_ago=False)
    assert stock.sightings() == {stranger, other}
    if change == "vanished":
        stock.lose(stranger)
    else:
        explain(stock, stranger, "live")
    stock.sweep()
    assert stock.sightings() == {other}


def test_more_than_the_limit_and_nothing_is_deleted(stock: Swept) -> None:
    stock.claim()
    for number in range(12):
        stock.stranger(f"profile_pics/stranger-{number}.jpg")
    stock.sweep()
    stock.remember()
    kept = stock.objects()
    report = stock.sweep(limit=11)
    (place,) = report["places"]
    assert (
        not report["ok"] and "it would be 12 objects, more than the limit of 11" in place["refused"]
    )
    assert stock.objects() == kept and len(stock.sightings()) == 12
    assert stock.sweep_here(limit=12)["counts"]["deleted"] == 12
    assert len(stock.objects()) == len(kept) - 12
    assert sweep.LIMIT == 100


def test_where_not_one_object_has_a_row_nothing_is_deleted(stock: Swept) -> None:
    stranger = stock.due_stranger()
    stock.service.sql("DELETE FROM users")
    stock.service.sql(
        "DELETE FROM stored_files"
    )  # as an empty database that was given the wrong id
    kept = stock.objects()
    report = stock.sweep()
    assert not report["ok"] and "not one of its objects has a row" in report["places"][0]["refused"]
    assert stock.objects() == kept and stranger in kept


def test_what_lies_beside_our_prefixes_is_never_touched(stock: Swept) -> None:
    stock.claim()
    beside = {"profile_pics_old/a.jpg", "profile_pics.jpg", "other/profile_pics/a.jpg"}
    for key in beside:
        stock.stranger(key)
    for _ in range(2):
        place = stock.sweep_here()
        assert (place["objects"], place["unexplained"]) == (1, [])
        stock.remember()
    assert beside < stock.objects()
    assert all(prefix.endswith("/") for prefix in check.PREFIXES)


def test_a_key_that_darkroom_never_makes_is_reported_and_never_deleted(stock: Swept) -> None:
    stock.claim()
    foreign = stock.stranger("profile_pics/Holiday in Rome.jpg")
    for _ in range(2):
        place = stock.sweep_here()
        assert (place["unexplained"], place["counts"]["not_ours"]) == ([foreign], 1)
        assert (place["counts"]["due"], stock.sightings()) == (0, set())
    assert foreign in stock.objects()


def test_drafts_of_the_local_store_are_no_objects(local_stock: Swept) -> None:
    local_stock.claim()
    for draft in (".drafts/half", "profile_pics/.drafts/half"):
        local_stock.stranger(draft)
    assert local_stock.sweep_here()["objects"] == 1


def test_each_place_is_refused_or_swept_by_its_own_marker(
    stock: Swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = config.StoreSettings(storage="local", directory=tmp_path / "older")
    monkeypatch.setattr(config.settings, "previous_stores", {"older": older})
    storage.stores.cache_clear()
    stock.claim()
    stock.picture(storage="older", bucket="", stored=False)
    there = tmp_path / "older" / STRANGER
    there.parent.mkdir(parents=True)
    there.write_bytes(b"x")
    os.utime(there, (1, 1))
    here = stock.stranger("profile_pics/here.jpg")
    for _ in range(2):
        report = stock.sweep()
        stock.remember()
    places = {place["storage"]: place for place in report["places"]}
    assert not report["ok"] and places["older"]["refused"].endswith(
        "in older: it is claimed by nobody."
    )
    assert (places["older"]["unexplained"], there.exists()) == ([STRANGER], True)
    assert (
        places[stock.settings["STORAGE"]]["counts"]["deleted"] == 1 and here not in stock.objects()
    )


class MarkedObjects(ManyObjects):
    """Any number of objects, in a store that is marked."""

    def open(self, key: str) -> OpenObject:
        return OpenObject(io.BytesIO(self.content), len(self.content), "text/plain")


def test_ten_times_as_many_objects_take_no_more_memory(local_stock: Swept) -> None:
    """Of five objects four have a row."""
    store = MarkedObjects()
    ((store.content,),) = local_stock.service.sql(
        "SELECT convert_to(id::text, 'UTF8') FROM installation"
    )
    peaks = []
    with stored_in(store):
        for count in (1_000, 5_000, 30_000):  # the first only warms up
            fill(local_stock, count * 8 // 10, 10)
            store.count = count
            peak, report = peak_bytes(local_stock, partial(sweep.sweep, deletes=True))
            (place,) = report["places"]
            assert (place["objects"], place["counts"]["unexplained"]) == (count, count // 5)
            assert len(local_stock.sightings()) == count // 5
            peaks.append(peak)
    assert peaks[2] < 1.5 * peaks[1], peaks
