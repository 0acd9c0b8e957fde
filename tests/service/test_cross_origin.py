"""Pages of other origins: who is let in, what they may send, and what the log says of the rest."""

import asyncio
import logging

import httpx
import pytest

from config import Settings
from main import create_app
from web.cross_origin import ALLOWED_HEADERS

APP = "https://app.example.com"


def ask(settings: Settings, method: str, headers: dict[str, str]) -> httpx.Response:
    """One request to an application with these settings, which needs no database for it."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(settings))
        async with httpx.AsyncClient(transport=transport, base_url="https://api.example.com") as to:
            return await to.request(method, "/docs", headers=headers)

    return asyncio.run(send())


def preflight(
    settings: Settings, origin: str, headers: str = "", method: str = "PATCH"
) -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    if headers:
        asked["Access-Control-Request-Headers"] = headers
    return ask(settings, "OPTIONS", asked)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "web.cross_origin"]


def test_what_clients_widgets_and_tracers_send_is_allowed(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(cors_origins=APP)
    expected = {
        *("authorization", "content-type", "x-request-id", "x-requested-with", "cache-control"),
        *("traceparent", "tracestate", "baggage", "sentry-trace"),
        *("idempotency-key", "content-digest"),
    }
    assert {name.lower() for name in ALLOWED_HEADERS} == expected
    answer = preflight(settings, APP, ",".join(sorted(expected)))
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == APP
    told = answer.headers["access-control-allow-headers"].lower().split(", ")
    assert expected <= set(told)
    assert lines(caplog) == []


def test_a_setting_allows_further_headers(caplog: pytest.LogCaptureFixture) -> None:
    refused = preflight(Settings(cors_origins=APP), APP, "content-type, x-app-version, x-b")
    assert (refused.status_code, refused.json()["code"]) == (400, "preflight_refused")
    assert "CORS_HEADERS" in refused.json()["detail"]
    assert lines(caplog) == [
        "a page may not send 'x-app-version, x-b': CORS_HEADERS does not name it"
    ]
    more = Settings(cors_origins=APP, cors_headers="X-App-Version, X-B")
    assert preflight(more, APP, "content-type, x-app-version, x-b").status_code == 200


def test_a_refused_origin_is_one_line_that_names_the_setting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Settings(cors_origins=APP)
    strange = "http://192.168.1.5:5173"
    line = f"a page of '{strange}' may not call this service: CORS_ORIGINS does not name it"
    answer = preflight(settings, strange, "authorization")
    assert (answer.status_code, answer.json()["code"]) == (400, "preflight_refused")
    assert "CORS_ORIGINS" in answer.json()["detail"]
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert "access-control-allow-origin" not in answer.headers
    assert lines(caplog) == [line]
    plain = ask(settings, "GET", {"Origin": strange})
    assert plain.status_code == 200 and "access-control-allow-origin" not in plain.headers
    assert lines(caplog) == [line, line]
    assert {record.levelno for record in caplog.records if "CORS" in record.getMessage()} == {
        logging.WARNING
    }
    preflight(settings, f"https://{'x' * 10_000}.example")
    assert len(lines(caplog)[-1]) < 300


def test_a_page_of_the_service_itself_is_no_stranger(caplog: pytest.LogCaptureFixture) -> None:
    for origin in ("https://api.example.com", "http://api.example.com", APP):
        assert ask(Settings(cors_origins=APP), "GET", {"Origin": origin}).status_code == 200
    behind_a_proxy = Settings(public_url="https://example.com/pictures")
    assert ask(behind_a_proxy, "GET", {"Origin": "https://example.com"}).status_code == 200
    assert lines(caplog) == []


def test_a_method_that_no_route_takes_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    answer = preflight(Settings(cors_origins=APP), APP, method="TRACE")
    assert (answer.status_code, answer.json()["code"]) == (400, "preflight_refused")
    assert answer.json()["detail"] == "Pages of other origins may not use this method."
    assert answer.headers["access-control-allow-methods"]


def test_a_private_network_is_not_taken_for_a_method() -> None:
    asked = {"Origin": APP, "Access-Control-Request-Method": "PATCH"}
    asked["Access-Control-Request-Private-Network"] = "true"
    answer = ask(Settings(cors_origins=APP), "OPTIONS", asked)
    assert (answer.status_code, answer.json()["code"]) == (400, "preflight_refused")
    assert "private network" in answer.json()["detail"]


def test_every_origin_may_be_let_in() -> None:
    answer = preflight(Settings(cors_origins="*"), "https://anyone.example", "authorization")
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        ("https://a.example/", ["https://a.example"]),
        (
            "https://a.example, http://localhost:5173/,",
            ["https://a.example", "http://localhost:5173"],
        ),
        ('["https://a.example", "https://b.example/"]', ["https://a.example", "https://b.example"]),
        (' ["https://a.example"]\n', ["https://a.example"]),
        ("HTTPS://A.Example:443", ["https://a.example"]),
        ("http://[::1]:5173", ["http://[::1]:5173"]),
        ("capacitor://localhost", ["capacitor://localhost"]),
        ("null,*", ["null", "*"]),
        ("", []),
    ],
)
def test_an_origin_is_taken_as_the_browser_sends_it(given: str, origins: list[str]) -> None:
    assert Settings(cors_origins=given).cors_origins == origins


@pytest.mark.parametrize(
    "given",
    [
        *(
            "https://a.example/app",
            "a.example",
            "localhost:5173",
            "https://",
            "https://a.example?x",
        ),
        *("https://a.example:port", "https://me:secret@a.example", "https://a.example#x"),
        *('["https://a.example"', '[{"a": 1}]', "https://a.example;https://b.example"),
    ],
)
def test_what_is_no_origin_is_refused_at_start(given: str) -> None:
    with pytest.raises(ValueError, match="cors_origins"):
        Settings(cors_origins=given)


@pytest.mark.parametrize("given", ["X App", "*", "X-A: b", '["X-A", ""]'])
def test_what_is_no_header_is_refused_at_start(given: str) -> None:
    with pytest.raises(ValueError, match="cors_headers"):
        Settings(cors_headers=given)
