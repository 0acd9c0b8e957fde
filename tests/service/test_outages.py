"""Proves that while the store is away uploads are refused in time and all else goes on.

Deletions wait until it is back.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from tests.support.databases import make_database
from tests.support.launched import files_of, held, launched
from tests.support.pictures import jpeg
from tests.support.s3 import FakeS3
from tests.support.services import Account, Service, assert_problem, wait_until

# A store that does not answer is given up by the budget
# of the upload alone; all other limits are far away.
CONSTANTS = {
    "storage.async_store.STORE_DEADLINE_SECONDS": 600,
    "storage.s3_client.READ_TIMEOUT_SECONDS": 600,
    "files.puts.PUT_BUDGET_SECONDS": 0.5,
    "files.change.RELEASE_PATIENCE_SECONDS": 0.5,
}
UPLOADS = 40


@pytest.fixture(scope="module")
def store() -> Iterator[FakeS3]:
    with FakeS3() as server:
        yield server


@pytest.fixture(scope="module")
def proxy(store: FakeS3) -> Iterator[FakeS3]:
    """What stands before the store, and can be away."""
    with FakeS3(store.url) as made:
        yield made


@pytest.fixture(scope="module")
def service(
    store: FakeS3,
    proxy: FakeS3,
    postgres: str,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    settings = {**store.settings(), "S3_ENDPOINT_URL": proxy.url, "REAPER_INTERVAL_SECONDS": "0.2"}
    data = {
        "DATA_DIR": str(tmp_path_factory.mktemp("away")),
        "DATABASE_URL": make_database(postgres, template),
    }
    started = launched({**data, **settings}, CONSTANTS)
    started.start()
    yield started
    store.gate.set()
    started.stop()


@pytest.fixture
def register(service: Service, store: FakeS3) -> Callable[[], Account]:
    """Makes accounts that have a picture; what the store has been asked before is forgotten."""
    store.requests.clear()
    store.gate.clear()

    def make() -> Account:
        account = service.register(f"account-{time.monotonic_ns()}")
        assert service.patch_picture(account, jpeg()).status_code == 200
        return account

    return make


def assert_store_unavailable(answer: httpx.Response) -> None:
    assert_problem(answer, 503, "store_unavailable")
    assert int(answer.headers["retry-after"]) >= 1


def assert_all_but_uploads_goes_on(service: Service, account: Account) -> None:
    with service.client(account) as client:
        login = client.post(
            "/users/token", data={"username": account.email, "password": account.password}
        )
        paths = ("/users/me", f"/users/{account.id}", "/health/live", "/health/ready")
        for answer in [login, *(client.get(path) for path in paths)]:
            assert answer.status_code == 200, answer.text


def assert_rows_and_objects_are_equal(service: Service, store: FakeS3) -> None:
    """All that is due is done now, and what is left are the pictures that accounts show."""

    def are_equal() -> bool:
        service.sql(
            "UPDATE stored_files SET next_attempt_at = now()"
            " WHERE state <> 'live' AND tombstone_until IS NULL"
        )
        live = service.sql("SELECT key FROM users JOIN stored_files f ON f.id = picture_id")
        left = service.sql(
            "SELECT FROM stored_files WHERE state <> 'live' AND tombstone_until IS NULL"
        )
        return not left and {row["key"] for row in live} == set(store.objects)

    wait_until(are_equal, "the reaper has made up for the outage")


def have_failed(service: Service, attempts: int) -> bool:
    """Whether both deletions have failed at least so often."""
    found = (
        "SELECT FROM stored_files WHERE state = 'deleting'"
        " AND last_error = 'store_unavailable' AND attempts >= $1 AND tombstone_until IS NULL"
    )
    return len(service.sql(found, attempts)) == 2


def have_failed_again(service: Service, attempts: int) -> bool:
    """As have_failed; what is not yet so is due at once, however often that has been said."""
    if have_failed(service, attempts):
        return True
    service.sql(
        "UPDATE stored_files SET next_attempt_at = now()"
        " WHERE state = 'deleting' AND tombstone_until IS NULL"
    )
    return False


def test_uploads_to_a_store_that_never_answers_end_by_themselves_and_all_else_goes_on(
    service: Service, store: FakeS3, register: Callable[[], Account]
) -> None:
    before = len(store.objects)
    bob, *accounts = [register() for _ in range(4)]
    (old,) = files_of(service, bob)
    store.always["PUT"] = "hang"
    with ThreadPoolExecutor(UPLOADS) as pool:
        answers = [
            pool.submit(service.patch_picture, accounts[n % len(accounts)], jpeg())
            for n in range(UPLOADS)
        ]
        wait_until(lambda: store.hanging, "the store hangs")
        assert_all_but_uploads_goes_on(service, bob)
        for answer in answers:
            assert_store_unavailable(answer.result())
    assert store.hanging and not any(held(service).values()), (
        "the store still hangs, and nobody waits for it"
    )
    tried = store.keys("PUT")[4:]
    assert len(set(tried)) == len(tried) <= 2 * UPLOADS

    # All of the store's threads hang; whoever wants something
    # deleted is answered nevertheless, and it is done later.
    with service.client(bob) as client:
        assert client.delete(f"/users/{bob.id}/picture").status_code == 200
    assert old in store.objects and files_of(service, bob) == {old: "deleting"}
    store.always["PUT"] = "ok"
    store.gate.set()
    wait_until(lambda: files_of(service, bob) == {}, "the picture that was taken away is deleted")
    assert service.patch_picture(bob, jpeg()).status_code == 200
    # What came late after all belongs to nobody.
    assert_rows_and_objects_are_equal(service, store)
    assert len(store.objects) == before + 4


def test_deletions_wait_until_a_store_that_was_away_is_back(
    service: Service, store: FakeS3, proxy: FakeS3, register: Callable[[], Account]
) -> None:
    alice = register()
    bob = register()
    carol = register()
    shown = set(store.objects)
    lost = {*files_of(service, alice), *files_of(service, bob)}
    proxy.away = True
    try:
        assert_store_unavailable(service.patch_picture(carol, jpeg()))
        with service.client(alice) as client:
            assert client.delete(f"/users/{alice.id}").status_code == 204
            assert client.get(f"/users/{alice.id}").status_code == 404
        with service.client(bob) as client:
            answer = client.delete(f"/users/{bob.id}/picture")
            assert (answer.status_code, answer.json()["image_file"]) == (200, None)
        assert_all_but_uploads_goes_on(service, carol)
        # The first attempt is the request's own, the others are the reaper's.
        wait_until(partial(have_failed_again, service, 3), "both are tried")
        assert set(store.objects) == shown
    finally:
        proxy.away = False
    assert_rows_and_objects_are_equal(service, store)
    assert (
        set(store.objects) == shown - lost
        and files_of(service, alice) == files_of(service, bob) == {}
    )
    assert service.patch_picture(carol, jpeg()).status_code == 200
