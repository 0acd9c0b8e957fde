"""The URL of a PostgreSQL, read as consoles of hosts print it.

What is read is written in one form, which can be read again: another process may be given it.
"""

import re
from collections import defaultdict
from urllib.parse import parse_qsl, unquote

from sqlalchemy.engine import URL, make_url

from postgres.hosts import DEFAULT_PORT, Host, join_words, split_authority
from postgres.words import read_words

EXAMPLE_URL = "postgresql://user:password@host:5432/name"
_DIALECT = "postgresql+asyncpg"
# As it is pasted: with psql's name before it, in quotes.
_PASTED = re.compile(r"\s*(?:psql\s+)?(?P<quote>[\"']?)(?P<url>.*?)(?P=quote)\s*", re.DOTALL)
# What consoles print in the place of a password that they do not know.
_PLACEHOLDER = re.compile(r"\[?(your[-_ ]?password|password|secret)\]|<password>", re.IGNORECASE)
_URL = re.compile(
    r"(?P<scheme>[\w+]+)://"
    r"(?:(?P<user>[^:/@]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<authority>[^/?]*)"
    r"(?:/(?P<database>[^?]*))?"
    r"(?:\?(?P<query>.*))?"
)
# With several hosts libpq takes the first that answers, be it a standby; Darkroom writes.
_WRITABLE = "read-write"


def parse_postgres_url(url: str) -> URL:
    """Turn a URL as libpq reads it into one in our form, which SQLAlchemy can take apart.

    Raises ValueError, without a part of the URL that may be of a password.
    """
    pasted = _PASTED.fullmatch(url)
    assert pasted is not None
    found = _URL.fullmatch(pasted["url"])
    if found is None:
        raise ValueError(f"must look like {EXAMPLE_URL}")
    scheme, _, _ = found["scheme"].partition("+")
    if scheme not in ("postgres", "postgresql"):
        raise ValueError(f"must be a PostgreSQL URL, as in {EXAMPLE_URL}")
    if _PLACEHOLDER.fullmatch(unquote(found["password"] or "")):
        raise ValueError("must have the password of the database's user in the place of that word")
    if _is_misread(found):
        raise ValueError(
            "must have %40 in place of each @ in the password, %2F of each / and %3F of each ?"
        )
    words: dict[str, list[str]] = defaultdict(list)
    for word, value in parse_qsl(found["query"] or ""):
        words[word].append(value)
    try:
        hosts = _read_hosts(found["authority"], words)
    except ValueError as err:
        # The port is no number, perhaps part of a password.
        raise ValueError(f"must look like {EXAMPLE_URL}") from err
    # What is said twice counts as it was said last, as with libpq.
    named = {word: words.pop(word)[-1] for word in ("user", "password", "dbname") if word in words}
    read = read_words({word: values[-1] for word, values in words.items()})
    if len(hosts) > 1:
        read.setdefault("target_session_attrs", _WRITABLE)
    parts = URL.create(
        _DIALECT,
        named.get("user", _unquote(found["user"])),
        named.get("password", _unquote(found["password"])),
        database=named.get("dbname", _unquote(found["database"])) or None,
        query=read,
    )
    return _write_hosts(parts, hosts)


def says_pooler(url: URL | str) -> bool:
    """Whether the URL says by a word of its own that a pooler stands before the database."""
    return "pgbouncer" in make_url(url).query


def read_connection_limit(url: URL | str) -> int | None:
    """How many connections the URL allows, in our form; None where it says nothing of it."""
    limit = make_url(url).query.get("connection_limit")
    return int(str(limit)) if limit else None


def read_hosts(url: URL) -> list[Host]:
    """The servers that a URL in our form names, in its order; none where it names none."""
    if url.host or url.port:
        return [Host(url.host or "", url.port)]
    words = {word: [str(url.query[word])] for word in ("host", "port") if word in url.query}
    return join_words(words.get("host", []), words.get("port", []))


def describe_hosts(url: URL) -> str:
    """Name the servers of a URL in our form, with their ports, for a sentence."""
    hosts = read_hosts(url)
    return " or ".join(f"{host.name}:{host.port or DEFAULT_PORT}" for host in hosts)


def _is_misread(found: re.Match[str]) -> bool:
    """Whether a sign in the password was taken for one between the parts of the URL."""
    is_authority_sound = "@" not in found["authority"]
    is_database_sound = not set("@:/") & set(unquote(found["database"] or ""))
    is_query_sound = "@" not in found[0].partition("?")[2]
    return not (is_authority_sound and is_database_sound and is_query_sound)


def _read_hosts(authority: str, words: dict[str, list[str]]) -> list[Host]:
    """Those of the words count before those in the place of the host, as with libpq."""
    named = join_words(words.pop("host", []), words.pop("port", []))
    if named and named[0].name:
        return named
    hosts = split_authority(authority)
    if named:
        return [Host(host.name, named[0].port) for host in hosts or named]
    return hosts


def _write_hosts(url: URL, hosts: list[Host]) -> URL:
    if not hosts:
        return url
    if len(hosts) == 1 and not hosts[0].is_folder:
        return url.set(host=hosts[0].name or None, port=hosts[0].port)
    words = {"host": ",".join(host.name for host in hosts)}
    if any(host.port for host in hosts):
        words["port"] = ",".join(str(host.port or "") for host in hosts)
    return url.update_query_dict(words)


def _unquote(text: str | None) -> str | None:
    return None if text is None else unquote(text)
