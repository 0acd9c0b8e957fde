"""Every answer has an id and the security headers, and every refusal the one shape.

An outage is no exception.
"""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

import errors
from config import Settings
from main import app, create_app
from tests.support.pictures import jpeg
from tests.support.postgres import PostgresProxy
from tests.support.services import Account, Service, get
from web.document import Problem

PATIENCE_SECONDS = 30
FILE = "/static/profile_pics/default.jpg"
SANE_ID = "Trace_id-42.a"
MADE_ID = re.compile(r"[0-9a-f]{32}")
FIELDS = {"type", "title", "status", "detail", "code", "request_id"}


@pytest.fixture(scope="module")
def api(shared_service: Service) -> Iterator[httpx.Client]:
    with shared_service.client() as client:
        yield client


def check_headers(answer: httpx.Response) -> None:
    """What no answer goes without."""
    headers = answer.headers
    assert MADE_ID.fullmatch(headers["x-request-id"]) or headers["x-request-id"] == SANE_ID
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert (
        "unsafe" not in headers["content-security-policy"]
        and "http" not in headers["content-security-policy"]
    )
    assert "cache-control" in headers
    assert (
        len(headers.get_list("x-request-id"))
        == len(headers.get_list("content-security-policy"))
        == 1
    )


def check_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The one shape of every error."""
    check_headers(answer)
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    ), answer.text
    body: dict[str, Any] = answer.json()
    Problem.model_validate(body)
    assert set(body) == FIELDS | ({"errors"} if code == "invalid_request" else set())
    assert re.fullmatch(r"[a-z0-9_]+", body["code"])
    assert (body["status"], body["code"], body["type"]) == (
        status,
        code,
        f"urn:darkroom:error:{code}",
    )
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["detail"].endswith(".") and body["title"]
    assert answer.headers["cache-control"] == "no-store"
    return body


GOOD = [
    ("GET", "/", 307),
    ("GET", "/docs", 200),
    ("GET", "/openapi.json", 200),
    ("HEAD", "/openapi.json", 200),
]
GOOD += [("GET", "/health/live", 200), ("GET", "/health/ready", 200)]
GOOD += [(method, "/static/profile_pics/default.jpg", 200) for method in ("GET", "HEAD")]


@pytest.mark.parametrize("method, path, status", GOOD)
def test_a_good_answer_carries_id_and_security_headers(
    api: httpx.Client, method: str, path: str, status: int
) -> None:
    for given in ({}, {"X-Request-ID": SANE_ID}):
        answer = api.request(method, path, headers=given)
        assert answer.status_code == status
        check_headers(answer)
        assert not given or answer.headers["x-request-id"] == SANE_ID
        assert (method == "HEAD") <= (answer.content == b"")


@pytest.mark.parametrize("path", sorted({path for _, path, _ in GOOD}))
def test_an_address_does_not_end_with_a_newline(api: httpx.Client, path: str) -> None:
    check_problem(api.get(f"{path}%0a"), 404, "not_found")


def test_a_setting_takes_the_page_and_the_document_away() -> None:
    paths = ("/", "/docs", "/openapi.json", "/redoc")

    async def ask(settings: Settings) -> list[int]:
        transport = httpx.ASGITransport(create_app(settings))
        async with httpx.AsyncClient(transport=transport, base_url="http://here.example") as to:
            return [(await to.get(path)).status_code for path in paths]

    assert asyncio.run(ask(Settings())) == [307, 200, 200, 404]
    assert asyncio.run(ask(Settings(api_docs=False))) == [404, 404, 404, 404]


BAD = {
    "no route": ("GET", "/nothing/here", 404, "not_found"),
    "no route, other method": ("POST", "/nothing", 404, "not_found"),
    "no file": ("GET", "/static/none.txt", 404, "not_found"),
    "out of the folder": ("GET", "/static/%2e%2e/main.py", 404, "not_found"),
    "a folder": ("GET", "/static/profile_pics/", 404, "not_found"),
    "no object": ("GET", "/media/profile_pics/none.jpg", 404, "object_not_found"),
    "no object's key": ("GET", "/media/..%2f..%2fetc%2fpasswd%00", 404, "object_not_found"),
    "no account": ("GET", f"/users/{2**60}", 404, "user_not_found"),
    "no number": ("GET", "/users/x", 404, "user_not_found"),
    "nobody": ("GET", "/users/me", 401, "not_authenticated"),
    "no body": ("POST", "/users", 422, "invalid_request"),
    "no form": ("POST", "/users/token", 422, "invalid_request"),
    "method of an account": ("PUT", "/users/1", 405, "method_not_allowed"),
    "method of a file": ("POST", "/static/profile_pics/default.jpg", 405, "method_not_allowed"),
    "method of a page": ("DELETE", "/docs", 405, "method_not_allowed"),
    "method of another protocol": ("PROPFIND", "/users", 405, "method_not_allowed"),
    # It would repeat the token.
    "method that echoes": ("TRACE", "/users", 405, "method_not_allowed"),
}


@pytest.mark.parametrize("method, path, status, code", BAD.values(), ids=list(BAD))
def test_every_refusal_has_the_one_shape(
    api: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    url = httpx.URL(f"{str(api.base_url).rstrip('/')}", raw_path=path.encode())
    check_problem(api.request(method, url), status, code)
    body = check_problem(api.request(method, url, headers={"X-Request-ID": SANE_ID}), status, code)
    assert body["request_id"] == SANE_ID


@pytest.mark.parametrize(
    "path, methods",
    [
        ("/users", {"POST"}),
        ("/users/1/picture", {"PATCH", "DELETE"}),
        ("/photos/thumbnail", {"POST"}),
        ("/docs", {"GET"}),
        (FILE, {"GET", "HEAD"}),
        ("/health/live", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_is_told_which_are_right(
    api: httpx.Client, path: str, methods: set[str]
) -> None:
    answer = api.put(path)
    check_problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == methods


def test_a_body_too_large_is_refused_in_the_one_shape(api: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    check_problem(
        api.post("/users", content=b" " * 100_000, headers=headers), 413, "body_too_large"
    )
    chunks = (b" " * 10_000 for _ in range(10))
    check_problem(api.post("/users", content=chunks, headers=headers), 413, "body_too_large")


def test_validation_errors_say_where_and_nothing_of_what(api: httpx.Client) -> None:
    sent = {
        "username": "",
        "email": "not-an-address-zebra",
        "password": "sesame",
        "role": "boss-zebra",
    }
    answer = api.post("/users", json=sent)
    body = check_problem(answer, 422, "invalid_request")
    assert [error["loc"] for error in body["errors"]] == [["body", name] for name in sent]
    assert all(set(error) == {"loc", "msg", "type"} for error in body["errors"])
    assert "zebra" not in answer.text and "sesame" not in answer.text


def test_static_files_answer_304_and_416_with_the_headers(api: httpx.Client) -> None:
    path = "/static/profile_pics/default.jpg"
    first = api.get(path)
    again = api.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    check_headers(again)
    beyond = api.get(path, headers={"Range": "bytes=99999999-"})
    assert beyond.headers["content-range"] == f"bytes */{len(first.content)}"
    check_problem(beyond, 416, "range_not_satisfiable")


def test_pictures_answer_206_304_and_416_with_the_headers(
    api: httpx.Client, shared_service: Service, account: Account, request: pytest.FixtureRequest
) -> None:
    path = shared_service.patch_picture(account, jpeg()).json()["image_path"]
    if request.config.getoption("--store") == "s3":
        assert httpx.URL(path).host, "the bucket serves its pictures itself"
        return
    whole = api.get(path)
    head = api.head(path)
    assert whole.status_code == head.status_code == 200
    assert head.content == b"" and head.headers["content-length"] == whole.headers["content-length"]
    assert "immutable" in whole.headers["cache-control"]
    part = api.get(path, headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, whole.content[:10])
    again = api.get(path, headers={"If-None-Match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for answer in (whole, head, part, again):
        check_headers(answer)
    for asked in ("bytes=99999999-", "bytes=9-3"):
        beyond = api.get(path, headers={"Range": asked})
        if beyond.status_code == 416:
            assert beyond.headers["content-range"] == f"bytes */{len(whole.content)}"
            check_problem(beyond, 416, "range_not_satisfiable")
        else:  # RFC 9110 lets a server ignore a range that is not valid
            assert (asked, beyond.content) == ("bytes=9-3", whole.content)


MAD_IDS = [
    "x" * 65,
    "x" * 8000,
    "",
    " ",
    "two words",
    "a;b",
    "a\tb",
    "é",
    "\xff",
    "<script>",
    '{"a":1}',
    "a/b",
]


@pytest.mark.parametrize("mad", MAD_IDS, ids=ascii)
def test_a_mad_request_id_is_replaced(api: httpx.Client, mad: str) -> None:
    answer = asyncio.run(asked_raw(api, mad.encode("latin-1")))
    assert answer.startswith(b"HTTP/1.1 200 ")
    (given,) = re.findall(rb"(?im)^x-request-id: (.*)\r$", answer)
    assert MADE_ID.fullmatch(given.decode())


def test_a_request_id_with_a_control_character_is_never_repeated(api: httpx.Client) -> None:
    for mad in (b"a\x1b[31m", b"a\x00b", b"a\x7fb"):
        answer = asyncio.run(asked_raw(api, mad))
        # The server may refuse it before we see it.
        assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 "))
        assert mad not in answer


async def asked_raw(api: httpx.Client, request_id: bytes) -> bytes:
    """Past the client's own idea of what a header may hold."""
    reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    writer.write(
        b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-ID: "
        + request_id
        + b"\r\n\r\n"
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await reader.read()
    writer.close()
    return answer


def test_each_request_has_an_id_of_its_own(api: httpx.Client) -> None:
    assert len({api.get("/health/live").headers["x-request-id"] for _ in range(20)}) == 20


def test_each_answer_is_a_line_of_json_with_the_requests_id(
    api: httpx.Client, shared_service: Service
) -> None:
    given = f"log-{uuid.uuid4().hex}"
    answer = api.get("/users/me?token=not-for-the-log", headers={"X-Request-ID": given})
    assert answer.status_code == 401
    (line,) = lines_of(shared_service, given)
    assert (line["method"], line["path"], line["status"]) == ("GET", "/users/me", 401)
    assert line["level"] == "INFO" and line["logger"] and line["duration_ms"] >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert "not-for-the-log" not in json.dumps(line)


def test_the_log_is_json_throughout_and_knows_no_secret(
    shared_service: Service, account: Account, api: httpx.Client
) -> None:
    strange = f"/nothing/{uuid.uuid4().hex}%0a%7b%22level%22:%22forged%22%7d%1b[31m"
    check_problem(
        api.get(httpx.URL(str(api.base_url), raw_path=strange.encode())), 404, "not_found"
    )
    with shared_service.client(account) as client:
        assert client.get("/users/me").status_code == 200
    lines = [line for line in shared_service.log().splitlines() if line.strip()]
    started = next(
        number for number, line in enumerate(lines) if "Application startup complete" in line
    )
    for line in lines[started:]:
        parsed = json.loads(line)
        assert isinstance(parsed, dict) and {
            "time",
            "level",
            "logger",
            "message",
            "request_id",
        } <= set(parsed)
        assert parsed["level"] != "forged"
    said = shared_service.log()
    assert account.password not in said and account.token not in said


def lines_of(service: Service, request_id: str) -> list[dict[str, Any]]:
    """The log lines of one request, once the last one is there."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = [json.loads(line) for line in service.log().splitlines() if request_id in line]
        if any("duration_ms" in line for line in found):
            assert {line["request_id"] for line in found} == {request_id}
            return found
        time.sleep(0.02)
    raise AssertionError(f"no log line for {request_id}")


def broken_app() -> FastAPI:
    """A small application inside the real middleware, with routes that fail in several ways."""
    tiny = FastAPI(middleware=app.user_middleware)
    tiny.exception_handlers = app.exception_handlers

    @tiny.get("/raises")
    async def raises() -> None:
        raise RuntimeError("the secret sauce")

    @tiny.get("/plain")
    async def plain() -> None:
        raise HTTPException(500, "the secret sauce")

    @tiny.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "the secret sauce")

    @tiny.get("/ours")
    async def ours() -> None:
        try:
            raise ConnectionError("the secret sauce")
        except ConnectionError as err:
            raise errors.StoreUnavailable from err

    @tiny.get("/late")
    async def late() -> StreamingResponse:
        async def chunks() -> Any:
            yield b"first"
            raise RuntimeError("the secret sauce")

        return StreamingResponse(chunks())

    return tiny


def ask_tiny(path: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(broken_app(), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://tiny") as client:
            return await client.get(path)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "path, status, code",
    [
        ("/raises", 500, "internal_error"),
        ("/plain", 500, "internal_error"),
        ("/ours", 503, "store_unavailable"),
    ],
)
def test_a_failure_is_answered_in_the_one_shape_without_its_text(
    path: str, status: int, code: str
) -> None:
    answer = ask_tiny(path)
    check_problem(answer, status, code)
    assert "secret sauce" not in answer.text and "Traceback" not in answer.text
    assert (status == 503) == ("retry-after" in answer.headers)


def test_a_status_that_nobody_named_has_a_code_that_a_program_can_take() -> None:
    answer = ask_tiny("/teapot")
    check_problem(answer, 418, answer.json()["code"])
    assert "secret sauce" not in answer.text


def test_the_cause_of_a_failure_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    ask_tiny("/raises")
    assert any(
        record.exc_info and "secret sauce" in str(record.exc_info[1]) for record in caplog.records
    )
    caplog.clear()
    ask_tiny("/ours")
    assert any("secret sauce" in record.getMessage() for record in caplog.records)


def test_a_failure_in_the_middle_of_an_answer_cuts_it_off() -> None:
    with pytest.raises(RuntimeError, match="sauce"):

        async def ask() -> None:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(broken_app()), base_url="http://tiny"
            ) as client:
                await client.get("/late")

        asyncio.run(ask())


async def administer(url: str, *statements: str) -> None:
    """From another database of the same server."""
    connection = await asyncpg.connect(
        re.sub(r"/test_\w+", "/postgres", url.replace("+asyncpg", ""))
    )
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def test_without_its_database_the_service_says_so_and_comes_back_by_itself(
    start_service: Callable[..., Service],
) -> None:
    service = start_service()
    ann = service.register("ann")
    picture = jpeg()
    before = service.patch_picture(ann, picture).json()
    for name in ("removed_metadata", "notes"):
        del before[name]  # of the upload, not of the account
    url = service.settings["DATABASE_URL"]
    name = re.findall(r"/(test_\w+)", url)[0]
    close = (
        # It returns once they have ended: before, they may be used.
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
        f" WHERE datname = '{name}' AND usename = current_user"
    )
    asyncio.run(administer(url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false", close))
    try:
        with service.client() as client:
            login = {"username": ann.email, "password": ann.password}
            new = {"username": "ben", "email": "ben@example.com", "password": "ben-password"}
            for answer in (
                client.get("/health/ready"),
                client.get(f"/users/{ann.id}"),
                client.get("/users/me", headers=ann.headers),
                client.post("/users/token", data=login),
                client.post("/users", json=new),
                client.patch(f"/users/{ann.id}", json={"username": "anna"}, headers=ann.headers),
                client.delete("/users/token", headers=ann.headers),
                client.delete(f"/users/{ann.id}", headers=ann.headers),
                service.patch_picture(ann, picture),
            ):
                body = check_problem(answer, 503, "database_unavailable")
                assert int(answer.headers["retry-after"]) > 0
                assert name not in answer.text and "connect" not in body["detail"]
            live = client.get("/health/live")
            assert (live.status_code, live.json()) == (200, {"status": "live"})
            assert client.get("/docs").status_code == 200
    finally:
        asyncio.run(administer(url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    service.wait_until_ready()
    with service.client(ann) as client:
        assert client.get("/health/ready").json() == {"status": "ready"}
        assert client.get("/users/me").json() == {**before, "email": ann.email}
        assert client.patch(f"/users/{ann.id}", json={"username": "anna"}).status_code == 200
        # Connections that are cut while idle are noticed
        # before they are used: not one request fails.
        asyncio.run(administer(url, close))
        assert client.get("/users/me").status_code == 200
    assert '"not handled"' not in service.log()


def test_a_database_that_no_longer_answers_is_not_waited_for_by_the_probe(
    start_service: Callable[..., Service], new_database: Callable[[], str]
) -> None:
    """The server takes connections and says nothing, as behind a network that drops packets."""
    with PostgresProxy(new_database()) as proxy, ThreadPoolExecutor(1) as threads:
        service = start_service(database_url=proxy.url)
        proxy.silence(True)
        try:
            path = f"{service.url}/users/1"
            waiting = threads.submit(get, path, timeout=PATIENCE_SECONDS)
            ready = get(f"{service.url}/health/ready", timeout=PATIENCE_SECONDS)
            check_problem(ready, 503, "database_unavailable")
            assert not waiting.done()
            assert get(f"{service.url}/health/live").status_code == 200
        finally:
            proxy.silence(False)
        waiting.result()
        service.wait_until_ready()
        service.stop()
