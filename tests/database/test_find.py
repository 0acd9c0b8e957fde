"""An operator finds objects by their keys' beginning, with a URL that loads each of them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from files import Backends
from files.urls import find_url
from models import StoredFile
from tests.support.services import get
from tests.support.stock import Stock

PRIVATE = "originals/0f9cf1ee25134e4a8b4a0b5ed1e6a5c3.jpg"


def read_lines(run: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert run.stderr == ""
    found = [json.loads(line) for line in run.stdout.splitlines()]
    return sorted(found, key=lambda line: str(line["key"]))


def test_what_begins_so_is_listed_with_size_time_and_url(stock: Stock) -> None:
    public = stock.picture(b"a picture")
    stock.put(PRIVATE, b"an original")
    stock.put("originals/never made.jpg", b"somebody's")
    stock.put("originals2/sibling.jpg", b"a sibling's")
    run = stock.run("find", "originals/")
    assert run.returncode == 0
    original, foreign = read_lines(run)
    assert (original["key"], original["size_bytes"]) == (PRIVATE, 11)
    assert original["modified_at"][:3] == "202" and original["modified_at"].endswith("+00:00")
    assert (foreign["key"], foreign["url"]) == ("originals/never made.jpg", None)
    picture_run = stock.run("find", public)
    [picture] = read_lines(picture_run)
    assert picture["url"] == stock.stores.current.url(public)
    if stock.settings["STORAGE"] == "s3":
        for found, content in ((original, b"an original"), (picture, b"a picture")):
            assert get(found["url"]).content == content
    else:
        assert original["url"].startswith(f"/media/{PRIVATE}?expires=")


def test_another_store_is_searched_by_its_name_and_an_unknown_one_is_told(
    local_stock: Stock, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    (older / "originals").mkdir(parents=True)
    (older / PRIVATE).write_bytes(b"an older original")
    previous = {"older": {"storage": "local", "directory": str(older)}}
    local_stock.change_settings(PREVIOUS_STORES=json.dumps(previous))
    run = local_stock.run("find", "originals/", "--store", "older")
    assert [found["key"] for found in read_lines(run)] == [PRIVATE]
    here = local_stock.run("find", "originals/")
    assert (here.returncode, here.stdout, here.stderr) == (1, "", "")
    unknown = local_stock.run("find", "originals/", "--store", "gone")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr == "There is no store gone; the settings have local, older.\n"


def test_a_store_that_is_away_is_told_in_a_sentence(planned_stock: Stock) -> None:
    planned_stock.change_settings(S3_ENDPOINT_URL="http://127.0.0.1:9")
    run = planned_stock.run("find", "originals/")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("The store s3 (bucket planned) cannot be looked into: ")
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize("is_public", [True, False])
def test_a_files_url_is_that_of_its_own_store(stock: Stock, is_public: bool) -> None:
    key = stock.picture(b"a picture")
    if not is_public:
        stock.service.sql("UPDATE stored_files SET key = $2 WHERE key = $1", key, PRIVATE)
        stock.put(PRIVATE, b"a picture")

    async def find(backends: Backends) -> str | None:
        async with backends.database.session() as db:
            file = await db.scalar(select(StoredFile))
        assert file is not None
        return await find_url(file, seconds=100)

    url = stock.ask(find)
    assert url is not None
    if is_public:
        assert url == stock.stores.current.url(key)
    elif stock.settings["STORAGE"] == "s3":
        answer = get(url)
        assert (answer.content, answer.headers["cache-control"]) == (
            b"a picture",
            "private, max-age=100",
        )
    else:
        assert url.startswith(f"/media/{PRIVATE}?expires=")
    stock.service.sql("UPDATE stored_files SET storage = 'gone'")
    assert stock.ask(find) is None
