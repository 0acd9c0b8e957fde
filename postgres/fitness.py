"""Whether a database can be Darkroom's: what is asked of it before its first migration.

The question is one statement, which anything that reaches a PostgreSQL can run.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import URL

# The oldest with which the tests run, and which the SQL of the tables needs (NULLS NOT DISTINCT).
OLDEST_MAJOR = 15
# The only encoding in which every name can be kept.
ENCODING = "UTF8"
QUESTION = """
SELECT current_setting('server_version_num')::int / 10000 AS major,
       current_setting('server_version') AS version,
       current_setting('server_encoding') AS encoding,
       pg_is_in_recovery() AS is_standby,
       current_setting('transaction_read_only') = 'on' AS is_read_only
"""


def explain_unfitness(answer: Mapping[Any, Any], url: URL) -> str | None:
    """Say in a sentence why the database that gave this answer cannot be used; None if it can."""
    cause = _find_cause(answer, url)
    return None if cause is None else f"The database {url.database} cannot be used: {cause}."


def _find_cause(answer: Mapping[Any, Any], url: URL) -> str | None:
    if answer["major"] < OLDEST_MAJOR:
        version = answer["version"].partition(" ")[0]
        return (
            f"its server is PostgreSQL {version}, and Darkroom needs {OLDEST_MAJOR} or newer;"
            " upgrade it, or name another in DATABASE_URL"
        )
    if answer["encoding"] != ENCODING:
        return (
            f"its encoding {answer['encoding']} cannot hold every name; create it anew with"
            f" CREATE DATABASE {url.database} ENCODING '{ENCODING}' LOCALE 'C' TEMPLATE template0"
        )
    if answer["is_standby"]:
        return "its server is a standby, which takes no writes; name the primary in DATABASE_URL"
    if answer["is_read_only"]:
        return (
            "it takes no writes (default_transaction_read_only is on); hosts do so where a disk is"
            " full, so see to that first, and then set it to off"
        )
    return None
