"""Proves that changes of one account that meet leave one winner, no orphan and no error of ours."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.pictures import jpeg
from tests.support.postgres_server import hold_account
from tests.support.services import SOMEONE_WAITS, Account, Service, wait_until

pytestmark = pytest.mark.backends


def files_of(service: Service, account: Account) -> list[tuple[str, str]]:
    found = service.sql("SELECT key, state FROM stored_files WHERE owner_id = $1", account.id)
    return [(row["key"], row["state"]) for row in found]


def named(service: Service, account: Account) -> str | None:
    """The key of the picture that the account names."""
    with service.client() as client:
        name = client.get(f"/users/{account.id}").json()["image_file"]
    return f"profile_pics/{name}" if name else None


def test_fifty_replacements_at_once_leave_one_picture(
    shared_service: Service, account: Account
) -> None:
    before = set(shared_service.objects())
    pictures = [jpeg(1200 + number, 900) for number in range(50)]
    start = threading.Barrier(50)

    def send(content: bytes) -> httpx.Response:
        start.wait()
        return shared_service.patch_picture(account, content)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(send, pictures))
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {200, 503} and statuses[200] >= 48, statuses
    names = [answer.json()["image_file"] for answer in answers if answer.status_code == 200]
    assert None not in names and len(set(names)) == len(names), (
        "each answer names the picture of its own request"
    )
    for answer, content in zip(answers, pictures, strict=True):
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            assert shared_service.patch_picture(account, content).status_code == 200
    winner = named(shared_service, account)
    assert winner is not None
    wait_until(lambda: len(files_of(shared_service, account)) == 1, "only the winner's row is left")
    assert files_of(shared_service, account) == [(winner, "live")]
    assert set(shared_service.objects()) - before == {winner}
    assert "deadlock" not in shared_service.log()


@pytest.mark.parametrize("second", ["replace", "take away", "delete the account"])
def test_a_change_that_waits_for_another_sees_what_that_one_left(
    shared_service: Service, account: Account, second: str
) -> None:
    """Both are queued behind the test's own lock, so the second waits for the first's commit."""
    before = set(shared_service.objects())
    shared_service.patch_picture(account, jpeg())

    def change(what: str) -> httpx.Response:
        with shared_service.client(account) as client:
            if what == "replace":
                return shared_service.patch_picture(account, jpeg())
            return client.delete(
                f"/users/{account.id}" + ("/picture" if what == "take away" else "")
            )

    database = shared_service.settings["DATABASE_URL"]
    with ThreadPoolExecutor(3) as pool, hold_account(database, account.id):
        first = pool.submit(change, "replace")
        wait_until(lambda: waiting(shared_service) == 1, "the first change waits")
        other = pool.submit(change, second)
        wait_until(lambda: waiting(shared_service) == 2, "the second change waits")
    assert (first.result().status_code, other.result().status_code // 100) == (200, 2)
    kept = 1 if second == "replace" else 0
    wait_until(
        lambda: len(files_of(shared_service, account)) == kept,
        "no row is left but of what is shown",
    )
    if second == "replace":
        assert other.result().json()["image_file"] is not None
        assert files_of(shared_service, account) == [(named(shared_service, account), "live")]
    assert len(set(shared_service.objects()) - before) == kept


def waiting(service: Service) -> int:
    count: int = service.sql(SOMEONE_WAITS)[0][0]
    return count


def test_replacing_against_deleting_leaves_rows_and_objects_equal(shared_service: Service) -> None:
    before = set(shared_service.objects())
    rng = random.Random(5)
    content = jpeg(400, 300)
    accounts = []
    for round_number in range(6):
        account = shared_service.register(f"race-{round_number}-{time.monotonic_ns()}")
        accounts.append(account)
        changes: list[str] = ["PATCH"] * 10 + ["DELETE picture"] * 8
        rng.shuffle(changes)
        if (
            round_number % 2
        ):  # somewhere in the second half, so that something is there to be deleted
            changes.insert(rng.randrange(9, 18), "DELETE account")
        start = threading.Barrier(len(changes))

        def change(
            what: str, account: Account = account, start: threading.Barrier = start
        ) -> tuple[str, int, str]:
            with shared_service.client(account) as client:
                start.wait()
                if what == "PATCH":
                    answer = client.patch(
                        f"/users/{account.id}/picture", files={"file": ("a.jpg", content)}
                    )
                else:
                    answer = client.delete(
                        f"/users/{account.id}" + ("/picture" if what == "DELETE picture" else "")
                    )
            return what, answer.status_code, answer.text

        with ThreadPoolExecutor(len(changes)) as pool:
            answers = list(pool.map(change, changes))
        allowed = {
            "PATCH": {200, 401, 404, 503},
            "DELETE picture": {200, 401, 404, 503},
            "DELETE account": {204, 503},
        }
        for what, status, text in answers:
            assert status in allowed[what], (what, status, text)
        if round_number % 2 == 0:
            assert any((what, status) == ("PATCH", 200) for what, status, _ in answers)

    def left() -> set[str]:
        return {
            key
            for account in accounts
            for key, state in files_of(shared_service, account)
            if state != "live"
        }

    wait_until(lambda: not left(), "all that was let go of is deleted")
    shown = {key for account in accounts[::2] if (key := named(shared_service, account))}
    rows = {key for account in accounts for key, _ in files_of(shared_service, account)}
    assert rows == shown, "a row is live that no account names"
    assert set(shared_service.objects()) - before == shown
    assert not [account for account in accounts[1::2] if files_of(shared_service, account)]
    assert "deadlock" not in shared_service.log()
