"""A stock: a database and a store without a running service, and what a test has put into both."""

import asyncio
import dataclasses
import functools
import hashlib
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from config import Settings
from files import Backends, reaper
from storage import Marker, Stores, markers
from tests.support import rows, warm
from tests.support.backends import make_settings, open_backends
from tests.support.services import ROOT, Bucket, Service

Result = TypeVar("Result")

MINUTE_SECONDS = 60.0
HOUR_SECONDS = 3600.0


class Stock:
    """The database and the store of these settings, which are an environment's.

    Tests that need another store than that of the settings use `replace_stores`.
    """

    def __init__(self, settings: dict[str, str]) -> None:
        self.service = Service(settings)  # only asked what is there, unless a test starts it
        self.settings = settings
        self.open()

    def open(self) -> None:
        """Let the stores be known, as a service's first start does."""

        async def look(backends: Backends) -> None:
            await backends.identities.open()

        self.ask(look)

    def change_settings(self, **changes: str) -> None:
        """Change settings, for the commands and for the functions of this process."""
        self.settings.update(changes)
        self.__dict__.pop("stores", None)

    @property
    def parsed_settings(self) -> Settings:
        return make_settings(self.settings)

    @functools.cached_property
    def stores(self) -> Stores:
        return Stores(self.parsed_settings)

    def replace_stores(self, stores: Stores) -> None:
        """Let other stores stand in the place of these, whose current one has the same marker."""

        async def copy_marker() -> None:
            content = await self.stores.current.read_marker()
            assert content is not None
            await stores.current.write_marker(content, is_first=False)

        asyncio.run(copy_marker())
        self.stores = stores

    def ask(
        self, question: Callable[[Backends], Awaitable[Result]], *, pool_size: int = 1
    ) -> Result:
        """Run a function of the application in this process, on a single connection at a time."""

        async def run() -> Result:
            opened = open_backends(self.parsed_settings, self.stores, pool_size=pool_size)
            async with opened as backends:
                return await question(backends)

        return asyncio.run(run())

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command as an operator does."""
        return warm.run(
            ROOT / "cli.py", *arguments, env={**os.environ, **self.settings, **environment}
        )

    def reap(self) -> int:
        """One pass of the reaper, in this process."""
        return self.ask(reaper.reap, pool_size=5)

    def put(self, key: str, content: bytes = rows.CONTENT) -> None:
        """Store an object that no row announces, or overwrite one."""
        if self.settings["STORAGE"] == "s3":
            bucket = Bucket.of(self.settings)
            bucket.client().put_object(Bucket=bucket.name, Key=key, Body=content)
        else:
            path = self.path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def read_marker(self) -> Marker:
        """What the marker of the store says."""
        content = asyncio.run(self.stores.current.read_marker())
        assert content is not None
        return Marker.decode(content)

    def change_marker(self, **changes: str) -> None:
        """Let the marker say something else, whoever wrote it."""
        marker = dataclasses.replace(self.read_marker(), **changes)
        asyncio.run(self.stores.current.write_marker(marker.encode(), is_first=False))

    def give_to(self, reaper: str) -> None:
        """Let another database reap the store, which renewed the marker long ago."""
        self.change_marker(reaper=reaper, renewed_at="2020-01-01T00:00:00+00:00")

    def forget_store(self) -> None:
        """Let it be as before the first start of a version that makes markers."""
        self.remove_marker()
        self.service.sql("DELETE FROM store_places")
        self.service.sql("DELETE FROM store_leases")
        self.__dict__.pop("stores", None)

    def remove_marker(self) -> None:
        self.lose(markers.BUCKET_KEY if self.settings["STORAGE"] == "s3" else markers.LOCAL_KEY)

    def lose(self, key: str) -> None:
        """Remove an object, and leave its row."""
        if self.settings["STORAGE"] == "s3":
            bucket = Bucket.of(self.settings)
            bucket.client().delete_object(Bucket=bucket.name, Key=key)
        else:
            self.path(key).unlink()

    def path(self, key: str) -> Path:
        """Where the local store keeps the object."""
        return Path(self.settings["DATA_DIR"]) / "media" / key

    def row(
        self,
        state: str,
        *,
        due_in_seconds: float = -MINUTE_SECONDS,
        stored: bool = True,
        key: str | None = None,
        storage: str | None = None,
    ) -> str:
        """Insert the row of a file, and store its object or not; return the key."""
        key = key or rows.new_key()
        file = rows.stored_file(
            state,
            key=key,
            storage=storage or self.settings["STORAGE"],
            bucket=self.bucket_name,
            due_in_seconds=due_in_seconds,
        )
        file.run(self.service)
        if stored:
            self.put(key)
        return key

    def picture(
        self,
        content: bytes = b"a picture",
        *,
        used: bool = True,
        stored: bool = True,
        storage: str | None = None,
        bucket: str | None = None,
    ) -> str:
        """Insert a live picture of an account of its own; return its key."""
        key = rows.new_key()
        facts = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        file = rows.stored_file(
            key=key,
            storage=storage or self.settings["STORAGE"],
            bucket=self.bucket_name if bucket is None else bucket,
            facts={**rows.FACTS, **facts},
        )
        file_id = file.run(self.service)
        if used:
            rows.account(picture_id=file_id).run(self.service)
        if stored:
            self.put(key, content)
        return key

    @property
    def bucket_name(self) -> str:
        return self.settings.get("S3_BUCKET_NAME", "")

    def states(self) -> dict[str, str]:
        """The state of every stored file, by its key."""
        files = self.service.sql("SELECT key, state FROM stored_files")
        return {file["key"]: file["state"] for file in files}

    def read(self, key: str) -> Any:
        """The row of this key, and the database's time as `now`."""
        (found,) = self.service.sql("SELECT *, now() AS now FROM stored_files WHERE key = $1", key)
        return found

    def make_due(self, key: str) -> None:
        self.service.sql("UPDATE stored_files SET next_attempt_at = now() WHERE key = $1", key)

    def end_tombstone(self, key: str) -> None:
        """Let a tombstone's day be over."""
        self.service.sql(
            "UPDATE stored_files SET tombstone_until = now(), next_attempt_at = now()"
            " WHERE key = $1",
            key,
        )

    def objects(self) -> set[str]:
        """The keys of all objects in the store."""
        return set(self.service.objects())
