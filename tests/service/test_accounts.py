"""Accounts: who may register, what a token is good for, and that passwords are never told."""

import base64
import json
import re
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from accounts import Tokens
from tests.support.services import Account, Service
from web.problems import LONGEST_NAME, MOST_ERRORS

AT_ONCE = 8
# Enough that some of them fall into one second, whatever the machine's pace.
ROUNDS = 25
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def api(shared_service: Service) -> Iterator[httpx.Client]:
    with shared_service.client() as client:
        yield client


def fresh(stem: str = "") -> str:
    return f"{stem}{uuid.uuid4().hex[:12]}"


def new_user(**changed: object) -> dict[str, object]:
    name = fresh()
    return {"username": name, "email": f"{name}@example.com", "password": PASSWORD, **changed}


def register(api: httpx.Client, **changed: object) -> httpx.Response:
    return post_json(api, "/users", new_user(**changed))


def post_json(api: httpx.Client, path: str, body: object) -> httpx.Response:
    """As JSON in ASCII: a lone surrogate has no UTF-8, only an escape."""
    return api.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})


def log_in(api: httpx.Client, email: object, password: object = PASSWORD) -> httpx.Response:
    return api.post("/users/token", data={"username": email, "password": password})


def me(api: httpx.Client, token: str) -> httpx.Response:
    return api.get("/users/me", headers={"Authorization": f"Bearer {token}"})


def is_for_people(sentence: str) -> bool:
    """Whether it is a whole sentence, without the words of a validator or the names of fields."""
    words = "input|valid string|items|characters after|Value error|_|@-sign|extra inputs|SecretStr"
    is_whole = re.fullmatch(r"(A|An|Please|The|This|There) .*\.", sentence)
    return bool(is_whole) and not re.search(words, sentence, re.IGNORECASE)


def refused(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["status"] == answer.status_code
    return answer.status_code, body["code"]


def test_an_account_from_registration_to_its_end(api: httpx.Client) -> None:
    name = fresh("Ada-")
    made = register(api, username=name, email=f"{name}@Example.COM")
    assert made.status_code == 201
    user = made.json()
    assert user["username"] == name and user["email"] == f"{name}@example.com"
    assert (user["image_file"], user["image_path"]) == (None, "/static/profile_pics/default.jpg")
    answer = log_in(api, f"{name}@example.com")
    assert answer.status_code == 200 and answer.json()["token_type"] == "bearer"
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert api.get("/users/me", headers=headers).json() == user
    changed = api.patch(f"/users/{user['id']}", json={"username": f"{name} II"}, headers=headers)
    assert (changed.status_code, changed.json()) == (200, {**user, "username": f"{name} II"})
    assert api.patch(f"/users/{user['id']}", json={}, headers=headers).json() == changed.json()
    assert api.delete(f"/users/{user['id']}", headers=headers).status_code == 204
    assert refused(api.get("/users/me", headers=headers)) == (401, "invalid_token")
    assert refused(api.get(f"/users/{user['id']}")) == (404, "user_not_found")
    assert refused(log_in(api, f"{name}@example.com")) == (401, "wrong_credentials")
    assert register(api, username=name, email=f"{name}@example.com").status_code == 201


def test_the_public_user_shows_no_address(api: httpx.Client, account: Account) -> None:
    public = api.get(f"/users/{account.id}")
    assert {"id", "username", "image_file", "image_path"} <= set(public.json())
    assert (
        account.email not in public.text
        and "email" not in public.text
        and "password" not in public.text
    )


def test_nobody_makes_himself_admin(shared_service: Service, account: Account) -> None:
    with shared_service.client(account) as client:
        for body in ({"is_admin": True}, {"username": fresh(), "is_admin": True}):
            assert refused(client.patch(f"/users/{account.id}", json=body)) == (
                422,
                "invalid_request",
            )
        assert refused(register(client, is_admin=True)) == (422, "invalid_request")
        assert not client.get("/users/me").json().get("is_admin")
        other = register(client).json()["id"]
        assert refused(client.patch(f"/users/{other}", json={"username": fresh()})) == (
            403,
            "not_yours",
        )
    assert shared_service.sql("SELECT is_admin FROM users WHERE id = $1", account.id)[0][0] is False


SAME = {
    "case": ("alice", "ALICE"),
    "accent": ("zoé", "ZOÉ"),
    "composed": ("zo\u00e9", "ZOE\u0301"),
    "sharp-s": ("straße", "STRASSE"),
    "full-width": ("alice", "\uff41\uff4c\uff49\uff43\uff45"),
    "final-sigma": ("σοφος", "ΣΟΦΟΣ"),
    "ligature": ("ﬁona", "FIONA"),
    "non-joiner": ("ali\u200cce", "ALICE"),
    "selector": ("ann ❤\ufe0f", "ANN ❤"),
    "spaces": ("ann  lee", "Ann\u00a0Lee"),
}


@pytest.mark.parametrize("first, second", SAME.values(), ids=list(SAME))
def test_a_name_is_taken_however_it_is_written(api: httpx.Client, first: str, second: str) -> None:
    tail = fresh("-")
    assert register(api, username=first + tail).status_code == 201
    assert refused(register(api, username=second + tail.upper())) == (409, "username_taken")


@pytest.mark.parametrize(
    "first, second", [SAME[kind] for kind in ("case", "accent", "sharp-s", "final-sigma")], ids=str
)
def test_an_address_is_taken_however_it_is_written(
    api: httpx.Client, first: str, second: str
) -> None:
    tail = fresh("-")
    assert register(api, email=f"{first}{tail}@example.com").status_code == 201
    assert refused(register(api, email=f"{second}{tail.upper()}@EXAMPLE.com")) == (
        409,
        "email_taken",
    )
    assert log_in(api, f"{second}{tail}@example.com").status_code == 200


@pytest.mark.parametrize(
    "domain", ["EXAMPLE.com", "bücher.example", "xn--bcher-kva.example", "\uff45xample.com"]
)
def test_whoever_registered_logs_in_with_the_address_as_it_was_typed(
    api: httpx.Client, domain: str
) -> None:
    email = f"{fresh('Reader.')}@{domain}"
    assert register(api, email=email).status_code == 201
    assert log_in(api, email).status_code == 200


def test_an_account_keeps_its_own_name_in_another_case(api: httpx.Client, account: Account) -> None:
    own = api.get(f"/users/{account.id}").json()["username"]
    # The same address, so that no password is asked for.
    change = {"username": own.upper(), "email": account.email.upper()}
    changed = api.patch(f"/users/{account.id}", json=change, headers=account.headers)
    assert (changed.status_code, changed.json()["username"]) == (200, own.upper())


def test_anothers_name_or_address_cannot_be_taken_over(
    shared_service: Service, api: httpx.Client
) -> None:
    ann = shared_service.register(fresh("ann-"))
    ben = shared_service.register(fresh("ben-"))
    before = me(api, ben.token).json()
    for change, code in (
        ({"username": ann.email.split("@")[0].upper()}, "username_taken"),
        ({"email": ann.email.upper(), "current_password": ben.password}, "email_taken"),
    ):
        assert refused(api.patch(f"/users/{ben.id}", json=change, headers=ben.headers)) == (
            409,
            code,
        )
    assert me(api, ben.token).json() == before


@pytest.mark.parametrize("field, code", [("username", "username_taken"), ("email", "email_taken")])
def test_of_many_who_register_at_once_one_gets_the_name(
    shared_service: Service, field: str, code: str
) -> None:
    name = fresh("race-")
    spellings = [name.upper(), name.title(), name]
    shared = [{field: word if field == "username" else f"{word}@example.com"} for word in spellings]
    together = threading.Barrier(AT_ONCE)

    def attempt(number: int) -> httpx.Response:
        with shared_service.client() as client:
            client.get("/health/live")  # connected before the start
            together.wait(30)
            return register(client, **shared[number % len(shared)])

    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = list(threads.map(attempt, range(AT_ONCE)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * (AT_ONCE - 1)
    assert {refused(answer)[1] for answer in answers if answer.status_code == 409} == {code}


def test_of_two_who_take_a_name_at_once_one_gets_it(shared_service: Service) -> None:
    accounts = [shared_service.register(fresh("two-")) for _ in range(4)]
    name = fresh("wanted-")
    together = threading.Barrier(len(accounts))

    def attempt(account: Account) -> httpx.Response:
        with shared_service.client(account) as client:
            client.get("/health/live")
            together.wait(30)
            return client.patch(f"/users/{account.id}", json={"username": name})

    with ThreadPoolExecutor(len(accounts)) as threads:
        answers = list(threads.map(attempt, accounts))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert {refused(answer)[1] for answer in answers if answer.status_code == 409} == {
        "username_taken"
    }


NO_TEXT: list[object] = [17, 1.5, True, None, [], {}, ["x"], "lone \ud800 surrogate"]
BAD: dict[str, list[object]] = {
    "username": [
        *NO_TEXT,
        *(
            "",
            " ",
            "\t\n ",
            "nul\x00",
            "line\nbreak",
            "escape\x1b[2J",
            "bell\x07",
            "del\x7f",
            "c\x851",
        ),
        *(
            "zero\u200bwidth",
            "turned\u202eround",
            "private\ue000use",
            "x" * 51,
            "é" * 51,
            "x" * 10_000,
        ),
    ],
    "email": [
        *NO_TEXT,
        *(
            "",
            " ",
            "nobody",
            "@example.com",
            "nobody@",
            "a b@example.com",
            "a@b@example.com",
            "a@example..com",
        ),
        *(
            "nul\x00@example.com",
            "line\n@example.com",
            "x@exa\x07mple.com",
            "bidi\u202e@example.com",
            "x@[127.0.0.1]",
        ),
        *("x@" + "y" * 260 + ".com", "x" * 10_000, "x@example.com\x00", "x@\ud800.com"),
    ],
    "password": [
        *(*NO_TEXT, "", "short 7", "x" * 257, "x" * 10_000),
        *(" " * 8, "12345678", "Passw0rd"),
    ],
}
BAD_VALUES = [
    pytest.param(field, value, id=f"{field}-{ascii(value)[:30]}")
    for field, values in BAD.items()
    for value in values
]


@pytest.mark.parametrize("field, value", BAD_VALUES)
def test_a_bad_value_is_refused_by_name_and_no_password_repeated(
    shared_service: Service, account: Account, field: str, value: object
) -> None:
    password = fresh("secret-")
    with shared_service.client(account) as client:
        asked = register(client, **{"password": password, field: value})
        body = {"password": password, "current_password": account.password, field: value}
        patched = client.patch(
            f"/users/{account.id}",
            content=json.dumps(body),
            headers={"Content-Type": "application/json"},
        )
    for answer in (asked, patched):
        assert refused(answer) == (422, "invalid_request")
        problem = answer.json()
        assert [error["loc"] for error in problem["errors"]] == [["body", field]]
        assert all(set(error) == {"loc", "msg", "type"} for error in problem["errors"])
        assert problem["detail"] == problem["errors"][0]["msg"]
        assert is_for_people(problem["detail"])
        assert password not in answer.text and account.password not in answer.text
        if field == "password" and isinstance(value, str) and value:
            assert value not in answer.text


@pytest.mark.parametrize("value", [17, [], {}, "x" * 257, "x" * 10_000], ids=ascii)
def test_a_bad_current_password_is_refused_and_not_repeated(
    api: httpx.Client, account: Account, value: object
) -> None:
    body = json.dumps({"password": PASSWORD, "current_password": value})
    headers = {**account.headers, "Content-Type": "application/json"}
    answer = api.patch(f"/users/{account.id}", content=body, headers=headers)
    assert refused(answer) == (422, "invalid_request")
    assert PASSWORD not in answer.text and not (isinstance(value, str) and value in answer.text)


@pytest.mark.parametrize(
    "fields",
    [
        {"x" * 60_000: 1},
        {"\N{GRINNING FACE}" * 5_000: 1},
        {f"{number:x}": 1 for number in range(6_000)},
        {"password": "x" * 60_000},
        {"email": "@" * 60_000},
        {"username": [1] * 15_000},
    ],
    ids=["a long name", "emoji", "many names", "a password", "an address", "a list"],
)
def test_what_is_refused_is_not_sent_back_at_length(
    api: httpx.Client, fields: dict[str, object]
) -> None:
    answer = register(api, **fields)
    assert refused(answer) == (422, "invalid_request")
    errors = answer.json()["errors"]
    assert 1 <= len(errors) <= MOST_ERRORS
    assert all(len(error["loc"][1]) <= LONGEST_NAME + len("...") for error in errors)
    assert len(answer.content) < 4_000


@pytest.mark.parametrize(
    "name", ["image_file", "image_path", "is_admin", "id", "picture_id", "nul\x00", "\ud800", "ñ"]
)
def test_an_unknown_field_is_refused(api: httpx.Client, account: Account, name: str) -> None:
    made = register(api, **{name: "x"})
    headers = {**account.headers, "Content-Type": "application/json"}
    patched = api.patch(f"/users/{account.id}", content=json.dumps({name: "x"}), headers=headers)
    for answer in (made, patched):
        assert refused(answer) == (422, "invalid_request")
        problems = [error["type"] for error in answer.json()["errors"]]
        assert problems == ["string_unicode" if name == "\ud800" else "extra_forbidden"]
        told = f"There is no field {name} here. Please leave it out."
        if not (name.isascii() and name.isprintable()):
            told = "One of the fields is not known here. Please leave it out."
        if name != "\ud800":
            assert answer.json()["detail"] == told


@pytest.mark.parametrize("field", ["username", "email", "password"])
def test_a_missing_field_is_named(api: httpx.Client, field: str) -> None:
    body = {name: value for name, value in new_user().items() if name != field}
    answer = post_json(api, "/users", body)
    assert refused(answer) == (422, "invalid_request")
    assert [(error["loc"], error["type"]) for error in answer.json()["errors"]] == [
        (["body", field], "missing")
    ]
    assert PASSWORD not in answer.text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'"hunter2hunter2"',
        b"[]",
        b"null",
        b'{"password": hunter2hunter2}',
        b'{"password": "hunter2',
    ],
)
def test_a_body_that_is_no_object_is_refused_without_repeating_it(
    api: httpx.Client, content: bytes
) -> None:
    answer = api.post("/users", content=content, headers={"Content-Type": "application/json"})
    assert refused(answer) == (422, "invalid_request")
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    "content", [b"\xff\xfe{}", b'{"username": "\xff"}', b"[" * 60_000, b"9" * 6_000]
)
def test_a_body_that_cannot_be_decoded_is_the_clients_fault(
    api: httpx.Client, content: bytes
) -> None:
    answer = api.post("/users", content=content, headers={"Content-Type": "application/json"})
    assert refused(answer)[0] in (400, 422)


def test_a_body_far_too_large_is_refused(api: httpx.Client) -> None:
    assert refused(register(api, username="x" * 100_000)) == (413, "body_too_large")


@pytest.mark.parametrize(
    "good", ["x" * 50, "é" * 50, "  padded  ", "Łukasz 李小龍", "o'neil; DROP TABLE users;--", "😀"]
)
def test_any_plain_name_of_up_to_fifty_characters_is_good(api: httpx.Client, good: str) -> None:
    taken = register(api, username=good)
    # 409 only when the shared database knows it from another test.
    assert taken.status_code in (201, 409), taken.text
    if taken.status_code == 201:
        user = taken.json()
        assert user["username"] == good.strip()
        token = log_in(api, user["email"]).json()["access_token"]
        api.delete(f"/users/{user['id']}", headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize(
    "password",
    [
        "x" * 5 + "yz7",
        "x" * 256,
        " " * 7 + "-",
        "пароль-пароль",
        "nul\x00 is text too",
        "a+b&c=d%20",
    ],
)
def test_any_text_of_8_to_256_characters_is_a_password(api: httpx.Client, password: str) -> None:
    email = str(register(api, password=password).json()["email"])
    assert log_in(api, email, password).status_code == 200
    assert refused(log_in(api, email, password[:-1] + "?")) == (401, "wrong_credentials")


@pytest.mark.parametrize(
    "method, tail", [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("DELETE", "/picture")]
)
@pytest.mark.parametrize(
    "number", ["0", "-1", str(2**63), "9" * 400, "9" * 5000, "1.5", "1e3", "abc", "%00", "%ff", "٣"]
)
def test_an_id_that_no_account_can_have_is_refused(
    api: httpx.Client, account: Account, method: str, tail: str, number: str
) -> None:
    body: dict[str, str] | None = {} if method == "PATCH" else None
    answer = api.request(method, f"/users/{number}{tail}", headers=account.headers, json=body)
    assert refused(answer) == (404, "user_not_found")


def test_the_largest_id_is_merely_unknown(api: httpx.Client) -> None:
    assert refused(api.get(f"/users/{2**63 - 1}")) == (404, "user_not_found")


@pytest.mark.parametrize(
    "email", ["", "nobody", "a@b\x00", "\x00", "x" * 10_000, "a\nb@example.com", "￿@example.com"]
)
def test_an_address_that_no_account_can_have_is_just_wrong(api: httpx.Client, email: str) -> None:
    answer = log_in(api, email)
    expected = (401, "wrong_credentials") if email else (422, "invalid_request")
    assert refused(answer) == expected
    assert PASSWORD not in answer.text


def test_a_login_without_a_field_is_refused_without_repeating_the_password(
    api: httpx.Client,
) -> None:
    for form in (
        {"password": PASSWORD},
        {"username": "a@example.com"},
        {"grant_type": "x", "password": PASSWORD},
    ):
        answer = api.post("/users/token", data=form)
        assert refused(answer) == (422, "invalid_request")
        assert PASSWORD not in answer.text


SENTENCES: dict[str, tuple[dict[str, object], str]] = {
    "no name": ({"username": " "}, "Please enter a name."),
    "no address": ({"email": ""}, "Please enter an e-mail address, as in name@example.com."),
    "no password": ({"password": ""}, "Please enter a password."),
    "nothing for a password": ({"password": None}, "Please enter a password."),
    "a short password": (
        {"password": "seven77"},
        "Please choose a password of at least 8 characters.",
    ),
    "a long password": ({"password": "x" * 257}, "A password may have at most 256 characters."),
    "a long name": ({"username": "x" * 51}, "A name may have at most 50 characters."),
    "a number for a name": ({"username": 7}, "A name must be text."),
    "a field that is none": ({"role": 1}, "There is no field role here. Please leave it out."),
    "a name like an address": (
        {"username": "ann@example.com"},
        "A name may not hold an @: it would look like an e-mail address.",
    ),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_people_are_told_what_to_do(api: httpx.Client, name: str) -> None:
    changed, sentence = SENTENCES[name]
    answer = register(api, **changed)
    assert refused(answer) == (422, "invalid_request")
    assert answer.json()["detail"] == sentence == answer.json()["errors"][0]["msg"]


JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
BODIES = [
    ("/users", JSON, b'{"username": ', "not valid JSON: it goes wrong at character 14"),
    ("/users", JSON, b"[]", "must be a JSON object"),
    ("/users", JSON, b"", "no body"),
    ("/users", "", b'{"username": "a"}', "and say so: Content-Type: application/json"),
    ("/users", FORM, b"username=a", "Please send JSON"),
    ("/users", JSON, b'{"username": "\xff"}', "JSON in UTF-8"),
    ("/users/token", JSON, b'{"username": "a"}', "Please send the login as a form"),
    ("/users/token", FORM, b"username=a&password=", "Please enter a password"),
    ("/users/token", FORM, b"password=a", "Please enter a name or an e-mail address"),
    ("/users/token", FORM, b"username=a&password=b&grant_type=x", "must be password, or left out"),
    ("/users/token", "multipart/form-data", b"--x", "Do not set this header yourself"),
    ("/users/token", "multipart/form-data; boundary=x", b"username=a", "damaged or cut short"),
]


@pytest.mark.parametrize("path, content_type, body, told", BODIES, ids=ascii)
def test_a_body_of_another_form_is_told_as_such(
    api: httpx.Client, path: str, content_type: str, body: bytes, told: str
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = api.post(path, content=body, headers=headers)
    assert refused(answer)[0] in (400, 422)
    assert told in answer.json()["detail"]


def test_a_login_takes_the_name_or_the_address_and_tells_whose_it_is(
    shared_service: Service, api: httpx.Client
) -> None:
    name = fresh("Ada ")
    email = f"{fresh('ada.')}@example.com"
    user = register(api, username=name, email=email).json()
    for said in (name, f" {name.upper()}", email, email.upper()):
        token = log_in(api, said).json()
        assert (token["user"], token["token_type"]) == (user, "bearer")
        assert token["expires_in"] == 60 * 60
        assert me(api, token["access_token"]).json() == user
    as_multipart = {"username": (None, email), "password": (None, PASSWORD), "scope": (None, "")}
    assert api.post("/users/token", files=as_multipart).json()["user"] == user
    for unknown in (fresh("Ada "), name + "\x00", f"{name}@"):
        assert refused(log_in(api, unknown)) == (401, "wrong_credentials")


def test_a_name_of_old_that_is_anothers_address_opens_nobodys_account(
    shared_service: Service, api: httpx.Client, account: Account
) -> None:
    owner = shared_service.register(fresh("owner-"))
    renamed = "UPDATE users SET username = $1, username_folded = $1 WHERE id = $2"
    shared_service.sql(renamed, owner.email, account.id)
    headers = account.headers
    assert log_in(api, owner.email, owner.password).json()["user"]["id"] == owner.id
    assert refused(log_in(api, owner.email, account.password)) == (401, "wrong_credentials")
    assert log_in(api, account.email, account.password).json()["user"]["id"] == account.id
    # It may be kept, but no other name with an @ may be taken.
    path = f"/users/{account.id}"
    assert api.patch(path, json={"username": owner.email}, headers=headers).status_code == 200
    answer = api.patch(path, json={"username": f"{fresh()}@example.com"}, headers=headers)
    assert refused(answer) == (422, "invalid_request")
    assert answer.json()["detail"].startswith("A name may not hold an @")
    assert answer.json()["errors"][0]["loc"] == ["body", "username"]


def test_unknown_address_and_wrong_password_are_answered_alike(
    api: httpx.Client, account: Account
) -> None:
    def said(answer: httpx.Response) -> tuple[int, dict[str, Any], set[str]]:
        body = answer.json()
        del body["request_id"]
        return answer.status_code, body, set(answer.headers)

    known = log_in(api, account.email, "wrong password")
    unknown = log_in(api, f"{fresh()}@example.com", account.password)
    assert said(known) == said(unknown)
    assert known.status_code == 401 and known.headers["www-authenticate"] == "Bearer"
    assert known.headers["content-length"] == unknown.headers["content-length"]


def test_passwords_are_stored_as_argon2id(shared_service: Service, account: Account) -> None:
    stored = shared_service.sql("SELECT password_hash FROM users WHERE id = $1", account.id)[0][0]
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$") and account.password not in stored


def test_a_new_password_needs_the_current_one_and_ends_older_tokens(
    api: httpx.Client, account: Account
) -> None:
    path = f"/users/{account.id}"
    second = log_in(api, account.email, account.password).json()["access_token"]
    for wrong in (
        {},
        *(
            {"current_password": value}
            for value in ("wrong one", "", None, "lone \ud800 surrogate")
        ),
    ):
        change = {"password": "a new password", "username": fresh("changed-"), **wrong}
        headers = {**account.headers, "Content-Type": "application/json"}
        answer = api.patch(path, content=json.dumps(change), headers=headers)
        assert refused(answer) == (403, "wrong_password")
        assert "a new password" not in answer.text
    assert not me(api, account.token).json()["username"].startswith("changed-")
    assert log_in(api, account.email, account.password).status_code == 200
    change = {"password": "a new password", "current_password": account.password}
    assert api.patch(path, json=change, headers=account.headers).status_code == 200
    for old in (account.token, second):
        assert refused(me(api, old)) == (401, "invalid_token")
    assert refused(log_in(api, account.email, account.password)) == (401, "wrong_credentials")
    assert (
        me(api, log_in(api, account.email, "a new password").json()["access_token"]).status_code
        == 200
    )


def test_a_password_may_not_be_what_the_account_is_known_by(
    api: httpx.Client, account: Account
) -> None:
    name = fresh("ann ")
    email = f"{fresh()}@example.com"
    for password in (name.upper(), email, email.split("@")[0]):
        answer = register(api, username=name, email=email, password=password)
        assert refused(answer) == (422, "invalid_request")
        assert answer.json()["errors"][0]["loc"] == ["body", "password"]
        assert answer.json()["detail"] == "A password may not be the name or the e-mail address."
    path = f"/users/{account.id}"
    for change in (
        {"password": account.email},
        {"password": name, "username": name},
        {"password": email, "email": email},
    ):
        sent = {**change, "current_password": account.password}
        answer = api.patch(path, json=sent, headers=account.headers)
        assert refused(answer) == (422, "invalid_request")
    assert log_in(api, account.email, account.password).status_code == 200


def test_white_space_around_an_address_is_nothing(api: httpx.Client) -> None:
    email = f"{fresh()}@example.com"
    made = register(api, email=f"\t {email}\u00a0\n")
    assert (made.status_code, made.json()["email"]) == (201, email)
    assert refused(register(api, email=f" {email}")) == (409, "email_taken")
    token = log_in(api, f"  {email}\n").json()["access_token"]
    new = f"{fresh()}@example.com"
    change = {"email": f" {new} ", "current_password": PASSWORD}
    headers = {"Authorization": f"Bearer {token}"}
    assert api.patch("/users/me", json=change, headers=headers).json()["email"] == new
    assert log_in(api, new).status_code == 200
    # The one that it has is no new one, for which a password would be asked.
    assert api.patch("/users/me", json={"email": f"{new} "}, headers=headers).status_code == 200


def test_a_name_of_old_may_be_kept_and_logs_in_as_it_shows(
    shared_service: Service, api: httpx.Client, account: Account
) -> None:
    old = fresh("\u3164old ")
    shared_service.sql("UPDATE users SET username = $1 WHERE id = $2", old, account.id)
    path = f"/users/{account.id}"
    kept = api.patch(path, json={"username": old}, headers=account.headers)
    assert (kept.status_code, kept.json()["username"]) == (200, old)
    assert log_in(api, old.strip("\u3164"), account.password).status_code == 200
    answer = api.patch(path, json={"username": f"{old}\u3164"}, headers=account.headers)
    assert refused(answer) == (422, "invalid_request")
    assert answer.json()["errors"][0]["loc"] == ["body", "username"]


def test_a_new_address_needs_the_current_password(api: httpx.Client, account: Account) -> None:
    path = f"/users/{account.id}"
    new = f"{fresh()}@example.com"
    # A mailbox of its own, though as a name it would be taken for the same.
    lookalike = account.email.replace("user-", "u\u017fer-")
    for address in (new, lookalike):
        for sent in ({}, {"current_password": None}, {"current_password": "wrong one"}):
            answer = api.patch(path, json={"email": address, **sent}, headers=account.headers)
            assert refused(answer) == (403, "wrong_password")
    assert me(api, account.token).json()["email"] == account.email
    change = {"email": new, "current_password": account.password}
    answer = api.patch(path, json=change, headers=account.headers)
    assert (answer.status_code, answer.json()["email"]) == (200, new)
    # The one that it has may be sent along with what changes.
    own = {"email": new, "username": fresh()}
    assert api.patch(path, json=own, headers=account.headers).status_code == 200
    assert log_in(api, new, account.password).status_code == 200


def test_an_account_is_deleted_within_15_minutes_of_a_login(
    shared_service: Service, api: httpx.Client, account: Account
) -> None:
    key = (Path(shared_service.settings["DATA_DIR"]) / "secret_key").read_text().strip()
    long_ago = "UPDATE users SET tokens_valid_after = now() - interval '1 day' WHERE id = $1"
    admin = shared_service.register(fresh("admin-"), is_admin=True)
    for user in (account, admin):
        shared_service.sql(long_ago, user.id)

    def make_token(user: Account, age: timedelta) -> dict[str, str]:
        ((now,),) = shared_service.sql("SELECT clock_timestamp()")
        return {"Authorization": f"Bearer {Tokens(key, 60).issue(user.id, now - age)}"}

    limit = timedelta(minutes=15)
    older = limit + timedelta(seconds=1)
    for path in (f"/users/{account.id}", "/users/me"):
        answer = api.delete(path, headers=make_token(account, older))
        assert refused(answer) == (403, "login_again")
    # An admin's own account is no other's.
    answer = api.delete("/users/me", headers=make_token(admin, older))
    assert refused(answer) == (403, "login_again")
    other = shared_service.register(fresh("other-"))
    path = f"/users/{other.id}"
    assert api.delete(path, headers=make_token(admin, older)).status_code == 204
    newer = make_token(account, limit - timedelta(minutes=1))
    assert api.delete("/users/me", headers=newer).status_code == 204


def test_an_admin_sets_anothers_password_and_needs_the_current_one_for_his_own(
    shared_service: Service,
) -> None:
    admin = shared_service.register(fresh("admin-"), is_admin=True)
    ann = shared_service.register(fresh("ann-"))
    with shared_service.client(admin) as client:
        assert refused(client.patch(f"/users/{admin.id}", json={"password": PASSWORD})) == (
            403,
            "wrong_password",
        )
        assert client.patch(f"/users/{ann.id}", json={"password": PASSWORD}).status_code == 200
        assert refused(me(client, ann.token)) == (401, "invalid_token")
        assert log_in(client, ann.email).status_code == 200


def test_a_token_from_before_the_logout_ends_and_one_from_directly_after_works(
    api: httpx.Client, account: Account
) -> None:
    token = account.token
    for _ in range(ROUNDS):
        assert me(api, token).status_code == 200
        assert (
            api.delete("/users/token", headers={"Authorization": f"Bearer {token}"}).status_code
            == 204
        )
        assert refused(me(api, token)) == (401, "invalid_token")
        token = log_in(api, account.email, account.password).json()["access_token"]


def test_a_logout_ends_every_token_of_the_account_and_no_other(
    shared_service: Service, api: httpx.Client
) -> None:
    ann = shared_service.register(fresh("ann-"))
    ben = shared_service.register(fresh("ben-"))
    second = log_in(api, ann.email, ann.password).json()["access_token"]
    assert api.delete("/users/token", headers=ann.headers).status_code == 204
    for token in (ann.token, second):
        assert refused(me(api, token)) == (401, "invalid_token")
    assert me(api, ben.token).status_code == 200


def test_the_token_of_a_deleted_account_ends(api: httpx.Client, account: Account) -> None:
    assert api.delete(f"/users/{account.id}", headers=account.headers).status_code == 204
    for method, path in (
        ("GET", "/users/me"),
        ("DELETE", "/users/token"),
        ("DELETE", f"/users/{account.id}"),
        ("DELETE", f"/users/{account.id}/picture"),
    ):
        answer = api.request(method, path, headers=account.headers)
        assert refused(answer) == (401, "invalid_token")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_only_a_token_of_ours_for_access_is_taken(
    shared_service: Service, api: httpx.Client, account: Account
) -> None:
    key = (Path(shared_service.settings["DATA_DIR"]) / "secret_key").read_text()
    claims = jwt.decode(account.token, key, ["HS256"], audience="access")
    head, payload, signature = account.token.split(".")

    def encoded(part: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")

    def signed(with_key: str = key, algorithm: str = "HS256", **changed: object) -> str:
        given = {name: value for name, value in {**claims, **changed}.items() if value is not None}
        return jwt.encode(given, with_key, algorithm)

    assert me(api, signed()).status_code == 200
    victim = shared_service.register(fresh("victim-"))
    none = encoded({"alg": "none", "typ": "JWT"})
    forged = {
        "another account": f"{head}.{encoded({**claims, 'sub': str(victim.id)})}.{signature}",
        "longer life": f"{head}.{encoded({**claims, 'exp': claims['exp'] + 9999})}.{signature}",
        "no signature": f"{head}.{payload}.",
        "cut short": account.token[:-4],
        "alg none": f"{none}.{payload}.",
        "alg none, signed": f"{none}.{payload}.{signature}",
        "alg None": f"{encoded({'alg': 'None', 'typ': 'JWT'})}.{payload}.",
        "another algorithm": signed(algorithm="HS512"),
        "another key": signed("x" * 64),
        "another audience": signed(aud="password-reset"),
        "no audience": signed(aud=None),
        "no account": signed(sub=None),
        "no time": signed(iat=None),
        "no end": signed(exp=None),
        "not yet": signed(nbf=claims["exp"]),
        "an unknown account": signed(sub=str(2**62)),
        "an account that cannot be": signed(sub=str(2**80)),
        "a name for an account": signed(sub="alice"),
        "an empty account": signed(sub=""),
        "a word for a time": signed(iat="now"),
        "a list for a time": signed(iat=[1]),
        "not a token": "token",
        "dots": "..",
        "empty parts": f"{head}..{signature}",
        "long": "x" * 8_000,
    }
    for what, token in forged.items():
        answer = me(api, token)
        assert answer.status_code == 401, f"{what}: {answer.text}"
        assert (what, *refused(answer)) == (what, 401, "invalid_token")
        assert answer.headers["www-authenticate"] == "Bearer"
    expired = signed(exp=int(claims["exp"]) - 10 * 365 * 86400)
    assert refused(me(api, expired)) == (401, "token_expired")


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Basic YTpi", "Token x", "Bearer \xe9", "\xff\xfe"]
)
def test_without_a_bearer_token_nobody_is_logged_in(api: httpx.Client, header: str | None) -> None:
    headers = [] if header is None else [(b"Authorization", header.encode("latin-1"))]
    answer = api.get("/users/me", headers=headers)
    expected = "invalid_token" if header and header.startswith("Bearer") else "not_authenticated"
    assert refused(answer) == (401, expected)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_token_in_the_address_or_a_cookie_is_not_looked_at(
    api: httpx.Client, account: Account
) -> None:
    in_address = api.get("/users/me", params={"access_token": account.token})
    in_cookie = api.get(
        "/users/me", headers={"Cookie": f"access_token={account.token}; token={account.token}"}
    )
    assert [refused(in_address), refused(in_cookie)] == [(401, "not_authenticated")] * 2
