"""What it means to an operator that a PostgreSQL refuses.

One sentence with a cure for each reason why Darkroom cannot start on a database.
"""

import errno
import socket
import ssl

from sqlalchemy.engine import URL

from postgres.urls import describe_hosts

# SQLSTATEs, from appendix A of the PostgreSQL manual.
_INVALID_PASSWORD = "28P01"
_NO_SUCH_DATABASE = "3D000"
_INSUFFICIENT_PRIVILEGE = "42501"
_TAKEN_NAMES = ("42P07", "42710")  # of a table, of a type


def explain_refusal(err: Exception, url: URL) -> str:
    """Say in a sentence why the database cannot be used, and what to do about it.

    The URL is the one of the settings, which tells where the servers are.
    """
    where = describe_hosts(url)
    return f"The database {url.database} at {where} cannot be used: {_explain(err, url)}."


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
    if isinstance(original, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({original.verify_message.rstrip('.')}); name the file"
            " of its authority in sslrootcert, or correct the host in DATABASE_URL"
        )
    if "rejected SSL upgrade" in said:
        return (
            "it speaks no TLS; let it, or write sslmode=disable in DATABASE_URL if all of the way"
            " there is yours"
        )
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
