"""The operator's commands: migrate, worker, reap, failing, requeue, check, sweep, make-admin.

Without a DATABASE_URL they join the running embedded database, or
start it for as long as they run. What `check` and `sweep` print,
their options and their exit statuses are told in docs/maintenance.md.
"""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import update

import logs
import ops.check
import ops.sweep
from config import settings
from database import Database
from database import migrate as migrate_database
from errors import DatabaseUnavailable, StartupError
from files import Backends, reaper
from models import User, fold
from ops import embedded_postgres
from ops.check import CannotLook
from schemas import normalize_email
from storage import Stores

# Of `check` and `sweep`, whose 1 means that they found something.
NOT_LOOKED_STATUS = 2
CLAIM_HELP = (
    "mark the current store as this database's, which alone may delete there: a step of its own, so that a trial"
    " service pointed at the wrong bucket does not come to own it in passing"
)


async def migrate(backends: Backends) -> int:
    """Bring the database's schema to the newest revision (every command does so first)."""
    print("The schema is at its newest revision.")
    return 0


async def worker(backends: Backends) -> int:
    """Delete what is due as a process of its own, until
    SIGTERM or Ctrl-C; any number may share the work.
    """
    logs.configure()
    reaping = asyncio.ensure_future(reaper.reap_forever(backends))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, reaping.cancel)
    await asyncio.wait({reaping})
    if not reaping.cancelled():
        reaping.result()
    return 0


async def reap(backends: Backends) -> int:
    """Delete what is due now, once, as the service does by itself every few seconds."""
    print(f"{await reaper.reap(backends)} files were due.")
    return 0


async def failing(backends: Backends) -> int:
    """List what could not be deleted more than once, a
    line of JSON each, and why; exit 1 if there is any.
    """
    is_any = False
    async for file in ops.check.find_failing(backends):
        is_any = True
        print(json.dumps(file, default=str))
    return int(is_any)


async def requeue(backends: Backends) -> int:
    """Make what `failing` lists due now, as if it had never been tried."""
    print(f"{await ops.check.requeue(backends)} deletions are due now.")
    return 0


async def check(backends: Backends) -> int:
    """Compare all rows and objects, by checksum, and report as JSON; exit 1 if anything is wrong.

    Changes nothing.
    """
    report = await ops.check.check(backends)
    print(json.dumps(report, indent=2))
    return 0 if report["ok"] else 1


async def sweep(backends: Backends, claim: bool, delete: bool, limit: int) -> int:
    """Report objects that no row explains, as JSON; delete
    them only if asked to, twice, over an hour apart.
    """
    if claim:
        return await _claim(backends)
    report = await ops.sweep.sweep(backends, deletes=delete, limit=limit)
    print(json.dumps(report, indent=2))
    for place in report["places"]:
        if place["refused"]:
            print(place["refused"], file=sys.stderr)
    return 0 if report["ok"] else 1


async def _claim(backends: Backends) -> int:
    store, claimed = await ops.sweep.claim(backends)
    if claimed == ops.sweep.THIS_DATABASE:
        print(
            f"The store {ops.check.named(store)} is claimed by this database, which alone may delete there."
        )
        return 0
    print(
        f"The store {ops.check.named(store)} is not claimed: it belongs to {claimed}.",
        file=sys.stderr,
    )
    return 1


async def make_admin(backends: Backends, email: str) -> int:
    """Let this account see and change every other."""
    async with backends.database.session() as db:
        account = update(User).where(User.email_folded == fold(normalize_email(email)))
        user_id = await db.scalar(account.values(is_admin=True).returning(User.id))
        await db.commit()
    print(
        f"Account {user_id} is an admin."
        if user_id
        else f"There is no account with the address {email}."
    )
    return 0 if user_id else 1


async def _run(url: str, command: Callable[..., Awaitable[int]], options: dict[str, Any]) -> int:
    await migrate_database(url)
    stores = Stores(settings)
    database = Database(url, settings.database_pool_size, {"stores": stores})
    try:
        return await command(Backends(settings, database, stores), **options)
    finally:
        await database.dispose()


def _arguments() -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="cli.py", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for command in (migrate, worker, reap, failing, requeue, check, sweep, make_admin):
        sub = commands.add_parser(
            command.__name__.replace("_", "-"), help=command.__doc__, description=command.__doc__
        )
        sub.set_defaults(command=command)
        if command is make_admin:
            sub.add_argument("email")
        if command is sweep:
            one = sub.add_mutually_exclusive_group()
            one.add_argument("--claim", action="store_true", help=CLAIM_HELP)
            one.add_argument(
                "--delete",
                action="store_true",
                help="remember what is unexplained; delete it next time",
            )
            at_most = "delete nothing if it would be more objects than this (%(default)s)"
            sub.add_argument("--limit", type=int, default=ops.sweep.LIMIT, help=at_most)
    return vars(parser.parse_args())


def main() -> int:
    options = _arguments()
    command = options.pop("command")
    # Leave through the contexts, so that an embedded database is ended in order.
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(0 if command is worker else 128 + signal.SIGTERM)
    )
    failed = NOT_LOOKED_STATUS if command in (check, sweep) else 1
    try:
        with embedded_postgres.running_unless(settings.database_url, settings.data_dir) as url:
            return asyncio.run(_run(url, command, options))
    except (StartupError, ValueError, CannotLook) as err:
        print(err, file=sys.stderr)
    except DatabaseUnavailable as err:
        cause = (str(err.__cause__).splitlines() or ["it does not answer"])[0]
        print(f"The database cannot be used: {cause}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
