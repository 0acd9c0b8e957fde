"""Debian's pgbouncer before a Postgres: no setting but where it listens, its mode, its size."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.engine import URL, make_url

from tests.support.postgres import PostgresProxy
from tests.support.services import free_port, wait_until

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
# It refuses to be root, and must be able to read what root's tests have written.
AS_NOBODY = ("unshare", "--user", "--map-user=65522") if os.geteuid() == 0 else ()
CONFIGURATION = """
[databases]
{name} = host={host} port={port} dbname={name} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {pool_size}
{more}
"""
END_SECONDS = 30.0


@contextlib.contextmanager
def pooled(
    database_url: str, folder: Path, mode: str, pool_size: int = 2, more: str = ""
) -> Iterator[str]:
    """Run a pooler before a database, with its files in the folder; yields the URL through it."""
    with contextlib.ExitStack() as stack:
        # By TCP, for it may not enter a server's folder.
        behind = stack.enter_context(PostgresProxy(database_url))
        yield stack.enter_context(_run(make_url(behind.url), folder, mode, pool_size, more))


@contextlib.contextmanager
def _run(url: URL, folder: Path, mode: str, pool_size: int, more: str) -> Iterator[str]:
    listen_port = free_port()
    path = folder / f"pgbouncer-{listen_port}.ini"
    path.write_text(
        CONFIGURATION.format(
            name=url.database,
            host=url.host,
            port=url.port,
            user=url.username,
            listen_port=listen_port,
            mode=mode,
            pool_size=pool_size,
            more=more,
        )
    )
    log = path.with_suffix(".log")
    with open(log, "wb") as said:
        pooler = subprocess.Popen([*AS_NOBODY, str(PGBOUNCER), str(path)], stderr=said)
    try:
        wait_until(lambda: "listening on 127.0.0.1" in log.read_text(), "the pooler listens")
        yield f"postgresql+asyncpg://{url.username}:any@127.0.0.1:{listen_port}/{url.database}"
    finally:
        pooler.terminate()
        pooler.wait(END_SECONDS)
