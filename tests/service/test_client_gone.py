"""Proves that a client that goes away costs nothing, and that a whole upload still finishes."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

import main
from config import MIB, Settings
from database import Database
from image_utils import process_profile_image
from pictures.decoding import Decoding
from pictures.pool import DecoderPool
from storage import AsyncStore
from tests.support.databases import make_database
from tests.support.launched import files_of, head, held, hold_decoding, launched, leave, sending
from tests.support.pictures import jpeg
from tests.support.s3 import FakeS3
from tests.support.services import START_SECONDS, Account, Service, form, part, wait_until
from web.admission import STEP_BYTES, Admission

# Room for one upload of the largest size. Nobody is cut
# off or told to come back: only who leaves makes room.
PATIENT = {
    "UPLOAD_BUDGET_BYTES": str(6 * MIB),
    "UPLOAD_WAIT_SECONDS": "600",
    "UPLOAD_STALL_SECONDS": "600",
    "UPLOADS_PER_ACCOUNT": "20",
}
PATIENT_CONSTANTS = {"web.bodies.FIRST_BYTE_SECONDS": 600}
PICTURE = jpeg()
LARGE = form(part(PICTURE.ljust(5 * MIB, b"\0")))
SENT = 4 * MIB


@pytest.fixture(scope="module")
def store() -> Iterator[FakeS3]:
    with FakeS3() as server:
        yield server


@pytest.fixture(scope="module")
def service(
    store: FakeS3, postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    data = {
        "DATA_DIR": str(tmp_path_factory.mktemp("gone")),
        "DATABASE_URL": make_database(postgres, template),
    }
    started = launched({**data, **PATIENT, **store.settings()}, PATIENT_CONSTANTS)
    started.start()
    yield started
    started.stop()


@pytest.fixture
def alice(service: Service) -> Iterator[Account]:
    yield service.register(f"alice-{time.monotonic_ns()}")
    assert held(service) == dict.fromkeys(held(service), 0), "a test leaves something behind"


@pytest.fixture
def bob(service: Service) -> Account:
    return service.register(f"bob-{time.monotonic_ns()}")


def send_large(service: Service, account: Account) -> httpx.Response:
    with service.client(account) as client:
        content_type = {"Content-Type": "multipart/form-data; boundary=a-boundary"}
        return client.patch(f"/users/{account.id}/picture", content=LARGE, headers=content_type)


@pytest.mark.parametrize("by_reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    "sent", [0, SENT, len(LARGE) - 1], ids=["head", "most", "all but one byte"]
)
def test_all_that_a_client_held_is_free_when_it_goes_away_before_its_last_byte(
    service: Service, store: FakeS3, alice: Account, bob: Account, sent: int, by_reset: bool
) -> None:
    before = set(store.objects)
    with (
        ThreadPoolExecutor(1) as pool,
        sending(service, head(alice, len(LARGE)) + LARGE[:sent]) as connection,
    ):
        wait_until(
            lambda: held(service)["read"] > sent - 1000, "the service has read what was sent"
        )
        assert sent <= held(service)["reserved"] <= sent + STEP_BYTES
        following = pool.submit(send_large, service, bob)
        if sent:
            wait_until(lambda: held(service)["waiting"] == 1, "there is room for one upload only")
        leave(connection, by_reset=by_reset)
        answer = following.result()
    assert answer.status_code == 200, answer.text
    wait_until(lambda: not any(held(service).values()), "all is free")
    assert files_of(service, alice) == {}
    assert set(store.objects) - before == {f"profile_pics/{answer.json()['image_file']}"}


@pytest.mark.parametrize("by_reset", [False, True], ids=["closed", "reset"])
def test_who_goes_away_while_waiting_for_room_takes_none(
    service: Service, store: FakeS3, alice: Account, bob: Account, by_reset: bool
) -> None:
    before = set(store.objects)
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        first = stack.enter_context(sending(service, head(alice, len(LARGE)) + LARGE[:SENT]))
        wait_until(lambda: held(service)["reserved"] > SENT, "the first upload has its room")
        queue = [
            stack.enter_context(sending(service, head(alice, len(LARGE)) + LARGE[:MIB]))
            for _ in range(10)
        ]
        wait_until(lambda: held(service)["waiting"] == 10, "the others wait")
        following = pool.submit(send_large, service, bob)
        wait_until(lambda: held(service)["waiting"] == 11, "the last one waits behind them")
        for connection in queue:
            leave(connection, by_reset=by_reset)
        leave(first, by_reset=by_reset)
        assert following.result().status_code == 200, following.result().text
    wait_until(lambda: not any(held(service).values()), "all is free")
    assert files_of(service, alice) == {} and len(set(store.objects) - before) == 1


def test_fifty_clients_that_went_away_do_not_add_up_in_memory(
    service: Service, alice: Account
) -> None:
    assert service.process is not None
    status = Path(f"/proc/{service.process.pid}/status")
    if not status.exists():
        pytest.skip("looks for the resident memory in Linux' /proc")

    def resident_bytes() -> int:
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmRSS")]
        return int(line.split()[1]) * 1024

    def come_and_go(by_reset: bool) -> None:
        with sending(service, head(alice, len(LARGE)) + LARGE[:SENT]) as connection:
            wait_until(
                lambda: held(service)["read"] > SENT - 1000, "the service has read what was sent"
            )
            leave(connection, by_reset=by_reset)
        wait_until(lambda: not held(service)["reserved"], "the room is free")

    for number in range(4):  # what it takes once
        come_and_go(by_reset=bool(number % 2))
    before = resident_bytes()
    for number in range(50):
        come_and_go(by_reset=bool(number % 2))
    assert resident_bytes() - before < 10 * SENT, "fifty would be fifty times as much"


@pytest.mark.parametrize("by_reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("while_it", ["decodes", "puts", "releases"])
def test_an_upload_finishes_though_its_client_went_away_after_the_last_byte(
    service: Service, store: FakeS3, alice: Account, while_it: str, by_reset: bool
) -> None:
    before = set(store.objects)
    old = service.patch_picture(alice, PICTURE).json()["image_file"]
    content = jpeg(800, 600)
    gate = hold_decoding(service)
    store.gate.clear()
    if while_it != "decodes":
        store.plan("PUT" if while_it == "puts" else "DELETE", "hang")
        gate.unlink()
    body = form(part(content))
    with sending(service, head(alice, len(body)) + body) as connection:
        wait_until(lambda: store.hanging or held(service)["decoding"], f"it {while_it}")
        leave(connection, by_reset=by_reset)
    for _ in range(3):
        assert held(service)["unfinished"], "it was given up"
    gate.unlink(missing_ok=True)
    store.gate.set()
    wait_until(lambda: not any(held(service).values()), "it is over")
    ((key, state),) = files_of(service, alice).items()
    assert state == "live" and old not in key
    assert set(store.objects) - before == {key}, "the old object is gone"
    assert store.objects[key] == process_profile_image(content).content


@pytest.mark.parametrize("size_bytes", [0, 50_000, 100_000, 200_000, 4 * MIB])
def test_an_upload_finishes_though_its_client_closed_right_after_the_last_byte(
    service: Service, store: FakeS3, alice: Account, size_bytes: int
) -> None:
    for number in range(5):
        content = jpeg(600 + number, 500).ljust(size_bytes, b"\0")
        body = form(part(content))
        with sending(service, head(alice, len(body)) + body) as connection:
            leave(connection, by_reset=False)
        wanted = {"live"}, {process_profile_image(content).content}

        def is_it(wanted: tuple[set[str], set[bytes]] = wanted) -> bool:
            files = files_of(service, alice)
            return (set(files.values()), {store.objects.get(key) for key in files}) == wanted

        wait_until(is_it, "the picture is live, though nobody waited for the answer")


# What follows calls the application in this process, so that its own task can be cancelled.


class Call:
    """A picture sent to the application, whole, and what it answers."""

    def __init__(self, app: FastAPI, user_id: int, token: str, content: bytes) -> None:
        body = form(part(content))
        self.size = len(body)
        head_lines, _, _ = head(Account(user_id, "", "", token), len(body)).partition(b"\r\n\r\n")
        lines = [line.split(b": ", 1) for line in head_lines.split(b"\r\n")[1:]]
        path = f"/users/{user_id}/picture"
        scope = {
            **{
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "scheme": "http",
                "method": "PATCH",
            },
            **{"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""},
            **{
                "headers": [(name.lower(), value) for name, value in lines],
                "client": None,
                "server": None,
            },
        }
        self.answer: list[Any] = []
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            return messages.pop() if messages else await asyncio.Future()

        async def send(message: Any) -> None:
            self.answer.append(message)

        self.task = asyncio.create_task(app(scope, receive, send))


@pytest.mark.parametrize("while_it", ["decodes", "puts"])
def test_a_cancelled_request_ends_as_a_live_picture_and_holds_its_memory_until_it_is_decoded(
    new_database: Callable[[], str],
    store_settings: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    while_it: str,
) -> None:
    begun = Future[None]()
    going_on = Future[None]()

    def wait() -> None:
        if not begun.done():
            begun.set_result(None)
            going_on.result(START_SECONDS)

    class WaitingDecoders(DecoderPool):
        def process_profile_image(self, content: bytes, *_: Any) -> Any:
            if while_it == "decodes":
                wait()
            return process_profile_image(content)

    async def put(self: AsyncStore, *arguments: Any) -> None:
        if while_it == "puts":
            await asyncio.to_thread(wait)
        await real_put(self, *arguments)

    async def cancel(app: FastAPI) -> None:
        app.state.decoding = Decoding(WaitingDecoders(), app.state.settings)
        database: Database = app.state.database
        admission: Admission = app.state.admission
        async with database.session() as db:
            insert = (
                "INSERT INTO users (username, username_folded, email, email_folded, password_hash)"
                " VALUES ('eve', 'eve', 'eve@example.com', 'eve@example.com', '')"
                " RETURNING id, clock_timestamp()"
            )
            user_id, now = (await db.execute(text(insert))).one()
            await db.commit()
        call = Call(app, user_id, app.state.tokens.issue(user_id, now), PICTURE)
        await asyncio.wait_for(asyncio.wrap_future(begun), START_SECONDS)
        call.task.cancel()
        await asyncio.wait({call.task}, timeout=START_SECONDS)
        assert call.answer[0]["status"] == 503 and b"outcome_unknown" in call.answer[1]["body"]
        assert admission.reserved_bytes == (call.size if while_it == "decodes" else 0)
        going_on.set_result(None)
        await app.state.backends.tasks.wait_for_all(START_SECONDS)
        assert admission.reserved_bytes == 0
        async with database.session() as db:
            files = await db.execute(text("SELECT key, state FROM stored_files"))
            ((key, state),) = files.all()
            shown = await db.scalar(text("SELECT picture_id IS NOT NULL FROM users"))
        assert state == "live" and shown
        assert Service(given).objects() == {key: process_profile_image(PICTURE).content}

    async def run() -> None:
        settings = Settings.model_validate({name.lower(): given[name] for name in given})
        app = main.create_app(settings)
        async with app.router.lifespan_context(app):
            await cancel(app)

    given = {"DATABASE_URL": new_database(), "DATA_DIR": str(tmp_path / "data"), **store_settings}
    given["DATABASE_POOL_SIZE"] = "1"
    real_put = AsyncStore.put
    monkeypatch.setattr(AsyncStore, "put", put)
    asyncio.run(run())
