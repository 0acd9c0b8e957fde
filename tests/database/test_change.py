"""Proves announce, put, swap and release of a service whose store fails by plan."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest

from connections import DatabaseConnection
from database import Row, Transaction
from errors import UploadExpired
from files import Backends, reaper, statements
from files.change import Change
from files.kinds import PROFILE_PICTURE
from files.reservations import NewFile
from image_utils import process_profile_image
from storage.async_store import STORE_DEADLINE_SECONDS
from tests.support import rows as table_rows
from tests.support.databases import make_database
from tests.support.pictures import jpeg
from tests.support.postgres_server import hold_table
from tests.support.s3 import FakeS3, Fault
from tests.support.services import SOMEONE_WAITS, Account, Service, wait_until
from tests.support.stock import Stock

pytestmark = pytest.mark.backends

# A call that was given up does not hang any more, and is not repeated within a test.
ANSWERED_FIRST = "the answer came before the store's call was given up"


@pytest.fixture(scope="module")
def planned() -> Iterator[FakeS3]:
    with FakeS3() as server:
        yield server


@pytest.fixture(scope="module")
def planned_service(
    planned: FakeS3, postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
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
def store(planned: FakeS3, planned_service: Service) -> Iterator[FakeS3]:
    """The planned store, forgetful of the test before."""
    planned.clear()
    yield planned
    planned.gate.set()
    planned.always.update(PUT="ok", DELETE="ok")


@pytest.fixture
def bob(planned_service: Service, store: FakeS3, request: pytest.FixtureRequest) -> Account:
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
    planned_service: Service, store: FakeS3, bob: Account, step: Fault, code: str
) -> None:
    old = shown(planned_service, bob)
    old_key = f"profile_pics/{old}"
    store.plan("PUT", step)
    store.plan("PUT", step)
    assert_try_again(planned_service.patch_picture(bob, jpeg()), code)
    assert shown(planned_service, bob) == old
    assert old_key in store.objects and not store.keys("DELETE")
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
    planned_service: Service, store: FakeS3, bob: Account, step: Fault
) -> None:
    old_key = f"profile_pics/{shown(planned_service, bob)}"
    store.plan("PUT", step)
    answer = planned_service.patch_picture(bob, jpeg())
    assert answer.status_code == 200, answer.text
    first, second = store.keys("PUT")
    assert first != second and f"profile_pics/{answer.json()['image_file']}" == second
    wait_until(
        lambda: rows(planned_service, bob) == {first: "pending", second: "live"},
        "what is left of the old picture goes, perhaps behind the answer",
    )
    assert old_key not in store.objects and second in store.objects


@pytest.mark.parametrize("step", ["500", "503", "403", "reset"])
def test_a_failed_deletion_of_the_old_picture_never_reaches_the_client(
    planned_service: Service, store: FakeS3, bob: Account, step: Fault
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
    planned_service: Service, store: FakeS3, bob: Account
) -> None:
    old_key = f"profile_pics/{shown(planned_service, bob)}"
    store.always["DELETE"] = "500"
    with planned_service.client(bob) as client:
        answer = client.delete(f"/users/{bob.id}/picture")
    assert (answer.status_code, answer.json()["image_file"]) == (200, None)
    assert rows(planned_service, bob) == {old_key: "deleting"}


@pytest.mark.parametrize("what", ["account", "picture"])
def test_a_deletion_is_answered_while_the_store_hangs(
    planned_service: Service, store: FakeS3, bob: Account, what: str
) -> None:
    old_key = f"profile_pics/{shown(planned_service, bob)}"
    store.plan("DELETE", "hang")
    with planned_service.client(bob) as client:
        answer = client.delete(f"/users/{bob.id}" + ("/picture" if what == "picture" else ""))
        assert answer.status_code == (200 if what == "picture" else 204)
        wait_until(lambda: store.hanging == {old_key}, ANSWERED_FIRST)
        gone = client.get(f"/users/{bob.id}").status_code
    assert gone == (200 if what == "picture" else 404)
    assert rows(planned_service, bob) == {old_key: "deleting"}
    store.gate.set()
    wait_until(
        lambda: rows(planned_service, bob) == {}, "what went on behind the answer is finished"
    )
    assert store.objects == {}


def test_a_replacement_is_answered_while_the_store_hangs_on_the_old_object(
    planned_service: Service, store: FakeS3, bob: Account
) -> None:
    old_key = f"profile_pics/{shown(planned_service, bob)}"
    store.plan("DELETE", "hang")
    answer = planned_service.patch_picture(bob, jpeg())
    assert answer.status_code == 200
    wait_until(lambda: store.hanging == {old_key}, ANSWERED_FIRST)
    assert shown(planned_service, bob) == answer.json()["image_file"]


def test_a_file_that_the_reaper_has_claimed_meanwhile_is_not_swapped_in(
    planned_service: Service, store: FakeS3, bob: Account
) -> None:
    old = shown(planned_service, bob)
    old_key = f"profile_pics/{old}"

    def expire() -> None:
        (key,) = store.keys("PUT")
        planned_service.sql("UPDATE stored_files SET next_attempt_at = now() WHERE key = $1", key)
        wait_until(lambda: key not in store.objects, "the reaper removes the expired file")

    store.plan("PUT", "ok", then=expire)
    answer = planned_service.patch_picture(bob, jpeg())
    assert_try_again(answer, "upload_expired")
    assert shown(planned_service, bob) == old
    assert set(store.objects) == {old_key} and old_key not in store.keys("DELETE")
    (put,) = store.keys("PUT")
    assert rows(planned_service, bob) == {old_key: "live", put: "deleting"}, "the tombstone stays"


def test_an_account_that_is_deleted_between_put_and_swap_leaves_nothing(
    planned_service: Service, store: FakeS3, bob: Account
) -> None:
    def delete_account() -> None:
        with planned_service.client(bob) as client:
            assert client.delete(f"/users/{bob.id}").status_code == 204

    store.plan("PUT", "ok", then=delete_account)
    answer = planned_service.patch_picture(bob, jpeg())
    assert (answer.status_code, answer.json()["code"]) == (404, "user_not_found")
    assert (store.objects, rows(planned_service, bob)) == ({}, {})


def test_the_row_is_committed_before_the_first_byte(
    planned_service: Service, store: FakeS3, bob: Account
) -> None:
    """While nobody can insert a row nothing is put, however long that is."""
    seen: list[dict[str, str]] = []
    store.plan("PUT", "ok", then=lambda: seen.append(rows(planned_service, bob)))
    with ThreadPoolExecutor(1) as pool:
        with hold_table(planned_service.settings["DATABASE_URL"], "stored_files"):
            answer = pool.submit(planned_service.patch_picture, bob, jpeg())
            wait_until(
                lambda: planned_service.sql(SOMEONE_WAITS)[0][0], "the row waits to be inserted"
            )
            for _ in range(20):  # more than time enough for a put
                assert shown(planned_service, bob) is not None
            assert store.keys("PUT") == []
        assert answer.result().status_code == 200
    (found,) = seen
    (key,) = store.keys("PUT")
    assert found[key] == "pending"


def test_an_upload_expires_when_the_settings_say(stock: Stock) -> None:
    stock.change_settings(PENDING_EXPIRY_SECONDS="1234")
    owner_id = table_rows.account("eve").run(stock.service)

    async def store_only(backends: Backends) -> str:
        return (await store_picture(Change(backends, owner_id))).key

    row = stock.read(stock.ask(store_only))
    assert row["state"] == "pending"
    assert row["next_attempt_at"] - row["created_at"] == timedelta(seconds=1234)


def test_a_reservation_whose_answer_was_lost_is_known_again(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner_id = table_rows.account("eve").run(stock.service)
    fetch = DatabaseConnection.fetch
    lost: list[list[Row]] = []

    async def fetch_and_lose(self: DatabaseConnection, query: str, *args: object) -> object:
        rows: list[Row] = await fetch(self, query, *args)
        if query == statements.RESERVE.sql and not lost:
            lost.append(rows)
            raise ConnectionResetError
        return rows

    monkeypatch.setattr(DatabaseConnection, "fetch", fetch_and_lose)

    async def store_only(backends: Backends) -> int:
        return (await store_picture(Change(backends, owner_id))).id

    assert stock.ask(store_only) == lost[0][0]["id"]
    assert len(stock.states()) == 1


@pytest.mark.parametrize("taken", ["another account's", "live"])
def test_a_key_that_is_taken_is_not_given_away(
    stock: Stock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, taken: str
) -> None:
    picture = process_profile_image(jpeg())
    owner_id = table_rows.account("eve").run(stock.service)
    other_id = table_rows.account("mallory").run(stock.service) if taken != "live" else owner_id

    async def store_twice(backends: Backends) -> tuple[str, str]:
        first = Change(backends, other_id)
        file = await first.store(PROFILE_PICTURE, picture)
        if taken == "live":
            await first.commit(show_nothing, "inside_swap")
        second = await Change(backends, owner_id).store(PROFILE_PICTURE, picture)
        return file.key, second.key

    one, other = stock.ask(store_twice)
    assert one != other
    assert f"the key {one} is taken" in caplog.text


def test_what_arrives_after_its_expiry_is_removed_by_the_process_that_put_it(stock: Stock) -> None:
    """It was stopped before its put; the reaper has taken the row and will come back in a day."""
    owner_id = table_rows.account("eve").run(stock.service)

    async def put_late(backends: Backends) -> str:
        async with Change(backends, owner_id) as change:
            file = await store_picture(change)
            await asyncio.to_thread(stock.make_due, file.key)
            assert await reaper.reap(backends) == 1
            await asyncio.to_thread(stock.put, file.key)
            with pytest.raises(UploadExpired):
                await change.commit(show_nothing, "inside_swap")
            raise UploadExpired
        return file.key

    with pytest.raises(UploadExpired):
        stock.ask(put_late, pool_size=2)
    assert stock.objects() == set()
    assert list(stock.states().values()) == ["deleting"], "the tombstone stays"


async def store_picture(change: Change) -> NewFile:
    return await change.store(PROFILE_PICTURE, process_profile_image(jpeg()))


async def show_nothing(_: Transaction, __: Row) -> list[int]:
    return []


def test_what_was_let_go_of_is_leased_for_longer_than_the_store_may_take(
    planned_service: Service, store: FakeS3, bob: Account
) -> None:
    old_key = f"profile_pics/{shown(planned_service, bob)}"
    store.always["DELETE"] = "500"
    assert planned_service.patch_picture(bob, jpeg()).status_code == 200
    ((lease, attempts),) = planned_service.sql(
        "SELECT next_attempt_at - state_changed_at, attempts FROM stored_files WHERE key = $1",
        old_key,
    )
    assert (lease, attempts) == (statements.LEASE, 1)
    assert timedelta(seconds=STORE_DEADLINE_SECONDS) < lease < timedelta(minutes=1)
