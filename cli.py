"""The operator's commands: `uv run cli.py migrate | reap | make-admin EMAIL`.

Without a DATABASE_URL they join the running embedded database, or start it for as long as they run.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

from sqlalchemy import update

import database
import embedded_postgres
import jobs
from config import settings
from errors import StartupError
from models import User, fold
from schemas import normalized_email


async def migrate() -> int:
    """Bring the database's schema to the newest revision (every command does so first)."""
    print("The schema is at its newest revision.")
    return 0


async def reap() -> int:
    """Delete what is due now, once, as the service does by itself every few seconds."""
    print(f"{await jobs.reap()} files were due.")
    return 0


async def make_admin(email: str) -> int:
    """Let this account see and change every other."""
    async with database.session() as db:
        account = update(User).where(User.email_folded == fold(normalized_email(email)))
        user_id = await db.scalar(account.values(is_admin=True).returning(User.id))
        await db.commit()
    print(f"Account {user_id} is an admin." if user_id else f"There is no account with the address {email}.")
    return 0 if user_id else 1


async def _run(url: str, command: Callable[..., Awaitable[int]], arguments: list[str]) -> int:
    await database.migrate(url)
    engine = database.connect(url, settings.database_pool_size)
    try:
        return await command(*arguments)
    finally:
        await engine.dispose()


def main() -> int:
    parser = argparse.ArgumentParser(prog="cli.py", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for command in (migrate, reap, make_admin):
        sub = commands.add_parser(command.__name__.replace("_", "-"), help=command.__doc__)
        sub.set_defaults(command=command)
        if command is make_admin:
            sub.add_argument("email")
    given = parser.parse_args()
    given_url = settings.database_url
    try:
        with nullcontext(given_url) if given_url else embedded_postgres.running(settings.data_dir) as url:
            return asyncio.run(_run(url, given.command, [given.email] if "email" in given else []))
    except (StartupError, ValueError) as err:
        print(err, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
