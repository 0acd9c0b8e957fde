"""The tests run on the server that they were told to run on."""

import asyncio
import subprocess
from pathlib import Path

import asyncpg

from tests.support.databases import database_url


def test_the_server_is_of_the_programs_that_were_asked_for(
    postgres: str, postgres_programs: Path
) -> None:
    command = [str(postgres_programs / "postgres"), "--version"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)

    async def ask() -> str:
        url = database_url(postgres, "postgres").replace("+asyncpg", "")
        connection = await asyncpg.connect(url)
        try:
            return str(await connection.fetchval("SHOW server_version"))
        finally:
            await connection.close()

    assert told.stdout.strip().endswith(asyncio.run(ask()))
