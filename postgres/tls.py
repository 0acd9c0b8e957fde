"""TLS to a PostgreSQL, by libpq's words and files.

The modes that go on without TLS are asyncpg's own business; this makes what the others verify by.
"""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg

from postgres.words import ENCRYPTED_MODES, SYSTEM_ROOTS, UNVERIFIED, VERIFIED_MODES

# What libpq looks for where nothing is named, below the home of who runs it.
_HOME_FILES = {
    "sslrootcert": "root.crt",
    "sslcrl": "root.crl",
    "sslcert": "postgresql.crt",
    "sslkey": "postgresql.key",
}
# By which a server of version 17 knows what is spoken where TLS comes first.
_PROTOCOLS = ["postgresql"]


class _Preferred(ssl.SSLContext):
    """TLS that is done without where a server has none, as with sslmode=prefer."""


async def connect(**options: Any) -> asyncpg.Connection:
    """Connect as `asyncpg.connect` does, with `ssl` as `make_tls_options` makes it."""
    try:
        return await asyncpg.connect(**options)
    except TimeoutError:
        raise
    except OSError:
        if not isinstance(options.get("ssl"), _Preferred):
            raise
        return await asyncpg.connect(**{**options, "ssl": False})


def make_tls_options(words: Mapping[str, Any]) -> dict[str, Any]:
    """Make what the driver is told of TLS; raises ValueError with a sentence.

    A setting that the URL does not name is taken from the environment, as libpq does: PGSSLMODE,
    PGSSLROOTCERT and the like.
    """
    mode = words.get("ssl") or os.environ.get("PGSSLMODE")
    if mode in ENCRYPTED_MODES:
        return {"ssl": _make_context(mode, words)}
    if mode == "disable":
        return {"ssl": False}
    options = {} if mode is None else {"ssl": mode}
    if _can_read_home():
        return options
    return {"ssl": _make_unverified(_Preferred)}


def _make_context(mode: str, words: Mapping[str, Any]) -> ssl.SSLContext:
    context = _make_unverified()
    roots = None if mode == UNVERIFIED else _find("sslrootcert", words)
    # As with libpq, roots that are there are used, even if the mode does not insist on them.
    if roots is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = mode == "verify-full"
    elif mode in VERIFIED_MODES:
        raise ValueError(
            f"must have sslrootcert beside sslmode={mode}: the file of your host's certificate"
            f" authority, or {SYSTEM_ROOTS} for those that this machine trusts"
        )
    if roots == SYSTEM_ROOTS:
        context.load_default_certs()
    elif roots is not None:
        _load("sslrootcert", roots, lambda: context.load_verify_locations(cafile=roots))
    revoked = None if mode == UNVERIFIED else _find("sslcrl", words)
    if revoked is not None:
        _load("sslcrl", revoked, lambda: context.load_verify_locations(cafile=revoked))
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    certificate = _find("sslcert", words)
    if certificate is not None:
        key = _find("sslkey", words)
        # Given in any case, or OpenSSL would ask the terminal.
        password = str(words.get("sslpassword", ""))
        _load("sslcert", certificate, lambda: context.load_cert_chain(certificate, key, password))
    return context


def _make_unverified(kind: type[ssl.SSLContext] = ssl.SSLContext) -> ssl.SSLContext:
    context = kind(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(_PROTOCOLS)
    return context


def _find(word: str, words: Mapping[str, Any]) -> str | None:
    """Find the file that this word, its variable or nobody names; None where there is none.

    A home that cannot be read has none.
    """
    named = words.get(word) or os.environ.get(f"PG{word.upper()}")
    if named:
        return str(named)
    try:
        path = Path.home() / ".postgresql" / _HOME_FILES[word]
        with open(path, "rb"):
            return str(path)
    except (OSError, RuntimeError):
        return None


def _load(word: str, path: str, load: Any) -> None:
    try:
        load()
    except ssl.SSLError as err:
        raise ValueError(f"has an {word} {path} that holds nothing of that kind") from err
    except OSError as err:
        raise ValueError(f"has an {word} {path} that cannot be read: {err.strerror}") from err


def _can_read_home() -> bool:
    """Whether asyncpg, which looks for a certificate of ours there, can do so without an end."""
    try:
        home = Path.home()
    except (RuntimeError, KeyError):
        return True  # it passes over a home that nobody knows
    for name in _HOME_FILES.values():
        try:
            with open(home / ".postgresql" / name, "rb"):
                pass
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return False
    return True
