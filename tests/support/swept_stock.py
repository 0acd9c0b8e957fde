"""A stock for the tests of the sweep: objects that no row explains, and how old they are."""

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from ops import sweep
from ops.sweep import LIMIT
from tests.support.stock import MINUTE_SECONDS, Stock

STRANGER = "profile_pics/nobody-announced-this.jpg"
TABLES = ("stored_files", "users", "sightings", "installation")


class SweptStock(Stock):
    """A stock with one live picture, and all objects made so far old enough to be candidates."""

    def stranger(self, key: str = STRANGER, *, is_old: bool = True) -> str:
        """Store an object that no row explains; return its key."""
        self.put(key, b"a stranger")
        if is_old:
            self.age(key)
        return key

    def due_stranger(self) -> str:
        """Store a stranger that the next sweep would delete."""
        key = self.stranger()
        self.sweep()
        self.remember()
        return key

    def age(self, key: str, seconds: float | None = None) -> None:
        """Let an object on disk be older than the age floor.

        In a bucket that is made low, for all of them: see `open_swept_stock`.
        """
        if self.settings["STORAGE"] == "local":
            if seconds is None:
                seconds = self.age_floor_seconds + MINUTE_SECONDS
            modified_at = self.path(key).stat().st_mtime - seconds
            os.utime(self.path(key), (modified_at, modified_at))

    @property
    def age_floor_seconds(self) -> float:
        return sweep.age_floor_seconds(self.parsed_settings)

    def sweep(self, *, deletes: bool = True, limit: int = LIMIT) -> dict[str, Any]:
        """Sweep, and return the report as it is printed."""
        return self.ask(partial(sweep.sweep, deletes=deletes, limit=limit)).as_json()

    def sweep_only_store(self, *, deletes: bool = True, limit: int = LIMIT) -> dict[str, Any]:
        """Sweep a stock that has one store only; return the report on it."""
        (report,) = self.sweep(deletes=deletes, limit=limit)["places"]
        only: dict[str, Any] = report
        return only

    def remember(self, *, long_ago: bool = True) -> None:
        """Let all sightings be as old as they have to be, and a minute more or less."""
        age_seconds = self.age_floor_seconds + (MINUTE_SECONDS if long_ago else -MINUTE_SECONDS)
        self.service.sql(
            "UPDATE sightings SET first_seen_at = now() - make_interval(secs => $1)", age_seconds
        )

    def explain(self, key: str, state: str, storage: str | None = None) -> None:
        """Insert a row with this key, as whoever announces it."""
        self.row(state, key=key, stored=False, storage=storage)

    def sightings(self) -> set[str]:
        return {row["key"] for row in self.service.sql("SELECT key FROM sightings")}

    def tables(self) -> list[list[str]]:
        """All that the database holds."""
        return [sorted(map(str, self.service.sql(f"SELECT * FROM {name}"))) for name in TABLES]


@contextlib.contextmanager
def open_swept_stock(settings: dict[str, str]) -> Iterator[SweptStock]:
    """Make such a stock; in a bucket, where no age can be set, the age floor is below zero."""
    stock = SweptStock(settings)
    with pytest.MonkeyPatch.context() as patch:
        if settings["STORAGE"] == "s3":
            below_zero = -stock.parsed_settings.pending_expiry_seconds - 2
            patch.setattr(sweep, "AGE_FLOOR_SECONDS", below_zero)
        stock.picture()
        yield stock
