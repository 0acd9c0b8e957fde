"""Proves that a restart of Postgres under load loses no picture, and that the service recovers."""

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from image_utils import process_profile_image
from ops import embedded_postgres
from tests.support.databases import make_database
from tests.support.pictures import jpeg
from tests.support.postgres_server import hold_account
from tests.support.services import SOMEONE_WAITS, Service, postmaster, wait_until

CLIENTS = 6
CONNECTIONS = (
    "SELECT FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'darkroom' AND "
)
UNFINISHED = "FROM stored_files WHERE state <> 'live' AND tombstone_until IS NULL"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A server for these tests alone: its folder and its URL.

    Whenever it ends, its keeper starts it again.
    """
    folder = tmp_path_factory.mktemp("restarted")
    with embedded_postgres.running(folder) as url:
        yield folder, url


def restart(folder: Path, how: signal.Signals) -> None:
    before = postmaster(folder)
    os.kill(before, how)

    def is_another() -> bool:
        try:
            return postmaster(folder) != before
        except (OSError, IndexError):  # between two servers, or half-written
            return False

    wait_until(is_another, "Postgres was started again")


class Client:
    """Sends one picture after another, reads and logs in, and keeps what was answered."""

    def __init__(self, service: Service, number: int) -> None:
        self.account = service.register(f"client-{number}")
        self.sent: list[tuple[bytes, httpx.Response]] = []
        self.others: list[httpx.Response] = []
        self._service = service
        self._pictures = [jpeg(200 + 8 * number, 200 + turn) for turn in range(8)]

    def run(self, is_over: threading.Event) -> None:
        account = self.account
        login = {"username": self.account.email, "password": self.account.password}
        for content in itertools.cycle(self._pictures):
            if is_over.is_set():
                return
            self.sent.append((content, self._service.patch_picture(account, content)))
            with self._service.client(account) as client:
                self.others += [client.get(path) for path in (f"/users/{account.id}", "/users/me")]
                if len(self.sent) % 10 == 1:
                    self.others.append(client.post("/users/token", data=login))

    def accepted(self) -> int:
        return sum(answer.status_code == 200 for _, answer in list(self.sent))

    def possible(self) -> list[bytes]:
        """What the account may show now: the last one accepted, or one of unknown outcome since."""
        last = max(
            index for index, (_, answer) in enumerate(self.sent) if answer.status_code == 200
        )
        unknown = [
            sent
            for sent, answer in self.sent[last + 1 :]
            if answer.json()["code"] == "outcome_unknown"
        ]
        return [
            process_profile_image(content).content for content in (self.sent[last][0], *unknown)
        ]


# Fast: what was not committed is rolled back. Immediate: as in a crash.
@pytest.mark.parametrize(
    ("pool_size", "how"),
    [(1, [signal.SIGINT, signal.SIGQUIT]), (10, [signal.SIGQUIT, signal.SIGINT])],
)
def test_restarts_of_postgres_under_load_lose_nothing_and_leak_no_connection(
    cluster: tuple[Path, str],
    start_service: Callable[..., Service],
    pool_size: int,
    how: list[signal.Signals],
) -> None:
    folder, url = cluster
    service = start_service(
        database_url=make_database(url, None),
        database_pool_size=pool_size,
        reaper_interval_seconds=0.3,
        logins_per_account_per_minute=0,
    )
    assert service.process is not None
    clients = [Client(service, number) for number in range(CLIENTS)]
    is_over = threading.Event()
    with ThreadPoolExecutor(CLIENTS) as pool:
        runs = [pool.submit(client.run, is_over) for client in clients]
        try:
            for number in how:
                goal = [client.accepted() + 2 for client in clients]
                wait_until(lambda: all_reached(clients, goal), "all upload")  # noqa: B023
                restart(folder, number)
            goal = [client.accepted() + 2 for client in clients]
            wait_until(lambda: all_reached(clients, goal), "all upload again")
        finally:
            is_over.set()
        for run in runs:
            run.result()
    answers = [
        answer
        for client in clients
        for answer in (*(answer for _, answer in client.sent), *client.others)
    ]
    assert {answer.status_code for answer in answers} == {200, 503}
    assert all(
        int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 503
    )

    service.sql(
        f"UPDATE stored_files SET next_attempt_at = now() WHERE id IN (SELECT id {UNFINISHED})"
    )
    wait_until(
        lambda: not service.sql(f"SELECT {UNFINISHED}"),
        "the reaper has finished what the outages left",
    )
    shown = dict(
        service.sql("SELECT u.id, key FROM users u JOIN stored_files f ON f.id = picture_id")
    )
    objects = service.objects()
    assert set(objects) == set(shown.values())
    for client in clients:
        assert objects[shown[client.account.id]] in client.possible()

    # Every connection of the pool can be had, and there are no others.
    with ThreadPoolExecutor(pool_size) as pool:
        with hold_account(service.settings["DATABASE_URL"], clients[0].account.id):
            waiting = [pool.submit(take_away, service, clients[0]) for _ in range(pool_size)]
            wait_until(
                lambda: service.sql(SOMEONE_WAITS)[0][0] == pool_size, "all connections are in use"
            )
        assert {answer.result().status_code for answer in waiting} == {200, 404} - (
            {404} if pool_size == 1 else set()
        )
    wait_until(
        lambda: not service.sql(CONNECTIONS + "state <> 'idle'"), "no transaction is left open"
    )
    assert len(service.sql(CONNECTIONS + "true")) <= pool_size
    assert service.process.poll() is None


def all_reached(clients: list[Client], goal: list[int]) -> bool:
    return all(client.accepted() >= least for client, least in zip(clients, goal, strict=True))


def take_away(service: Service, client: Client) -> httpx.Response:
    with service.client(client.account) as asked:
        return asked.delete(f"/users/{client.account.id}/picture")
