"""Proves that between listing and deleting a sweep loses no race.

What a crash or an outage cut off is finished.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import pytest

import faults
from errors import StoreUnavailable
from files import deletions
from storage import AsyncStore
from storage.async_store import STORE_DEADLINE_SECONDS
from tests.support import rows
from tests.support.services import SOMEONE_WAITS
from tests.support.swept_stock import SweptStock, open_swept_stock


@pytest.fixture
def stock(stock_settings: dict[str, str]) -> Iterator[SweptStock]:
    with open_swept_stock(stock_settings) as made:
        yield made


@pytest.fixture
def local_stock(local_stock_settings: dict[str, str]) -> Iterator[SweptStock]:
    with open_swept_stock(local_stock_settings) as made:
        yield made


@pytest.mark.parametrize("state", ["pending", "live", "doomed", "deleting"])
def test_an_upload_announced_between_listing_and_deleting_is_left_alone(
    stock: SweptStock, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    stranger = stock.stranger()
    other = stock.stranger("profile_pics/another.jpg")
    stock.sweep()
    stock.remember()
    kept = stock.objects() - {other}
    reached = at_point(monkeypatch, lambda: stock.explain(stranger, state))
    found = stock.sweep_only_store()
    assert reached == ["sweep_listed"]
    assert (found["counts"]["due"], found["counts"]["deleted"]) == (2, 1)
    assert stock.objects() == kept and stock.states()[stranger] == state
    assert stock.sightings() == set()


def at_point(monkeypatch: pytest.MonkeyPatch, happen: Callable[[], object]) -> list[str]:
    """Let something happen when the sweep has listed; the list tells that it did."""
    reached: list[str] = []

    def reach(point: str) -> None:
        if point == "sweep_listed":
            reached.append(point)
            in_a_thread(happen)

    monkeypatch.setattr(faults, "reached", reach)
    return reached


def in_a_thread(happen: Callable[[], object]) -> None:
    """Run what has an event loop of its own, from within one; wait for its end."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(happen).result()


def test_a_row_of_another_place_explains_an_object_too(
    stock: SweptStock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two names may stand for one bucket: after STORAGE_NAME changed, or through two endpoints."""
    stranger = stock.due_stranger()
    at_point(monkeypatch, lambda: stock.explain(stranger, "live", storage="another-name"))
    assert stock.sweep_only_store()["counts"]["deleted"] == 0
    assert stranger in stock.objects()


def test_an_announcement_that_is_not_yet_committed_is_waited_for(
    stock: SweptStock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = stock.due_stranger()
    begun = threading.Event()
    announced = rows.stored_file(
        "pending",
        key=stranger,
        storage=stock.settings["STORAGE"],
        bucket=stock.bucket_name,
        facts={},
    )

    async def announce() -> None:
        connection = await asyncpg.connect(stock.settings["DATABASE_URL"].replace("+asyncpg", ""))
        try:
            async with connection.transaction():
                await announced.run_on(connection)
                begun.set()
                async with asyncio.timeout(30):
                    while not await connection.fetchval(SOMEONE_WAITS):
                        await asyncio.sleep(0.02)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as pool:
        upload = []

        def begin() -> None:
            upload.append(pool.submit(asyncio.run, announce()))
            assert begun.wait(30)

        at_point(monkeypatch, begin)
        assert stock.sweep_only_store()["counts"]["deleted"] == 0
        upload[0].result()
    assert stranger in stock.objects() and stock.states()[stranger] == "pending"


def test_while_it_deletes_nobody_can_announce_the_key_and_no_reaper_interferes(
    stock: SweptStock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = stock.due_stranger()
    delete = AsyncStore.delete
    asked = []

    def read_row() -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(stock.read, stranger).result()

    async def look_then_delete(self: AsyncStore, key: str, erases: bool = False) -> None:
        asked.append(key)
        row = read_row()
        assert (row["state"], row["purpose"]) == ("deleting", "unexplained")
        assert (row["next_attempt_at"] - row["now"]).total_seconds() > STORE_DEADLINE_SECONDS
        with pytest.raises(asyncpg.UniqueViolationError):
            in_a_thread(lambda: stock.explain(stranger, "pending"))
        await delete(self, key, erases)

    monkeypatch.setattr(AsyncStore, "delete", look_then_delete)
    assert stock.sweep_only_store()["counts"]["deleted"] == 1
    assert asked == [stranger]


def test_killed_between_listing_and_deleting_it_has_deleted_nothing_and_the_next_one_does(
    local_stock: SweptStock,
) -> None:
    stranger = local_stock.due_stranger()
    kept = local_stock.objects()
    run = local_stock.run("sweep", "--delete", DARKROOM_FAULT="sweep_listed:kill")
    assert (run.returncode, run.stdout) == (-signal.SIGKILL, "")
    assert local_stock.objects() == kept and local_stock.sightings() == {stranger}
    assert local_stock.sweep_only_store()["counts"]["deleted"] == 1
    assert local_stock.objects() == kept - {stranger}


def test_killed_with_an_object_deleted_it_leaves_a_row_that_the_reaper_finishes(
    local_stock: SweptStock,
) -> None:
    stranger = local_stock.due_stranger()
    states = local_stock.states()
    run = local_stock.run("sweep", "--delete", DARKROOM_FAULT="object_deleted:kill")
    assert run.returncode == -signal.SIGKILL
    assert (
        local_stock.states() == {**states, stranger: "deleting"}
        and stranger not in local_stock.objects()
    )
    local_stock.make_due(stranger)
    assert local_stock.reap() == 1
    assert local_stock.states() == states


def test_dead_with_its_claim_committed_it_leaves_the_object_to_the_reaper(
    stock: SweptStock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = stock.due_stranger()
    states = stock.states()

    async def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(deletions, "purge", die)
        stock.sweep()
    assert stock.states() == {**states, stranger: "deleting"} and stranger in stock.objects()
    assert stock.reap() == 0, "the reaper came while the sweep could still be at it"
    assert stock.sweep_only_store()["unexplained"] == [], "a row explains it now"
    stock.make_due(stranger)
    assert stock.reap() == 1
    assert stock.states() == states and stranger not in stock.objects()


def test_what_the_store_would_not_delete_is_left_to_the_reaper(
    stock: SweptStock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = stock.due_stranger()
    states = stock.states()

    async def refuse(*_: object) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(AsyncStore, "delete", refuse)
        report = stock.sweep()
    counts = report["places"][0]["counts"]
    assert (report["ok"], counts["deleted"], counts["left_to_the_reaper"]) == (False, 0, 1)
    assert stock.read(stranger)["last_error"] == "store_unavailable"
    stock.make_due(stranger)
    assert stock.reap() == 1 and stock.states() == states
