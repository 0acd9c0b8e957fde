"""The tests' own Postgres server, and databases on it: from a template, one for whoever asks."""

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
from sqlalchemy.engine import URL, make_url

from ops.postgres_cluster import ROLE, SUPERUSER, Cluster, choose_socket_dir
from tests.support.services import wait_until


@contextlib.contextmanager
def running_server(programs: Path, folder: Path) -> Iterator[str]:
    """Run a server of these programs, with its data in the folder; yields its URL.

    It ends with the context, or with the thread that entered it.
    """
    data = folder / "postgres"
    cluster = Cluster(programs, data, choose_socket_dir(data))
    with open(folder / "postgres.lock", "a") as lock:
        cluster.make(lock.fileno())
        server = cluster.start(folder / "postgres.log", lock.fileno())
        try:
            wait_until(cluster.accepts_connections, "Postgres accepts connections")
            yield cluster.url
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


def become_standby(folder: Path) -> None:
    """Let the server of this folder, which does not run, take no writes when it runs again.

    It waits for a primary, of which there is none.
    """
    data = folder / "postgres"
    mark = data / "standby.signal"
    mark.touch()
    owner = data.stat()
    os.chown(mark, owner.st_uid, owner.st_gid)


def make_database(server_url: str, template: str | None) -> str:
    """Make a database, empty or like the template, and return its URL."""
    name = f"test_{uuid.uuid4().hex}"
    like = f" TEMPLATE {template}" if template else ""
    execute(server_url, f"CREATE DATABASE {name} OWNER {ROLE}{like}")
    return database_url(server_url, name)


def database_url(server_url: str, name: str) -> str:
    """The URL of one of the server's databases."""
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def execute(server_url: str, *statements: str) -> None:
    """Tell the server, not one of its databases, to do this, as its superuser."""
    execute_in(make_url(server_url).set(database="postgres", username=SUPERUSER), *statements)


def execute_in(url: URL, *statements: str) -> None:
    """Do this in a database, as the user that its URL names."""

    async def run() -> None:
        dsn = url.render_as_string(hide_password=False).replace("+asyncpg", "")
        connection = await asyncpg.connect(dsn)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())
