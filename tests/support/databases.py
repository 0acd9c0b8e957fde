"""Databases of the tests' own server: made from a template, one for whoever asks."""

import asyncio
import uuid

import asyncpg
from sqlalchemy.engine import make_url


def make_database(server_url: str, template: str | None) -> str:
    """Make a database, empty or like the template, and return its URL."""
    name = f"test_{uuid.uuid4().hex}"
    execute(server_url, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    return database_url(server_url, name)


def database_url(server_url: str, name: str) -> str:
    """The URL of one of the server's databases."""
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def execute(server_url: str, *statements: str) -> None:
    """Tell the server, not one of its databases, to do this."""

    async def run() -> None:
        url = database_url(server_url, "postgres").replace("+asyncpg", "")
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())
