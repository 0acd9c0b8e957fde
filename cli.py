"""The operator's commands, as COMMANDS lists them.

Without a DATABASE_URL they join the running embedded database, or
start it for as long as they run; `bucket` alone needs none. What
`check` and `sweep` print, their options and their exit statuses are
told in docs/maintenance.md.
"""

from ops import launch  # isort: split (before all that an old Python cannot read)

if __name__ == "__main__":
    launch.end_quietly_at_ctrl_c()

import argparse
import asyncio
import dataclasses
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from sqlalchemy import update

import config
import logs
from buckets import commands as bucket_commands
from config import Settings
from credentials import fold
from database import Database
from database import migrate as migrate_database
from errors import DatabaseUnavailable, StartupError
from files import Backends, reaper
from jobs import Worker
from models import User
from ops import adoption, check, embedded_postgres, failing, finding, process, sweep
from ops.database_risks import warn_of_risks
from ops.handlers import make_handlers
from ops.inventory import CannotLook
from photos import Thumbnails
from pictures.decoding import Decoding
from pictures.pool import DecoderPool
from schemas import normalize_email
from storage import AsyncStore, Stores

# For jobs that have begun when a worker is told to end, as long as a service's requests have.
JOBS_FINISH_SECONDS = 15.0
# Of `check`, `sweep` and `find`, whose 1 tells what they found.
NOT_LOOKED_STATUS = 2
LATE_JOBS = (
    "{} jobs have been due for over ten minutes. Does nobody do them? It takes a service with"
    " EMBEDDED_JOBS=true, or `cli.py worker`."
)
OVERDUE = (
    "{} deletions have been due for over ten minutes. Does nobody do them? It takes a service with"
    " EMBEDDED_REAPER=true, or `cli.py worker`."
)
FAR_OFF = (
    "{} deletions are due further off than anything puts them: the database's clock was wrong. A"
    " service or `cli.py worker` corrects that, or `cli.py requeue`."
)

# Returns the exit status.
Command = Callable[..., Awaitable[int]]


async def migrate(backends: Backends) -> int:
    """Bring the database's schema to the newest revision (every command does so first)."""
    print("The schema is at its newest revision.")
    return 0


async def work(backends: Backends) -> int:
    """Delete what is due and do jobs as a process of its own, until SIGTERM or Ctrl-C.

    Any number may share the work. A second Ctrl-C gives back the jobs that have begun.
    """
    logs.configure(backends.settings.log_format)
    await warn_of_risks(backends.database)
    reaping = asyncio.create_task(reaper.Reaper(backends).reap_forever())
    settings = backends.settings
    decoders = DecoderPool(requires_confinement=settings.decoder_sandbox == "required")
    decoders.warm()
    decoders.wait_until_warm()
    thumbnails = Thumbnails(backends, Decoding(decoders, settings))
    worker = Worker(backends.database, make_handlers(thumbnails))
    worker.start()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, reaping.cancel)

    def interrupt() -> None:
        if reaping.cancelling():  # it was told to end before
            worker.hurry()
        reaping.cancel()

    loop.add_signal_handler(signal.SIGINT, interrupt)
    await asyncio.wait({reaping})
    await worker.stop(JOBS_FINISH_SECONDS)
    decoders.close()
    if not reaping.cancelled():
        reaping.result()
    return 0


async def reap(backends: Backends) -> int:
    """Delete what is due now, once, as the service does by itself every few seconds."""
    due = await reaper.reap(backends)
    print(f"{due} files were due.")
    return 0


async def list_failing(backends: Backends) -> int:
    """List what could not be deleted more than once, and why, a line of JSON each.

    Exit 1 if there is any.
    """
    is_any = False
    async for file in failing.find_failing(backends):
        is_any = True
        print(json.dumps(dataclasses.asdict(file), default=str))
    return int(is_any)


async def requeue(backends: Backends) -> int:
    """Make what `failing` lists due now, as if it had never been tried.

    And what a wrong clock has put too far off.
    """
    requeued = await failing.requeue(backends)
    print(f"{requeued} deletions are due now.")
    return 0


async def run_check(backends: Backends) -> int:
    """Compare all rows and objects, by checksum, and report as JSON; exit 1 if anything is wrong.

    Changes nothing.
    """
    report = await check.check(backends)
    print(json.dumps(report.as_json(), indent=2))
    if report.late_jobs:
        print(LATE_JOBS.format(report.late_jobs), file=sys.stderr)
    if report.overdue:
        print(OVERDUE.format(report.overdue), file=sys.stderr)
    if report.far_off:
        print(FAR_OFF.format(report.far_off), file=sys.stderr)
    return 0 if report.is_well else 1


async def run_sweep(backends: Backends, delete: bool, limit: int) -> int:
    """Report objects that no row explains, as JSON.

    Delete them only if asked to, twice, over an hour apart.
    """
    report = await sweep.sweep(backends, deletes=delete, limit=limit)
    print(json.dumps(report.as_json(), indent=2))
    for store in report.stores:
        if store.refusal:
            print(store.refusal, file=sys.stderr)
    return 0 if report.is_well else 1


async def find(backends: Backends, prefix: str, store: str | None) -> int:
    """List the objects of a store whose keys begin so, a line of JSON each, with a URL to load it.

    The URL of what is private is good for ten minutes. Exit 1 if there is none.
    """
    is_any = False
    async for found in finding.find_objects(_find_store(backends, store), prefix):
        is_any = True
        print(json.dumps(dataclasses.asdict(found), default=str))
    return int(not is_any)


def _find_store(backends: Backends, name: str | None) -> AsyncStore:
    """Find the store of this name, or the current one. Raises ValueError."""
    names = sorted(backends.stores.names)
    if name is not None and name not in names:
        raise ValueError(f"There is no store {name}; the settings have {', '.join(names)}.")
    return backends.stores.named(name) if name else backends.stores.current


async def make_admin(backends: Backends, email: str) -> int:
    """Let this account see and change every other."""
    account = update(User).where(User.email_folded == fold(normalize_email(email)))
    async with backends.database.session() as db:
        user_id = await db.scalar(account.values(is_admin=True).returning(User.id))
        await db.commit()
    if user_id is None:
        print(f"There is no account with the address {email}.")
        return 1
    print(f"Account {user_id} is an admin.")
    return 0


async def adopt_store(backends: Backends, store: str | None, force: bool) -> int:
    """Let this database delete in a store that another one reaped, or whose marker is missing.

    Exit 1 if another has renewed it lately.
    """
    adopted = await adoption.adopt(backends, _find_store(backends, store), force=force)
    print(adopted.sentence, file=sys.stdout if adopted.is_done else sys.stderr)
    return 0 if adopted.is_done else 1


COMMANDS: dict[str, Command] = {
    "migrate": migrate,
    "worker": work,
    "reap": reap,
    "failing": list_failing,
    "requeue": requeue,
    "check": run_check,
    "sweep": run_sweep,
    "find": find,
    "adopt-store": adopt_store,
    "make-admin": make_admin,
}
# Those that ask the stores, and so must find the right ones ...
ASKING = {"worker", "reap", "check", "sweep", "find"}
# ... of which these write nothing, not even a first marker.
LOOKING = {"check", "sweep", "find"}


async def _run(settings: Settings, url: str, name: str, options: dict[str, Any]) -> int:
    await migrate_database(url)
    stores = Stores(settings)
    database = Database(url, settings.database_pool_size, {"stores": stores})
    try:
        backends = Backends(settings, database, stores)
        backends.identities.makes_markers = name not in LOOKING
        if name in ASKING:
            await backends.identities.open()
        return await COMMANDS[name](backends, **options)
    finally:
        await database.dispose()


def _parse_arguments() -> dict[str, Any]:
    """Return the options of the command, and its own `name` among them."""
    parser = argparse.ArgumentParser(prog="cli.py", description=__doc__)
    subparsers = parser.add_subparsers(required=True)
    parsers = {}
    for name, command in COMMANDS.items():
        told = command.__doc__
        parsers[name] = subparsers.add_parser(name, help=told, description=told)
        parsers[name].set_defaults(name=name)
    parsers["make-admin"].add_argument("email")
    parsers["find"].add_argument("prefix")
    parsers["find"].add_argument("--store", help="not the current one but the one of this name")
    parsers["adopt-store"].add_argument(
        "--store", help="not the current one but the one of this name"
    )
    parsers["adopt-store"].add_argument(
        "--force", action="store_true", help="also if another database has renewed it lately"
    )
    parsers["sweep"].add_argument(
        "--delete", action="store_true", help="remember what is unexplained; delete it next time"
    )
    parsers["sweep"].add_argument(
        "--limit",
        type=int,
        default=sweep.LIMIT,
        help="delete nothing if it would be more objects than this (%(default)s)",
    )
    told = bucket_commands.HELP
    parsers["bucket"] = subparsers.add_parser("bucket", help=told, description=told)
    parsers["bucket"].set_defaults(name="bucket")
    bucket_commands.add_to(parsers["bucket"])
    return vars(parser.parse_args())


def main(settings: Settings) -> int:
    """Run the command of the command line; return its exit status."""
    options = _parse_arguments()
    name = options.pop("name")
    if name == "bucket":
        return bucket_commands.run(settings, **options)
    # Leave through the contexts, so that an embedded database is ended in order.
    process.leave_at_signals(0 if name == "worker" else 128 + signal.SIGTERM)
    try:
        with embedded_postgres.running_unless(settings.database_url, settings.data_dir) as url:
            return asyncio.run(_run(settings, url, name, options))
    except (StartupError, ValueError, CannotLook) as err:
        print(err, file=sys.stderr)
    except DatabaseUnavailable as err:
        cause = (str(err.__cause__).splitlines() or ["it does not answer"])[0]
        print(f"The database cannot be used: {cause}", file=sys.stderr)
    return NOT_LOOKED_STATUS if name in ("check", "sweep", "find") else 1


if __name__ == "__main__":
    launch.run_command(partial(main, config.settings))
