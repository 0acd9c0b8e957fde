"""Proves that `check` finds whatever is wrong between rows and objects.

Where all is well it finds nothing.
"""

import asyncio
import json
import shutil
import signal
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import cli
from errors import DatabaseUnavailable
from files import kinds
from files.kinds import Kind
from models import StoredFile
from ops import check, inventory
from storage import AsyncStore, FoundObject, OpenObject
from tests.support import rows
from tests.support.findings import LISTS, findings
from tests.support.pictures import jpeg
from tests.support.services import Service, free_port
from tests.support.stock import Stock

pytestmark = pytest.mark.backends


def run_check(stock: Stock) -> dict[str, Any]:
    """The report as it is printed."""
    return stock.ask(check.check).as_json()


def test_the_command_says_what_is_there_and_that_all_is_well(stock: Stock) -> None:
    for content in (b"one", b"two", b"", b"x" * (check.CHUNK_BYTES + 1)):
        stock.picture(content)
    resting = stock.row("deleting", stored=False)
    stock.service.sql(
        "UPDATE stored_files SET tombstone_until = now() + interval '1 day' WHERE key = $1", resting
    )
    for state in ("pending", "doomed", "deleting"):
        stock.row(state, stored=False)
        stock.row(state)
    stock.put("profile_pics_old/of-somebody-else.jpg", b"a sibling's")
    stock.put("darkroom/database-id.txt", b"an old marker")
    run = stock.run("check")
    assert (run.returncode, run.stderr) == (0, "")
    report = json.loads(run.stdout)
    assert findings(report) == {}
    assert report["rows"] == {"live": 4, "pending": 2, "doomed": 2, "deleting": 3}
    assert report["objects"] == 7 and report["bytes"] == 6 + check.CHUNK_BYTES + 1 + 3
    assert (report["failing"], report["late_jobs"]) == (0, 0)


def test_jobs_that_nobody_does_are_told_and_are_nothing_wrong(stock: Stock) -> None:
    stock.service.sql(
        "INSERT INTO pgqueuer (priority, entrypoint, status, execute_after)"
        " SELECT 0, 'render_presets', status::pgqueuer_status, now() - minutes * interval '1 min'"
        " FROM (VALUES ('queued', 11), ('queued', 12), ('queued', 9), ('queued', -1),"
        " ('picked', 11)) AS jobs (status, minutes)"
    )
    run = stock.run("check")
    assert run.returncode == 0
    assert json.loads(run.stdout)["late_jobs"] == 2
    assert run.stderr.startswith("2 jobs have been due for over ten minutes.")


@pytest.mark.parametrize(
    "damage", ["lost", "shorter", "longer", "other bytes", "unexplained", "unreferenced"]
)
def test_each_damage_is_found_and_named(stock: Stock, damage: str) -> None:
    stock.picture()
    key = stock.picture(b"a picture", used=damage != "unreferenced")
    expected = {
        "unreferenced": "unreferenced",
        "lost": "missing",
        "unexplained": "unexplained",
    }.get(damage, "wrong")
    if damage == "lost":
        stock.lose(key)
    elif damage == "unexplained":
        key = "profile_pics/nobody-announced-this.jpg"
        stock.put(key, b"x")
    elif damage != "unreferenced":
        stock.put(
            key,
            {"shorter": b"a pictur", "longer": b"a picture!", "other bytes": b"a pictura"}[damage],
        )
    assert findings(run_check(stock)) == {expected: [key]}


def test_an_account_whose_picture_is_being_deleted_is_found(local_stock: Stock) -> None:
    local_stock.picture()
    key = local_stock.picture()
    local_stock.service.sql("UPDATE stored_files SET state = 'doomed' WHERE key = $1", key)
    assert findings(run_check(local_stock)) == {"dangling": [key]}


class _Base(DeclarativeBase):
    pass


class Album(_Base):
    """A table of another kind of files than those that there are."""

    __tablename__ = "albums"

    id: Mapped[int] = mapped_column(primary_key=True)
    cover_id: Mapped[int] = mapped_column(ForeignKey(StoredFile.id))


COVER = Kind(name="cover", prefix="covers/", is_public=False, referrers=(Album.cover_id,))


def test_every_kind_of_files_is_looked_at_by_the_columns_and_the_prefix_of_its_own(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock.picture()
    used = stock.row("live", key="covers/of-an-album.jpg")
    dangling = stock.row("doomed", key="covers/that-is-let-go.jpg")
    unreferenced = stock.row("live", key="covers/of-no-album.jpg")
    unexplained = "covers/nobody-announced-this.jpg"
    stock.put(unexplained)
    stock.service.sql(
        "CREATE TABLE albums AS SELECT id, id AS cover_id FROM stored_files WHERE key = ANY ($1)",
        [used, dangling],
    )
    monkeypatch.setattr(kinds, "KINDS", (*kinds.KINDS, COVER))
    report = run_check(stock)
    assert findings(report) == {
        "unexplained": [unexplained],
        "unreferenced": [unreferenced],
        "dangling": [dangling],
    }
    assert report["objects"] == 5


def test_the_command_ends_with_status_1_when_something_is_wrong(stock: Stock) -> None:
    missing = stock.picture(stored=False)
    wrong = stock.picture()
    stock.put(wrong, b"a pictura")
    stock.put("profile_pics/b c\x7f.jpg", b"a key that Darkroom never makes")
    run = stock.run("check")
    assert (run.returncode, run.stderr) == (1, "")
    assert findings(json.loads(run.stdout)) == {
        "missing": [missing],
        "wrong": [wrong],
        "unexplained": ["profile_pics/b c\x7f.jpg"],
    }


def test_drafts_of_the_local_store_are_no_objects(local_stock: Stock) -> None:
    local_stock.picture()
    for draft in (".drafts/half-a-picture", "profile_pics/.drafts/half-a-picture"):
        local_stock.put(draft, b"half")
    report = run_check(local_stock)
    assert (findings(report), report["objects"]) == ({}, 1)


def test_a_list_shows_a_hundred_keys_and_the_counts_tell_of_all(local_stock: Stock) -> None:
    rows.insert_numbered_files(local_stock.service, range(1234), "live")
    for number in range(2000, 2150):
        local_stock.put(rows.numbered_key(number))
    report = run_check(local_stock)
    assert report["counts"] == {
        **dict.fromkeys(LISTS, 0),
        "missing": 1234,
        "unreferenced": 1234,
        "unexplained": 150,
    }
    assert {
        kind: len(set(report[kind])) for kind in ("missing", "unreferenced", "unexplained")
    } == {
        "missing": 100,
        "unreferenced": 100,
        "unexplained": 100,
    }


def test_every_place_that_rows_name_is_looked_into(stock: Stock, tmp_path: Path) -> None:
    """Also under a second name for one place: its objects are explained by rows under the first."""
    previous = {
        "older": {"storage": "local", "directory": str(tmp_path / "older")},
        "alias": {"storage": "local", "directory": str(tmp_path / "older")},
    }
    stock.change_settings(PREVIOUS_STORES=json.dumps(previous))
    stock.picture(b"current")
    (tmp_path / "older" / "profile_pics").mkdir(parents=True)
    for content, name in ((b"1", "older"), (b"22", "alias")):
        key = stock.picture(content, stored=False, storage=name, bucket="")
        (tmp_path / "older" / key).write_bytes(content)
    report = run_check(stock)
    assert (findings(report), report["objects"]) == ({}, 1 + 2 * 2)
    (tmp_path / "older" / key).write_bytes(b"23")
    (tmp_path / "older" / "profile_pics" / "stranger.jpg").write_bytes(b"x")
    report = run_check(stock)
    assert (report["wrong"], set(report["unexplained"])) == ([key], {"profile_pics/stranger.jpg"})


def test_a_service_under_load_is_well(service: Service) -> None:
    accounts = [service.register(f"user{number}") for number in range(3)]
    is_over = threading.Event()
    pictures = [jpeg(200 + size, 200) for size in range(3)]

    def replace(number: int) -> int:
        count = 0
        while not is_over.is_set():
            answer = service.patch_picture(accounts[number], pictures[count % 3])
            assert answer.status_code == 200, answer.text
            count += 1
        return count

    stock = Stock(service.settings)
    with ThreadPoolExecutor(len(accounts)) as pool:
        replaced = [pool.submit(replace, number) for number in range(len(accounts))]
        try:
            for _ in range(2):
                run = stock.run("check")
                assert (run.returncode, run.stderr) == (0, ""), run.stdout
        finally:
            is_over.set()
        assert sum(count.result() for count in replaced) > 5


def test_what_changes_between_two_looks_is_no_finding(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture is replaced after its row was read; an object is deleted after it was listed."""
    replaced = stock.picture()
    kept = stock.picture()
    listed = stock.row("doomed")
    find = AsyncStore.find
    open_ = AsyncStore.open
    opened = []

    async def find_then_delete(self: AsyncStore, prefix: str) -> AsyncIterator[list[FoundObject]]:
        async for batch in find(self, prefix):
            await asyncio.to_thread(stock.lose, listed)
            await asyncio.to_thread(
                stock.service.sql, "DELETE FROM stored_files WHERE key = $1", listed
            )
            yield batch

    async def replace_then_open(self: AsyncStore, key: str) -> OpenObject:
        opened.append(key)
        if opened == [replaced]:
            unused = (
                "UPDATE users SET picture_id = NULL"
                " WHERE picture_id = (SELECT id FROM stored_files WHERE key = $1)"
            )
            await asyncio.to_thread(stock.service.sql, unused, key)
            await asyncio.to_thread(
                stock.service.sql, "DELETE FROM stored_files WHERE key = $1", key
            )
            await asyncio.to_thread(stock.lose, key)
        return await open_(self, key)

    monkeypatch.setattr(AsyncStore, "find", find_then_delete)
    monkeypatch.setattr(AsyncStore, "open", replace_then_open)
    monkeypatch.setattr(inventory, "SIDE_BY_SIDE", 1)
    report = run_check(stock)
    assert findings(report) == {} and report["objects"] == 3
    assert opened == [replaced, kept, replaced], "what looked wrong was not looked at again"


def test_a_wrong_answer_of_the_store_that_does_not_come_twice_is_no_finding(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock.picture()
    answers = iter([False, True])

    async def is_right(*_: object) -> bool:
        return next(answers)

    monkeypatch.setattr(check, "_is_right", is_right)
    assert findings(run_check(stock)) == {}


@pytest.mark.parametrize(
    ("trouble", "command", "said"),
    [
        ("store", "check", "The store s3 (bucket b) cannot be looked into"),
        ("store", "sweep --delete", "The store s3 (bucket b) cannot be looked into"),
        ("no store", "check", "there is no marker of a store"),
        ("database", "check", "The database"),
        ("database", "sweep", "The database"),
        ("unknown store", "sweep --delete", "which is not configured: add it to PREVIOUS_STORES"),
    ],
)
def test_what_cannot_be_looked_into_is_said_in_one_sentence_with_status_2(
    local_stock: Stock, trouble: str, command: str, said: str
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    changed = {}
    if trouble == "store":
        changed = {"STORAGE": "s3", "S3_BUCKET_NAME": "b", "S3_ENDPOINT_URL": f"http://{nowhere}"}
        changed |= {"S3_ACCESS_KEY_ID": "x", "S3_SECRET_ACCESS_KEY": "y"}
    elif trouble == "no store":
        shutil.rmtree(local_stock.path(""))
        local_stock.path("").write_bytes(b"a file where the folder should be")
    elif trouble == "database":
        changed = {"DATABASE_URL": f"postgresql://someone:their-password@{nowhere}/darkroom"}
    else:
        local_stock.row("live", storage="forgotten", stored=False)
    run = local_stock.run(*command.split(), **changed)
    assert (run.returncode, run.stdout) == (2, "")
    assert len(run.stderr.splitlines()) == 1 and said in run.stderr, run.stderr
    assert "Traceback" not in run.stderr and "their-password" not in run.stderr


def test_a_database_that_goes_away_meanwhile_is_said_in_one_sentence_too(
    local_stock: Stock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def end(*_: object) -> None:
        raise DatabaseUnavailable from ConnectionError("the server is gone\nand more")

    monkeypatch.setattr(check, "_look_twice", end)
    monkeypatch.setattr(sys, "argv", ["cli.py", "check"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the tests keep their own handling
    local_stock.picture()
    assert cli.main(local_stock.parsed_settings) == 2
    assert capsys.readouterr().err == "The database cannot be used: the server is gone\n"
