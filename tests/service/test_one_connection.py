"""Proves that no request holds a database connection while it waits for something else.

Something else is a body, a turn, a decoder or the store.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import httpx
import pytest

from config import MIB
from tests.support.databases import make_database
from tests.support.launched import files_of, head, held, hold_decoding, launched, sending
from tests.support.pictures import jpeg
from tests.support.s3 import FakeS3
from tests.support.services import SOMEONE_WAITS, Account, Service, form, get, part, wait_until
from web.admission import STEP_BYTES

SETTINGS = {
    "DATABASE_POOL_SIZE": "1",
    "UPLOAD_BUDGET_BYTES": str(6 * MIB),
    "UPLOAD_STALL_SECONDS": "600",
    "UPLOAD_WAIT_SECONDS": "600",
    "UPLOADS_PER_ACCOUNT": "40",
    "REAPER_INTERVAL_SECONDS": "0.2",
}
# Whoever holds the connection holds it for ever: what waits
# for it says 503 soon, what holds it is never given up.
CONSTANTS = {
    "connections.pool.POOL_TIMEOUT_SECONDS": 2,
    "storage.async_store.STORE_DEADLINE_SECONDS": 600,
    "storage.s3_client.READ_TIMEOUT_SECONDS": 600,
    "files.puts.PUT_BUDGET_SECONDS": 600,
    "files.change.RELEASE_PATIENCE_SECONDS": 600,
    "web.bodies.FIRST_BYTE_SECONDS": 600,
}


@pytest.fixture(scope="module")
def store() -> Iterator[FakeS3]:
    with FakeS3() as server:
        yield server


@pytest.fixture(scope="module")
def service(
    store: FakeS3, postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    data = {
        "DATA_DIR": str(tmp_path_factory.mktemp("one")),
        "DATABASE_URL": make_database(postgres, template),
    }
    started = launched({**data, **SETTINGS, **store.settings()}, CONSTANTS)
    started.start()
    yield started
    store.gate.set()
    started.stop()


@pytest.fixture
def alice(service: Service, store: FakeS3) -> Iterator[Account]:
    """Whoever makes the service wait; her picture is there."""
    store.clear()
    account = service.register(f"alice-{time.monotonic_ns()}")
    assert service.patch_picture(account, jpeg()).status_code == 200
    yield account
    store.gate.set()
    wait_until(lambda: not any(held(service).values()), "the test is over")


@pytest.fixture
def serve_others(service: Service) -> Callable[..., None]:
    """Asks for all that needs the database, as somebody else."""
    bob = service.register(f"bob-{time.monotonic_ns()}")

    def ask(*, to_upload: bool) -> None:
        with service.client(bob) as client:
            login = client.post(
                "/users/token", data={"username": bob.email, "password": bob.password}
            )
            answers = [
                login,
                *(client.get(path) for path in ("/users/me", f"/users/{bob.id}", "/health/ready")),
            ]
            answers.append(
                client.patch(f"/users/{bob.id}", json={"username": f"bob-{time.monotonic_ns()}"})
            )
            if to_upload:
                answers.append(service.patch_picture(bob, jpeg()))
        assert [answer.status_code for answer in answers] == [200] * len(answers), [
            one.text for one in answers
        ]

    return ask


def test_others_are_served_while_a_body_stalls(
    service: Service, alice: Account, serve_others: Callable[..., None]
) -> None:
    with sending(service, head(alice, 5 * MIB) + form(part(jpeg()))[:5000]):
        wait_until(lambda: held(service)["read"], "the body is being read")
        serve_others(to_upload=True)
        assert held(service)["reserved"] <= 5000 + STEP_BYTES


def test_others_are_served_while_an_upload_waits_for_its_turn(
    service: Service, alice: Account, serve_others: Callable[..., None]
) -> None:
    begun = head(alice, 5 * MIB) + form(part(bytes(2 * MIB)))
    with sending(service, begun), sending(service, begun):
        wait_until(lambda: held(service)["waiting"] == 1, "the second upload waits")
        serve_others(to_upload=False)
        assert held(service)["waiting"] == 1


def test_readiness_is_no_matter_of_how_many_wait_for_a_connection(
    service: Service, alice: Account
) -> None:
    url = service.settings["DATABASE_URL"].replace("+asyncpg", "")

    async def lock() -> None:
        connection = await asyncpg.connect(url)
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE users")
                asked = asyncio.create_task(
                    asyncio.to_thread(get, f"{service.url}/users/{alice.id}", timeout=60)
                )
                while not await connection.fetchval(SOMEONE_WAITS):
                    await asyncio.sleep(0.02)
                ready = await asyncio.to_thread(get, f"{service.url}/health/ready")
                assert ready.status_code == 200
                assert not asked.done()
            assert (await asked).status_code == 200
        finally:
            await connection.close()

    asyncio.run(lock())


def test_others_are_served_while_pictures_are_decoded_and_wait_to_be(
    service: Service, alice: Account, serve_others: Callable[..., None]
) -> None:
    gate = hold_decoding(service)
    with ThreadPoolExecutor(40) as pool:
        answers = [pool.submit(service.patch_picture, alice, jpeg()) for _ in range(40)]
        wait_until(
            lambda: held(service)["unfinished"] == 40 and held(service)["decoding"],
            "pictures are decoded",
        )
        serve_others(to_upload=False)
        assert held(service)["unfinished"] == 40
        gate.unlink()
        assert {answer.result().status_code for answer in answers} == {200}


def test_others_are_served_while_the_store_hangs_in_a_put(
    service: Service, store: FakeS3, alice: Account, serve_others: Callable[..., None]
) -> None:
    store.plan("PUT", "hang")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(service.patch_picture, alice, jpeg())
        wait_until(lambda: store.hanging, "the store is asked to put")
        serve_others(to_upload=True)
        assert store.hanging
        store.gate.set()
        assert answer.result().status_code == 200


@pytest.mark.parametrize("what", ["picture", "old picture", "account"])
def test_others_are_served_while_the_store_hangs_in_a_deletion(
    service: Service, store: FakeS3, alice: Account, serve_others: Callable[..., None], what: str
) -> None:
    def delete() -> httpx.Response:
        with service.client(alice) as client:
            return client.delete(f"/users/{alice.id}" + ("/picture" if what == "picture" else ""))

    store.plan("DELETE", "hang")
    with ThreadPoolExecutor(1) as pool:
        answer = (
            pool.submit(service.patch_picture, alice, jpeg())
            if what == "old picture"
            else pool.submit(delete)
        )
        wait_until(lambda: store.hanging, "the store is asked to delete")
        serve_others(to_upload=True)
        assert store.hanging and not answer.done()
        store.gate.set()
        assert answer.result().status_code in (200, 204)


def test_others_are_served_while_the_store_hangs_in_a_deletion_of_the_reapers(
    service: Service, store: FakeS3, alice: Account, serve_others: Callable[..., None]
) -> None:
    with service.client(alice) as client:
        store.plan("DELETE", "500")
        assert client.delete(f"/users/{alice.id}/picture").status_code == 200
    ((key, state),) = files_of(service, alice).items()
    assert state == "deleting"
    store.plan("DELETE", "hang")
    service.sql("UPDATE stored_files SET next_attempt_at = now() WHERE key = $1", key)
    wait_until(lambda: store.hanging == {key}, "the reaper asks the store")
    serve_others(to_upload=True)
    assert store.hanging == {key}
    store.gate.set()
    wait_until(lambda: files_of(service, alice) == {}, "the reaper goes on")
