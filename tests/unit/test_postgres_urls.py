"""Proves that a URL means what libpq means by it, as consoles of hosts print it, or is refused.

libpq's own reading comes out of the wheel of the embedded database.
"""

import ctypes
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from ops.postgres_cluster import find_programs
from postgres import make_driver_options, parse_postgres_url, read_connection_limit, says_pooler
from tests.support.services import ROOT

SECRET = "hunter2"
# As consoles print them, or the pages that they link to; docs/postgres.md has the same ones.
HOSTED = {
    "Heroku": f"postgres://u1:{SECRET}@ec2-1-2-3-4.compute-1.amazonaws.com:5432/d5abc",
    "RDS": (
        f"postgresql://app:{SECRET}@db.abc.eu-central-1.rds.amazonaws.com:5432/app?sslmode=require"
    ),
    "Supabase, direct": f"postgresql://postgres:{SECRET}@db.abcdef.supabase.co:5432/postgres",
    "Supabase, session": (
        f"postgresql://postgres.abcdef:{SECRET}"
        "@aws-0-eu-central-1.pooler.supabase.com:5432/postgres"
    ),
    "Neon": (
        f"postgresql://app:{SECRET}@ep-cool-123.eu-central-1.aws.neon.tech/app"
        "?sslmode=require&channel_binding=require"
    ),
    "Neon, without SNI": (
        f"postgresql://app:{SECRET}@ep-cool-123.eu-central-1.aws.neon.tech/app"
        "?sslmode=require&options=endpoint%3Dep-cool-123"
    ),
    "Cloud SQL": f"postgresql://app:{SECRET}@/app?host=/cloudsql/project:europe-west1:main",
    "Cloud SQL, in the host": (
        f"postgresql://app:{SECRET}@%2Fcloudsql%2Fproject%3Aeurope-west1%3Amain/app"
    ),
    "Fly": f"postgres://app:{SECRET}@app-db.flycast:5432/app?sslmode=disable",
    "Render": f"postgresql://app:{SECRET}@dpg-abc-a/app_x1",
    "DigitalOcean": (
        f"postgresql://doadmin:{SECRET}@db-do-user-1-0.b.db.ondigitalocean.com:25060/defaultdb"
        "?sslmode=require"
    ),
    "Azure": (
        f"postgresql://app%40db:{SECRET}@db.postgres.database.azure.com:5432/app?sslmode=require"
    ),
    "Crunchy": f"postgres://application:{SECRET}@p.abc.db.postgresbridge.com:5432/postgres",
    "two machines": f"postgresql://app:{SECRET}@db1.example.com:5432,db2.example.com:5433/app",
    "two machines, one port": f"postgresql://app:{SECRET}@/app?host=db1,db2&port=5433",
    "IPv6": f"postgresql://app:{SECRET}@[2001:db8::1]:5433/app?connect_timeout=10",
    "a folder and a port": f"postgresql://app:{SECRET}@%2Frun%2Fpostgresql:5433/app",
    "a folder with odd signs": f"postgresql://app:{SECRET}@/app?host=/run/a%20b%26c%25d",
    "words alone": f"postgresql:///app?user=app&password={SECRET}&host=db&port=5433",
    "keepalives": (
        f"postgresql://app:{SECRET}@db/app?keepalives=1&keepalives_idle=30&keepalives_interval=10"
        "&keepalives_count=3&tcp_user_timeout=10000&gssencmode=disable&sslsni=1"
        "&application_name=app"
    ),
    "settings": f"postgresql://app:{SECRET}@db/app?options=-c%20geqo%3Doff%20-c%20jit%3Doff",
}
# And what of them is no word of libpq's.
OF_OTHERS = {
    "Supabase, transactions": (
        f"postgresql://postgres.abcdef:{SECRET}"
        "@aws-0-eu-central-1.pooler.supabase.com:6543/postgres"
        "?pgbouncer=true&connection_limit=1&sslmode=require&supa=base-pooler.x"
    ),
    "Prisma": (
        f"postgresql://app:{SECRET}@db:5432/app?schema=public&connection_limit=5&pool_timeout=2"
    ),
    "node": f"postgres://app:{SECRET}@db:5432/app?sslmode=no-verify",
}


class Option(ctypes.Structure):
    """`PQconninfoOption` of libpq-fe.h."""

    _fields_ = (
        *((name, ctypes.c_char_p) for name in ("keyword", "envvar", "compiled", "val")),
        *((name, ctypes.c_char_p) for name in ("label", "dispchar")),
        ("dispsize", ctypes.c_int),
    )


def read_with_libpq(url: str) -> dict[str, str]:
    """What libpq itself reads in the URL, without its defaults."""
    libpq = ctypes.CDLL(str(find_programs().parent / "lib" / "libpq.so.5"))
    libpq.PQconninfoParse.restype = ctypes.POINTER(Option)
    said = ctypes.c_char_p()
    options = libpq.PQconninfoParse(url.encode(), ctypes.byref(said))
    assert options, said.value
    read = {}
    index = 0
    while options[index].keyword:
        if options[index].val is not None:
            read[options[index].keyword.decode()] = options[index].val.decode()
        index += 1
    return read


def find_options(url: str) -> dict[str, Any]:
    """What the driver is told, by libpq's words."""
    bare, options = make_driver_options(url)
    hosts = options.get("host", [])
    ports = options.get("port", [])
    return {
        "user": bare.username,
        "password": bare.password,
        "dbname": bare.database,
        "host": hosts,
        "port": [str(port) for port in ports] or ["5432"] * len(hosts),
        "options": options.get("server_settings", {}).get("options"),
    }


@pytest.mark.parametrize("name", HOSTED)
def test_a_url_means_what_it_means_to_libpq(name: str) -> None:
    url = HOSTED[name]
    theirs = read_with_libpq(url)
    ours = find_options(url)
    hosts = theirs["host"].split(",")
    ports = theirs.get("port", "5432").split(",")
    assert ours == {
        **{word: theirs.get(word) for word in ("user", "password", "dbname", "options")},
        "host": hosts,
        "port": ports * len(hosts) if len(ports) == 1 else ports,
    }


@pytest.mark.parametrize("url", [*HOSTED.values(), *OF_OTHERS.values()])
def test_what_was_read_is_read_again_the_same(url: str) -> None:
    once = parse_postgres_url(url)
    again = parse_postgres_url(once.render_as_string(hide_password=False))
    assert once == again
    assert make_url(once.render_as_string(hide_password=False)) == once


@pytest.mark.parametrize(
    "written",
    [" {}\n", '"{}"', "'{}'", "psql '{}'", 'psql "{}"\n', "\t{}\r\n"],
)
def test_what_is_pasted_with_it_is_passed_over(written: str) -> None:
    url = HOSTED["Neon"]
    assert parse_postgres_url(written.format(url)) == parse_postgres_url(url)


@pytest.mark.parametrize(
    ("word", "mode"),
    [
        *((f"sslmode={mode}", mode) for mode in ("disable", "allow", "prefer", "require")),
        ("sslmode=no-verify", "no-verify"),
        ("ssl=no-verify", "no-verify"),
        *((f"ssl={word}", "require") for word in ("true", "1", "require")),
        *((f"ssl={word}", "disable") for word in ("false", "0")),
        ("sslrootcert=system", "verify-full"),
        ("sslmode=verify-full&sslrootcert=system", "verify-full"),
    ],
)
def test_each_way_to_ask_for_tls_is_one_mode(word: str, mode: str) -> None:
    assert parse_postgres_url(f"postgresql://app@db/app?{word}").query["ssl"] == mode


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("sslmode=on", "sslmode"),
        ("ssl=perhaps", "sslmode"),
        ("sslmode=require&sslrootcert=system", "sslmode=verify-full beside sslrootcert=system"),
        ("sslrootcert=/etc/ca.pem", "sslmode=verify-full beside sslrootcert"),
        ("sslmode=prefer&sslcert=/etc/c.pem", "sslmode=verify-full beside sslcert"),
        ("sslmode=verify-full&sslrootcert=/nowhere/ca.pem", "sslrootcert /nowhere/ca.pem"),
        ("sslmode=verify-full&sslrootcert=pyproject.toml", "pyproject.toml that holds nothing"),
        ("sslmode=verify-full", "sslrootcert beside sslmode=verify-full"),
        ("sslmode=no-verify&sslrootcert=/etc/ca.pem", "sslrootcert"),
        ("sslnegotiation=direct", "sslmode=require or a stricter one"),
        ("schema=pictures", "the schema pictures"),
        ("options=-c%20search_path%3Dpictures", "the schema pictures"),
        ("connection_limit=0", "connection_limit"),
        ("prepared_statement_cache_size=few", "prepared_statement_cache_size"),
        ("target_session_attrs=standby", "target_session_attrs=standby"),
        ("target_session_attrs=best", "target_session_attrs"),
        ("gssencmode=require", "gssencmode=require"),
        ("sslaccept=strict", "sslmode=verify-full&sslrootcert=system"),
        ("passfile=/etc/pgpass", "PGPASSFILE"),
        ("require_auth=scram-sha-256", "no require_auth after"),
        ("host=db1,db2,db3&port=1,2", "must look like"),
    ],
)
def test_what_cannot_be_meant_is_named(
    word: str, named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"^(must|has|takes)") as refused:
        make_driver_options(f"postgresql://app:{SECRET}@db/app?{word}")
    assert named in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("postgresql://app:[YOUR-PASSWORD]@db/app", "password"),
        ("jdbc:postgresql://db/app", "must look like"),
        ("mysql://app@db/app", "PostgreSQL URL"),
        (f"host=db password={SECRET}", "must look like"),
        (f"postgresql://app:{SECRET}:x@db:5432x/app", "must look like"),
    ],
)
def test_what_is_no_url_of_a_database_is_refused(url: str, named: str) -> None:
    with pytest.raises(ValueError, match=named) as refused:
        parse_postgres_url(url)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("word", "is_said"),
    [
        ("pgbouncer=true", True),
        ("prepared_statements=false", True),
        ("statement_cache_size=0", True),
        ("pgbouncer=false", False),
        ("statement_cache_size=100", False),
        ("sslmode=require", False),
    ],
)
def test_a_word_tells_of_a_pooler(word: str, is_said: bool) -> None:
    url = parse_postgres_url(f"postgresql://app@db/app?{word}")
    assert says_pooler(url) is is_said
    assert set(make_driver_options(str(url))[1]) <= {"host", "ssl"}


def test_a_socket_is_asked_without_tls_whatever_is_set_for_servers_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert make_driver_options(HOSTED["Cloud SQL"])[1]["ssl"] is False
    with pytest.raises(ValueError, match="sslrootcert beside sslmode=verify-full"):
        make_driver_options(HOSTED["Render"])


def test_a_relative_path_counts_from_the_folder_of_main(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    words = "sslmode=verify-full&sslrootcert=pyproject.toml"
    with pytest.raises(ValueError, match=str(ROOT / "pyproject.toml")):
        make_driver_options(f"postgresql://app@db/app?{words}")


def test_tls_may_come_first() -> None:
    url = "postgresql://app@db/app?sslmode=require&sslnegotiation="
    assert make_driver_options(f"{url}direct")[1]["direct_tls"] is True
    assert "direct_tls" not in make_driver_options(f"{url}postgres")[1]


def test_the_words_of_prisma_are_kept() -> None:
    url = parse_postgres_url(OF_OTHERS["Supabase, transactions"])
    assert (says_pooler(url), read_connection_limit(url)) == (True, 1)
    assert read_connection_limit("postgresql+asyncpg://app@db/app") is None


def test_of_several_servers_the_one_that_takes_writes_is_chosen() -> None:
    chosen = "target_session_attrs"
    assert make_driver_options(HOSTED["two machines"])[1][chosen] == "read-write"
    assert chosen not in make_driver_options(HOSTED["RDS"])[1]
    one = "postgresql://app@db1,db2/app?target_session_attrs=any"
    assert make_driver_options(one)[1][chosen] == "any"
