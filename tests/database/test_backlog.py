"""Proves that a backlog of deletions goes in large batches, past what fails, beside uploads."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from errors import DarkroomError, StoreRefused, StoreUnavailable
from files import Backends, reaper, statements
from files.kinds import PHOTO_ORIGINAL
from files.reaper import Reaper
from storage import DELETED_AT_ONCE
from storage.memory import MemoryStore
from tests.support import rows
from tests.support.many_objects import OneStore
from tests.support.stock import Stock


class NotedStore(MemoryStore):
    """A store that notes what is deleted together, refuses some of it, and can be away."""

    def __init__(self) -> None:
        super().__init__("")
        self.batches: list[int] = []
        self.singly: list[str] = []
        self.erased: set[str] = set()
        self.refused: set[str] = set()
        self.is_away = False

    def delete(self, key: str, erases: bool = False) -> None:
        self._refuse_if_away()
        self.singly.append(key)
        if erases:
            self.erased.add(key)
        if key in self.refused:
            raise StoreRefused

    def delete_many(self, keys: Sequence[str], erases: bool = False) -> dict[str, DarkroomError]:
        self.batches.append(len(keys))
        self._refuse_if_away()
        if erases:
            self.erased |= set(keys)
        return {key: StoreRefused() for key in keys if key in self.refused}

    def _refuse_if_away(self) -> None:
        if self.is_away:
            raise StoreUnavailable


@pytest.fixture
def noted(local_stock: Stock) -> NotedStore:
    store = NotedStore()
    local_stock.replace_stores(OneStore(store))
    return store


def insert_doomed(stock: Stock, numbers: range) -> list[str]:
    rows.insert_numbered_files(stock.service, numbers, "doomed")
    return [rows.numbered_key(number) for number in numbers]


def test_a_backlog_goes_in_batches_that_grow_to_what_a_store_takes(
    local_stock: Stock, noted: NotedStore
) -> None:
    insert_doomed(local_stock, range(3000))
    assert local_stock.reap() == 3000
    assert local_stock.states() == {}
    assert noted.batches[0] == reaper.FIRST_BATCH and max(noted.batches) == DELETED_AT_ONCE
    assert len(noted.batches) < 3000 / 100, noted.batches


def test_files_that_cannot_be_deleted_hold_up_no_others(
    local_stock: Stock, noted: NotedStore
) -> None:
    noted.refused.update(insert_doomed(local_stock, range(400)))
    local_stock.service.sql("UPDATE stored_files SET next_attempt_at = now() - interval '1 hour'")
    insert_doomed(local_stock, range(400, 401))
    assert local_stock.reap() == 401
    left = local_stock.service.sql("SELECT key, attempts, last_error FROM stored_files")
    assert {row["key"] for row in left} == noted.refused
    assert {(row["attempts"], row["last_error"]) for row in left} == {(1, "store_refused")}


def test_uploads_that_cannot_be_ended_hold_up_no_others(
    local_stock: Stock, noted: NotedStore
) -> None:
    failing = [local_stock.row("deleting", stored=False) for _ in range(20)]
    local_stock.service.sql(
        "UPDATE stored_files SET upload_id = 'begun', next_attempt_at = now() - interval '1 hour'"
    )
    noted.refused.update(failing)
    insert_doomed(local_stock, range(2))
    assert local_stock.reap() == 22
    assert set(local_stock.states()) == set(failing)


def test_a_store_that_is_away_is_left_alone_for_longer_and_longer(
    local_stock: Stock, noted: NotedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_doomed(local_stock, range(1000))
    noted.is_away = True
    now = [0.0]
    monkeypatch.setattr("files.reaper.time.monotonic", lambda: now[0])
    asked_at = []

    async def reap_for_minutes(backends: Backends) -> None:
        one = Reaper(backends)
        while now[0] < 300:
            asked = len(noted.batches)
            await one.reap()
            if len(noted.batches) > asked:
                asked_at.append(now[0])
            now[0] += 5
        noted.is_away = False
        now[0] += reaper.LONGEST_PAUSE_SECONDS
        await one.reap()

    local_stock.ask(reap_for_minutes, pool_size=5)
    waits = [later - earlier for earlier, later in itertools.pairwise(asked_at)]
    assert waits == [5, 10, 20, 40, 60, 60, 60], "a pass asks it once, and for few files"
    assert noted.batches[: len(asked_at)] == [reaper.FIRST_BATCH] * len(asked_at)
    left = local_stock.service.sql("SELECT attempts FROM stored_files")
    assert len(left) == len(asked_at) * reaper.FIRST_BATCH, "all the others are gone"


def test_beside_uploads_it_rests_nine_times_as_long_as_it_works(
    local_stock: Stock, noted: NotedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_doomed(local_stock, range(50))
    rests = []

    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            self.now += 0.01
            return self.now

    async def note(seconds: float) -> None:
        rests.append(seconds)

    monkeypatch.setattr(reaper, "time", Clock())
    monkeypatch.setattr("files.reaper.asyncio.sleep", note)
    has_uploads = [True]
    local_stock.ask(lambda backends: Reaper(backends, lambda: has_uploads[0]).reap(), pool_size=5)
    assert len(rests) == 3 and rests == pytest.approx([0.09] * 3)
    has_uploads[0] = False
    insert_doomed(local_stock, range(50))
    local_stock.ask(lambda backends: Reaper(backends, lambda: has_uploads[0]).reap(), pool_size=5)
    assert len(rests) == 3


def test_a_pass_of_the_loop_ends_for_what_is_due_elsewhere_and_the_next_begins_at_once(
    local_stock: Stock, noted: NotedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_doomed(local_stock, range(50))
    local_stock.change_settings(REAPER_INTERVAL_SECONDS="3600")
    local_stock.replace_stores(OneStore(noted))
    monkeypatch.setattr(reaper, "PASS_SECONDS", 0.0)
    waits = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise asyncio.CancelledError
        await sleep(0)

    async def reap_forever(backends: Backends) -> None:
        monkeypatch.setattr("files.reaper.asyncio.sleep", note)
        with pytest.raises(asyncio.CancelledError):
            await Reaper(backends).reap_forever()
        monkeypatch.undo()

    local_stock.ask(reap_forever, pool_size=5)
    assert local_stock.states() == {}, "in several passes, between which it did not wait"
    assert noted.batches == [8, 32, 10], "nor begin anew with the smallest batch"


def test_only_what_accounts_leave_behind_is_erased(local_stock: Stock, noted: NotedStore) -> None:
    owner_id = rows.account().run(local_stock.service)
    owners = {"its": owner_id, "gone": owner_id + 1, "nobody": 0}
    keys = {}
    for number, (name, given_id) in enumerate(owners.items(), 1):
        keys[name] = insert_doomed(local_stock, range(20 * number, 20 * number + 20))
        keys[name].append(local_stock.row("pending", stored=False))
        set_columns = "UPDATE stored_files SET owner_id = $1, purpose = $2 WHERE key = $3"
        local_stock.service.sql(set_columns, given_id, PHOTO_ORIGINAL.name, keys[name][-1])
        own = "UPDATE stored_files SET owner_id = $1 WHERE key = ANY($2)"
        local_stock.service.sql(own, given_id, keys[name])
    assert local_stock.reap() == 63
    assert noted.erased == set(keys["gone"])


def test_the_index_of_due_rows_serves_a_claim_among_many(local_stock: Stock) -> None:
    insert_doomed(local_stock, range(20_000))
    local_stock.service.sql("UPDATE stored_files SET state = 'live' WHERE id % 20 > 0")
    assert "stored_files_place_key" not in explain_claim(local_stock), "of a table just filled"
    local_stock.service.sql("ANALYZE stored_files")
    assert "Index Scan using stored_files_due_index" in explain_claim(local_stock)


def explain_claim(stock: Stock) -> str:
    """How the database would find what is due."""
    values = {"storage": "local", "bucket": "", "most_files": DELETED_AT_ONCE}
    explain = f"EXPLAIN {statements.CLAIM_DUE.sql}"
    found = stock.service.sql(explain, *statements.CLAIM_DUE.bind(values))
    return "\n".join(row[0] for row in found)
