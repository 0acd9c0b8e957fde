"""What tells that the database is at fault, and not what was asked of it."""

import asyncpg
from sqlalchemy.exc import DBAPIError

# SQLSTATE classes that mean "try again", from appendix A of the PostgreSQL manual: connection
# exception, invalid transaction state (read-only, or ended while idle), transaction rollback,
# insufficient resources, object not in prerequisite state (a lock that was not had), operator
# intervention.
OUTAGE_CLASSES = ("08", "25", "40", "53", "55", "57")
# What the driver raises when there is no server, or no connection to it any more. So, most often,
# is an "internal" error: the server has said its last word, but the connection is not yet closed.
LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    TimeoutError,
)

_TOO_MANY_CONNECTIONS = "53300"
# Poolers have other codes for it: pgbouncer's max_client_conn, Supavisor's size of a pool.
_POOLERS_TOO_MANY = ("no more connections allowed", "max client")


def is_outage(err: DBAPIError | asyncpg.PostgresError) -> bool:
    """Whether the database, and not what we asked of it, is at fault."""
    original = err.orig if isinstance(err, DBAPIError) else err
    sqlstate = getattr(original, "sqlstate", None)
    if sqlstate is not None:
        return str(sqlstate)[:2] in OUTAGE_CLASSES or is_too_many(original)
    # The driver's own complaint: the connection is closed, or closing.
    assert isinstance(err, DBAPIError)
    cause = original.__cause__ if original else None
    return err.connection_invalidated or isinstance(cause, LOST)


def is_too_many(err: BaseException | None) -> bool:
    """Whether a connection was refused because the server allows no more of them."""
    sqlstate = getattr(err, "sqlstate", None)
    if sqlstate is None:
        return False
    said = str(err).lower()
    return sqlstate == _TOO_MANY_CONNECTIONS or any(text in said for text in _POOLERS_TOO_MANY)
