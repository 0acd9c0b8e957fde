"""What the driver is told of a URL: asyncpg's arguments, in the place of libpq's words."""

from typing import Any

from sqlalchemy.engine import URL

from postgres.hosts import DEFAULT_PORT
from postgres.tls import make_tls_options
from postgres.urls import parse_postgres_url, read_hosts


def make_driver_options(url: str) -> tuple[URL, dict[str, Any]]:
    """Take a URL apart: who connects to what database, and SQLAlchemy's `connect_args`.

    Where the servers are is among the latter, for SQLAlchemy reads several hosts, and folders with
    colons, in its own way. Raises ValueError with a sentence for the operator.
    """
    parsed = parse_postgres_url(url)
    words = dict(parsed.query)
    hosts = read_hosts(parsed)
    # As with libpq, TLS is no matter of sockets, whatever PGSSLMODE says of servers elsewhere.
    is_local = bool(hosts) and all(host.is_folder for host in hosts)
    options: dict[str, Any] = {"ssl": False} if is_local else make_tls_options(words)
    if any(host.name for host in hosts):
        options["host"] = [host.name for host in hosts]
    if any(host.port for host in hosts):
        options["port"] = [host.port or DEFAULT_PORT for host in hosts]
    if "target_session_attrs" in words:
        options["target_session_attrs"] = words["target_session_attrs"]
    if "prepared_statement_cache_size" in words:
        options["prepared_statement_cache_size"] = int(str(words["prepared_statement_cache_size"]))
    if "sslnegotiation" in words:
        options["direct_tls"] = True
    if "options" in words:
        # It has this name on the wire, too.
        options["server_settings"] = {"options": words["options"]}
    bare = URL.create(parsed.drivername, parsed.username, parsed.password, database=parsed.database)
    return bare, options
