"""Proves that whoever runs a database that loses what it has committed is told, with the cure."""

import json
from collections.abc import Iterator

import pytest
from sqlalchemy.engine import make_url

from ops.database_risks import ASYNCHRONOUS, CURES
from tests.support.databases import execute
from tests.support.log_lines import read_messages
from tests.support.services import wait_until
from tests.support.stock import Stock

pytestmark = pytest.mark.backends


@pytest.fixture
def tuned_stock(local_stock: Stock, postgres: str) -> Iterator[Stock]:
    """A stock on a server without `full_page_writes`; that of all tests has no `fsync` either."""
    name = make_url(local_stock.settings["DATABASE_URL"]).database
    execute(
        postgres,
        "ALTER SYSTEM SET full_page_writes = off",
        "SELECT pg_reload_conf()",
        f"ALTER DATABASE {name} SET synchronous_commit = off",
    )
    try:
        wait_until(lambda: has_page_writes(local_stock, "off"), "the server has read it")
        yield local_stock
    finally:
        execute(postgres, "ALTER SYSTEM RESET full_page_writes", "SELECT pg_reload_conf()")
        wait_until(lambda: has_page_writes(local_stock, "on"), "the server has read it")


def has_page_writes(stock: Stock, value: str) -> bool:
    ((found,),) = stock.service.sql("SELECT current_setting('full_page_writes')")
    return bool(found == value)


def test_each_setting_that_loses_data_is_told_at_start_and_by_check(tuned_stock: Stock) -> None:
    run = tuned_stock.run("check")
    report = json.loads(run.stdout)
    assert report["database"] == ["fsync = off", "full_page_writes = off"]
    assert (run.returncode, report["ok"]) == (0, True), "what is there is whole"
    tuned_stock.service.start()
    tuned_stock.service.stop()
    told = read_messages(tuned_stock.service.log())
    for sentence in (*CURES.values(), ASYNCHRONOUS):
        assert told.count(sentence) == 1, told


def test_of_a_server_that_keeps_what_it_commits_nothing_is_told(
    local_stock: Stock, postgres: str
) -> None:
    execute(postgres, "ALTER SYSTEM SET fsync = on", "SELECT pg_reload_conf()")
    try:
        wait_until(lambda: json.loads(local_stock.run("check").stdout)["database"] == [], "read")
        local_stock.service.start()
        local_stock.service.stop()
    finally:
        execute(postgres, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
    told = read_messages(local_stock.service.log())
    assert not {*CURES.values(), ASYNCHRONOUS} & set(told)
