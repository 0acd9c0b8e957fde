"""What the log tells of who did what: events, accounts, codes, and no e-mail address."""

import json
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from logs import LONGEST_PATH, Event
from tests.support.photos import MASTER_SIDES_PX, store_photo
from tests.support.pictures import jpeg
from tests.support.services import Account, Service

PATIENCE_SECONDS = 30
PASSWORD = "another horse battery"


@pytest.fixture(scope="module")
def api(shared_service: Service) -> Iterator[httpx.Client]:
    with shared_service.client() as client:
        yield client


def ask(service: Service, client: httpx.Client, *words: str, **more: Any) -> list[dict[str, Any]]:
    """The log's lines of one request; the last one is that of the request itself."""
    given = uuid.uuid4().hex
    client.request(*words, headers={"X-Request-ID": given}, **more)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        lines = [json.loads(line) for line in service.log().splitlines() if given in line]
        if any("duration_ms" in line for line in lines):
            return sorted(lines, key=lambda line: "duration_ms" in line)
        time.sleep(0.02)
    raise AssertionError(f"no log line for {words}")


def tell(lines: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    """The events among them: what happened, who asked, and whom it is about."""
    return [
        (line["event"], line.get("account"), line["about"]) for line in lines if "event" in line
    ]


def register(service: Service, role: str, *, is_admin: bool = False) -> Account:
    return service.register(f"{role}-{uuid.uuid4().hex[:12]}", is_admin=is_admin)


def test_logins_are_told_with_the_account_that_is_meant(
    shared_service: Service, api: httpx.Client
) -> None:
    alice = register(shared_service, "alice")
    form = {"username": alice.email, "password": alice.password}
    lines = ask(shared_service, api, "POST", "/users/token", data=form)
    assert tell(lines) == [(Event.LOGIN_OK, alice.id, alice.id)]
    assert (lines[-1]["account"], lines[-1]["status"]) == (alice.id, 200)
    lines = ask(shared_service, api, "POST", "/users/token", data={**form, "password": PASSWORD})
    assert tell(lines) == [(Event.LOGIN_FAILED, None, alice.id)]
    assert (lines[-1]["account"], lines[-1]["code"]) == (None, "wrong_credentials")
    assert {line["client"] for line in lines} == {"127.0.0.1"}
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines
    )
    nobody = {**form, "username": f"nobody-{alice.email}"}
    lines = ask(shared_service, api, "POST", "/users/token", data=nobody)
    assert tell(lines) == [(Event.LOGIN_FAILED, None, None)]


def test_a_new_password_and_the_end_of_an_account_are_told(shared_service: Service) -> None:
    alice = register(shared_service, "alice")
    with shared_service.client(alice) as client:
        path = f"/users/{alice.id}"
        wrong = {"password": PASSWORD, "current_password": PASSWORD}
        lines = ask(shared_service, client, "PATCH", path, json=wrong)
        assert (tell(lines), lines[-1]["code"]) == ([], "wrong_password")
        changed = {"password": PASSWORD, "current_password": alice.password}
        lines = ask(shared_service, client, "PATCH", path, json=changed)
        assert tell(lines) == [(Event.PASSWORD_CHANGED, alice.id, alice.id)]
        assert (lines[-1]["account"], lines[-1]["code"]) == (alice.id, None)
    bob = register(shared_service, "bob")
    with shared_service.client(bob) as client:
        lines = ask(shared_service, client, "DELETE", "/users/me")
        assert tell(lines) == [(Event.ACCOUNT_DELETED, bob.id, bob.id)]


def test_what_an_admin_does_to_others_is_told(shared_service: Service) -> None:
    alice = register(shared_service, "alice")
    admin = register(shared_service, "admin", is_admin=True)
    photo_id = store_photo(shared_service, alice.id, master=jpeg(*MASTER_SIDES_PX))
    with shared_service.client(alice) as client:
        made = client.post("/photos/thumbnail", files={"file": ("a.jpg", jpeg(40, 30))}).json()
    act = (Event.ADMIN_ACT, admin.id, alice.id)
    with shared_service.client(admin) as client:
        lines = ask(shared_service, client, "PATCH", f"/photos/{photo_id}", json={"caption": "x"})
        assert tell(lines) == [act]
        lines = ask(shared_service, client, "DELETE", f"/thumbnails/{made['id']}")
        assert (tell(lines), lines[-1]["status"]) == ([act], 204)
        lines = ask(
            shared_service, client, "PATCH", f"/users/{alice.id}", json={"password": PASSWORD}
        )
        assert tell(lines) == [act, (Event.PASSWORD_CHANGED, admin.id, alice.id)]
        lines = ask(shared_service, client, "DELETE", f"/users/{alice.id}")
        assert tell(lines) == [act, (Event.ACCOUNT_DELETED, admin.id, alice.id)]
        lines = ask(shared_service, client, "PATCH", f"/users/{admin.id}", json={})
        assert tell(lines) == []


def test_who_is_refused_is_told_with_what_was_asked_for(shared_service: Service) -> None:
    alice = register(shared_service, "alice")
    bob = register(shared_service, "bob")
    path = f"/users/{alice.id}"
    with shared_service.client(bob) as client:
        (line,) = ask(shared_service, client, "PATCH", path, json={"username": "taken"})
    assert (line["account"], line["code"], line["status"]) == (bob.id, "not_yours", 403)
    assert (line["method"], line["path"]) == ("PATCH", path)
    with shared_service.client() as client:
        for asked, code in (
            (("DELETE", path), "not_authenticated"),
            (("POST", "/users"), "invalid_request"),
        ):
            (line,) = ask(shared_service, client, *asked)
            assert (line["code"], line.get("account"), line["client"]) == (code, None, "127.0.0.1")


def test_a_path_is_cut(shared_service: Service, api: httpx.Client) -> None:
    (line,) = ask(shared_service, api, "GET", f"/{'a' * 5_000}")
    assert line["path"] == f"/{'a' * 5_000}"[:LONGEST_PATH]
    assert len(json.dumps(line)) < 1_000


def test_no_line_holds_an_address(shared_service: Service, api: httpx.Client) -> None:
    alice = register(shared_service, "alice")
    for address in (alice.email, f"josé.{alice.email}", alice.email.replace("@", "%40")):
        lines = ask(shared_service, api, "GET", f"/users/{address}")
        assert lines[-1]["path"] == "/users/[address]"
    again = {"username": alice.email.partition("@")[0], "email": alice.email, "password": PASSWORD}
    assert ask(shared_service, api, "POST", "/users", json=again)[-1]["status"] == 409
    form = {"username": alice.email, "password": PASSWORD}
    ask(shared_service, api, "POST", "/users/token", data=form)
    log = shared_service.log()
    assert alice.email not in log and alice.email.replace("@", "%40") not in log
