"""What befalls a real Postgres: locks that somebody holds, and a kill -9."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import asyncpg

from tests.support.services import postmaster


def hold_account(database_url: str, user_id: int) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of an account's row until the context ends."""
    return _hold(database_url, f"SELECT FROM users WHERE id = {user_id:d} FOR UPDATE")


def hold_table(database_url: str, table: str) -> contextlib.AbstractContextManager[None]:
    """Keep everyone from changing a table until the context ends."""
    return _hold(database_url, f"LOCK TABLE {table} IN EXCLUSIVE MODE")


@contextlib.contextmanager
def _hold(database_url: str, statement: str) -> Iterator[None]:
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(database_url.replace("+asyncpg", "")))
        try:
            runner.run(connection.execute("BEGIN"))
            runner.run(connection.execute(statement))
            yield
        finally:
            runner.run(connection.close())


def kill_server(data_dir: Path) -> None:
    """Kill -9 the embedded server of this folder and all of its processes, which have no say."""
    server = postmaster(data_dir)
    children = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                children += [int(entry.name)] if int(parent) == server else []
    for pid in [server, *children]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
