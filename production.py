"""What a service that is meant, with ENVIRONMENT=production, does not accept of its settings.

Each refusal is a ValueError with a sentence for the operator, without a part of a secret.
"""

import os
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from pydantic import SecretStr
from sqlalchemy.engine import URL, make_url

import faults
from locations import SHORTEST_SECRET, StoreSettings
from postgres import ENCRYPTED_MODES, read_hosts

MEANT = "With ENVIRONMENT=production"
# NIST SP 800-63B wants a login by a password alone again after 30 days at the latest. Whoever finds
# a token has the account for as long, unless its owner ends all of them.
LONGEST_TOKEN_MINUTES = 30 * 24 * 60
UNLESS_MEANT = "or, if that network is yours alone, set ALLOW_PLAINTEXT=true"


def refuse_gaps(**needed: object) -> None:
    """Refuse that one of these is not set: nothing is assumed."""
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise ValueError(f"{MEANT} nothing is assumed: set {', '.join(missing)}")


def refuse_short_secret(secret: SecretStr | None) -> None:
    """Refuse a SECRET_KEY that is shorter than what it signs with."""
    if secret is not None and len(secret.get_secret_value()) < SHORTEST_SECRET:
        raise ValueError(f"{MEANT} SECRET_KEY needs at least {SHORTEST_SECRET} characters")


def refuse_long_tokens(minutes: int) -> None:
    """Refuse logins that outlast what is usual for a password alone."""
    if minutes > LONGEST_TOKEN_MINUTES:
        raise ValueError(
            f"{MEANT} ACCESS_TOKEN_EXPIRE_MINUTES must be at most {LONGEST_TOKEN_MINUTES},"
            " which are 30 days"
        )


def refuse_every_origin(origins: Iterable[str]) -> None:
    """Refuse that the pages of every site may send tokens and read what is private.

    So may a page without an origin, `null`, which any site can make.
    """
    for origin in ("*", "null"):
        if origin in origins:
            raise ValueError(
                f"{MEANT} CORS_ORIGINS must name the origins of your pages, not {origin}"
            )


def refuse_plaintext(database_url: str | None, stores: Mapping[str, StoreSettings]) -> None:
    """Refuse a database or a store beyond this machine that is asked without TLS."""
    if database_url is not None:
        url = make_url(database_url)
        if not _is_encrypted(url):
            for host in _find_hosts(url):
                if not _is_here(host):
                    raise ValueError(
                        f"{MEANT} DATABASE_URL must not lead to {host} without TLS:"
                        f" add ?sslmode=require, {UNLESS_MEANT}"
                    )
    for name, store in stores.items():
        address = urlsplit(store.endpoint_url or "")
        if address.scheme == "http" and not _is_here(address.hostname or ""):
            raise ValueError(
                f"{MEANT} the store {name} must not be asked at {address.hostname} without TLS:"
                f" let its address begin with https://, {UNLESS_MEANT}"
            )


def _is_encrypted(url: URL) -> bool:
    """Whether this never goes on without TLS; what it does not say PGSSLMODE does."""
    return url.query.get("ssl", os.environ.get("PGSSLMODE")) in ENCRYPTED_MODES


def _find_hosts(url: URL) -> list[str]:
    """The hosts that asyncpg tries; what the URL does not name it takes from PGHOST."""
    named = [host.name for host in read_hosts(url) if host.name]
    return named or os.environ.get("PGHOST", "localhost").split(",")


def _is_here(host: str) -> bool:
    """Whether what is sent there stays on this machine; a path is that of a socket."""
    if host in ("", "localhost") or host.startswith("/"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_faults() -> None:
    """Refuse that a test's crash points are switched on."""
    if os.environ.get(faults.VARIABLE):
        raise ValueError(f"{MEANT} {faults.VARIABLE} must not be set: it is for tests")
