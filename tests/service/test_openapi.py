"""The OpenAPI document is valid, and the service keeps to every word of it."""

import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request
from openapi_spec_validator import validate

from main import app
from tests.support.services import ROOT, Account, Service
from web.document import Problem
from web.problems import OTHER_REFUSAL, make_status_problem

METHODS = {"get", "head", "post", "put", "patch", "delete", "options", "trace"}
# What ends the token that the run lives on; these have a run of their own.
ENDING = [("/users/token", "delete"), ("/users/{user_id}", "delete")]
# Every status from 400 with which each operation refuses.
READING = {"400", "408", "413", "422", "503"}
REFUSALS = {
    ("post", "/users"): READING | {"409", "429"},
    ("post", "/users/token"): READING | {"401", "429"},
    ("delete", "/users/token"): READING | {"401", "404"},
    ("get", "/users/me"): READING | {"401"},
    ("get", "/users/{user_id}"): READING | {"404"},
    ("patch", "/users/{user_id}"): READING | {"401", "403", "404", "409", "429"},
    ("delete", "/users/{user_id}"): READING | {"401", "403", "404"},
    ("patch", "/users/{user_id}/picture"): READING | {"401", "403", "404"},
    ("delete", "/users/{user_id}/picture"): READING | {"401", "403", "404"},
    ("get", "/photos"): READING | {"401"},
    ("post", "/photos"): READING | {"401", "404", "409"},
    ("get", "/photos/{photo_id}"): READING | {"401", "404"},
    ("patch", "/photos/{photo_id}"): READING | {"401", "403", "404", "409"},
    ("delete", "/photos/{photo_id}"): READING | {"401", "403", "404"},
    ("get", "/users/{user_id}/photos"): READING | {"401", "404"},
    ("get", "/photos/{photo_id}/thumbnail"): READING | {"401", "403", "404", "409"},
    ("post", "/photos/thumbnail"): READING | {"401", "404", "409"},
    ("get", "/thumbnails"): READING | {"401"},
    ("delete", "/thumbnails/{thumbnail_id}"): READING | {"401", "404"},
    ("get", "/media/{key}"): {"403", "404", "416", "503"},
    ("get", "/health/live"): set(),
    ("get", "/health/ready"): {"503"},
}
# A schema cannot say which bytes are a picture, or which domain can have
# an address: good data may be refused. Any method fits /users/{user_id} and
# /photos/{photo_id}, where "me", "token" and "thumbnail" are ids that
# nothing can have: 404, not 405.
# Of a photo's form, whatever is sent in a text field is text.
SETTINGS = """
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path = ["/users/me", "/users/token", "/photos/thumbnail"]
checks.unsupported_method.enabled = false

[[operations]]
include-path = ["/photos"]
checks.negative_data_rejection.enabled = false
"""


@pytest.fixture(scope="module")
def document(shared_service: Service) -> dict[str, Any]:
    answer = httpx.get(f"{shared_service.url}/openapi.json", trust_env=False)
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS & set(item):
            yield path, method, item[method]


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def test_the_document_is_valid_and_made_without_a_warning(document: dict[str, Any]) -> None:
    validate(document)
    kept = app.openapi_schema
    app.openapi_schema = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert app.openapi() == document
    finally:
        app.openapi_schema = kept


def test_each_operation_has_a_name_of_its_own_and_says_what_it_does(
    document: dict[str, Any],
) -> None:
    found = list(operations(document))
    names = [operation["operationId"] for _, _, operation in found]
    assert len(found) >= 12 and sorted(set(names)) == sorted(names)
    assert [
        (method, path) for path, method, operation in found if not operation.get("description")
    ] == []


def test_the_picture_is_shown_as_an_upload(document: dict[str, Any]) -> None:
    body = document["paths"]["/users/{user_id}/picture"]["patch"]["requestBody"]
    assert body["required"] is True and list(body["content"]) == ["multipart/form-data"]
    form = resolved(document, body["content"]["multipart/form-data"]["schema"])
    assert form["type"] == "object" and form["required"] == ["file"]
    assert set(form["properties"]) == {"file", "crop", "background"}
    file = form["properties"]["file"]
    assert (file["type"], file["format"]) == ("string", "binary")
    assert form["properties"]["crop"]["type"] == "string"
    assert form["properties"]["background"]["type"] == "string"


def test_what_needs_a_token_says_so_and_where_to_get_one(document: dict[str, Any]) -> None:
    locked = {
        (method, path)
        for path, method, operation in operations(document)
        if operation.get("security") and {} not in operation["security"]
    }
    assert locked == {
        *(("get", "/users/me"), ("delete", "/users/token"), ("patch", "/users/{user_id}")),
        *(
            ("delete", "/users/{user_id}"),
            ("patch", "/users/{user_id}/picture"),
            ("delete", "/users/{user_id}/picture"),
        ),
        *(("post", "/photos"), ("patch", "/photos/{photo_id}"), ("delete", "/photos/{photo_id}")),
        *(("post", "/photos/thumbnail"), ("get", "/thumbnails")),
        ("delete", "/thumbnails/{thumbnail_id}"),
    }
    taken = {
        (method, path)
        for path, method, operation in operations(document)
        if operation.get("security")
    }
    assert taken - locked == {
        *(("get", "/photos"), ("get", "/photos/{photo_id}"), ("get", "/users/{user_id}/photos")),
        ("get", "/photos/{photo_id}/thumbnail"),
    }
    (scheme,) = document["components"]["securitySchemes"].values()
    assert scheme["flows"]["password"]["tokenUrl"] == "/users/token" in document["paths"]


def test_every_error_is_a_problem_in_the_document(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in json.dumps(
        document
    ) and "ValidationError" not in json.dumps(document)
    for path, method, operation in operations(document):
        errors = {
            status: answer
            for status, answer in operation["responses"].items()
            if status[0] in "45d"
        }
        assert "default" in errors, (method, path)
        for answer in errors.values():
            assert list(answer["content"]) == ["application/problem+json"], (method, path)
            schema = answer["content"]["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Problem"}
            schema = resolved(document, schema)
            assert set(schema["properties"]) == set(Problem.model_fields)
            required = {"type", "title", "status", "detail", "code", "request_id"}
            assert set(schema["required"]) == required


def test_each_refusal_is_named_where_it_occurs(document: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE)
    known = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    assert sorted(known) == sorted([*(code for code, _ in listed), OTHER_REFUSAL])
    named = {}
    for path, method, operation in operations(document):
        answers = operation["responses"].items()
        codes = {
            (code, status)
            for status, answer in answers
            if status.isdigit() and status >= "400"
            for code in re.findall(r"`(\w+)`", answer["description"])
        }
        assert codes <= set(listed), (method, path)
        named[method, path] = {status for _, status in codes}
    assert named == REFUSALS


@pytest.mark.parametrize("status", [status for status in HTTPStatus if status >= 400])
def test_whatever_the_framework_refuses_has_a_code_of_the_document(
    document: dict[str, Any], status: HTTPStatus
) -> None:
    request = Request({"type": "http", "state": {"request_id": "1"}})
    answer = json.loads(bytes(make_status_problem(request, status, None).body))
    known = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    assert answer["code"] in known and answer["status"] == status


def test_generators_of_clients_find_what_they_need(document: dict[str, Any]) -> None:
    """What `scripts/typed_clients` found that they stumble over; it is tried there."""
    names = {operation["operationId"] for _, _, operation in operations(document)}
    assert {"register", "logIn", "readMe", "replacePicture", "deletePicture"} <= names
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", name) for name in names)
    schemas = document["components"]["schemas"]
    login = schemas["LoginForm"]
    assert login["required"] == ["username", "password"]
    assert not any("default" in field or "anyOf" in field for field in login["properties"].values())
    assert "writeOnly" not in json.dumps(document), "hey-api makes two types of one"
    token = schemas["Token"]
    assert set(token["required"]) == {"access_token", "token_type", "expires_in", "user"}
    me = document["paths"]["/users/{user_id}/picture"]["patch"]["parameters"][0]["schema"]
    assert {"const": "me", "type": "string"} in me["anyOf"]


def test_no_answer_shows_a_password_and_no_input_takes_a_picture_by_name(
    document: dict[str, Any],
) -> None:
    schemas = document["components"]["schemas"]
    assert set(schemas["UserPublic"]["properties"]) >= {
        "id",
        "username",
        "image_file",
        "image_path",
    }
    assert not {"email", "password", "is_admin"} & set(schemas["UserPublic"]["properties"])
    assert not {"password", "password_hash", "is_admin"} & set(schemas["UserPrivate"]["properties"])
    for name in ("UserCreate", "UserUpdate"):
        assert schemas[name]["additionalProperties"] is False
        assert set(schemas[name]["properties"]) <= {
            "username",
            "email",
            "password",
            "current_password",
        }


def schemathesis(service: Service, account: Account, folder: Path, *options: str) -> str:
    (folder / "schemathesis.toml").write_text(SETTINGS)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"),
        *(
            "--header",
            f"Authorization: {account.headers['Authorization']}",
            "--no-color",
            "--seed",
            "1",
        ),
        *("--continue-on-failure", "--request-timeout", "30", *options),
    ]
    environment = {**os.environ, "NO_PROXY": "*", "COLUMNS": "150"}
    run = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]
    return run.stdout


def answered(service: Service) -> set[tuple[str, str, int]]:
    """(method, path, status) of all that the service has answered, by its log."""
    lines = [json.loads(line) for line in service.log().splitlines() if '"duration_ms"' in line]
    return {(line["method"], line["path"], line["status"]) for line in lines}


def test_the_service_keeps_to_its_document(
    start_service: Callable[..., Service], document: dict[str, Any], tmp_path: Path
) -> None:
    service = start_service()
    owner = service.register("owner")
    assert owner.id == 1, "the ids that are tried must meet the owner's"
    names = [document["paths"][path][method]["operationId"] for path, method in ENDING]
    excluded = [word for name in names for word in ("--exclude-operation-id", name)]

    said = schemathesis(service, owner, tmp_path, "--max-examples", "10", *excluded)

    count = len(list(operations(document)))
    assert (
        f"{count - len(ENDING)} selected / {count} total" in said
        and f"Tested: {count - len(ENDING)}" in said
    ), said
    with service.client(owner) as client:
        assert client.get("/users/me").status_code == 200
    seen = answered(service)
    # Not all of it was refused at the door.
    assert {
        ("PATCH", "/users/1/picture", 200),
        ("PATCH", "/users/1", 200),
        ("GET", "/users/1", 200),
        ("POST", "/photos", 201),
        ("POST", "/photos/thumbnail", 201),
        ("GET", "/photos", 200),
    } <= seen
    assert [call for call in seen if call[2] == 500] == [] and "not handled" not in service.log()

    leaver = service.register("leaver")
    included = [word for name in names for word in ("--include-operation-id", name)]
    said = schemathesis(
        service, leaver, tmp_path, "--max-examples", "5", "--phases", "coverage,fuzzing", *included
    )
    assert f"Tested: {len(ENDING)}" in said, said
    assert ("DELETE", "/users/token", 204) in answered(service)
    assert [call for call in answered(service) if call[2] == 500] == []
