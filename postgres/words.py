"""What may stand after the question mark of a database's URL, and what becomes of each word.

The words are those of libpq, and those that hosts and other clients add. What is understood is
kept, what nothing depends on is passed over, and of all else a sentence names the word.
"""

import re
from pathlib import Path

from locations import count_from_root

# libpq's, and node's for encryption that verifies nothing even where there is something to
# verify by. The word is written `sslmode` by people, and `ssl` once it was read: asyncpg's name.
UNVERIFIED = "no-verify"
VERIFIED_MODES = ("verify-ca", "verify-full")
ENCRYPTED_MODES = ("require", UNVERIFIED, *VERIFIED_MODES)
MODES = ("disable", "allow", "prefer", *ENCRYPTED_MODES)
SYSTEM_ROOTS = "system"
# Of the word `ssl`, as JDBC, libpq and Go's clients write it.
_SWITCHED_ON = ("true", "1", "on")
_SWITCHED_OFF = ("false", "0", "off")

FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
# What says that a pooler stands between: of Prisma, of Rails, of asyncpg.
_OF_POOLERS = {
    "pgbouncer": _SWITCHED_ON,
    "prepared_statements": _SWITCHED_OFF,
    "statement_cache_size": ("0",),
}
# What a server is chosen by, of several. Darkroom writes.
_WRITABLE = ("any", "primary", "read-write")
_READ_ONLY = ("standby", "prefer-standby", "read-only")
# What nothing here depends on: Darkroom's own limits of time hold, its driver speaks to one server
# at a time and always tells the host's name, and a certificate that is verified does what binding
# a password to it would.
SPARED = {
    *("application_name", "fallback_application_name", "client_encoding", "load_balance_hosts"),
    *("channel_binding", "gssdelegation", "gsslib", "krbsrvname", "sslcompression", "sslsni"),
    *("connect_timeout", "pool_timeout", "socket_timeout", "tcp_user_timeout"),
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    *("supa", "uselibpqcompat", "workaround"),  # of Supabase and of node
}
KEPT = {"sslpassword"}
_SEARCH_PATH = re.compile(r"search_path\s*=\s*([^\s,]+)")
_CURES = {
    "sslaccept": "write sslmode=require, or sslmode=verify-full&sslrootcert=system, in its place",
    "sslidentity": "write sslcert= and sslkey= in its place",
    "service": "write out what that service says",
    "passfile": "name the file in PGPASSFILE",
}


def read_words(words: dict[str, str]) -> dict[str, str]:
    """Read all of them, and return those that are understood, in the form that `driver.py` takes.

    Raises ValueError with a sentence that names the word.
    """
    read = {**_read_mode(words), **_read_files(words)}
    for word, value in words.items():
        if word in ("ssl", "sslmode", *FILES):
            continue
        if word in KEPT:
            read[word] = value
        elif word in _OF_POOLERS:
            if value.lower() in _OF_POOLERS[word]:
                read["pgbouncer"] = "true"
        elif word in _CHECKS:
            read.update(_CHECKS[word](value))
        elif word not in SPARED:
            raise ValueError(
                f"takes no {word} after its question mark; {_CURES.get(word, 'leave it away')}"
            )
    _refuse_idle_words(read)
    return read


def _read_mode(words: dict[str, str]) -> dict[str, str]:
    mode = words.get("sslmode", words.get("ssl"))
    if mode is None:
        is_of_system = words.get("sslrootcert") == SYSTEM_ROOTS
        return {"ssl": "verify-full"} if is_of_system else {}
    if "sslmode" not in words and mode.lower() in _SWITCHED_ON:
        mode = "require"
    if "sslmode" not in words and mode.lower() in _SWITCHED_OFF:
        mode = "disable"
    if mode not in MODES:
        raise ValueError(f"has an sslmode that is none of {', '.join(MODES)}")
    return {"ssl": mode}


def _read_files(words: dict[str, str]) -> dict[str, str]:
    """Make each path whole; a relative one counts from main.py's folder, as DATA_DIR does."""
    read = {}
    for word in FILES:
        path = words.get(word)
        if not path:
            continue
        if word == "sslrootcert" and path == SYSTEM_ROOTS:
            read[word] = path
        else:
            read[word] = str(count_from_root(Path(path)))
    return read


def _refuse_idle_words(read: dict[str, str]) -> None:
    """Refuse what would be passed over in silence, and roots that prove nothing."""
    mode = read.get("ssl")
    if read.get("sslrootcert") == SYSTEM_ROOTS and mode != "verify-full":
        raise ValueError(
            "must have sslmode=verify-full beside sslrootcert=system: anyone can have a"
            " certificate of those authorities, for a name of their own"
        )
    for word in FILES:
        if word in read and mode not in ENCRYPTED_MODES:
            raise ValueError(
                f"must have sslmode=verify-full beside {word}, or another mode that never goes"
                " on without TLS"
            )
    if "sslnegotiation" in read and mode not in ENCRYPTED_MODES:
        raise ValueError("must have sslmode=require or a stricter one beside sslnegotiation=direct")
    for word in ("sslrootcert", "sslcrl"):
        if word in read and mode == UNVERIFIED:
            raise ValueError(f"must not have {word} beside sslmode={mode}: one excludes the other")


def _read_schema(value: str) -> dict[str, str]:
    if value != "public":
        raise ValueError(
            f"must not name the schema {value}: Darkroom keeps its tables in the schema public;"
            " leave the word away, or make a database for Darkroom alone"
        )
    return {}


def _read_options(value: str) -> dict[str, str]:
    """Take them as they are: they reach the server, or a pooler that reads its own in them."""
    path = _SEARCH_PATH.search(value)
    if path is not None:
        _read_schema(path[1])
    return {"options": value}


def _read_limit(value: str) -> dict[str, str]:
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise ValueError("has a connection_limit that is no number of connections")
    return {"connection_limit": value}


def _read_cache_size(value: str) -> dict[str, str]:
    if not value.isascii() or not value.isdigit():
        raise ValueError("has a prepared_statement_cache_size that is no number")
    return {"prepared_statement_cache_size": value}


def _read_target(value: str) -> dict[str, str]:
    if value in _READ_ONLY:
        raise ValueError(
            f"must not ask for a server with target_session_attrs={value}: Darkroom writes;"
            " leave the word away"
        )
    if value not in _WRITABLE:
        raise ValueError(f"has a target_session_attrs that is none of {', '.join(_WRITABLE)}")
    return {"target_session_attrs": value}


def _read_negotiation(value: str) -> dict[str, str]:
    if value not in ("postgres", "direct"):
        raise ValueError("has an sslnegotiation that is neither postgres nor direct")
    return {"sslnegotiation": value} if value == "direct" else {}


def _read_gss(value: str) -> dict[str, str]:
    if value == "require":
        raise ValueError(
            "must not ask for gssencmode=require, which the driver does not know;"
            " write sslmode=verify-full in its place"
        )
    return {}


_CHECKS = {
    "schema": _read_schema,
    "options": _read_options,
    "prepared_statement_cache_size": _read_cache_size,
    "connection_limit": _read_limit,
    "target_session_attrs": _read_target,
    "sslnegotiation": _read_negotiation,
    "gssencmode": _read_gss,
}
