"""A database and a store with pictures in both, for the tests of the commands that compare them."""

import asyncio
import contextlib
import gc
import hashlib
import io
import os
import threading
import tracemalloc
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

import config
import database
import ops.sweep
import storage
from storage import AsyncStore, FoundObject, OpenObject
from storage.memory import MemoryStore
from tests.database.test_reaper import Place, configured
from tests.support.services import Bucket

Result = TypeVar("Result")

STRANGER = "profile_pics/nobody-announced-this.jpg"
EVERYTHING = ("stored_files", "users", "sightings", "installation")
ALL_LISTS = ("missing", "wrong", "unreadable", "unexplained", "unreferenced", "dangling")


class Stock(Place):
    """A database and a store, and pictures in both as they should be."""

    def put_content(self, key: str, content: bytes) -> None:
        if self.settings["STORAGE"] == "s3":
            bucket = Bucket.of(self.settings)
            bucket.client().put_object(Bucket=bucket.name, Key=key, Body=content)
        else:
            path = self.path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def path(self, key: str) -> Path:
        return Path(self.settings["DATA_DIR"]) / "media" / key

    def lose(self, key: str) -> None:
        if self.settings["STORAGE"] == "s3":
            bucket = Bucket.of(self.settings)
            bucket.client().delete_object(Bucket=bucket.name, Key=key)
        else:
            self.path(key).unlink()

    def picture(
        self, content: bytes = b"a picture", *, used: bool = True, stored: bool = True, **where: str
    ) -> str:
        """A live picture of an account of its own; return its key."""
        key = f"profile_pics/{uuid.uuid4().hex}.jpg"
        name = uuid.uuid4().hex
        ((file_id,),) = self.service.sql(
            "INSERT INTO stored_files (storage, bucket, key, purpose, state, owner_id,"
            " content_type, size_bytes, sha256, width_px, height_px)"
            " VALUES ($1, $2, $3, 'profile_picture', 'live', 1, 'image/jpeg', $4, $5, 300, 300) RETURNING id",
            where.get("storage", self.settings["STORAGE"]),
            where.get("bucket", self.settings.get("S3_BUCKET_NAME", "")),
            key,
            len(content),
            hashlib.sha256(content).hexdigest(),
        )
        if used:
            self.service.sql(
                "INSERT INTO users (username, username_folded, email, email_folded, password_hash, picture_id)"
                " VALUES ($1, $1, $1, $1, '', $2)",
                name,
                file_id,
            )
        if stored:
            self.put_content(key, content)
        return key

    def ask(self, question: Callable[[], Awaitable[Result]]) -> Result:
        """Run a command's function in this process, on a single connection."""

        async def run() -> Result:
            engine = database.connect(self.settings["DATABASE_URL"], 1)
            try:
                return await question()
            finally:
                await engine.dispose()

        return asyncio.run(run())


class Swept(Stock):
    """A stock with one live picture, and all objects made so far old enough to be candidates."""

    def stranger(self, key: str = STRANGER, *, is_old: bool = True) -> str:
        self.put_content(key, b"a stranger")
        if is_old:
            self.age(key)
        return key

    def due_stranger(self) -> str:
        """A stranger that the next sweep would delete."""
        self.claim()
        key = self.stranger()
        self.sweep()
        self.remember()
        return key

    def age(self, key: str, seconds: float | None = None) -> None:
        """Let an object on disk be older than the age floor;
        in a bucket that is made low, for all of them.
        """
        if self.settings["STORAGE"] == "local":
            when = self.path(key).stat().st_mtime - (seconds or ops.sweep.age_floor_seconds() + 60)
            os.utime(self.path(key), (when, when))

    def claim(self) -> None:
        assert self.ask(ops.sweep.claim)[1] == ops.sweep.THIS_DATABASE

    def sweep(self, *, deletes: bool = True, limit: int = ops.sweep.LIMIT) -> dict[str, Any]:
        return self.ask(partial(ops.sweep.sweep, deletes=deletes, limit=limit))

    def sweep_here(self, *, deletes: bool = True, limit: int = ops.sweep.LIMIT) -> dict[str, Any]:
        """Sweep a stock that has one place only; return the report on it."""
        (place,) = self.sweep(deletes=deletes, limit=limit)["places"]
        found: dict[str, Any] = place
        return found

    def remember(self, *, long_ago: bool = True) -> None:
        """Let all sightings be as old as they have to be, and a minute more or less."""
        age = ops.sweep.age_floor_seconds() + (60 if long_ago else -60)
        self.service.sql(
            "UPDATE sightings SET first_seen_at = now() - make_interval(secs => $1)", age
        )

    def sightings(self) -> set[str]:
        return {row["key"] for row in self.service.sql("SELECT key FROM sightings")}

    def tables(self) -> list[Any]:
        return [
            sorted(map(str, self.service.sql(f"SELECT * FROM {table}"))) for table in EVERYTHING
        ]


def explain(stock: Stock, key: str, state: str, storage: str | None = None) -> None:
    """Insert a row with this key."""
    made = stock.row(state, "now() + interval '1 hour'", stored=False, storage=storage)
    stock.service.sql("UPDATE stored_files SET key = $1 WHERE key = $2", key, made)


@contextlib.contextmanager
def stocked(
    database_url: str, data_dir: Path, store_settings: dict[str, str] | None = None
) -> Iterator[Stock]:
    """Let the functions of this process use this database
    and this store, the local one unless another is given.
    """
    given = store_settings or {"STORAGE": "local"}
    with configured({"DATABASE_URL": database_url, "DATA_DIR": str(data_dir), **given}) as place:
        yield Stock(place.settings)


@contextlib.contextmanager
def swept(
    database_url: str, data_dir: Path, store_settings: dict[str, str] | None = None
) -> Iterator[Swept]:
    """The same with one picture.

    In a bucket no age can be set, so there the floor is below zero.
    """
    with (
        stocked(database_url, data_dir, store_settings) as made,
        pytest.MonkeyPatch.context() as patch,
    ):
        if made.settings["STORAGE"] == "s3":
            patch.setattr(
                ops.sweep, "AGE_FLOOR_SECONDS", -config.settings.pending_expiry_seconds - 2
            )
        stock = Swept(made.settings)
        stock.picture()
        yield stock


def findings(report: dict[str, Any]) -> dict[str, list[str]]:
    """The lists of a report that are not empty; the counts must agree with them."""
    assert {kind: len(report[kind]) for kind in ALL_LISTS} == report["counts"]
    found = {kind: sorted(report[kind]) for kind in ALL_LISTS if report[kind]}
    assert report["ok"] == (not found)
    return found


class ManyObjects(MemoryStore):
    """A store of any number of objects, each of which exists only while it is looked at."""

    bucket = ""
    content = b"a picture"
    modified_at = datetime(2020, 1, 1, tzinfo=UTC)

    def __init__(self, count: int = 0) -> None:
        super().__init__("")
        self.count = count
        self.asked: Callable[[], None] = lambda: None
        self.running = self.most_running = 0
        self._counting = threading.Lock()

    def find(self, prefix: str) -> Iterator[FoundObject]:
        for number in range(self.count):
            self.asked()
            yield FoundObject(f"{prefix}{number}.jpg", len(self.content), self.modified_at)

    def open(self, key: str) -> OpenObject:
        self.asked()
        with self._counting:
            self.running += 1
            self.most_running = max(self.running, self.most_running)
        return OpenObject(Noted(self), len(self.content), "image/jpeg")

    def exists(self, key: str) -> bool:
        self.asked()
        return True


class Noted(io.BytesIO):
    def __init__(self, store: ManyObjects) -> None:
        super().__init__(store.content)
        self._store = store

    def close(self) -> None:
        self._store.running -= 1
        super().close()


@contextlib.contextmanager
def stored_in(store: MemoryStore) -> Iterator[None]:
    """Let the current store of this process be this one."""

    class Known:
        current = AsyncStore("local", store, asyncio.Semaphore(storage.STORE_THREADS))

        def of(self, *_: str) -> AsyncStore:
            return self.current

    with pytest.MonkeyPatch.context() as patch:
        known = Known()
        for module in ("ops.check", "ops.sweep", "files.deletions"):
            patch.setattr(f"{module}.stores", lambda: known)
        yield


def fill(stock: Stock, rows: int, live: int) -> None:
    """As many rows for the objects of ManyObjects; the first ones are pictures of accounts."""
    sha256 = hashlib.sha256(ManyObjects.content).hexdigest()
    stock.service.sql("TRUNCATE stored_files, users RESTART IDENTITY CASCADE")
    stock.service.sql(
        "INSERT INTO stored_files (storage, bucket, key, purpose, state, owner_id,"
        " content_type, size_bytes, sha256, width_px, height_px)"
        " SELECT 'local', '', 'profile_pics/' || n || '.jpg', 'x', CASE WHEN n < $2 THEN 'live' ELSE 'pending' END, n,"
        " '', $3, $4, 1, 1 FROM generate_series(0, $1 - 1) AS n ORDER BY n",
        rows,
        live,
        len(ManyObjects.content),
        sha256,
    )
    stock.service.sql(
        "INSERT INTO users (username, username_folded, email, email_folded, password_hash, picture_id)"
        " SELECT id, id, id, id, '', id FROM stored_files WHERE state = 'live'"
    )


def peak_bytes(stock: Stock, question: Callable[[], Awaitable[Result]]) -> tuple[int, Result]:
    gc.collect()
    tracemalloc.start()
    try:
        answer = stock.ask(question)
        return tracemalloc.get_traced_memory()[1], answer
    finally:
        tracemalloc.stop()
