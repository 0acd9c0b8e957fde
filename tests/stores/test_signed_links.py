"""A private object of the local store is read by who has a link of ours, until it expires."""

import asyncio
import hashlib
import hmac
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from config import Settings
from files import Backends
from main import create_app
from storage import LinkSigner, Stores
from tests.support.services import assert_problem

KEY = "originals/0f9cf1ee25134e4a8b4a0b5ed1e6a5c3.jpg"
OTHER = "originals/7b1d6f0c2a9e4c55a3f18f0f6c0b9d21.jpg"
PUBLIC = "profile_pics/0f9cf1ee25134e4a8b4a0b5ed1e6a5c3.jpg"
CONTENT = bytes(range(256)) * 8


class Served:
    """An application with a local store, asked in this process; it needs no database for this."""

    def __init__(self, data_dir: Path, **more: object) -> None:
        given = {"data_dir": data_dir, "storage": "local", "secret_key": "0123456789" * 4}
        settings = Settings.model_validate({**given, **more})
        self.stores = Stores(settings)
        self.app = create_app(settings)
        self.app.state.backends = Backends(settings, cast(Any, None), self.stores)
        for store in self.stores.on_disk():
            store.guard = None  # it asks the database
        asyncio.run(self.stores.current.prepare())

    def put(self, key: str) -> None:
        sha256 = hashlib.sha256(CONTENT).hexdigest()
        asyncio.run(self.stores.current.put(key, CONTENT, "image/jpeg", sha256))

    def link(self, key: str = KEY, seconds: int = 60) -> str:
        return asyncio.run(self.stores.current.signed_url(key, seconds))

    def get(self, path: str, method: str = "GET", **headers: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, headers=headers)

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    served = Served(tmp_path_factory.mktemp("data"))
    for key in (KEY, OTHER, PUBLIC):
        served.put(key)
    return served


def read_max_age(answer: httpx.Response) -> int:
    found = re.fullmatch(r"private, max-age=(\d+)", answer.headers["cache-control"])
    assert found, answer.headers
    return int(found[1])


def test_a_link_is_read_typed_whole_and_cached_by_its_reader_until_it_expires(
    served: Served,
) -> None:
    link = served.link(seconds=3600)
    assert link.startswith(f"/media/{KEY}?expires=")
    answer = served.get(link)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert 0 < read_max_age(answer) <= 3600
    asked = served.get(link, "HEAD")
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["content-length"] == str(len(CONTENT))


def test_a_link_takes_ranges_and_conditions_as_public_pictures_do(served: Served) -> None:
    link = served.link()
    part = served.get(link, range="bytes=10-19")
    assert (part.status_code, part.content) == (206, CONTENT[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(CONTENT)}"
    unchanged = served.get(link, **{"if-none-match": part.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    for answer in (part, unchanged):
        assert read_max_age(answer) <= 60
    assert_problem(served.get(link, range="bytes=99999-"), 416, "range_not_satisfiable")


def test_without_a_link_what_is_private_does_not_exist(served: Served) -> None:
    for path in (f"/media/{KEY}", f"/media/{KEY}?expires=&sig=", f"/media/{KEY}?other=1"):
        assert_problem(served.get(path), 404, "object_not_found")


def replace(link: str, **changes: str) -> str:
    url = httpx.URL(link)
    return str(url.copy_with(params={**url.params, **changes}))


FORGED: dict[str, Callable[[str], str]] = {
    "another's key": lambda link: link.replace(KEY, OTHER),
    "another folder": lambda link: link.replace("originals/", "private_photos/"),
    "later": lambda link: replace(link, expires="99999999999"),
    "cut off": lambda link: link[:-1],
    "upper case": lambda link: replace(link, sig=httpx.URL(link).params["sig"].upper()),
    "no signature": lambda link: link.partition("&")[0],
    "no time": lambda link: replace(link, expires=""),
    "a sign": lambda link: replace(link, expires="+" + httpx.URL(link).params["expires"]),
    "another digit": lambda link: replace(link, expires="٣"),
    "no number": lambda link: replace(link, expires="never"),
    "long": lambda link: replace(link, expires="1" * 5000),
    "no ASCII": lambda link: replace(link, sig="é" * 64),
    "no text": lambda link: f"{link.rpartition('=')[0]}=%ff%fe",
}


@pytest.mark.parametrize("how", FORGED)
def test_a_link_that_was_changed_is_refused(served: Served, how: str) -> None:
    forged = FORGED[how](served.link())
    answer = served.get(forged)
    assert_problem(answer, 403, "bad_signature")
    assert CONTENT not in answer.content


def test_a_link_that_expired_says_so_and_only_if_it_was_ours(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = int(time.time())
    link = served.link(seconds=60)
    forged = replace(link, sig="0" * 64)
    monkeypatch.setattr(time, "time", lambda: now + 30.5)
    assert served.get(link).status_code == 200
    monkeypatch.setattr(time, "time", lambda: now + 61.0)
    for method in ("GET", "HEAD"):
        assert served.get(link, method).status_code == 403
    assert_problem(served.get(link), 403, "link_expired")
    assert_problem(served.get(forged), 403, "bad_signature")


def test_a_link_to_what_is_gone_is_a_404(served: Served) -> None:
    assert_problem(served.get(served.link("originals/gone.jpg")), 404, "object_not_found")


@pytest.mark.parametrize("key", ["../secret_key", ".drafts/x", "originals/../../secret_key"])
def test_a_signature_opens_no_way_out_of_the_folder(served: Served, key: str) -> None:
    expires_at = int(time.time()) + 60
    signature = served.stores.signer.sign(key, expires_at)
    encoded = key.replace("/", "%2F")
    answer = served.get(f"/media/{encoded}?expires={expires_at}&sig={signature}")
    assert answer.status_code == 404


def test_a_public_object_is_cached_for_ever_with_or_without_a_link(served: Served) -> None:
    for path in (f"/media/{PUBLIC}", served.link(PUBLIC), f"/media/{PUBLIC}?expires=1&sig=x"):
        answer = served.get(path)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_a_link_has_the_services_public_address(tmp_path: Path) -> None:
    served = Served(tmp_path / "data", public_url="https://example.com/photos")
    assert served.link().startswith(f"https://example.com/photos/media/{KEY}?expires=")


def test_a_signature_is_worth_nothing_under_another_secret_or_for_another_purpose() -> None:
    signer = LinkSigner(lambda: "a" * 40)
    signature = signer.sign(KEY, 1000)
    assert signer.is_genuine(KEY, 1000, signature)
    assert not LinkSigner(lambda: "b" * 40).is_genuine(KEY, 1000, signature)
    # The key of tokens is the secret itself; the one of links is derived from it.
    plain = hmac.new(b"a" * 40, f"1000:{KEY}".encode(), hashlib.sha256).hexdigest()
    assert signature != plain


def test_no_secret_is_made_before_the_first_link(tmp_path: Path) -> None:
    given = {"data_dir": tmp_path / "data", "storage": "local"}
    stores = Stores(Settings.model_validate(given))
    assert not (tmp_path / "data" / "secret_key").exists()
    asyncio.run(stores.current.signed_url(KEY, 60))
    assert (tmp_path / "data" / "secret_key").exists()
