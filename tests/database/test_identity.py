"""Proves that "not there" is believed only of the right store, and that one database deletes there.

Stores are moved, swapped, lost and shared between databases, and commands run as an operator does.
"""

import json
import logging
import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from errors import StoreRefused, StoreUnavailable, WrongStore
from files import Backends, identity, reaper
from files.meeting import OLD_CLAIM
from storage import Marker, markers
from tests.support import rows, warm
from tests.support.databases import execute, make_database
from tests.support.guarded_s3 import GuardedS3, guarded_s3, make_statement
from tests.support.s3 import BUCKET, FakeS3
from tests.support.services import ROOT, free_port
from tests.support.stock import Stock

CONTENT_TYPE = "image/jpeg"


async def put(backends: Backends, key: str) -> None:
    await backends.stores.current.put(key, rows.CONTENT, CONTENT_TYPE, str(rows.FACTS["sha256"]))


def copy_database(postgres: str, stock: Stock) -> Stock:
    """A stock that is a copy of the database, on the same store."""
    name = make_url(stock.settings["DATABASE_URL"]).database
    ends = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    execute(postgres, ends)
    return Stock({**stock.settings, "DATABASE_URL": make_database(postgres, name)})


# Another place


def test_a_command_in_another_place_deletes_and_forgets_nothing(
    local_stock: Stock, tmp_path: Path
) -> None:
    local_stock.row("doomed")
    local_stock.row("pending")
    local_stock.picture()
    before = local_stock.states(), local_stock.objects()
    for name in ("elsewhere", "empty"):
        place = tmp_path / name
        if name == "empty":
            (place / "media").mkdir(parents=True)
        run = local_stock.run("reap", DATA_DIR=str(place))
        assert (run.returncode, run.stdout) == (1, "")
        (said,) = run.stderr.splitlines()
        assert str(place / "media") in said and "there is no marker" in said
        assert "adopt-store" in said and "DATA_DIR" in said and "PREVIOUS_STORES" in said
        assert list(place.rglob("*")) == ([place / "media"] if name == "empty" else [])
    assert (local_stock.states(), local_stock.objects()) == before
    assert local_stock.run("reap").stdout == "2 files were due.\n"


def test_a_service_does_not_start_in_another_place(local_stock: Stock, tmp_path: Path) -> None:
    """As a second machine with a disk of its own, on the same database."""
    local_stock.picture()
    place = tmp_path / "elsewhere"
    settings = {
        **local_stock.settings,
        "DATA_DIR": str(place),
        "SECRET_KEY": "0123456789abcdef" * 2,
        "DARKROOM_ENV_FILE": "",
        "PORT": str(free_port()),
    }
    run = warm.run(ROOT / "main.py", env=settings)
    assert run.returncode == 3 and "there is no marker of a store" in run.stderr, run.stderr
    assert not (place / "media").exists()


def test_an_endpoint_that_moved_is_another_store(planned_stock: Stock, store: FakeS3) -> None:
    doomed = planned_stock.row("doomed", stored=False)
    live = planned_stock.row("live", stored=False)
    store.objects.update({doomed: b"x", live: b"x"})
    kept = dict(store.objects)
    with FakeS3() as new:
        moved = new.settings()
        run = planned_stock.run("reap", **moved)
        assert run.returncode == 1 and f"{BUCKET} at {new.url}" in run.stderr
        assert new.marker is None and planned_stock.states() == {doomed: "doomed", live: "live"}
        # Under a new name it is a new store, and the old rows are nobody's there.
        run = planned_stock.run("reap", **moved, STORAGE_NAME="new")
        assert "rows name stores that are not configured" in run.stderr and "s3" in run.stderr
        assert new.keys("DELETE") == [] and store.keys("DELETE") == []
        check = planned_stock.run("check", **moved, STORAGE_NAME="new")
        assert check.returncode == 2 and "add it to PREVIOUS_STORES" in check.stderr
        old = {"storage": "s3", "bucket_name": BUCKET, "endpoint_url": store.url}
        old |= {"access_key_id": "test", "secret_access_key": "test"}
        planned_stock.make_due(doomed)
        named = {"STORAGE_NAME": "new", "PREVIOUS_STORES": json.dumps({"s3": old})}
        run = planned_stock.run("reap", **moved, **named)
        assert (run.returncode, run.stderr) == (0, ""), run.stderr
        assert planned_stock.states() == {live: "live"}
        assert new.marker is not None
    kept.pop(doomed)
    assert store.objects == kept


def test_a_previous_store_in_another_place_is_told_and_left_alone(
    local_stock: Stock, tmp_path: Path
) -> None:
    key = local_stock.row("doomed", storage="local")
    empty = tmp_path / "empty"
    empty.mkdir()
    previous = {"local": {"storage": "local", "directory": str(empty)}}
    changed = {"STORAGE_NAME": "new", "PREVIOUS_STORES": json.dumps(previous)}
    changed["DATA_DIR"] = str(tmp_path / "bigger")
    run = local_stock.run("reap", **changed)
    assert (run.returncode, run.stdout) == (0, "0 files were due.\n"), run.stderr
    assert f"local at {empty} is not the one" in run.stderr
    assert local_stock.states() == {key: "doomed"} and list(empty.iterdir()) == []
    assert (tmp_path / "bigger" / "media" / markers.LOCAL_KEY).is_file()


def test_a_folder_that_goes_away_is_refused_by_every_verb_and_never_made_again(
    local_stock: Stock,
) -> None:
    key = local_stock.row("live")
    media = local_stock.path("")
    away = media.with_name("away")

    async def use(backends: Backends) -> None:
        store = backends.stores.current
        await put(backends, rows.new_key())
        media.rename(away)
        for replacement in ("nothing", "an empty folder", "another store"):
            if replacement == "an empty folder":
                media.mkdir()
            elif replacement == "another store":
                (media / markers.LOCAL_KEY).parent.mkdir()
                (media / markers.LOCAL_KEY).write_bytes(Marker(store=str(uuid.uuid4())).encode())
            before = sorted(media.rglob("*"))
            for verb in (
                partial(put, backends, rows.new_key()),
                partial(store.delete, key),
                partial(store.exists, key),
                partial(store.open, key),
                partial(store.begin_upload, key, CONTENT_TYPE),
                partial(store.complete_upload, key, "0" * 32, ["0" * 64]),
            ):
                with pytest.raises(WrongStore):
                    await verb()
            with pytest.raises(WrongStore):
                async for _ in store.find(""):
                    pass
            await backends.identities.look_quietly(store)
            with pytest.raises(WrongStore):
                backends.identities.require_known(store)
            assert sorted(media.rglob("*")) == before, replacement
        shutil.rmtree(media)
        away.rename(media)
        await put(backends, rows.new_key())
        await backends.identities.look_quietly(store)
        backends.identities.require_known(store)

    local_stock.ask(use)
    assert key in local_stock.objects()


def test_a_bucket_is_asked_once_for_many_files_and_refused_once_it_is_another(
    planned_stock: Stock, store: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(backends: Backends) -> None:
        current = backends.stores.current
        reads = store.marker_reads
        for _ in range(5):
            key = rows.new_key()
            await put(backends, key)
            await current.delete(key)
        assert store.marker_reads == reads + 1
        right = store.marker
        monkeypatch.setattr(identity, "PROOF_SECONDS", 0.0)
        for marker in (None, Marker(store=str(uuid.uuid4())).encode(), b"<html>"):
            store.marker = marker
            before = dict(store.objects)
            with pytest.raises(WrongStore):
                await put(backends, rows.new_key())
            with pytest.raises(WrongStore):
                await current.delete_many([rows.new_key()])
            with pytest.raises(WrongStore):
                await current.begin_upload(rows.new_key(), CONTENT_TYPE)
            with pytest.raises(WrongStore):
                backends.identities.require_known(current)
            assert store.objects == before and not store.keys("POST")
        store.marker = right
        await put(backends, rows.new_key())
        backends.identities.require_known(current)

    planned_stock.ask(use)


def test_an_outage_at_a_start_puts_off_deletions_and_readiness_and_is_no_end(
    planned_stock: Stock, store: FakeS3
) -> None:
    async def use(backends: Backends) -> None:
        current = backends.stores.current
        store.away = True
        await backends.identities.open()
        with pytest.raises(StoreUnavailable):
            backends.identities.require_known(current)
        with pytest.raises(StoreUnavailable):
            await current.delete(rows.new_key())
        store.away = False
        await backends.identities.look_quietly(current)
        backends.identities.require_known(current)
        store.away = True  # once it was seen, it is away and no more
        await backends.identities.look_quietly(current)
        backends.identities.require_known(current)
        store.away = False

    planned_stock.ask(use)


# The first marker


@pytest.mark.backends
def test_processes_that_start_first_together_make_one_marker(stock: Stock) -> None:
    stock.forget_store()
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda _: stock.run("reap"), range(3)))
    assert [run.returncode for run in runs] == [0, 0, 0], runs
    ((store_id,),) = stock.service.sql("SELECT store_id::text FROM store_places")
    ((leased_id, tokens),) = stock.service.sql("SELECT store_id::text, tokens FROM store_leases")
    marker = stock.read_marker()
    assert marker.store == store_id == leased_id and marker.token in tokens


@pytest.mark.backends
def test_an_existing_installation_gets_its_marker_at_its_next_start(
    stock: Stock, tmp_path: Path
) -> None:
    kept = stock.picture()
    stock.row("doomed")
    stock.forget_store()
    run = stock.run("reap")
    assert (run.returncode, run.stdout, run.stderr) == (0, "1 files were due.\n", "")
    assert stock.objects() == {kept}
    assert stock.read_marker().reaper


def test_an_existing_installation_in_the_wrong_place_gets_none(
    local_stock: Stock, tmp_path: Path
) -> None:
    local_stock.picture()
    doomed = local_stock.row("doomed")
    local_stock.forget_store()
    wrong = tmp_path / "wrong"
    (wrong / "media").mkdir(parents=True)
    run = local_stock.run("reap", DATA_DIR=str(wrong))
    assert run.returncode == 1 and "not one of its pictures is there" in run.stderr
    assert not (wrong / "media" / markers.LOCAL_KEY).exists()
    assert doomed in local_stock.objects() and doomed in local_stock.states()


def test_what_another_database_once_claimed_is_not_reaped(local_stock: Stock) -> None:
    doomed = local_stock.row("doomed")
    for claimant in (str(uuid.uuid4()), None):
        local_stock.forget_store()
        ((own,),) = local_stock.service.sql("SELECT id::text FROM installation")
        local_stock.put(OLD_CLAIM, (claimant or own).encode())
        run = local_stock.run("reap")
        if claimant:
            assert "Another database reaps the store local" in run.stderr
            assert doomed in local_stock.objects()
    assert local_stock.states() == {} and local_stock.objects() == {OLD_CLAIM}


def test_a_look_writes_nothing(local_stock: Stock) -> None:
    local_stock.picture()
    local_stock.forget_store()
    for command in ("check", "sweep", "find"):
        words = [command, "profile_pics/"] if command == "find" else [command]
        assert local_stock.run(*words).returncode == 0
    assert not local_stock.path(markers.LOCAL_KEY).exists()
    assert local_stock.service.sql("SELECT * FROM store_places") == []


def test_the_marker_is_no_object(stock: Stock) -> None:
    stock.picture()
    report = json.loads(stock.run("check").stdout)
    assert (report["objects"], report["ok"]) == (1, True)
    found = stock.run("find", "")
    assert "store.json" not in found.stdout and len(found.stdout.splitlines()) == 1


# Another database


@pytest.mark.backends
def test_a_copy_of_the_database_deletes_nothing_until_it_adopts_the_store(
    stock: Stock, postgres: str
) -> None:
    stock.picture()
    expired = stock.row("pending")  # which becomes live in the original
    doomed = stock.row("doomed")
    copy = copy_database(postgres, stock)
    stock.service.sql("UPDATE stored_files SET state = 'live' WHERE key = $1", expired)
    before = stock.objects()
    run = copy.run("reap")
    assert (run.returncode, run.stdout) == (0, "0 files were due.\n")
    assert "Another database reaps the store" in run.stderr
    copy.ask(put_and_replace)
    assert before < stock.objects(), "what users of the copy replace stays"
    assert set(copy.states().values()) == {"pending", "doomed", "live"}
    # Its original goes on.
    assert stock.run("reap").stdout == "1 files were due.\n"
    assert doomed not in stock.objects() and expired in stock.objects()
    refused = copy.run("adopt-store")
    assert refused.returncode == 1 and "another database has renewed its marker" in refused.stderr
    adopted = copy.run("adopt-store", "--force")
    assert adopted.returncode == 0 and "It was another database's" in adopted.stdout
    assert copy.run("reap").stdout == "2 files were due.\n"
    assert expired not in stock.objects()
    stock.row("doomed")
    run = stock.run("reap")
    assert run.stdout == "0 files were due.\n" and "Another database reaps" in run.stderr


async def put_and_replace(backends: Backends) -> None:
    """Store one object more, and fail to delete another one."""
    await put(backends, rows.new_key())
    with pytest.raises(Exception, match="503"):
        await backends.stores.current.delete(rows.new_key())


def test_a_copy_byte_by_byte_is_told_by_its_older_token(
    local_stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    doomed = local_stock.row("doomed")
    ((tokens,),) = local_stock.service.sql("SELECT tokens FROM store_leases")
    monkeypatch.setattr(identity, "RENEWAL_SECONDS", 0.0)
    monkeypatch.setattr(identity, "ABANDONED_SECONDS", 0.0)
    local_stock.ask(renew)
    ((renewed,),) = local_stock.service.sql("SELECT tokens FROM store_leases")
    assert local_stock.read_marker().token == renewed[-1] not in tokens
    monkeypatch.undo()
    local_stock.service.sql("UPDATE store_leases SET tokens = $1", tokens)  # the copy's
    run = local_stock.run("reap")
    assert run.stdout == "0 files were due.\n" and "Another database reaps" in run.stderr
    assert local_stock.states() == {doomed: "doomed"} and doomed in local_stock.objects()
    local_stock.service.sql("UPDATE store_leases SET tokens = $1", renewed)
    assert local_stock.run("reap").stdout == "1 files were due.\n"


async def renew(backends: Backends) -> None:
    await backends.identities.open()
    await backends.identities.renew()


def test_a_newcomer_leaves_renewing_to_who_does_it(
    local_stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "RENEWAL_SECONDS", -1.0)
    token = local_stock.read_marker().token
    local_stock.ask(renew)
    assert local_stock.read_marker().token == token
    monkeypatch.setattr(identity, "SETTLED_SECONDS", -1.0)
    local_stock.ask(renew)
    assert local_stock.read_marker().token != token
    monkeypatch.undo()
    token = local_stock.read_marker().token
    local_stock.ask(renew)
    assert local_stock.read_marker().token == token, "it was renewed lately"
    local_stock.service.sql("UPDATE store_leases SET renewed_at = now() - interval '4 minutes'")
    local_stock.ask(renew)
    assert local_stock.read_marker().token != token, "whoever renewed it is gone"


@pytest.mark.parametrize("is_written", [False, True])
def test_killed_within_a_renewal_the_marker_still_has_one_of_our_tokens(
    local_stock: Stock, monkeypatch: pytest.MonkeyPatch, is_written: bool
) -> None:
    doomed = local_stock.row("doomed")
    monkeypatch.setattr(identity, "RENEWAL_SECONDS", -1.0)
    monkeypatch.setattr(identity, "SETTLED_SECONDS", -1.0)

    async def fail_often(backends: Backends) -> None:
        write = backends.stores.current.write_marker

        async def die(content: bytes, *, is_first: bool) -> None:
            if is_written:
                await write(content, is_first=is_first)
            raise StoreUnavailable

        monkeypatch.setattr(backends.stores.current, "write_marker", die)
        await backends.identities.open()
        for _ in range(40):  # more than are kept
            await backends.identities.renew()

    local_stock.ask(fail_often)
    ((tokens,),) = local_stock.service.sql("SELECT tokens FROM store_leases")
    assert len(tokens) == 30 and local_stock.read_marker().token in tokens
    monkeypatch.undo()
    assert local_stock.ask(reaper.reap) == 1 and doomed not in local_stock.objects()


def test_adopting_a_store_whose_marker_is_lost_makes_one(local_stock: Stock) -> None:
    key = local_stock.row("doomed")
    store_id = local_stock.read_marker().store
    shutil.rmtree(local_stock.path(markers.LOCAL_KEY).parent)
    assert local_stock.run("reap").returncode == 1
    adopted = local_stock.run("adopt-store", "--store", "local")
    assert adopted.returncode == 0 and "It had no marker" in adopted.stdout, adopted.stderr
    assert local_stock.read_marker().store == store_id
    assert local_stock.run("reap").returncode == 0 and key not in local_stock.objects()
    unknown = local_stock.run("adopt-store", "--store", "nowhere")
    assert unknown.returncode == 1 and "There is no store nowhere" in unknown.stderr


# Least privilege


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedS3]:
    with guarded_s3() as server:
        yield server


def test_within_least_privilege_the_marker_is_all_that_is_read(
    guarded: GuardedS3, new_database: Callable[[], str], tmp_path: Path
) -> None:
    bucket = guarded.bucket()
    arn = f"arn:aws:s3:::{bucket.name}/"
    statements = [
        make_statement("s3:PutObject", f"{arn}profile_pics/*"),
        make_statement("s3:DeleteObject", f"{arn}profile_pics/*"),
        make_statement("s3:GetObject", f"{arn}{markers.BUCKET_KEY}"),
    ]
    data = {"DATABASE_URL": new_database(), "DATA_DIR": str(tmp_path / "data")}
    stock = Stock({**data, **bucket.settings(), **guarded.user_with(statements)})
    key = rows.new_key()
    stock.ask(partial(put, key=key))
    stock.row("doomed", key=key, stored=False)
    assert stock.reap() == 1 and stock.states() == {}
    assert guarded.keys(bucket) == []


def test_without_the_right_to_read_the_marker_uploads_work_and_deletions_wait(
    guarded: GuardedS3,
    new_database: Callable[[], str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bucket = guarded.bucket()
    arn = f"arn:aws:s3:::{bucket.name}/"
    statements = [
        make_statement("s3:PutObject", f"{arn}profile_pics/*"),
        make_statement("s3:DeleteObject", f"{arn}profile_pics/*"),
    ]
    data = {"DATABASE_URL": new_database(), "DATA_DIR": str(tmp_path / "data")}
    with caplog.at_level(logging.ERROR):
        stock = Stock({**data, **bucket.settings(), **guarded.user_with(statements)})
    assert f"s3:GetObject and s3:PutObject on {markers.BUCKET_KEY}" in caplog.text
    key = rows.new_key()
    stock.ask(partial(put, key=key))
    stock.row("doomed", key=key, stored=False)
    stock.reap()
    assert list(stock.states()) == [key] and guarded.keys(bucket) == [key]

    async def delete(backends: Backends) -> None:
        with pytest.raises(StoreRefused):
            await backends.stores.current.delete(key)

    stock.ask(delete)


def test_a_service_without_create_only_puts_makes_a_first_marker_only_where_none_is(
    planned_stock: Stock, store: FakeS3
) -> None:
    store.knows_create_only = False
    theirs = store.marker
    for marker in (None, theirs):
        store.marker = marker

        async def write(backends: Backends) -> None:
            await backends.stores.current.write_marker(b"ours", is_first=True)

        if marker is None:
            planned_stock.ask(write)
            assert store.marker == b"ours"
        else:
            with pytest.raises(Exception, match="503"):
                planned_stock.ask(write)
            assert store.marker == theirs
