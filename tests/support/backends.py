"""What the functions of an application need to run in the process of the tests, as a context."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from config import Settings
from database import Database
from files import Backends
from storage import Stores


def make_settings(environment: dict[str, str]) -> Settings:
    """Make the settings that a process with this environment would have."""
    given: dict[str, Any] = {name.lower(): value for name, value in environment.items()}
    if "previous_stores" in given:  # JSON in an environment, but not as an argument
        given["previous_stores"] = json.loads(given["previous_stores"])
    return Settings(_env_file=None, **given)


@contextlib.asynccontextmanager
async def open_backends(
    settings: Settings, stores: Stores | None = None, *, pool_size: int = 5
) -> AsyncIterator[Backends]:
    """Make the backends of an application; their connections are closed at the end.

    Makes the stores of the settings unless others are given.
    """
    assert settings.database_url is not None
    if stores is None:
        stores = Stores(settings)
    database = Database(settings.database_url, pool_size, {"stores": stores})
    try:
        yield Backends(settings, database, stores)
    finally:
        await database.dispose()
