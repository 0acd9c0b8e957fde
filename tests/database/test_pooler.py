"""Proves that jobs need nothing of a session: they are done through pgbouncer in transaction mode.

Skipped without Debian's pgbouncer. It knows no named statements (before 1.21), and a setting for
that is still to come, so the engine is told here to use none.
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from database import Database
from jobs import Worker, enqueue
from tests.support.services import free_port, wait_until

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
# It refuses to be root, and must be able to open what root's tests have made.
AS_NOBODY = ("unshare", "--user", "--map-user=65522") if os.geteuid() == 0 else ()
WITHOUT_NAMES = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": str,  # the empty name
}
CONFIGURATION = """
[databases]
{name} = host={host} port={port} dbname={name} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
"""
JOBS = 40
WORKERS = 2
WAIT_SECONDS = 30.0

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="apt-get install pgbouncer")


@pytest.fixture
def pooled_url(new_database: Any, tmp_path: Path) -> Iterator[str]:
    """The URL of a database behind a pooler, which lends two connections for a transaction each."""
    url = make_url(new_database())
    listen_port = free_port()
    path = tmp_path / "pgbouncer.ini"
    path.write_text(
        CONFIGURATION.format(
            name=url.database,
            host=url.query["host"],
            port=url.query["port"],
            user=url.username,
            listen_port=listen_port,
        )
    )
    log = tmp_path / "pgbouncer.log"
    with open(log, "wb") as said:
        pooler = subprocess.Popen([*AS_NOBODY, str(PGBOUNCER), str(path)], stderr=said)
    try:
        wait_until(lambda: "listening on 127.0.0.1" in log.read_text(), "the pooler listens")
        yield f"postgresql+asyncpg://{url.username}:any@127.0.0.1:{listen_port}/{url.database}"
    finally:
        pooler.terminate()
        pooler.wait(WAIT_SECONDS)


def test_jobs_are_done_once_each(pooled_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def create_without_names(url: str, **options: Any) -> Any:
        options["connect_args"] |= WITHOUT_NAMES
        return create_async_engine(url, **options)

    monkeypatch.setattr("database.create_async_engine", create_without_names)
    done: list[int] = []

    async def note(number: int) -> None:
        done.append(number)

    async def add(opened: Database, number: int) -> None:
        async with opened.transaction() as transaction:
            await enqueue(transaction, "note", {"number": number})
            await transaction.commit()

    async def story() -> None:
        databases = [Database(pooled_url, 5) for _ in range(WORKERS)]
        workers = [Worker(opened, {"note": note}) for opened in databases]
        for worker in workers:
            worker.start()
        await asyncio.gather(*(add(databases[n % WORKERS], n) for n in range(JOBS)))
        while len(done) < JOBS:
            await asyncio.sleep(0.05)
        for worker in workers:
            await worker.stop(WAIT_SECONDS)
        for opened in databases:
            await opened.dispose()

    asyncio.run(asyncio.wait_for(story(), WAIT_SECONDS))
    assert sorted(done) == list(range(JOBS))
