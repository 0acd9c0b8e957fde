"""Proves that a service that is told to end finishes what it accepted, and ends in time."""

import contextlib
import itertools
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import httpx
import pytest

import main
from config import MIB
from image_utils import process_profile_image
from ops import embedded_postgres, serving
from tests.support.launched import By, files_of, head, held, hold_decoding, launched, sending
from tests.support.pictures import jpeg
from tests.support.s3 import FakeS3
from tests.support.services import (
    START_SECONDS,
    Account,
    Service,
    assert_problem,
    read_answer,
    wait_until,
)
from tests.support.stock import Stock
from web.admission import STEP_BYTES

# One upload of an account at once; who waits for it, or does not send, is not cut off by any other
# limit.
PATIENT = {
    "UPLOADS_PER_ACCOUNT": "1",
    "UPLOAD_WAIT_SECONDS": "600",
    "UPLOAD_STALL_SECONDS": "600",
}
PICTURE = jpeg()
# What a server ends with that was told to: main.py as
# a command does, uvicorn as one that the signal ended.
ENDED = {"main.py": {0}, "uvicorn": {0, -signal.SIGTERM}}


@pytest.fixture
def store() -> Iterator[FakeS3]:
    with FakeS3() as server:
        yield server


@pytest.fixture
def launch(
    new_database: Callable[[], str], store: FakeS3, tmp_path: Path
) -> Iterator[Callable[..., tuple[Service, Account]]]:
    """Starts a service on the planned store, with an account."""
    started: list[Service] = []

    def start(
        constants: dict[str, object] | None = None, **options: object
    ) -> tuple[Service, Account]:
        data = {"DATA_DIR": str(tmp_path / "data"), "DATABASE_URL": new_database()}
        settings = {**data, **PATIENT, **store.settings()}
        service = launched(settings, constants, **options)  # type: ignore[arg-type]
        started.append(service)
        service.start()
        return service, service.register()

    yield start
    store.gate.set()
    for service in started:
        service.stop(signal.SIGKILL)


def signal_to(service: Service, *numbers: signal.Signals) -> None:
    assert service.process is not None
    for number in numbers:
        service.process.send_signal(number)


def status_of(service: Service) -> int:
    """The exit status, which comes by itself."""
    assert service.process is not None
    return service.process.wait(START_SECONDS)


def refuses_connections(service: Service) -> bool:
    try:
        socket.create_connection((service.host, service.port), timeout=5).close()
    except OSError:
        return True
    return False


def assert_try_again(answer: httpx.Response, code: str) -> None:
    assert_problem(answer, 503, code)
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("by", "signals"),
    [
        ("main.py", [signal.SIGTERM, signal.SIGTERM]),
        ("main.py", [signal.SIGINT]),
        ("uvicorn", [signal.SIGTERM]),
    ],
)
def test_what_was_accepted_is_finished_and_what_waits_is_turned_away_at_once(
    launch: Callable[..., tuple[Service, Account]],
    store: FakeS3,
    by: By,
    signals: list[signal.Signals],
) -> None:
    service, alice = launch(by=by)
    accounts = [service.register(f"account-{number}") for number in range(4)]
    gate = hold_decoding(service)
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(10) as pool:
        whole = {
            pool.submit(service.patch_picture, account, PICTURE): account for account in accounts
        }
        wait_until(lambda: held(service)["unfinished"] == len(whole), "their last bytes were sent")
        stalled = stack.enter_context(sending(service, head(alice, 5 * MIB) + b"--a-boundary\r\n"))
        wait_until(lambda: held(service)["reserved"] > STEP_BYTES, "one upload does not go on")
        queue = [stack.enter_context(sending(service, head(alice, 5 * MIB))) for _ in range(4)]
        wait_until(lambda: held(service)["waiting"] == len(queue), "the others wait for their turn")
        signal_to(service, *signals)
        for connection in queue:
            assert_try_again(read_answer(connection), "shutting_down")
        wait_until(lambda: refuses_connections(service), "no new connection is taken")
        assert not any(answer.done() for answer in whole), (
            "those that were accepted are still held up by the test"
        )
        gate.unlink()
        answers = {answer.result().status_code for answer in whole}
        stalled.close()
        status = status_of(service)
    assert answers == {200}
    assert status in (
        ENDED[by] if signals != [signal.SIGINT] else {0, -signal.SIGINT, 128 + signal.SIGINT}
    )
    assert files_of(service, alice) == {}
    for account in whole.values():
        ((key, state),) = files_of(service, account).items()
        assert state == "live" and store.objects[key] == process_profile_image(PICTURE).content
    assert len(store.objects) == len(accounts)
    assert "Traceback" not in service.log()


def test_the_end_of_the_grace_period_cuts_who_still_sends_and_what_is_whole_is_finished(
    launch: Callable[..., tuple[Service, Account]], store: FakeS3
) -> None:
    service, alice = launch({"main.SHUTDOWN_FINISH_SECONDS": 600}, grace_seconds=0.3)
    bob = service.register("bob")
    gate = hold_decoding(service)
    with (
        ThreadPoolExecutor(1) as pool,
        sending(service, head(bob, 5 * MIB) + b"--a-boundary\r\n") as stalled,
    ):
        answer = pool.submit(service.patch_picture, alice, PICTURE)
        wait_until(
            lambda: held(service)["decoding"] and held(service)["reserved"] > STEP_BYTES,
            "both are taken in",
        )
        signal_to(service, signal.SIGTERM)
        assert_try_again(answer.result(), "outcome_unknown")
        cut = stalled.recv(1000)
        assert cut == b"" or b" 503 " in cut
        gate.unlink()
        assert status_of(service) == 0
    ((key, state),) = files_of(service, alice).items()
    assert state == "live" and store.objects == {key: process_profile_image(PICTURE).content}
    assert files_of(service, bob) == {}


@pytest.mark.parametrize(
    "signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]], ids=["SIGTERM", "SIGINT twice"]
)
def test_what_does_not_end_in_time_is_left_to_the_reaper(
    launch: Callable[..., tuple[Service, Account]], store: FakeS3, signals: list[signal.Signals]
) -> None:
    constants = {"storage.s3_client.READ_TIMEOUT_SECONDS": 1, "main.SHUTDOWN_FINISH_SECONDS": 0.1}
    service, alice = launch(constants, grace_seconds=0.3 if len(signals) == 1 else 600)
    assert service.patch_picture(alice, PICTURE).status_code == 200
    (old,) = files_of(service, alice)
    store.always["PUT"] = "hang"
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(service.patch_picture, alice, jpeg(800, 600))
        wait_until(lambda: store.hanging, "the store is asked to put")
        signal_to(service, signals[0])
        wait_until(lambda: refuses_connections(service), "the first signal was heard")
        signal_to(service, *signals[1:])
        assert_try_again(answer.result(), "outcome_unknown")
        assert status_of(service) in (0, 128 + signal.SIGINT)
    states = files_of(service, alice)
    assert states.pop(old) == "live" and set(states.values()) == {"pending"}
    store.gate.set()  # and now the bytes arrive
    for key in states:
        store.objects[key] = b"late"
    service.sql("UPDATE stored_files SET next_attempt_at = now() WHERE state = 'pending'")
    assert Stock(service.settings).reap() == len(states)
    assert set(store.objects) == {old}


def test_every_worker_finishes_what_it_accepted(
    launch: Callable[..., tuple[Service, Account]],
    store: FakeS3,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORKERS", "2")
    service, _ = launch()
    wait_until(lambda: service.log().count("startup complete") == 2, "both workers started")
    accounts = [service.register(f"account-{number}") for number in range(8)]
    store.always["PUT"] = "hang"
    with ThreadPoolExecutor(len(accounts)) as pool:
        answers = [pool.submit(service.patch_picture, account, PICTURE) for account in accounts]
        wait_until(lambda: len(store.hanging) == len(accounts), "all are being stored")
        signal_to(service, signal.SIGTERM)
        wait_until(lambda: refuses_connections(service), "no new connection is taken")
        store.gate.set()
        assert {answer.result().status_code for answer in answers} == {200}
    assert status_of(service) == 0
    for account in accounts:
        ((key, state),) = files_of(service, account).items()
        assert state == "live" and key in store.objects
    assert len(store.objects) == len(accounts)


@pytest.mark.parametrize("by", ["main.py", "uvicorn"])
def test_an_end_under_load_loses_and_leaks_nothing(
    new_database: Callable[[], str], store_settings: dict[str, str], tmp_path: Path, by: By
) -> None:
    """As main.py it keeps its own database, which ends after it."""
    settings = {"DATA_DIR": str(tmp_path / "data"), **store_settings}
    given = {"DATABASE_URL": new_database()} if by == "uvicorn" else {}
    service = launched({**settings, **given}, by=by)
    service.start()
    accounts = [service.register(f"account-{number}") for number in range(8)]
    pictures = [
        [jpeg(300 + 10 * number + turn, 300) for turn in range(10)]
        for number in range(len(accounts))
    ]
    answered = threading.Semaphore(0)

    def send(number: int) -> list[tuple[bytes, int]]:
        """What became of each picture: its status, or 0 where there was no answer."""
        became: list[tuple[bytes, int]] = []
        for turn in itertools.count():
            content = pictures[number][turn % 10]
            try:
                answer = service.patch_picture(accounts[number], content)
            except httpx.HTTPError:
                return [*became, (content, 0)]
            became.append((content, answer.status_code))
            assert answer.status_code != 503 or int(answer.headers["retry-after"]) >= 1
            answered.release()
        return became

    with ThreadPoolExecutor(len(accounts)) as pool:
        clients = [pool.submit(send, number) for number in range(len(accounts))]
        for _ in range(3 * len(accounts)):
            assert answered.acquire(timeout=START_SECONDS)
        signal_to(service, signal.SIGTERM)
        assert status_of(service) in ENDED[by]
        histories = [client.result() for client in clients]
    assert "Traceback" not in service.log()
    assert {status for history in histories for _, status in history} <= {0, 200, 503}
    database = (
        nullcontext(given["DATABASE_URL"])
        if given
        else embedded_postgres.running(tmp_path / "data")
    )
    with database as url:
        stock = Stock({**settings, "DATABASE_URL": url})
        stock.service.sql("UPDATE stored_files SET next_attempt_at = now() WHERE state <> 'live'")
        stock.reap()
        objects = stock.service.objects()
        shown = dict(
            stock.service.sql(
                "SELECT u.id, key FROM users u JOIN stored_files f ON f.id = u.picture_id"
            )
        )
    assert set(objects) == set(shown.values())
    for account, history in zip(accounts, histories, strict=True):
        last = max(index for index, (_, status) in enumerate(history) if status == 200)
        assert objects[shown[account.id]] in [
            process_profile_image(content).content for content, _ in history[last:]
        ]


def test_the_grace_period_and_what_follows_it_fit_into_thirty_seconds() -> None:
    """Which most orchestrators wait before they kill."""
    finish_seconds = main.REAPER_STOP_SECONDS + main.SHUTDOWN_FINISH_SECONDS
    assert serving.GRACE_SECONDS + finish_seconds < 30
