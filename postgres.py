"""How an operator names a PostgreSQL, and what its refusals mean to them.

Holds the ways to write its URL, and one sentence with a cure for each reason why Darkroom cannot
start on a database. No password gets into any of them.
"""

import errno
import socket

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

EXAMPLE_URL = "postgresql://user:password@host:5432/name"
# Those options that asyncpg takes, and those of libpq that hosting services add and nothing
# depends on.
ASYNCPG_OPTIONS = {"host", "port", "ssl", "target_session_attrs", "prepared_statement_cache_size"}
SPARED_OPTIONS = ("channel_binding", "connect_timeout", "gssencmode", "application_name")
DEFAULT_PORT = 5432

# SQLSTATEs, from appendix A of the PostgreSQL manual.
_INVALID_PASSWORD = "28P01"
_NO_SUCH_DATABASE = "3D000"
_INSUFFICIENT_PRIVILEGE = "42501"
_TAKEN_NAMES = ("42P07", "42710")  # of a table, of a type


def parse_postgres_url(url: str) -> URL:
    """Turn a Postgres URL into what SQLAlchemy's asyncpg dialect takes.

    Takes the usual ways to write one: `postgres://`, `?sslmode=`. Raises ValueError, without a part
    of the URL that may be of a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as err:
        # ValueError: the port is no number, perhaps part of a password.
        raise ValueError(f"must look like {EXAMPLE_URL}") from err
    if parsed.get_backend_name() not in ("postgres", "postgresql"):
        raise ValueError(f"must be a PostgreSQL URL, as in {EXAMPLE_URL}")
    if _is_misread(url, parsed):
        raise ValueError(
            "must have %40 in place of each @ in the password, %2F of each / and %3F of each ?"
        )
    query = dict(parsed.query)
    if "sslmode" in query:
        # asyncpg's name for libpq's sslmode, with the same values.
        query["ssl"] = query.pop("sslmode")
    for spared in SPARED_OPTIONS:
        query.pop(spared, None)
    unknown = set(query) - ASYNCPG_OPTIONS
    if unknown:
        raise ValueError(f"takes no {', '.join(sorted(unknown))} after its question mark")
    return parsed.set(drivername="postgresql+asyncpg", query=query)


def _is_misread(url: str, parsed: URL) -> bool:
    """Whether a sign in the password was taken for one between the parts of the URL."""
    is_host_sound = "@" not in (parsed.host or "")
    is_database_sound = not set("@:/") & set(parsed.database or "")
    return not (is_host_sound and is_database_sound) or "@" in url.partition("?")[2]


def explain_refusal(err: Exception, url: URL) -> str:
    """Say in a sentence why the database cannot be used, and what to do about it."""
    host = url.host or url.query.get("host")
    port = url.port or url.query.get("port", DEFAULT_PORT)
    return f"The database {url.database} at {host}:{port} cannot be used: {_explain(err, url)}."


def explain_unknown_revision(revision: str, url: URL, is_ours: bool) -> str:
    """Say what it means that a database's revision is none of ours."""
    if is_ours:
        cause = "of a newer version of Darkroom; install that one, or"
    else:
        cause = "of another application;"
    return (
        f"The database {url.database} cannot be used: its revision {revision} is {cause}"
        " name an empty database in DATABASE_URL."
    )


def _explain(err: Exception, url: URL) -> str:
    original = getattr(err, "orig", None) or err
    sqlstate = getattr(original, "sqlstate", None)
    said = (str(original).splitlines() or [type(original).__name__])[0]
    if sqlstate == _INVALID_PASSWORD:
        return f"it refuses the password of user {url.username}; correct DATABASE_URL"
    if sqlstate == _NO_SUCH_DATABASE:
        return (
            f"it does not exist; create it with `createdb {url.database}`, or correct DATABASE_URL"
        )
    if sqlstate == _INSUFFICIENT_PRIVILEGE:
        return _explain_missing_right(said, url)
    if sqlstate in _TAKEN_NAMES:
        return (
            "it has tables of another application, which Darkroom would need to replace;"
            " name an empty database in DATABASE_URL"
        )
    if isinstance(original, socket.gaierror):
        return "its host is not known; correct the host in DATABASE_URL, or the network's DNS"
    if _is_nobody_there(original, said):
        return "nobody listens there; start PostgreSQL, or correct DATABASE_URL"
    if isinstance(original, TimeoutError):
        return "it does not answer; see to the network and its firewalls, or correct DATABASE_URL"
    return f"{said.rstrip('.')}; correct DATABASE_URL, or what it leads to"


def _explain_missing_right(said: str, url: URL) -> str:
    """By what the server says, in English; in another language it is told as it is."""
    user = f"user {url.username} of DATABASE_URL"
    if "schema public" in said:
        return (
            f"{user} may not create tables in the schema public; as the owner of the database run"
            f" GRANT USAGE, CREATE ON SCHEMA public TO {url.username}"
        )
    if "permission denied for database" in said:
        return (
            f"{user} may not use it; as the owner of the database run"
            f" GRANT ALL ON DATABASE {url.database} TO {url.username}"
        )
    if "must be owner" in said or "permission denied for table" in said:
        return (
            f"its tables do not belong to {user}; as a superuser run"
            f" ALTER TABLE name OWNER TO {url.username} for each of them"
        )
    return f"{user} lacks a right ({said}); grant it, or correct DATABASE_URL"


def _is_nobody_there(err: Exception, said: str) -> bool:
    # Where a name has several addresses, the driver's error has their numbers in its text only.
    return (
        isinstance(err, ConnectionRefusedError | FileNotFoundError)
        or f"[Errno {errno.ECONNREFUSED}]" in said
    )
