"""Runs the migrations: inside the service at its start, or for `alembic` on the command line.

Without a DATABASE_URL the command joins the running
embedded database, or starts it for as long as it runs.
"""

import asyncio

import asyncpg
from alembic import context
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

import files.tables  # noqa: F401
import models  # noqa: F401 (both register tables)
from config import settings
from connections import make_migrating_engine
from database import Base
from errors import StartupError
from jobs.repository import is_ours
from ops import embedded_postgres
from postgres import (
    FITNESS_QUESTION,
    explain_refusal,
    explain_unfitness,
    explain_unknown_revision,
    parse_postgres_url,
)

# Any number that no one else uses for an advisory lock in the same database.
MIGRATION_LOCK = 4_118_111_815


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, include_name=is_ours)
    with context.begin_transaction():
        raise_if_unfit(connection)
        # Whoever comes second waits here, then finds the
        # schema at its newest revision and does nothing.
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        try:
            context.run_migrations()
        except CommandError as err:
            raise_if_unknown(err, connection)
            raise


def raise_if_unfit(connection: Connection) -> None:
    """Raise CommandError for a database that cannot be ours, before anything is made in it."""
    answer = connection.execute(text(FITNESS_QUESTION)).mappings().one()
    sentence = explain_unfitness(answer, connection.engine.url)
    if sentence is not None:
        raise CommandError(sentence)


def raise_if_unknown(err: CommandError, connection: Connection) -> None:
    """Say more of a revision that is the database's and none of ours; raises CommandError.

    One that only the command line names is left to alembic's own words.
    """
    unknown = err.__cause__
    if not isinstance(unknown, ResolutionError):
        return
    if unknown.argument in context.get_context().get_current_heads():
        is_ours = connection.scalar(text("SELECT to_regclass('stored_files')")) is not None
        url = connection.engine.url
        raise CommandError(explain_unknown_revision(unknown.argument, url, is_ours)) from err


async def run_by_url(url: str) -> None:
    engine = make_migrating_engine(url)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
    except (DBAPIError, asyncpg.PostgresError, OSError) as err:
        raise CommandError(explain_refusal(err, parse_postgres_url(url))) from err
    finally:
        await engine.dispose()


given_connection = context.config.attributes.get("connection")
if given_connection is not None:
    run(given_connection)
else:
    try:
        with embedded_postgres.running_unless(settings.database_url, settings.data_dir) as url:
            asyncio.run(run_by_url(url))
    except StartupError as err:
        raise CommandError(str(err)) from err
