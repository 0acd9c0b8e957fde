"""Each reason not to start, made for real: one sentence, as docs/start.md has it, and no password.

The page's table is the list of what is tried here.
"""

import asyncio
import contextlib
import functools
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import URL, make_url

from config import STARTUP_FAILURE_STATUS
from ops.postgres_cluster import SUPERUSER
from tests.support import warm
from tests.support.certificates import make_authority
from tests.support.databases import (
    become_standby,
    database_url,
    execute,
    execute_in,
    make_database,
    running_server,
)
from tests.support.services import ROOT, free_port

PAGE = (ROOT / "docs" / "start.md").read_text()
TABLE = PAGE.split("## When it does not start", 1)[1]
SENTENCES: dict[str, str] = dict(
    re.findall(r"^\| ([^|]+) \| ([A-Z][^|]+\.) \|$", TABLE, re.MULTILINE)
)
SECRET = "hunter2"
# One of those for which nobody is asked, and those that only a migration meets.
SAID_BY_COMMANDS = (
    "no database server is there",
    "tables of another application",
    "migrations of another application",
    "tables of a newer version",
    "the database cannot hold every name",
    "the database takes no writes",
)
# In megabytes: less than half of what a new cluster takes.
SMALL_DISK_MB = 16
# Lets every call that gives a file a second name fail, as on a disk that knows no second names.
# The numbers are those of prctl(2), seccomp(2), and of link and linkat on x86-64 and on arm64.
WITHOUT_LINKS = """
import ctypes, os, platform, struct, sys
link, linkat = {"x86_64": (86, 265), "aarch64": (37, 37)}[platform.machine()]
LOAD, IS_EQUAL, ANSWER = 0x20, 0x15, 0x06
ALLOW, NOT_PERMITTED = 0x7FFF0000, 0x00050001
program = b"".join(struct.pack("HBBI", *order) for order in (
    (LOAD, 0, 0, 0),
    (IS_EQUAL, 1, 0, link),
    (IS_EQUAL, 0, 1, linkat),
    (ANSWER, 0, 0, NOT_PERMITTED),
    (ANSWER, 0, 0, ALLOW),
))
held = ctypes.create_string_buffer(program)
described = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(held))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.create_string_buffer(described)) == 0
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
NO_ANSWER = {
    "TEST_PROGRAM": json.dumps(
        {"by": "main.py", "constants": {"connections.engines.CONNECT_TIMEOUT_SECONDS": 0.3}}
    ),
    "PYTHONPATH": str(ROOT),
}


@dataclass
class Start:
    """A start that must fail, and what the page calls the things that the test has."""

    settings: dict[str, str] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = (str(ROOT / "main.py"),)
    cwd: Path | None = None
    # The words before them, up to the Python, where the tests' warm process cannot fork it.
    before: tuple[str, ...] | None = None

    def find_sentence(self, name: str) -> str:
        """What the page has for this reason, with the things that the test has."""
        sentence = SENTENCES[name]
        for theirs, ours in self.called.items():
            sentence = sentence.replace(theirs, ours)
        return sentence


@dataclass
class Machine:
    """What the tests start on."""

    folder: Path
    request: pytest.FixtureRequest

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def make_database(self, *statements: str) -> URL:
        """Make an empty database and do this in it."""
        server: str = self.request.getfixturevalue("postgres")
        url = make_url(make_database(server, None))
        execute_in(url, *statements)
        return url


CASES: dict[str, Callable[[Machine], Start]] = {}


def case(name: str) -> Callable[[Callable[[Machine], Start]], Callable[[Machine], Start]]:
    def add(make: Callable[[Machine], Start]) -> Callable[[Machine], Start]:
        CASES[name] = make
        return make

    return add


def on_database(url: URL, **more: str) -> Start:
    """A start on this database, whose address the page calls by a name."""
    host = url.host or url.query["host"]
    port = url.port or url.query.get("port", 5432)
    called = {
        "db.example.com:5432": f"{host}:{port}",
        "pictures": str(url.database),
        "alice": str(url.username),
    }
    given = {"DATABASE_URL": url.render_as_string(hide_password=False)}
    return Start({**given, **more}, called)


@case("the port is taken")
def take_the_port(machine: Machine) -> Start:
    listener = socket.create_server(("127.0.0.1", 0))
    machine.request.addfinalizer(listener.close)
    port = str(listener.getsockname()[1])
    return Start({"PORT": port}, {"8000": port})


@case("HOST is the address of a page")
def listen_on_a_page(machine: Machine) -> Start:
    return Start({"HOST": "http://localhost:8000/"})


@case("HOST is another machine's")
def listen_elsewhere(machine: Machine) -> Start:
    return Start({"HOST": "192.0.2.1"})


@case("HOST is a name that nobody knows")
def listen_nowhere(machine: Machine) -> Start:
    return Start({"HOST": "nowhere.invalid"}, before=(sys.executable,))


@case("the file of settings is missing")
def miss_the_file(machine: Machine) -> Start:
    path = str(machine.folder / "missing.env")
    return Start({"DARKROOM_ENV_FILE": path}, {"/etc/darkroom.env": path})


@case("the file of settings is in Latin-1")
def write_in_latin_1(machine: Machine) -> Start:
    path = machine.folder / "latin.env"
    path.write_bytes("S3_PUBLIC_BASE_URL=https://café.example.com\n".encode("latin-1"))
    return Start({"DARKROOM_ENV_FILE": str(path)}, {"/etc/darkroom.env": str(path)})


@case("data lies in the working directory")
def leave_data_behind(machine: Machine) -> Start:
    checkout: Path = machine.request.getfixturevalue("checkout")
    here = machine.folder / "here"
    (here / ".data").mkdir(parents=True)
    called = {"/srv/.data": str(here / ".data"), "/opt/darkroom/.data": str(checkout / ".data")}
    return Start({"DATA_DIR": ""}, called, (str(checkout / "main.py"),), cwd=here)


@case("DATA_DIR is relative, and data lies in the working directory")
def leave_data_behind_by_name(machine: Machine) -> Start:
    checkout: Path = machine.request.getfixturevalue("checkout")
    here = machine.folder / "here"
    (here / "kept" / "media").mkdir(parents=True)
    called = {"/srv/kept": str(here / "kept"), "/opt/darkroom/kept": str(checkout / "kept")}
    return Start({"DATA_DIR": "kept"}, called, (str(checkout / "main.py"),), cwd=here)


@case("the bucket's name has a folder in it")
def name_a_folder_of_a_bucket(machine: Machine) -> Start:
    return Start({"S3_BUCKET_NAME": "s3://pictures/avatars"})


@case("an @, / or ? in the database's password")
def write_an_at(machine: Machine) -> Start:
    return Start({"DATABASE_URL": f"postgresql://alice:a@{SECRET}@127.0.0.1:1/pictures"})


@case("a secret of one letter")
def repeat_one_letter(machine: Machine) -> Start:
    return Start({"SECRET_KEY": 64 * "x"})


def in_production(**more: str) -> Start:
    """A start in production that only what is given hinders."""
    complete = {
        "ENVIRONMENT": "production",
        "DATABASE_URL": f"postgresql://alice:{SECRET}@db.example.com/pictures?sslmode=require",
        "SECRET_KEY": 8 * "key?",
        "STORAGE": "s3",
        "S3_BUCKET_NAME": "pictures",
    }
    return Start({**complete, **more})


@case("in production, logins of ten years")
def log_in_for_years(machine: Machine) -> Start:
    return in_production(ACCESS_TOKEN_EXPIRE_MINUTES=str(10 * 365 * 24 * 60))


@case("in production, pages of every origin")
def let_every_page_in(machine: Machine) -> Start:
    return in_production(CORS_ORIGINS="*")


@case("in production, a database without TLS")
def ask_in_plaintext(machine: Machine) -> Start:
    return in_production(DATABASE_URL=f"postgresql://alice:{SECRET}@db.example.com/pictures")


@case("in production, a store without TLS")
def store_in_plaintext(machine: Machine) -> Start:
    return in_production(S3_ENDPOINT_URL="http://minio:9000")


@case("in production, a crash point of the tests")
def switch_on_a_fault(machine: Machine) -> Start:
    return in_production(DARKROOM_FAULT="after_put:kill")


@case("the database's host is not known")
def name_no_host(machine: Machine) -> Start:
    url = f"postgresql://alice:{SECRET}@nowhere.invalid/pictures"
    return Start({"DATABASE_URL": url}, before=(sys.executable,))


@case("no database server is there")
def ask_nobody(machine: Machine) -> Start:
    url = f"postgresql+asyncpg://alice:{SECRET}@127.0.0.1:{free_port()}/pictures"
    return on_database(make_url(url))


@case("the database does not answer")
def ask_the_silent(machine: Machine) -> Start:
    listener = socket.create_server(("127.0.0.1", 0))
    machine.request.addfinalizer(listener.close)
    port = listener.getsockname()[1]
    url = f"postgresql+asyncpg://alice:{SECRET}@127.0.0.1:{port}/pictures"
    start = on_database(make_url(url), **NO_ANSWER)
    start.words = ("-m", "tests.support.program")
    return start


def answer_tls(machine: Machine, answer: bytes, *, shake_hands: bool = False) -> Start:
    """A start on a server that answers so whoever asks for TLS, and shows a certificate."""
    listener = socket.create_server(("127.0.0.1", 0))
    machine.request.addfinalizer(listener.close)
    shown = make_authority(machine.folder, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.file, shown.key_file)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(8)
            connection.sendall(answer)
            if shake_hands:
                context.wrap_socket(connection, server_side=True)

    threading.Thread(target=serve, daemon=True).start()
    stranger = make_authority(machine.folder, "stranger")
    port = listener.getsockname()[1]
    url = f"postgresql+asyncpg://alice:{SECRET}@127.0.0.1:{port}/pictures"
    return on_database(make_url(f"{url}?sslmode=verify-full&sslrootcert={stranger.file}"))


@case("the database's certificate is not trusted")
def show_an_unknown_certificate(machine: Machine) -> Start:
    return answer_tls(machine, b"S", shake_hands=True)


@case("the database's server speaks no TLS")
def know_no_tls(machine: Machine) -> Start:
    return answer_tls(machine, b"N")


@case("a word of the database's URL that nobody knows")
def write_an_unknown_word(machine: Machine) -> Start:
    url = f"postgresql://alice:{SECRET}@db.example.com/pictures?sslaccept=strict"
    return Start({"DATABASE_URL": url})


@case("the database's server is too old")
def grow_old(machine: Machine) -> Start:
    """A newer one, in which the question finds a function that tells of an older one."""
    asked = "CREATE FUNCTION old.current_setting(text) RETURNS text LANGUAGE sql AS $$"
    url = machine.make_database(
        "CREATE SCHEMA old",
        f"{asked} SELECT CASE $1 WHEN 'server_version_num' THEN '140009'"
        " WHEN 'server_version' THEN '14.9 (Debian)' END $$",
    )
    settings = f"ALTER DATABASE {url.database} SET search_path = old, pg_catalog, public"
    execute(machine.request.getfixturevalue("postgres"), settings)
    return on_database(url)


@case("the database cannot hold every name")
def encode_in_ascii(machine: Machine) -> Start:
    url = machine.make_database()
    execute(
        machine.request.getfixturevalue("postgres"),
        f"DROP DATABASE {url.database}",
        f"CREATE DATABASE {url.database} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0",
    )
    return on_database(url)


@case("the database's server is a standby")
def follow(machine: Machine) -> Start:
    programs: Path = machine.request.getfixturevalue("postgres_programs")
    with running_server(programs, machine.folder):
        pass
    become_standby(machine.folder)
    standby = running_server(programs, machine.folder)
    url = standby.__enter__()
    machine.request.addfinalizer(lambda: standby.__exit__(None, None, None))
    return on_database(make_url(url))


@case("the database takes no writes")
def allow_reading(machine: Machine) -> Start:
    url = machine.make_database()
    settings = f"ALTER DATABASE {url.database} SET default_transaction_read_only = on"
    execute(machine.request.getfixturevalue("postgres"), settings)
    return on_database(url)


@case("the database's password is wrong")
def say_a_wrong_password(machine: Machine) -> Start:
    role: str = machine.request.getfixturevalue("careful_role")
    return on_database(machine.make_database().set(username=role, password=SECRET))


@case("there is no such database")
def name_no_database(machine: Machine) -> Start:
    return on_database(machine.make_database().set(database="nothing_here"))


@case("no rights in the schema public")
def allow_nothing(machine: Machine) -> Start:
    # As in PostgreSQL 15 and newer by default, unless the server's template says otherwise.
    url = machine.make_database("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    role = f"alice_{machine.folder.name[-8:]}".replace("-", "_")
    execute(machine.request.getfixturevalue("postgres"), f"CREATE ROLE {role} LOGIN")
    return on_database(url.set(username=role))


@case("tables of another user")
def restore_as_another(machine: Machine) -> Start:
    url = make_url(machine.request.getfixturevalue("new_database")())
    role = f"bob_{machine.folder.name[-8:]}".replace("-", "_")
    execute(machine.request.getfixturevalue("postgres"), f"CREATE ROLE {role} LOGIN")
    return on_database(url.set(username=role))


@case("tables of another application")
def share_a_database(machine: Machine) -> Start:
    return on_database(machine.make_database("CREATE TABLE users (name text)"))


@case("migrations of another application")
def share_migrations(machine: Machine) -> Start:
    made = ("CREATE TABLE alembic_version (version_num text)", "INSERT INTO alembic_version")
    return on_database(machine.make_database(made[0], f"{made[1]} VALUES ('a1b2c3d4')"))


@case("tables of a newer version")
def go_back_a_version(machine: Machine) -> Start:
    url = make_url(machine.request.getfixturevalue("new_database")())
    execute_in(url, "UPDATE alembic_version SET version_num = '9999'")
    return on_database(url)


@case("the disk is full")
def fill_the_disk(machine: Machine) -> Start:
    disk = machine.folder / "disk"
    disk.mkdir()
    options = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
    mount = f"mount -t tmpfs -o size={SMALL_DISK_MB}m,mode=755 tmpfs {disk}"
    if subprocess.run(["unshare", *options, "sh", "-c", mount], check=False).returncode != 0:
        pytest.skip("this machine lets nobody make a small disk")
    before = ("unshare", *options, "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable)
    data = disk / "data"
    return Start({"DATA_DIR": str(data)}, {"/opt/darkroom/.data": str(data)}, before=before)


@case("as root, it can be nobody else")
def be_alone_as_root(machine: Machine) -> Start:
    # In a namespace with one user there is no other to become, and it may forbid those below it.
    alone = ("unshare", "--user", "--map-root-user")
    if subprocess.run([*alone, "true"], check=False).returncode != 0:
        pytest.skip("no user namespace can be made here")
    forbid = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    return Start(before=(*alone, "sh", "-c", forbid, "sh", sys.executable))


@case("its user has no name and can be given none")
def be_nameless(machine: Machine) -> Start:
    uid = "10001"
    nameless = ("unshare", "--user", f"--map-user={uid}", f"--map-group={uid}", "--keep-caps")
    # The right to forbid namespaces is given up with all others before the service starts.
    forbid = (
        "echo 0 >/proc/sys/user/max_user_namespaces"
        ' && exec setpriv --ambient-caps=-all --inh-caps=-all "$@"'
    )
    alone = (*nameless, "sh", "-c", forbid, "sh")
    if subprocess.run([*alone, "true"], check=False).returncode != 0:
        pytest.skip("no user namespace can be made here")
    return Start(before=(*alone, sys.executable))


@case("the disk knows no hard links")
def forbid_links(machine: Machine) -> Start:
    given = {"DATABASE_URL": machine.request.getfixturevalue("new_database")()}
    called = {"/opt/darkroom/.data": str(machine.data)}
    before = (sys.executable, "-c", WITHOUT_LINKS)
    words = (str(ROOT / "main.py"),)
    return Start({**given, "SECRET_KEY": SECRET}, called, words, before=before)


@case("the folder of the data is another user's")
def forbid_writing(machine: Machine) -> Start:
    machine.data.mkdir(mode=0o555)
    given = {"DATABASE_URL": machine.request.getfixturevalue("new_database")()}
    # In a namespace root is a user like others.
    ordinary: tuple[str, ...] = ("unshare", "--user", "--map-user=10001", "--map-group=10001")
    if os.geteuid() != 0:
        ordinary = ()
    elif subprocess.run([*ordinary, "true"], check=False).returncode != 0:
        pytest.skip("no user namespace can be made here")
    called = {"/opt/darkroom/.data": str(machine.data)}
    before = (*ordinary, sys.executable)
    return Start({**given, "SECRET_KEY": 8 * "key?", "STORAGE": "local"}, called, before=before)


@case("a file lies where the data should")
def put_a_file_in_its_place(machine: Machine) -> Start:
    machine.data.touch()
    given = {"DATABASE_URL": machine.request.getfixturevalue("new_database")()}
    return Start(given, {"/opt/darkroom/.data": str(machine.data)})


@case("Python is too old")
def start_an_old_python(machine: Machine) -> Start:
    python, version = find_old_python()
    called = {"/usr/bin/python3.9": python, " 3.9": f" {version}"}
    return Start({}, called, before=(python,))


@functools.cache
def find_old_python() -> tuple[str, str]:
    """Find one that is too old, its whole path and its version; skips where there is none."""
    versions = Path.home() / ".pyenv" / "versions"
    found = [shutil.which(f"python3.{minor}") for minor in range(6, 11)]
    found += [str(path) for path in sorted(versions.glob("3.[6-9].*/bin/python"))]
    tell = "import sys; print(sys.executable, '%d.%d' % sys.version_info[:2])"
    for python in filter(None, found):
        told = subprocess.run([python, "-c", tell], capture_output=True, text=True, check=False)
        if told.returncode == 0:
            path, version = told.stdout.split()
            return path, version
    pytest.skip("this machine has no old Python")


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is served, in which nothing was started yet."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    ignore = shutil.ignore_patterns(".git", "tests", "docs", *ignored)
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("opt") / "darkroom", ignore=ignore)


@pytest.fixture
def careful_role(postgres: str) -> Iterator[str]:
    """A role of whom the server wants a password."""
    role = "careful"
    dsn = database_url(postgres, "postgres").replace("+asyncpg", "")

    async def find_rules() -> Path:
        connection = await asyncpg.connect(dsn, user=SUPERUSER)
        try:
            return Path(await connection.fetchval("SHOW hba_file"))
        finally:
            await connection.close()

    rules = asyncio.run(find_rules())
    before = rules.read_text()
    rules.write_text(f"local all {role} scram-sha-256\n{before}")
    execute(postgres, f"CREATE ROLE {role} LOGIN PASSWORD 'right'", "SELECT pg_reload_conf()")
    yield role
    rules.write_text(before)
    execute(postgres, f"DROP ROLE {role}", "SELECT pg_reload_conf()")


def run(start: Start, machine: Machine) -> subprocess.CompletedProcess[str]:
    settings = {"DATA_DIR": str(machine.data), "PORT": str(free_port()), **start.settings}
    given = {**os.environ, **settings}
    cwd = start.cwd or machine.folder
    if start.before is None:
        return warm.run(*start.words, env=given, cwd=cwd)
    command = [*start.before, *start.words]
    return subprocess.run(command, env=given, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Machine:
    return Machine(tmp_path, request)


def test_every_reason_of_the_page_is_tried() -> None:
    assert set(SENTENCES) == set(CASES)
    assert len(SENTENCES) == TABLE.count("\n| ") - 2  # its head


@pytest.mark.parametrize("name", CASES)
def test_a_start_that_cannot_be_is_refused_in_one_sentence(name: str, machine: Machine) -> None:
    start = CASES[name](machine)
    sentence = start.find_sentence(name)
    done = run(start, machine)
    assert (done.stdout, done.stderr) == ("", f"Darkroom cannot start. {sentence}\n")
    assert done.returncode == STARTUP_FAILURE_STATUS
    assert SECRET not in done.stderr


@pytest.mark.parametrize("program", ["cli.py", "check_s3.py"])
def test_an_old_python_can_read_each_command(program: str, machine: Machine) -> None:
    python, version = find_old_python()
    command = [python, str(ROOT / program), "migrate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == STARTUP_FAILURE_STATUS
    assert f"is {version}:" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", SAID_BY_COMMANDS)
def test_the_commands_say_the_same_of_the_database(name: str, machine: Machine) -> None:
    start = CASES[name](machine)
    sentence = start.find_sentence(name)
    start.cwd = ROOT
    start.words = (str(ROOT / "cli.py"), "migrate")
    done = run(start, machine)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{sentence}\n")
    start.words = ("-m", "alembic", "upgrade", "head")
    done = run(start, machine)
    assert (done.stdout.strip(), done.stderr) == (f"FAILED: {sentence}", "")
    assert done.returncode != 0
