"""Proves announce, put, swap and release against a store
that fails by plan and a database whose answers get lost.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from files.unit_of_work import UnitOfWork
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

import config
import database
import storage
from errors import DatabaseUnavailable, OutcomeUnknown
from files import unit_of_work
from image_utils import process_profile_image
from models import User
from tests.conftest import make_database
from tests.support.pictures import jpeg
from tests.support.planned_s3 import PlannedS3, Step, planned_s3
from tests.support.services import SOMEONE_WAITS, START_SECONDS, Account, Service, wait_until


@pytest.fixture(scope="module")
def planned() -> Iterator[PlannedS3]:
    with planned_s3() as server:
        yield server


@pytest.fixture(scope="module")
def planned_service(
    planned: PlannedS3, postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service on the planned store, whose reaper looks often."""
    more = {"DATA_DIR": str(tmp_path_factory.mktemp("planned")), "REAPER_INTERVAL_SECONDS": "0.2"}
    service = Service(
        {"DATABASE_URL": make_database(postgres, template), **planned.settings(), **more}
    )
    service.start()
    yield service
    service.stop()


@pytest.fixture
def store(planned: PlannedS3, planned_service: Service) -> Iterator[PlannedS3]:
    """The planned store, forgetful of the test before."""
    planned.clear()
    yield planned
    planned.gate.set()
    planned.always.update(PUT="ok", DELETE="ok")


@pytest.fixture
def bob(planned_service: Service, store: PlannedS3, request: pytest.FixtureRequest) -> Account:
    """An account with a picture."""
    account = planned_service.register(f"bob-{time.monotonic_ns()}")
    assert planned_service.patch_picture(account, jpeg()).status_code == 200
    store.requests.clear()
    return account


def shown(service: Service, account: Account) -> str | None:
    """The name of the picture that the account shows."""
    with service.client() as client:
        name: str | None = client.get(f"/users/{account.id}").json()["image_file"]
    return name


def rows(service: Service, account: Account) -> dict[str, str]:
    """The state of every file of the account, by its key."""
    found = service.sql("SELECT key, state FROM stored_files WHERE owner_id = $1", account.id)
    return {row["key"]: row["state"] for row in found}


def assert_try_again(answer: httpx.Response, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, code), answer.text
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ("500", "store_unavailable"),
        ("503", "store_unavailable"),
        ("reset", "store_unavailable"),
        ("lost", "store_unavailable"),
        ("403", "store_refused"),
    ],
)
def test_a_store_that_fails_twice_makes_a_503_and_the_account_keeps_its_picture(
    planned_service: Service, store: PlannedS3, bob: Account, step: Step, code: str
) -> None:
    old = shown(planned_service, bob)
    old_key = f"profile_pics/{old}"
    store.plan["PUT"].extend([step, step])
    assert_try_again(planned_service.patch_picture(bob, jpeg()), code)
    assert shown(planned_service, bob) == old
    assert old_key in store.objects and "DELETE" not in dict(store.requests)
    tried = store.keys("PUT")
    assert len(tried) == len(set(tried)) == 2 and old_key not in tried
    # Whether the bytes arrived is unknown: both rows stay
    # for the reaper, which then removes what there is.
    assert rows(planned_service, bob) == {old_key: "live", tried[0]: "pending", tried[1]: "pending"}
    planned_service.sql(
        "UPDATE stored_files SET next_attempt_at = now() WHERE owner_id = $1 AND state = 'pending'",
        bob.id,
    )
    wait_until(
        lambda: set(store.keys("DELETE")) >= set(tried), "the reaper removes what was perhaps put"
    )
    wait_until(lambda: set(store.objects) == {old_key}, "only the old picture is left")


@pytest.mark.parametrize("step", ["500", "reset", "lost"])
def test_a_first_failed_put_is_retried_under_another_key(
    planned_service: Service, store: PlannedS3, bob: Account, step: Step
) -> None:
    old_key = f"profile_pics/{shown(planned_service, bob)}"
    store.plan["PUT"].append(step)
    answer = planned_service.patch_picture(bob, jpeg())
    assert answer.status_code == 200, answer.text
    first, second = store.keys("PUT")
    assert first != second and f"profile_pics/{answer.json()['image_file']}" == second
    assert rows(planned_service, bob) == {first: "pending", second: "live"}
    assert old_key not in store.objects and second in store.objects


@pytest.mark.parametrize("step", ["500", "503", "403", "reset"])
def test_a_failed_deletion_of_the_old_picture_never_reaches_the_client(
    planned_service: Service, store: PlannedS3, bob: Account, step: Step
) -> None:
    old_key = f"profile_pics/{shown(planned_service, bob)}"
    store.always["DELETE"] = step
    answer = planned_service.patch_picture(bob, jpeg())
    assert answer.status_code == 200, answer.text
    new_key = f"profile_pics/{answer.json()['image_file']}"
    assert store.keys("DELETE")[0] == old_key and new_key not in store.keys("DELETE")
    assert rows(planned_service, bob) == {old_key: "deleting", new_key: "live"}
    assert set(store.objects) == {old_key, new_key}
    store.always["DELETE"] = "ok"
    planned_service.sql("UPDATE stored_files SET next_attempt_at = now() WHERE key = $1", old_key)
    wait_until(
        lambda: rows(planned_service, bob) == {new_key: "live"}, "the reaper makes up for it"
    )
    assert set(store.objects) == {new_key}


def test_taking_a_picture_away_is_done_even_where_its_object_cannot_be_deleted(
    planned_service: Service, store: PlannedS3, bob: Account
) -> None:
    old_key = f"profile_pics/{shown(planned_service, bob)}"
    store.always["DELETE"] = "500"
    with planned_service.client(bob) as client:
        answer = client.delete(f"/users/{bob.id}/picture")
    assert (answer.status_code, answer.json()["image_file"]) == (200, None)
    assert rows(planned_service, bob) == {old_key: "deleting"}


@pytest.mark.parametrize("what", ["account", "picture"])
def test_a_deletion_is_answered_while_the_store_hangs(
    planned_service: Service, store: PlannedS3, bob: Account, what: str
) -> None:
    old_key = f"profile_pics/{shown(planned_service, bob)}"
    store.plan["DELETE"].append("hang")
    with planned_service.client(bob) as client:
        answer = client.delete(f"/users/{bob.id}" + ("/picture" if what == "picture" else ""))
        assert answer.status_code == (200 if what == "picture" else 204)
        assert store.hanging == {old_key}, "the answer waited until the store's call was given up"
        gone = client.get(f"/users/{bob.id}").status_code
    assert gone == (200 if what == "picture" else 404)
    assert rows(planned_service, bob) == {old_key: "deleting"}
    store.gate.set()
    wait_until(
        lambda: rows(planned_service, bob) == {}, "what went on behind the answer is finished"
    )
    assert store.objects == {}


def test_a_replacement_is_answered_while_the_store_hangs_on_the_old_object(
    planned_service: Service, store: PlannedS3, bob: Account
) -> None:
    old_key = f"profile_pics/{shown(planned_service, bob)}"
    store.plan["DELETE"].append("hang")
    answer = planned_service.patch_picture(bob, jpeg())
    assert answer.status_code == 200
    assert store.hanging == {old_key}, "the answer waited until the store's call was given up"
    assert shown(planned_service, bob) == answer.json()["image_file"]


def test_a_file_that_the_reaper_has_claimed_meanwhile_is_not_swapped_in(
    planned_service: Service, store: PlannedS3, bob: Account
) -> None:
    old = shown(planned_service, bob)
    old_key = f"profile_pics/{old}"

    def expire(key: str) -> None:
        planned_service.sql("UPDATE stored_files SET next_attempt_at = now() WHERE key = $1", key)
        wait_until(lambda: key not in store.objects, "the reaper removes the expired file")

    store.after_put = expire
    answer = planned_service.patch_picture(bob, jpeg())
    assert_try_again(answer, "upload_expired")
    assert shown(planned_service, bob) == old
    assert set(store.objects) == {old_key} and old_key not in store.keys("DELETE")
    (put,) = store.keys("PUT")
    assert rows(planned_service, bob) == {old_key: "live", put: "deleting"}, "the tombstone stays"


def test_an_account_that_is_deleted_between_put_and_swap_leaves_nothing(
    planned_service: Service, store: PlannedS3, bob: Account
) -> None:
    def delete_account(_: str) -> None:
        with planned_service.client(bob) as client:
            assert client.delete(f"/users/{bob.id}").status_code == 204

    store.after_put = delete_account
    answer = planned_service.patch_picture(bob, jpeg())
    assert (answer.status_code, answer.json()["code"]) == (404, "user_not_found")
    assert (store.objects, rows(planned_service, bob)) == ({}, {})


def test_the_row_is_committed_before_the_first_byte(
    planned_service: Service, store: PlannedS3, bob: Account
) -> None:
    seen: list[dict[str, str]] = []
    store.after_put = lambda key: seen.append({"key": key, **rows(planned_service, bob)})
    assert planned_service.patch_picture(bob, jpeg()).status_code == 200
    ((key, found),) = [(state.pop("key"), state) for state in seen]
    assert found[key] == "pending"


# What follows runs the unit of work in this process,
# so that the answer to a COMMIT can get lost at will.

Commit = Callable[[AsyncSession], Awaitable[None]]
REAL_COMMIT: Commit = AsyncSession.commit


@pytest.fixture
def here(
    new_database: Callable[[], str],
    store_settings: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Service]:
    """A database and a store for this process; the
    service is not started, only asked what is there.
    """
    given = {"DATABASE_URL": new_database(), "DATA_DIR": str(tmp_path / "data"), **store_settings}
    known = config.Settings.model_validate({name.lower(): value for name, value in given.items()})
    for name in known.model_fields_set:
        monkeypatch.setattr(config.settings, name, getattr(known, name))
    storage.stores.cache_clear()
    yield Service(given)
    storage.stores.cache_clear()


@contextlib.asynccontextmanager
async def database_of(here: Service) -> AsyncIterator[asyncpg.Connection]:
    """Connect the unit of work, and give a connection beside it."""
    engine = database.connect(here.settings["DATABASE_URL"], 5)
    beside = await asyncpg.connect(here.settings["DATABASE_URL"].replace("+asyncpg", ""))
    try:
        yield beside
    finally:
        await beside.close()
        await engine.dispose()


async def account_with_picture(beside: asyncpg.Connection) -> tuple[int, int]:
    """The ids of a new account and of its picture's file."""
    user_id = await beside.fetchval(
        "INSERT INTO users (username, username_folded, email, email_folded, password_hash)"
        " VALUES ('eve', 'eve', 'eve@example.com', 'eve@example.com', '') RETURNING id"
    )
    async with UnitOfWork(user_id) as work:
        file_id = await work.put_picture(process_profile_image(jpeg()))
        await work.swap_picture(file_id)
    return user_id, file_id


async def commits_and_loses_the_connection(db: AsyncSession) -> None:
    await REAL_COMMIT(db)
    raise OSError("the answer was lost")


async def commits_and_the_driver_complains(db: AsyncSession) -> None:
    await REAL_COMMIT(db)
    raise DBAPIError("COMMIT", None, Exception("connection is closed"), connection_invalidated=True)


async def commits_and_runs_out_of_time(db: AsyncSession) -> None:
    await REAL_COMMIT(db)
    raise TimeoutError


async def commits_and_the_server_ends(db: AsyncSession) -> None:
    await REAL_COMMIT(db)
    raise DatabaseUnavailable


async def loses_the_connection_before(db: AsyncSession) -> None:
    raise OSError("never arrived")


async def rolls_back(db: AsyncSession) -> None:
    await db.rollback()
    raise DBAPIError(
        "COMMIT", None, Exception("server closed the connection"), connection_invalidated=True
    )


@pytest.mark.parametrize(
    "commit",
    [
        commits_and_loses_the_connection,
        commits_and_the_driver_complains,
        commits_and_runs_out_of_time,
        commits_and_the_server_ends,
    ],
)
def test_a_commit_that_happened_is_answered_as_done_though_its_answer_was_lost(
    here: Service, monkeypatch: pytest.MonkeyPatch, commit: Commit
) -> None:
    async def change() -> None:
        async with database_of(here) as beside:
            user_id, old_id = await account_with_picture(beside)
            async with UnitOfWork(user_id) as work:
                file_id = await work.put_picture(process_profile_image(jpeg()))
                with monkeypatch.context() as lossy:
                    lossy.setattr(AsyncSession, "commit", commit)
                    changed = await work.swap_picture(file_id)
                await work.release()
            assert changed.picture is not None and changed.picture.id == file_id
            states = dict(await beside.fetch("SELECT id, state FROM stored_files"))
            assert states[file_id] == "live"
            assert states.get(old_id) in (None, "doomed", "deleting")
            key = await beside.fetchval("SELECT key FROM stored_files WHERE id = $1", file_id)
            assert key in here.objects()

    asyncio.run(change())


@pytest.mark.parametrize("commit", [loses_the_connection_before, rolls_back])
def test_a_commit_of_unknown_outcome_deletes_nothing(
    here: Service, monkeypatch: pytest.MonkeyPatch, commit: Commit
) -> None:
    async def change() -> None:
        async with database_of(here) as beside:
            user_id, old_id = await account_with_picture(beside)
            with pytest.raises(OutcomeUnknown):
                async with UnitOfWork(user_id) as work:
                    file_id = await work.put_picture(process_profile_image(jpeg()))
                    with monkeypatch.context() as lossy:
                        lossy.setattr(AsyncSession, "commit", commit)
                        await work.swap_picture(file_id)
            await unit_of_work.finish_all(START_SECONDS)
            states = dict(await beside.fetch("SELECT id, state FROM stored_files"))
            assert states == {old_id: "live", file_id: "pending"}
            assert await beside.fetchval("SELECT picture_id FROM users") == old_id
            keys = {row["key"] for row in await beside.fetch("SELECT key FROM stored_files")}
            assert set(here.objects()) == keys and len(keys) == 2

    asyncio.run(change())


@pytest.mark.parametrize("ends_with", ["COMMIT", "ROLLBACK"])
def test_the_answer_waits_for_a_lost_transaction_that_is_still_on_its_way(
    here: Service, monkeypatch: pytest.MonkeyPatch, ends_with: str
) -> None:
    """The lost commit, here replayed on a connection of the
    test's own, takes effect only while the answer waits.
    """

    async def change() -> User | None:
        async with database_of(here) as beside:
            user_id, old_id = await account_with_picture(beside)
            lost = await asyncpg.connect(here.settings["DATABASE_URL"].replace("+asyncpg", ""))
            ending: list[asyncio.Task[None]] = []

            async def end_once_waited_for() -> None:
                while not await beside.fetchval(SOMEONE_WAITS):
                    await asyncio.sleep(0.01)
                await lost.execute(ends_with)

            async def arrives_late(db: AsyncSession) -> None:
                await db.rollback()
                await lost.execute("BEGIN")
                await lost.fetchval("SELECT id FROM users WHERE id = $1 FOR UPDATE", user_id)
                await lost.execute("UPDATE stored_files SET state = 'live' WHERE id = $1", file_id)
                await lost.execute(
                    "UPDATE users SET picture_id = $1 WHERE id = $2", file_id, user_id
                )
                await lost.execute("UPDATE stored_files SET state = 'doomed' WHERE id = $1", old_id)
                ending.append(asyncio.create_task(end_once_waited_for()))
                raise OSError("the answer was lost")

            try:
                async with UnitOfWork(user_id) as work:
                    file_id = await work.put_picture(process_profile_image(jpeg()))
                    with monkeypatch.context() as lossy:
                        lossy.setattr(AsyncSession, "commit", arrives_late)
                        changed = await work.swap_picture(file_id)
                assert changed.picture is not None, (
                    "the account is answered without its new picture"
                )
                assert changed.picture.id == file_id
                return changed
            finally:
                await ending[0]
                await lost.close()
                assert len(here.objects()) == 2

    if ends_with == "COMMIT":
        assert asyncio.run(change()) is not None
    else:
        with pytest.raises(OutcomeUnknown):
            asyncio.run(change())


def test_a_lost_transaction_that_does_not_end_makes_a_503_and_deletes_nothing(
    here: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def change() -> None:
        async with database_of(here) as beside:
            user_id, old_id = await account_with_picture(beside)

            async def stays_open(db: AsyncSession) -> None:
                await db.rollback()
                await beside.execute("BEGIN")
                await beside.fetchval("SELECT id FROM users WHERE id = $1 FOR UPDATE", user_id)
                raise OSError("the answer was lost")

            monkeypatch.setattr(unit_of_work, "OUTCOME_LOCK_TIMEOUT_MS", 100)
            with pytest.raises(OutcomeUnknown):
                async with UnitOfWork(user_id) as work:
                    file_id = await work.put_picture(process_profile_image(jpeg()))
                    with monkeypatch.context() as lossy:
                        lossy.setattr(AsyncSession, "commit", stays_open)
                        await work.swap_picture(file_id)
            await beside.execute("ROLLBACK")
            states = dict(await beside.fetch("SELECT id, state FROM stored_files"))
            assert states == {old_id: "live", file_id: "pending"} and len(here.objects()) == 2

    asyncio.run(change())


def test_a_process_that_stops_inside_a_transaction_does_not_keep_its_locks(
    here: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stop() -> None:
        monkeypatch.setattr(database, "TRANSACTION_TIMEOUT_MS", 300)
        async with database_of(here) as beside:
            user_id, _ = await account_with_picture(beside)
            got = None
            with pytest.raises(DatabaseUnavailable):
                async with database.session() as db:
                    await unit_of_work.lock_user(db, user_id)
                    # Returns when the server has taken the lock
                    # from us, before any other limit does so.
                    sooner = database.STATEMENT_TIMEOUT_MS / 1000 / 2
                    got = await beside.fetchval(
                        "SELECT id FROM users WHERE id = $1 FOR UPDATE", user_id, timeout=sooner
                    )
                    await db.execute(select(User.id))
            assert got == user_id

    if int(here.sql("SHOW server_version_num")[0][0]) < database.TRANSACTION_TIMEOUT_SINCE * 10_000:
        pytest.skip("this Postgres has no transaction_timeout")
    assert (
        database.TRANSACTION_TIMEOUT_MS > database.LOCK_TIMEOUT_MS + database.STATEMENT_TIMEOUT_MS
    )
    asyncio.run(stop())
