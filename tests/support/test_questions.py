"""Proves that the connection which is kept for questions is as good as a new one."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import pytest

from tests.support.databases import execute
from tests.support.questions import ask
from tests.support.services import SOMEONE_WAITS, wait_until

WHO = "SELECT pg_backend_pid() AS pid"
LEFT = (
    "SELECT current_setting('work_mem') AS memory,"
    " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    "  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS locks"
)


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    return new_database().replace("+asyncpg", "")


def test_it_is_kept_and_nothing_is_left_in_it(url: str) -> None:
    before = ask(url, LEFT)
    assert before[0]["locks"] == 0
    pid = ask(
        url, "SELECT pg_backend_pid(), pg_advisory_lock(1), set_config('work_mem', '99', 0=1)"
    )
    assert (ask(url, WHO)[0]["pid"], ask(url, LEFT)) == (pid[0][0], before)


def test_after_a_failed_statement_and_after_its_end_it_answers(url: str, postgres: str) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        ask(url, "SELECT FROM nowhere")
    pid = ask(url, WHO)[0]["pid"]
    execute(postgres, f"SELECT pg_terminate_backend({pid})")
    assert ask(url, WHO)[0]["pid"] != pid


def test_one_that_waits_holds_nobody_up(url: str) -> None:
    async def hold() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute("SELECT pg_advisory_lock(1)")
            waiting = threads.submit(ask, url, "SELECT pg_advisory_lock(1)")
            wait_until(lambda: threads.submit(ask, url, SOMEONE_WAITS).result()[0][0], "it waits")
            assert not waiting.done()
            await connection.execute("SELECT pg_advisory_unlock(1)")
            waiting.result(60)
        finally:
            await connection.close()

    with ThreadPoolExecutor(2) as threads:
        asyncio.run(hold())
