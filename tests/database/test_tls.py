"""Proves that each word of TLS does with a real server what libpq does by it.

Skipped without Debian's PostgreSQL: the embedded one is built without TLS.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

import database
from database import Database, Statement
from errors import DatabaseUnavailable, StartupError
from tests.support.certificates import Certificate, make_authority, make_certificate
from tests.support.postgres import PostgresProxy
from tests.support.services import ROOT
from tests.support.tcp_server import ROLE, running_tls_server

HOW_ASKED = Statement(text("SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
# What only root's own rights would let it read, in a namespace where it has none.
ORDINARY = ("unshare", "--user", "--map-user=10001", "--map-group=10001")
ASK = """
import asyncio, sys
from sqlalchemy import text
from database import Database, Statement
for url in sys.argv[1:]:
    asked = Statement(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
    print(asyncio.run(Database(url, 1).fetch(asked))[0]["ssl"])
"""
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))

pytestmark = pytest.mark.skipif(not PROGRAMS, reason="apt-get install postgresql-15")


@dataclass(frozen=True)
class Secured:
    """A server with a certificate for `localhost`, and who vouches for it."""

    port: int
    authority: Certificate
    stranger: Certificate
    client: Certificate

    def url(self, words: str, host: str = "localhost") -> str:
        filled = words.format(
            ca=self.authority.file,
            stranger=self.stranger.file,
            crt=self.client.file,
            key=self.client.key_file,
        )
        return f"postgresql://{ROLE}@{host}:{self.port}/postgres?{filled}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority = make_authority(folder, "authority")
    stranger = make_authority(folder, "stranger")
    client = make_certificate(folder, ROLE, authority)
    server = make_certificate(folder, "localhost", authority)
    with running_tls_server(PROGRAMS[-1], folder, server, authority) as port:
        yield Secured(port, authority, stranger, client)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home of nobody in which nothing lies."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def ask(url: str) -> tuple[bool, str | None]:
    """Whether the server was asked with TLS, and for whom our certificate is."""

    async def story() -> tuple[bool, str | None]:
        opened = Database(url, 1)
        try:
            [row] = await opened.fetch(HOW_ASKED)
            return row["ssl"], row["client_dn"]
        finally:
            await opened.dispose()

    return asyncio.run(story())


@pytest.mark.parametrize(
    ("words", "host"),
    [
        ("", "localhost"),
        ("sslmode=require", "localhost"),
        ("ssl=true", "127.0.0.1"),
        ("sslmode=no-verify", "127.0.0.1"),
        ("sslmode=require&sslrootcert={ca}", "127.0.0.1"),
        ("sslmode=verify-ca&sslrootcert={ca}", "127.0.0.1"),
        ("sslmode=verify-full&sslrootcert={ca}", "localhost"),
    ],
)
def test_what_is_trusted_is_asked_with_tls(secured: Secured, words: str, host: str) -> None:
    assert ask(secured.url(words, host)) == (True, None)


@pytest.mark.parametrize(
    ("words", "host", "reason"),
    [
        ("sslmode=verify-full&sslrootcert={ca}", "127.0.0.1", "IP address mismatch"),
        ("sslmode=verify-full&sslrootcert={stranger}", "localhost", "self-signed"),
        ("sslmode=verify-ca&sslrootcert={stranger}", "localhost", "self-signed"),
        ("sslmode=require&sslrootcert={stranger}", "localhost", "self-signed"),
        ("sslrootcert=system", "localhost", "self-signed"),
    ],
)
def test_what_is_not_trusted_is_refused_in_a_sentence(
    secured: Secured, words: str, host: str, reason: str
) -> None:
    url = secured.url(words, host)
    with pytest.raises(DatabaseUnavailable):
        ask(url)
    with pytest.raises(StartupError, match="its certificate is not trusted") as refused:
        asyncio.run(database.migrate(url))
    assert reason in str(refused.value) and "sslrootcert" in str(refused.value)


def test_the_systems_authorities_are_those_of_openssl(
    secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secured.authority.file))
    assert ask(secured.url("sslrootcert=system")) == (True, None)
    monkeypatch.setenv("PGSSLROOTCERT", "system")
    assert ask(secured.url("sslmode=verify-full")) == (True, None)


def test_the_roots_of_a_home_count_unless_nothing_is_to_be_verified(
    secured: Secured, home: Path
) -> None:
    (home / ".postgresql").mkdir()
    (home / ".postgresql" / "root.crt").write_bytes(secured.stranger.file.read_bytes())
    with pytest.raises(DatabaseUnavailable):
        ask(secured.url("sslmode=require"))
    assert ask(secured.url("sslmode=no-verify")) == (True, None)
    (home / ".postgresql" / "root.crt").write_bytes(secured.authority.file.read_bytes())
    assert ask(secured.url("sslmode=verify-full")) == (True, None)


def test_our_own_certificate_is_shown(secured: Secured, home: Path) -> None:
    url = secured.url("sslmode=require&sslcert={crt}&sslkey={key}")
    assert ask(url) == (True, f"/CN={ROLE}")
    (home / ".postgresql").mkdir()
    (home / ".postgresql" / "postgresql.crt").write_bytes(secured.client.file.read_bytes())
    (home / ".postgresql" / "postgresql.key").write_bytes(secured.client.key_file.read_bytes())
    assert ask(secured.url("sslmode=no-verify")) == (True, f"/CN={ROLE}")


@pytest.mark.parametrize("words", ["", "sslmode=prefer", "sslmode=require"])
def test_a_home_that_cannot_be_read_holds_no_certificate(
    secured: Secured, home: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    (home / ".postgresql").symlink_to(home / ".postgresql")  # leads nowhere, for root as well
    assert ask(secured.url(words)) == (True, None)
    monkeypatch.setenv("HOME", "/dev/null")  # no folder
    assert ask(secured.url(words)) == (True, None)


def test_with_such_a_home_a_server_without_tls_is_asked_as_well(
    new_database: Callable[[], str], home: Path
) -> None:
    (home / ".postgresql").symlink_to(home / ".postgresql")
    with PostgresProxy(new_database()) as proxy:
        assert ask(proxy.url) == (False, None)


def test_a_home_that_is_forbidden_holds_none_either(secured: Secured, home: Path) -> None:
    before = ORDINARY if os.geteuid() == 0 else ()
    if before and subprocess.run([*before, "true"], check=False).returncode != 0:
        pytest.skip("no user namespace can be made here")
    (home / ".postgresql").mkdir(mode=0)
    done = subprocess.run(
        [*before, sys.executable, "-c", ASK, secured.url(""), secured.url("sslmode=require")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("True\nTrue\n", 0), done.stderr
