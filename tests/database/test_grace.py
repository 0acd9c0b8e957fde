"""Proves that what was replaced can be read for a while where that is set, and what never can."""

from collections.abc import Iterator

import pytest

from ops import check
from tests.support.databases import make_database
from tests.support.findings import findings
from tests.support.photos import store_photo
from tests.support.pictures import jpeg
from tests.support.services import Account, Service
from tests.support.stock import HOUR_SECONDS, Stock

pytestmark = pytest.mark.backends


@pytest.fixture(scope="module")
def kept(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    """A service that keeps what was replaced for an hour, and reaps when it is asked to."""
    folder = str(tmp_path_factory.mktemp("grace"))
    stock = Stock(
        {
            "DATABASE_URL": make_database(postgres, template),
            "DATA_DIR": folder,
            "STORAGE": "local",
            "OLD_PICTURE_GRACE_SECONDS": str(HOUR_SECONDS),
            "KEEP_ORIGINALS": "false",
            "EMBEDDED_REAPER": "false",
            "EMBEDDED_JOBS": "false",
        }
    )

    stock.service.start()
    yield stock
    stock.service.stop()


@pytest.fixture
def bob(kept: Stock, request: pytest.FixtureRequest) -> Account:
    return kept.service.register(f"bob{abs(hash(request.node.name)) % 10**9}")


def replace_picture(service: Service, account: Account) -> str:
    """Replace the account's picture; return the URL of the new one."""
    url: str = service.patch_picture(account, jpeg()).raise_for_status().json()["image_path"]
    return url


def status_of(service: Service, url: str) -> int:
    return service.get_picture(url).status_code


def test_what_was_replaced_or_removed_is_read_until_its_grace_is_over(
    kept: Stock, bob: Account
) -> None:
    service = kept.service
    old = replace_picture(service, bob)
    new = replace_picture(service, bob)
    with service.client(bob) as client:
        assert client.delete(f"/users/{bob.id}/picture").status_code == 200
    assert kept.reap() == 0
    assert (status_of(service, old), status_of(service, new)) == (200, 200)
    keys = [url.removeprefix("/media/") for url in (old, new)]
    for key in keys:
        row = kept.read(key)
        assert row["state"] == "doomed"
        left = row["next_attempt_at"] - row["state_changed_at"]
        assert left.total_seconds() == HOUR_SECONDS
    run = kept.run("check")
    assert (run.returncode, '"in_grace": 2' in run.stdout) == (0, True), run
    for key in keys:
        kept.make_due(key)
    assert kept.reap() == 2
    assert (status_of(service, old), status_of(service, new)) == (404, 404)


def test_an_account_goes_with_all_that_waits_in_its_grace(kept: Stock, bob: Account) -> None:
    service = kept.service
    other = service.register(f"{bob.email.partition('@')[0]}s-friend")
    kept_url = replace_picture(service, other)
    replace_picture(service, other)
    urls = [replace_picture(service, bob) for _ in range(4)]
    with service.client(bob) as client:
        assert client.delete(f"/users/{bob.id}").status_code == 204
    assert [status_of(service, url) for url in urls] == [404] * 4
    assert not service.sql("SELECT FROM stored_files WHERE owner_id = $1", bob.id)
    assert status_of(service, kept_url) == 200, "another's grace goes on"


def test_more_than_is_deleted_at_once_is_due_at_once(kept: Stock, bob: Account) -> None:
    kept.service.sql(
        "INSERT INTO stored_files (storage, bucket, key, purpose, state, owner_id, next_attempt_at)"
        " SELECT 'local', '', 'profile_pics/' || gen_random_uuid() || '.jpg', 'profile_picture',"
        " 'doomed', $1, now() + interval '1 hour' FROM generate_series(1, 120)",
        bob.id,
    )
    with kept.service.client(bob) as client:
        assert client.delete(f"/users/{bob.id}").status_code == 204
    assert kept.reap() == 20
    assert not kept.service.sql("SELECT FROM stored_files WHERE owner_id = $1", bob.id)


@pytest.mark.parametrize("taken_back", ["deleted", "hidden", "replaced and hidden", "shown"])
def test_a_replaced_photo_is_read_for_a_while_unless_its_owner_takes_it_back(
    kept: Stock, bob: Account, taken_back: str
) -> None:
    service = kept.service
    visibility = "private" if taken_back == "shown" else "public"
    photo_id = store_photo(service, bob.id, visibility, master=jpeg())
    before = {file["key"] for file in list_files(kept, bob)}
    with service.client(bob) as client:

        def replace(**words: str) -> None:
            sent = {"file": ("new.jpg", jpeg())}
            answer = client.patch(f"/photos/{photo_id}", files=sent, data=words)
            assert answer.status_code == 200, answer.text

        replace()
        waiting = [file for file in list_files(kept, bob) if file["state"] != "live"]
        assert {file["key"] for file in waiting} == before, "the unkept original went at once"
        assert {file["state"] for file in waiting} == {"doomed"}
        assert kept.reap() == 0 and before <= kept.objects()
        if taken_back == "deleted":
            assert client.delete(f"/photos/{photo_id}").status_code == 204
        elif taken_back == "replaced and hidden":
            replace(visibility="private")
        else:
            wanted = {"visibility": "private" if taken_back == "hidden" else "public"}
            assert client.patch(f"/photos/{photo_id}", json=wanted).status_code == 200
    left = list_files(kept, bob)
    assert {file["state"] for file in left} <= {"live"}
    assert before.isdisjoint(kept.objects())
    assert findings(kept.ask(check.check).as_json()) == {}


def list_files(stock: Stock, account: Account) -> list[dict[str, str]]:
    found = stock.service.sql("SELECT key, state FROM stored_files WHERE owner_id = $1", account.id)
    return [dict(file) for file in found]
