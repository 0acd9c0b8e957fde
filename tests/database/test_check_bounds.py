"""Proves that `check` is bounded in memory, connections and store calls, and `sweep` in memory.

`check` lives with a store that fails.
"""

import asyncio
import contextlib
import hashlib
import io
import json
import os
import pty
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from concurrency import ThreadSlots
from errors import ObjectNotFound, StoreUnavailable
from files import Backends
from ops import check, inventory, sweep
from ops.check import CheckReport
from ops.inventory import CannotLook
from storage import AsyncStore, OpenObject, async_store
from storage.async_store import LISTING_BATCH
from storage.memory import MemoryStore
from tests.support.findings import findings
from tests.support.many_objects import ManyObjects, OneStore, fill, measure_peak_bytes
from tests.support.services import ROOT
from tests.support.stock import Stock
from tests.support.swept_stock import SweptStock, open_swept_stock


def test_ten_times_as_many_objects_take_no_more_memory(local_stock: Stock) -> None:
    store = ManyObjects()
    local_stock.replace_stores(OneStore(store))
    peaks = []
    # The first only warms up.
    for count, live in ((2_000, 1_200), (2_000, 1_200), (20_000, 2_000)):
        fill(local_stock, count, live)
        store.count = count
        peak_bytes, report = measure_peak_bytes(local_stock, check.check)
        assert findings(report.as_json()) == {}
        assert (report.objects, report.rows["live"]) == (count, live)
        peaks.append(peak_bytes)
    assert peaks[2] < 1.5 * peaks[1], peaks


class MarkedObjects(ManyObjects):
    """Any number of objects, in a store that is marked."""

    def open(self, key: str) -> OpenObject:
        return OpenObject(io.BytesIO(self.content), len(self.content), "text/plain")


@pytest.fixture
def swept_stock(local_stock_settings: dict[str, str]) -> Iterator[SweptStock]:
    with open_swept_stock(local_stock_settings) as stock:
        yield stock


def test_a_sweep_of_many_more_objects_takes_no_more_memory(swept_stock: SweptStock) -> None:
    """Of five objects four have a row."""
    store = MarkedObjects()
    ((store.content,),) = swept_stock.service.sql(
        "SELECT convert_to(id::text, 'UTF8') FROM installation"
    )
    swept_stock.replace_stores(OneStore(store))
    peaks = []
    for count in (1_000, 5_000, 30_000):  # the first only warms up
        fill(swept_stock, count * 8 // 10, 10)
        store.count = count
        peak_bytes, report = measure_peak_bytes(swept_stock, partial(sweep.sweep, deletes=True))
        (found,) = report.stores
        assert (found.objects, found.unexplained.count) == (count, count // 5)
        assert len(swept_stock.sightings()) == count // 5
        peaks.append(peak_bytes)
    assert peaks[2] < 1.5 * peaks[1], peaks


def test_no_connection_is_held_while_the_store_is_asked_by_at_most_eight(
    local_stock: Stock,
) -> None:
    store = ManyObjects(300)
    fill(local_stock, 200, 100)

    local_stock.replace_stores(OneStore(store))

    async def question(backends: Backends) -> CheckReport:
        async with backends.database.session() as db:
            pool: Any = db.bind.pool  # type: ignore[union-attr]

        def look_at_pool() -> None:
            assert pool.checkedout() == 0

        store.asked = look_at_pool
        return await check.check(backends)

    assert len(findings(local_stock.ask(question).as_json())["unexplained"]) == 100
    assert 1 < store.most_open_streams <= 8


class BadSector(MemoryStore):
    """A store of which one object cannot be read, and others not at the first time."""

    def __init__(self) -> None:
        super().__init__("")
        self.failing: dict[str, int] = {}
        self.is_away = False

    def open(self, key: str) -> OpenObject:
        if self.failing.get(key, 0) > 0:
            self.failing[key] -= 1
            raise StoreUnavailable
        return super().open(key)

    def exists(self, key: str) -> bool:
        if self.is_away:
            raise StoreUnavailable
        return super().exists(key)


def test_one_object_that_cannot_be_read_does_not_hide_the_others(
    local_stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "PAUSES_SECONDS", (0.0, 0.0))
    store = BadSector()
    unreadable, flaky, missing = (local_stock.picture(stored=False) for _ in range(3))
    for key in (unreadable, flaky):
        store.put(key, b"a picture", "", hashlib.sha256(b"a picture").hexdigest())
    store.failing = {unreadable: 1000, flaky: 2}
    local_stock.replace_stores(OneStore(store))
    report = local_stock.ask(check.check)
    assert findings(report.as_json()) == {"missing": [missing], "unreadable": [unreadable]}
    store.is_away = True
    with pytest.raises(CannotLook, match="The store local cannot be looked into"):
        local_stock.ask(check.check)


def test_a_listing_comes_in_batches_off_the_event_loop_and_each_has_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: set[int] = set()
    gate = threading.Event()
    store = ManyObjects(2 * LISTING_BATCH + 1)
    store.asked = lambda: threads.add(threading.get_ident())

    async def sizes() -> list[int]:
        face = AsyncStore("tested", store, ThreadSlots(1))
        return [len(batch) async for batch in face.find("x/")]

    assert asyncio.run(sizes()) == [LISTING_BATCH, LISTING_BATCH, 1]
    assert threads and threading.get_ident() not in threads
    monkeypatch.setattr(async_store, "STORE_DEADLINE_SECONDS", 0.1)
    store.asked = lambda: None if gate.wait(30) else pytest.fail("the gate stayed shut")

    async def given_up() -> None:
        try:
            with pytest.raises(StoreUnavailable):
                await sizes()
        finally:
            gate.set()  # or the thread would outlive the loop

    asyncio.run(given_up())


def test_existence_is_told_by_the_store() -> None:
    store = MemoryStore()
    store.put("x/y", b"", "", hashlib.sha256(b"").hexdigest())

    async def both() -> tuple[bool, bool]:
        face = AsyncStore("tested", store, ThreadSlots(1))
        with pytest.raises(ObjectNotFound):
            await face.exists("no key")
        return await face.exists("x/y"), await face.exists("x/z")

    assert asyncio.run(both()) == (True, False)


def test_on_a_terminal_a_bar_shows_how_far_it_is(local_stock: Stock) -> None:
    for _ in range(3):
        local_stock.picture()
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    command = [sys.executable, str(ROOT / "cli.py"), "check"]
    environment = {**os.environ, **local_stock.settings}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=terminal
    ) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal is closed
            while chunk := os.read(controller, 4096):
                shown += chunk
        os.close(controller)
        assert process.stdout is not None
        report = json.loads(process.stdout.read())
    assert (process.returncode, findings(report)) == (0, {})
    assert b"listing:" in shown and b"reading:" in shown and b"0/3" in shown, shown
