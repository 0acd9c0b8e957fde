"""The stocks that the tests of the database's side stand on."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.s3 import FakeS3
from tests.support.stock import Stock


@pytest.fixture
def stock_settings(
    new_database: Callable[[], str], store_settings: dict[str, str], tmp_path: Path
) -> dict[str, str]:
    """A new database, and the store that the tests run on."""
    data = {"DATABASE_URL": new_database(), "DATA_DIR": str(tmp_path / "data")}
    return {**data, **store_settings}


@pytest.fixture
def local_stock_settings(new_database: Callable[[], str], tmp_path: Path) -> dict[str, str]:
    """A new database, and a store on disk."""
    data = {"DATABASE_URL": new_database(), "DATA_DIR": str(tmp_path / "data")}
    return {**data, "STORAGE": "local"}


@pytest.fixture
def stock(stock_settings: dict[str, str]) -> Stock:
    return Stock(stock_settings)


@pytest.fixture
def local_stock(local_stock_settings: dict[str, str]) -> Stock:
    return Stock(local_stock_settings)


@pytest.fixture
def store() -> Iterator[FakeS3]:
    """A store that fails by plan."""
    with FakeS3() as server:
        yield server


@pytest.fixture
def planned_stock(new_database: Callable[[], str], store: FakeS3, tmp_path: Path) -> Stock:
    """A stock whose store fails by plan."""
    data = {"DATABASE_URL": new_database(), "DATA_DIR": str(tmp_path / "data")}
    return Stock({**data, **store.settings()})
