"""Proves that a worker on another machine makes the thumbnails of a service, and others after it.

The machine is a process with a folder and settings of its own: the database and the bucket are all
that it shares with the service.
"""

import contextlib
import io
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import faults
from tests.support import warm
from tests.support.pictures import jpeg
from tests.support.services import ROOT, Account, Bucket, Service, get, wait_until

SHARED = ("DATABASE_URL", "STORAGE", "S3_BUCKET_NAME", "S3_ENDPOINT_URL")
OWN = {"S3_ACCESS_KEY_ID": "another", "S3_SECRET_ACCESS_KEY": "another"}
PHOTO = jpeg(800, 600)
# 160, 320, 640 and what there is of 1280, each as WebP and JPEG.
PRESETS = 8
# Both leases hold for half a minute.
LET_TIME_PASS = (
    "UPDATE thumbnails SET claimed_until = claimed_until - interval '1 minute'",
    "UPDATE pgqueuer SET heartbeat = heartbeat - interval '1 minute'",
)


@pytest.fixture
def service(start_service: Callable[..., Service], moto: str) -> Service:
    """A service that does no jobs."""
    return start_service(embedded_jobs=False, **Bucket.make(moto).settings())


@contextlib.contextmanager
def working(service: Service, folder: Path, fault: str = "") -> Iterator[warm.Forked]:
    """A worker on another machine, where `worker.log` has what it says."""
    folder.mkdir()
    shared = {name: service.settings[name] for name in SHARED}
    own = {**OWN, "DATA_DIR": str(folder / "data"), faults.VARIABLE: fault}
    with open(folder / "worker.log", "wb") as log:
        process = warm.fork(
            *(ROOT / "cli.py", "worker"),
            env={**os.environ, **shared, **own},
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def add_photo(service: Service, account: Account) -> int:
    with service.client(account) as client:
        answer = client.post("/photos", files={"file": ("boat.jpg", PHOTO)})
    assert answer.status_code == 201, answer.text
    photo_id: int = answer.json()["id"]
    return photo_id


def list_thumbnails(service: Service, photo_id: int) -> Any:
    return get(f"{service.url}/photos/{photo_id}").json()["thumbnails"]


def list_stored(service: Service, photo_id: int) -> list[str]:
    urls = [thumbnail["url"] for thumbnail in list_thumbnails(service, photo_id)]
    return [url for url in urls if "/thumbnail?" not in url]


def test_the_render_of_a_worker_that_was_killed_is_done_by_one_on_another_machine(
    service: Service, tmp_path: Path
) -> None:
    photo_id = add_photo(service, service.register())
    with working(service, tmp_path / "killed", "during_decode:kill") as killed:
        assert killed.wait(60) == -signal.SIGKILL
    (claimed,) = service.sql("SELECT count(claim), count(file_id) FROM thumbnails")
    assert (*claimed,) == (PRESETS, 0), "it was in the middle of its render"
    assert list_stored(service, photo_id) == []
    for statement in LET_TIME_PASS:
        service.sql(statement)
    folder = tmp_path / "other"
    with working(service, folder) as worker:
        wait_until(lambda: len(list_stored(service, photo_id)) == PRESETS, "it is done by another")
        wait_until(lambda: not service.sql("SELECT FROM pgqueuer"), "the job is over")
        worker.terminate()
        assert worker.wait(60) == 0
    for thumbnail in list_thumbnails(service, photo_id):
        picture = Image.open(io.BytesIO(get(thumbnail["url"]).content))
        assert picture.size == (thumbnail["width"], thumbnail["height"])
        assert str(picture.format).lower() == thumbnail["format"]
    assert not (folder / "data" / "media").exists()
    assert "Traceback" not in (folder / "worker.log").read_text()
