"""Proves that `sweep` cannot destroy live data: each of its rules, one by one."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from files.kinds import KINDS
from ops import sweep
from storage.async_store import STORE_DEADLINE_SECONDS
from tests.support.swept_stock import STRANGER, SweptStock, open_swept_stock

pytestmark = pytest.mark.backends

PREFIXES = [kind.prefix for kind in KINDS]


@pytest.fixture
def stock(stock_settings: dict[str, str]) -> Iterator[SweptStock]:
    with open_swept_stock(stock_settings) as made:
        yield made


@pytest.fixture
def local_stock(local_stock_settings: dict[str, str]) -> Iterator[SweptStock]:
    with open_swept_stock(local_stock_settings) as made:
        yield made


def test_alone_it_reports_and_writes_nothing(stock: SweptStock) -> None:
    stranger = stock.stranger()
    stock.row("deleting")
    for claimed in ("this database", "another database", "nobody"):
        if claimed == "another database":
            stock.give_to("another")
        elif claimed == "nobody":
            stock.forget_store()
        before = stock.tables(), stock.objects()
        report = stock.sweep(deletes=False)
        (found,) = report["places"]
        assert (found["claimed"], found["objects"], found["unexplained"]) == (
            claimed,
            3,
            [stranger],
        )
        assert (report["ok"], found["refused"], found["first_sightings"]) == (
            False,
            None,
            [stranger],
        )
        assert (stock.tables(), stock.objects()) == before


def test_the_commands_say_what_they_did_and_how_it_ended(local_stock: SweptStock) -> None:
    stranger = local_stock.stranger()
    own_id = local_stock.service.sql("SELECT id::text FROM installation")[0][0]

    def sweep(*options: str) -> tuple[int, dict[str, Any], list[str]]:
        run = local_stock.run("sweep", *options)
        report = json.loads(run.stdout)
        assert report["database"] == own_id
        return run.returncode, report["places"][0], run.stderr.splitlines()[-1:]

    status, report, said = sweep()
    assert (status, said, report["unexplained"]) == (1, [], [stranger])
    local_stock.give_to("another")
    status, report, said = sweep("--delete")
    refusal = "Nothing was deleted in local: it is claimed by another database."
    assert (status, said) == (1, [refusal])
    assert report["counts"]["unexplained"] == 1 and local_stock.sightings() == set()
    adopted = local_stock.run("adopt-store")
    assert adopted.returncode == 0 and "is this database's now" in adopted.stdout
    status, report, said = sweep("--delete")
    assert (status, said, report["first_sightings"]) == (0, [], [stranger])
    local_stock.remember()
    status, report, said = sweep("--delete", "--limit", "0")
    assert status == 1 and "more than the limit of 0" in said[0]
    assert stranger in local_stock.objects()
    status, report, said = sweep("--delete")
    assert (status, said, report["counts"]["deleted"]) == (0, [], 1)
    assert local_stock.sweep(deletes=False)["ok"]
    assert stranger not in local_stock.objects()


@pytest.mark.parametrize("reaper", ["", "another", None])
def test_where_the_marker_is_not_ours_nothing_is_done(
    stock: SweptStock, reaper: str | None
) -> None:
    stranger = stock.stranger()
    if reaper is None:
        stock.forget_store()
    else:
        stock.give_to(reaper)
    here = (stock.settings["STORAGE"], stock.settings.get("S3_BUCKET_NAME", ""), stranger)
    stock.service.sql("INSERT INTO sightings (storage, bucket, key) VALUES ($1, $2, $3)", *here)
    stock.remember()
    before = stock.tables(), stock.service.objects()
    report = stock.sweep()
    (found,) = report["places"]
    whose = "another database" if reaper is not None else "nobody"
    assert not report["ok"] and f"it is claimed by {whose}" in found["refused"]
    assert found["counts"]["due"] == 1 and found["counts"]["deleted"] == 0
    assert (stock.tables(), stock.service.objects()) == before


def test_an_object_is_deleted_only_at_a_second_sighting_long_after_the_first(
    stock: SweptStock,
) -> None:
    stranger = stock.stranger()
    kept = stock.objects()
    found = stock.sweep_only_store()
    assert (found["first_sightings"], found["counts"]["deleted"]) == ([stranger], 0)
    assert stock.objects() == kept and stock.sightings() == {stranger}
    stock.remember(long_ago=False)
    for _ in range(2):
        found = stock.sweep_only_store()
        assert (
            found["first_sightings"],
            found["counts"]["seen_lately"],
            found["counts"]["deleted"],
        ) == ([], 1, 0)
        assert stock.objects() == kept, "the first sighting is too young"
    stock.remember()
    rows = stock.states()
    assert stock.sweep_only_store(deletes=False)["counts"]["due"] == 1 and stock.objects() == kept
    found = stock.sweep_only_store()
    assert (found["counts"]["deleted"], found["counts"]["left_to_the_reaper"]) == (1, 0)
    assert stock.objects() == kept - {stranger}
    assert stock.states() == rows and stock.sightings() == set()


def test_a_young_object_is_no_candidate_however_long_ago_its_key_was_seen(
    stock: SweptStock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = stock.due_stranger()
    stock.put(stranger, b"someone put it again")
    monkeypatch.setattr(sweep, "AGE_FLOOR_SECONDS", 60.0)
    stock.change_settings(PENDING_EXPIRY_SECONDS="600")
    found = stock.sweep_only_store()
    assert (found["too_young"], found["unexplained"], found["counts"]["deleted"]) == (1, [], 0)
    assert stranger in stock.objects()
    assert stock.sightings() == set(), "what was put again is another object, and has not been seen"


def test_the_age_floor_is_above_the_time_that_an_upload_may_take(local_stock: SweptStock) -> None:
    expiry = local_stock.parsed_settings.pending_expiry_seconds
    assert local_stock.age_floor_seconds >= 3600 + expiry > 3600 + STORE_DEADLINE_SECONDS
    local_stock.stranger(is_old=False)
    local_stock.age(STRANGER, 3600 + expiry - 60)
    assert local_stock.sweep_only_store(deletes=False)["too_young"] == 1
    local_stock.age(STRANGER, 120)
    assert local_stock.sweep_only_store(deletes=False)["unexplained"] == [STRANGER]


@pytest.mark.parametrize("change", ["vanished", "explained"])
def test_a_sighting_that_no_longer_holds_is_forgotten(stock: SweptStock, change: str) -> None:
    stranger = stock.stranger()
    other = stock.stranger("profile_pics/another.jpg")
    stock.sweep()
    stock.remember(long_ago=False)
    assert stock.sightings() == {stranger, other}
    if change == "vanished":
        stock.lose(stranger)
    else:
        stock.explain(stranger, "live")
    stock.sweep()
    assert stock.sightings() == {other}


def test_more_than_the_limit_and_nothing_is_deleted(stock: SweptStock) -> None:
    for number in range(12):
        stock.stranger(f"profile_pics/stranger-{number}.jpg")
    stock.sweep()
    stock.remember()
    kept = stock.objects()
    report = stock.sweep(limit=11)
    (found,) = report["places"]
    assert (
        not report["ok"] and "it would be 12 objects, more than the limit of 11" in found["refused"]
    )
    assert stock.objects() == kept and len(stock.sightings()) == 12
    assert stock.sweep_only_store(limit=12)["counts"]["deleted"] == 12
    assert len(stock.objects()) == len(kept) - 12
    assert sweep.LIMIT == 100


def test_where_not_one_object_has_a_row_nothing_is_deleted(stock: SweptStock) -> None:
    stranger = stock.due_stranger()
    # As an empty database that was given the wrong id.
    stock.service.sql("DELETE FROM users")
    stock.service.sql("DELETE FROM stored_files")
    kept = stock.objects()
    report = stock.sweep()
    assert not report["ok"] and "not one of its objects has a row" in report["places"][0]["refused"]
    assert stock.objects() == kept and stranger in kept


def test_what_lies_beside_our_prefixes_is_never_touched(stock: SweptStock) -> None:
    beside = {"profile_pics_old/a.jpg", "profile_pics.jpg", "other/profile_pics/a.jpg"}
    for key in beside:
        stock.stranger(key)
    for _ in range(2):
        found = stock.sweep_only_store()
        assert (found["objects"], found["unexplained"]) == (1, [])
        stock.remember()
    assert beside < stock.objects()
    assert all(prefix.endswith("/") for prefix in PREFIXES)


def test_a_key_that_darkroom_never_makes_is_reported_and_never_deleted(stock: SweptStock) -> None:
    foreign = stock.stranger("profile_pics/Holiday in Rome.jpg")
    for _ in range(2):
        found = stock.sweep_only_store()
        assert (found["unexplained"], found["counts"]["not_ours"]) == ([foreign], 1)
        assert (found["counts"]["due"], stock.sightings()) == (0, set())
    assert foreign in stock.objects()


def test_drafts_of_the_local_store_are_no_objects(local_stock: SweptStock) -> None:
    for draft in (".drafts/half", "profile_pics/.drafts/half"):
        local_stock.stranger(draft)
    assert local_stock.sweep_only_store()["objects"] == 1


def test_each_place_is_refused_or_swept_by_its_own_marker(
    stock: SweptStock, tmp_path: Path
) -> None:
    older = {"storage": "local", "directory": str(tmp_path / "older")}
    stock.change_settings(PREVIOUS_STORES=json.dumps({"older": older}))
    stock.picture(storage="older", bucket="", stored=False)
    there = tmp_path / "older" / STRANGER
    there.parent.mkdir(parents=True)
    there.write_bytes(b"x")
    os.utime(there, (1, 1))
    here = stock.stranger("profile_pics/here.jpg")
    for _ in range(2):
        report = stock.sweep()
        stock.remember()
    stores = {found["storage"]: found for found in report["places"]}
    assert not report["ok"] and stores["older"]["refused"].endswith(
        "in older: it is claimed by nobody."
    )
    assert (stores["older"]["unexplained"], there.exists()) == ([STRANGER], True)
    assert (
        stores[stock.settings["STORAGE"]]["counts"]["deleted"] == 1 and here not in stock.objects()
    )
