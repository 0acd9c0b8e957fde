"""Proves what a request costs on the wire to Postgres, and what each transaction opens with.

One connection, whose statements are prepared: each round trip is a message that the service waits
for.
"""

import re
from collections.abc import Callable, Iterator

import httpx
import pytest

from connections.driver import (
    LOCK_TIMEOUT_MS,
    LOWER_DURABILITY,
    RAISE_DURABILITY,
    STATEMENT_TIMEOUT_MS,
    TRANSACTION_TIMEOUT_MS,
    TRANSACTION_TIMEOUT_SINCE,
)
from database import Statement
from files import statements
from files.change import OUTCOME_LOCK_TIMEOUT_MS
from photos import statements as photo_statements
from photos import thumbnail_statements
from tests.support.databases import make_database
from tests.support.pictures import jpeg
from tests.support.postgres import PostgresProxy, RoundTrip
from tests.support.services import START_SECONDS, Account, Service

IDENTITY = "select users.id"
FIND_FILE = "select stored_files"
BEGIN = "begin isolation level read committed"


def plain(statement: Statement) -> str:
    return " ".join(statement.sql.lower().split())


@pytest.fixture(scope="module")
def wire(postgres: str, template: str) -> Iterator[PostgresProxy]:
    with PostgresProxy(make_database(postgres, template)) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def service(wire: PostgresProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service on a single connection, without a reaper of its own; all has been asked before."""
    settings = {
        "DATABASE_POOL_SIZE": "1",
        "EMBEDDED_REAPER": "false",
        "EMBEDDED_JOBS": "false",
        "STORAGE": "local",
    }
    data_dir = str(tmp_path_factory.mktemp("wire"))
    service = Service({"DATABASE_URL": wire.url, "DATA_DIR": data_dir, **settings})
    service.start()
    warm = service.register("warm")
    for _ in range(3):
        assert service.patch_picture(warm, jpeg()).status_code == 200
    with service.client(warm) as client:
        assert client.delete(f"/users/{warm.id}/picture").status_code == 200
        assert client.get(f"/users/{warm.id}").status_code == 200
    yield service
    service.stop()


@pytest.fixture
def bob(service: Service, request: pytest.FixtureRequest) -> Account:
    name = re.sub(r"\W", "", request.node.name)[-40:]
    return service.register(name)


def record(
    wire: PostgresProxy, service: Service, ask: Callable[[], httpx.Response]
) -> list[RoundTrip]:
    """What the service waited for until it had answered, which is one connection's."""
    with wire.record() as trips:
        answer = ask()
    assert answer.is_success or answer.is_redirect, answer.text
    assert len({trip.connection for trip in trips}) == 1
    assert all(trip.is_executed for trip in trips), "a statement was not prepared any more"
    return trips


def assert_are(trips: list[RoundTrip], *begins_with: str) -> None:
    said = [trip.sql for trip in trips]
    assert len(said) == len(begins_with), said
    for sql, beginning in zip(said, begins_with, strict=True):
        assert sql.startswith(beginning), said


def test_a_replacement_costs_nine_round_trips_and_two_waits_for_the_disk(
    wire: PostgresProxy, service: Service, bob: Account
) -> None:
    assert service.patch_picture(bob, jpeg()).status_code == 200
    trips = record(wire, service, lambda: service.patch_picture(bob, jpeg()))
    swap = (statements.LOCK_OWNER, statements.ATTACH, statements.SHOW_PICTURE, statements.DETACH)
    assert_are(
        trips,
        IDENTITY,
        plain(statements.RESERVE),
        BEGIN,
        *(plain(statement) for statement in swap),
        "commit",
        plain(statements.FORGET),
    )
    assert len(trips) <= 14, "more than was ever allowed"
    # The third commit, which only forgets, does not wait.
    assert LOWER_DURABILITY in trips[-1].sql and RAISE_DURABILITY.lower() in trips[1].sql
    assert RAISE_DURABILITY.lower() in trips[2].sql


def test_a_first_picture_costs_seven_round_trips(
    wire: PostgresProxy, service: Service, bob: Account
) -> None:
    trips = record(wire, service, lambda: service.patch_picture(bob, jpeg()))
    swap = (statements.LOCK_OWNER, statements.ATTACH, statements.SHOW_PICTURE)
    assert_are(
        trips,
        IDENTITY,
        plain(statements.RESERVE),
        BEGIN,
        *(plain(statement) for statement in swap),
        "commit",
    )


@pytest.mark.parametrize("path", ["/users/{id}", "/health/ready"])
def test_a_read_costs_one_round_trip(
    wire: PostgresProxy, service: Service, bob: Account, path: str
) -> None:
    with service.client() as client:
        trips = record(wire, service, lambda: client.get(path.format(id=bob.id)))
    assert_are(trips, "select")


def test_a_new_thumbnail_costs_eleven_round_trips_and_one_that_is_there_two(
    wire: PostgresProxy, service: Service, bob: Account
) -> None:
    with service.client(bob) as client:

        def add_photo() -> int:
            sent = {"file": jpeg(320, 240)}
            answer = client.post("/photos", files=sent, data={"visibility": "public"})
            photo_id: int = answer.raise_for_status().json()["id"]
            return photo_id

        def ask(photo_id: int) -> httpx.Response:
            return service.get_picture(f"/photos/{photo_id}/thumbnail?preset=160&format=jpeg")

        for _ in range(3):
            ask(add_photo())
        photo_id = add_photo()
    changes = (statements.LOCK_OWNER, statements.ATTACH, photo_statements.READ_PHOTO)
    assert_are(
        record(wire, service, lambda: ask(photo_id)),
        "select photos",
        FIND_FILE,
        plain(thumbnail_statements.CLAIM),
        plain(statements.RESERVE),
        BEGIN,
        *(plain(statement) for statement in changes),
        plain(thumbnail_statements.PUBLISH),
        "commit",
        FIND_FILE,
    )
    assert_are(record(wire, service, lambda: ask(photo_id)), "select photos", FIND_FILE)


def test_every_transaction_opens_with_one_message_that_says_all_that_holds_in_it(
    wire: PostgresProxy, service: Service, bob: Account
) -> None:
    with wire.record() as trips, service.client(bob) as client:
        assert service.patch_picture(bob, jpeg()).status_code == 200
        lost = wire.lose_reply("UPDATE users SET picture_id")
        assert service.patch_picture(bob, jpeg()).status_code == 200
        assert lost.wait(START_SECONDS)
        assert client.delete(f"/users/{bob.id}/picture").status_code == 200
        assert client.patch(f"/users/{bob.id}", json={"username": "bobby"}).status_code == 200
        assert client.delete(f"/users/{bob.id}").status_code == 204
    opened = [trip.sql for trip in trips if trip.begins]
    assert len(opened) == 6, "two swaps, the reading after the lost one, and three changes"
    ((version,),) = service.sql("SHOW server_version_num")
    has_transaction_timeout = int(version) >= TRANSACTION_TIMEOUT_SINCE * 10_000
    lock_timeouts = []
    for sql in opened:
        begin, *limits, durability = sql.split("; ")
        assert begin == BEGIN
        assert durability == f"select {RAISE_DURABILITY}".lower()
        values = dict(limit.removeprefix("set local ").split(" = ") for limit in limits)
        lock_timeouts.append(int(values.pop("lock_timeout")))
        assert values.pop("transaction_timeout", None) == (
            str(TRANSACTION_TIMEOUT_MS) if has_transaction_timeout else None
        )
        assert values == {
            "statement_timeout": str(STATEMENT_TIMEOUT_MS),
            "idle_in_transaction_session_timeout": str(STATEMENT_TIMEOUT_MS),
        }
    assert sorted(lock_timeouts) == [OUTCOME_LOCK_TIMEOUT_MS, *[LOCK_TIMEOUT_MS] * 5]
    said = [trip.sql for trip in trips]
    assert not [sql for sql in said if sql.startswith(("set ", "select 1", ";")) or not sql], said
