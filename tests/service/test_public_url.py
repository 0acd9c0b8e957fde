"""Proves what PUBLIC_URL changes, and how static files are cached and embedded."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

import main
from config import Settings
from tests.support.pictures import jpeg
from tests.support.services import Bucket, Service, assert_problem

PUBLIC_URL = "https://example.com/photos"
DEFAULT_PICTURE = "/static/profile_pics/default.jpg"
PASSWORD = "correct horse battery"


async def collect_image_paths(settings: Settings) -> tuple[list[str], dict[str, Any]]:
    """Send a picture and take it away; return each `image_path` shown, and the API's document."""
    app = main.create_app(settings)
    account = {"username": "alice", "email": "alice@example.com", "password": PASSWORD}
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://internal:8000") as client,
    ):
        registered = (await client.post("/users", json=account)).json()
        login = {"username": account["email"], "password": PASSWORD}
        token = (await client.post("/users/token", data=login)).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        picture = f"/users/{registered['id']}/picture"
        answers = [
            await client.patch(picture, files={"file": ("photo.jpg", jpeg())}),
            await client.get("/users/me"),
            await client.delete(picture),
            await client.get("/users/me"),
        ]
        users = [registered, *(answer.json() for answer in answers)]
        document = (await client.get("/openapi.json")).json()
    return [user["image_path"] for user in users], document


@pytest.mark.parametrize("store", ["local", "s3"])
@pytest.mark.parametrize("public_url", [PUBLIC_URL, None])
def test_one_deployment_has_one_kind_of_url(
    new_database: Callable[[], str], moto: str, tmp_path: Path, store: str, public_url: str | None
) -> None:
    bucket = Bucket.make(moto)
    given = {name.lower(): value for name, value in bucket.settings().items()}
    settings = Settings.model_validate(
        {
            "database_url": new_database(),
            "data_dir": tmp_path,
            "public_url": public_url and f"{public_url}/",
            **(given if store == "s3" else {"storage": "local"}),
        }
    )
    paths, document = asyncio.run(collect_image_paths(settings))
    base = public_url or ""
    of_pictures = f"{base}/media"
    if store == "s3":
        of_pictures = f"{bucket.endpoint}/{bucket.name}"
    fresh, sent, read, removed, left = paths
    assert fresh == removed == left == f"{base}{DEFAULT_PICTURE}"
    assert sent == read and sent.startswith(f"{of_pictures}/profile_pics/")
    scheme = document["components"]["securitySchemes"]["OAuth2PasswordBearer"]
    assert scheme["flows"]["password"]["tokenUrl"] == f"{base}/users/token"
    assert document.get("servers") == ([{"url": PUBLIC_URL}] if public_url else None)


@pytest.mark.parametrize(
    "value", ["example.com", "/photos", "https://", "https://a/b?c", "ftp://a"]
)
def test_a_public_url_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="must be an address like https"):
        Settings(public_url=value)


def test_addresses_of_our_pages_are_relative_and_say_which_version_they_mean(
    shared_service: Service,
) -> None:
    with shared_service.client() as client:
        answer = client.get("/", follow_redirects=False)
        assert answer.headers["location"] == "docs"
        page = client.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        addresses = re.findall(r'(?:href|src)="([^"]+)"', page.text)
        assert len(addresses) == 4
        for address in addresses:
            assert re.fullmatch(r"static/[\w./-]+\?v=[0-9a-f]{16}", address), address
            found = client.get(f"/{address}")
            assert found.headers["cache-control"] == "public, max-age=31536000, immutable"
        script = client.get("/static/docs.js").text
        assert 'url: "openapi.json"' in script


@pytest.mark.parametrize("query", ["", "?v=", "?v=0123456789abcdef", "?v=%ff", "?other=1"])
def test_static_files_are_cached_for_a_day_and_may_be_embedded_anywhere(
    shared_service: Service, query: str
) -> None:
    with shared_service.client() as client:
        first = client.get(f"{DEFAULT_PICTURE}{query}")
        unchanged = {"If-None-Match": first.headers["etag"]}
        again = client.get(f"{DEFAULT_PICTURE}{query}", headers=unchanged)
        assert (first.status_code, again.status_code) == (200, 304)
        for answer in (first, again):
            assert answer.headers["cache-control"] == "public, max-age=86400"
            assert answer.headers["cross-origin-resource-policy"] == "cross-origin"


@pytest.mark.parametrize("path", ["/users/", "/docs/", "/health/live/", "/static", "/static/"])
def test_no_slash_is_added_or_taken_by_a_redirect(shared_service: Service, path: str) -> None:
    with shared_service.client() as client:
        for method in ("GET", "POST") if path == "/users/" else ("GET",):
            answer = client.request(method, path, headers={"Host": "elsewhere.example"})
            assert_problem(answer, 404, "not_found")
