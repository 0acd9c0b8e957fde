"""Proves that the embedded database survives kill -9 on either side.

It copes with odd folders and two starts at once, and leaves no process behind.
"""

import asyncio
import importlib.util
import json
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

import database
from errors import StartupError
from ops import embedded_postgres, postgres_account, postgres_cluster
from ops.file_locks import try_to_lock
from ops.postgres_log import LONGEST_LOG_BYTES
from tests.support import warm
from tests.support.databases import execute
from tests.support.pictures import jpeg
from tests.support.services import (
    ROOT,
    START_SECONDS,
    Service,
    get,
    postmaster,
    processes_below,
    wait_until,
    wait_until_none_is_left,
)

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/cwd").exists(), reason="looks for processes in Linux' /proc"
)

only_as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root has to become somebody else for the database"
)

HOLDER = """
import sys
from pathlib import Path
from ops import embedded_postgres, postgres_cluster
print("ready", flush=True)
sys.stdin.readline()
with embedded_postgres.running(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.readline()
"""


class Holder(warm.Talker):
    """Another process that holds the database of a folder until it is told to let go."""

    def __init__(self, data_dir: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        super().__init__("-c", HOLDER, data_dir, cwd=data_dir.parent, env=environment)
        assert self.hear(START_SECONDS) == "ready"

    def go(self) -> None:
        self.tell()

    def url(self) -> str:
        return self.hear(START_SECONDS)

    def let_go(self) -> int:
        self.tell()
        return self.process.wait(START_SECONDS)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def ask(url: str, *statements: str) -> list[Any]:
    """Run these in one transaction on a connection of their own.

    Returns the first column of the last.
    """

    async def run() -> list[Any]:
        engine = create_async_engine(url)
        try:
            async with engine.begin() as connection:
                for statement in statements:
                    done = await connection.execute(text(statement))
                return list(done.scalars()) if done.returns_rows else []
        finally:
            await engine.dispose()

    return asyncio.run(run())


def assert_is_a_sentence(problem: str) -> None:
    assert "DATABASE_URL" in problem and problem.endswith(".") and "\n" not in problem, problem


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A folder to be; when the test is over no process of it may be left."""
    yield tmp_path / "data"
    wait_until_none_is_left(tmp_path)


@pytest.fixture
def hold(data_dir: Path) -> Iterator[Callable[[], Holder]]:
    """Starts another process that will hold the database of `data_dir`."""
    started: list[Holder] = []

    def start() -> Holder:
        started.append(Holder(data_dir))
        return started[-1]

    yield start
    for holder in started:
        holder.kill()


@pytest.fixture
def start_main(data_dir: Path) -> Iterator[Callable[..., Service]]:
    """Starts `python main.py` with the embedded database.

    It leads a process group, as in a terminal.
    """
    started: list[Service] = []

    def start(**settings: str) -> Service:
        given = {"DATA_DIR": str(data_dir), "STORAGE": "local", **settings}
        service = Service(given, [sys.executable, str(ROOT / "main.py")], leads_group=True)
        started.append(service)
        service.start()
        return service

    yield start
    for service in started:
        service.stop()


def test_the_first_start_makes_a_cluster_and_the_second_keeps_its_data(data_dir: Path) -> None:
    with embedded_postgres.running(data_dir) as url:
        ask(url, "CREATE TABLE notes (body text)", "INSERT INTO notes VALUES ('kept')")
        # Of any user, or a flaw in a statement would be one in the machine.
        assert ask(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [False]
    assert not processes_below(data_dir)
    with embedded_postgres.running(data_dir) as url:
        assert ask(url, "SELECT body FROM notes") == ["kept"]
        assert stat.S_IMODE((data_dir / "postgres").stat().st_mode) == 0o700
    assert not processes_below(data_dir)


def test_the_log_is_short_its_owners_only_and_holds_nothing_of_an_account(data_dir: Path) -> None:
    log = data_dir / "postgres.log"
    data_dir.mkdir(exist_ok=True)
    log.write_text("DETAIL:  Key (email)=(old@example.com) already exists.\n")
    log.chmod(0o644)  # as an earlier version left it
    address = "alice@example.com"
    with embedded_postgres.running(data_dir) as url:
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        ask(url, "CREATE TABLE names (email text PRIMARY KEY)")
        insert = f"INSERT INTO names VALUES ('{address}')"
        with pytest.raises(DBAPIError):
            ask(url, insert, insert)
        with pytest.raises(DBAPIError):
            ask(url, f"SELECT '{address}' FROM nowhere")
        told = log.read_text()
        assert "duplicate key" in told and "nowhere" in told
        assert "example.com" not in told
        assert re.search(r"^\S+ \S+ UTC ", told)
        with open(log, "ab") as file:
            file.write(b"a line of the log\n" * 100_000)
        wait_until(lambda: log.stat().st_size < LONGEST_LOG_BYTES, "it is shortened")
        with pytest.raises(DBAPIError):
            ask(url, "SELECT 1 FROM elsewhere")
        lines = log.read_text().splitlines()
    assert lines[0] == "a line of the log" and "elsewhere" in lines[-1]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_second_process_joins_and_leaves_the_server_running(
    data_dir: Path, hold: Callable[[], Holder]
) -> None:
    with embedded_postgres.running(data_dir) as url:
        server = postmaster(data_dir)
        second = hold()
        second.go()
        assert second.url() == url
        assert second.let_go() == 0
        assert postmaster(data_dir) == server and ask(url, "SELECT 1") == [1]


def test_an_owner_that_ends_lets_those_who_joined_finish(
    data_dir: Path, hold: Callable[[], Holder]
) -> None:
    owner = hold()
    owner.go()
    owner.url()
    with embedded_postgres.running(data_dir) as url:
        owner.tell()
        assert ask(url, "SELECT 1 FROM pg_sleep(0.5)") == [1]
    assert owner.process.wait(START_SECONDS) == 0
    assert not processes_below(data_dir)


def test_who_joined_takes_the_server_over_when_its_owner_is_killed(
    data_dir: Path, hold: Callable[[], Holder]
) -> None:
    owner = hold()
    owner.go()
    url = owner.url()
    ask(url, "CREATE TABLE notes (body text)", "INSERT INTO notes VALUES ('kept')")
    with embedded_postgres.running(data_dir) as joined:
        assert joined == url
        owner.kill()

        def is_back() -> bool:
            try:
                return ask(url, "SELECT body FROM notes") == ["kept"]
            except (OSError, DBAPIError):
                return False

        me = str(os.getpid())
        wait_until(
            lambda: (data_dir / "postgres.lock").read_text().split()[:1] == [me],
            "the lock was taken over",
        )
        wait_until(is_back, "the server answers again")
    assert not processes_below(data_dir)


def test_two_starts_at_the_same_moment_give_one_owner(
    data_dir: Path, hold: Callable[[], Holder]
) -> None:
    both = [hold(), hold()]
    for holder in both:
        holder.go()
    urls = {holder.url() for holder in both}
    assert len(urls) == 1
    assert sum("bin/postgres -D" in command for command in processes_below(data_dir).values()) == 1
    owners = [
        str(holder.process.pid) in (data_dir / "postgres.lock").read_text().split()[:1]
        for holder in both
    ]
    assert sorted(owners) == [False, True]
    joined, owner = both if owners[1] else reversed(both)
    assert joined.let_go() == 0
    assert ask(urls.pop(), "SELECT 1") == [1]
    assert owner.let_go() == 0
    assert not processes_below(data_dir)


def test_postgres_ends_with_an_owner_that_is_killed(
    data_dir: Path, hold: Callable[[], Holder]
) -> None:
    owner = hold()
    owner.go()
    ask(owner.url(), "SELECT 1")
    server = postmaster(data_dir)
    assert server in processes_below(data_dir)
    owner.kill()
    wait_until_none_is_left(data_dir)


def test_what_was_committed_is_there_at_once_after_the_owner_was_killed(
    data_dir: Path, hold: Callable[[], Holder]
) -> None:
    for kills in range(3):
        owner = hold()
        owner.go()
        ask(
            owner.url(),
            "CREATE TABLE IF NOT EXISTS notes (n int)",
            f"INSERT INTO notes VALUES ({kills})",
        )
        owner.kill()
        with embedded_postgres.running(data_dir) as url:
            assert ask(url, "SELECT n FROM notes ORDER BY n") == list(range(kills + 1))


def test_the_service_recovers_by_itself_when_postgres_is_killed(
    data_dir: Path, start_main: Callable[..., Service]
) -> None:
    service = start_main()
    alice = service.register()
    killed = postmaster(data_dir)
    os.kill(killed, signal.SIGKILL)

    def is_back() -> bool:
        try:
            return postmaster(data_dir) != killed
        except (OSError, IndexError):  # between two servers, or half-written
            return False

    wait_until(is_back, "Postgres was started again")
    service.wait_until_ready()
    assert service.patch_picture(alice, jpeg()).status_code == 200
    assert service.process is not None and service.process.poll() is None


@pytest.mark.parametrize("pause_seconds", [0, 0.1, 0.2])
def test_a_kill_while_the_cluster_is_made_is_healed(
    data_dir: Path, hold: Callable[[], Holder], pause_seconds: float
) -> None:
    first = hold()
    first.go()
    draft = data_dir / "postgres.draft"
    wait_until(
        lambda: draft.exists() or (data_dir / "postgres").exists(),
        "the making of the cluster began",
    )
    time.sleep(pause_seconds)
    first.kill()
    with embedded_postgres.running(data_dir) as url:
        assert ask(url, "SELECT 1") == [1]
    assert not draft.exists()


def test_the_next_start_waits_until_a_killed_making_of_the_cluster_has_ended(
    data_dir: Path, hold: Callable[[], Holder]
) -> None:
    first = hold()
    second = hold()
    draft = data_dir / "postgres.draft"
    first.go()
    cluster = draft / "cluster"
    wait_until((cluster / "global").exists, "the making of the cluster began")
    first.process.send_signal(signal.SIGSTOP)  # else it would start what comes next
    try:
        makers = stop_all_below(data_dir)
        assert makers, "it was made before it could be stopped"
        (cluster / "mark").touch()
        first.kill()
        second.go()
        time.sleep(0.5)  # enough for a hasty one to begin anew
        assert (cluster / "mark").exists()
    finally:
        for pid in processes_below(data_dir):
            signal_to(pid, signal.SIGCONT)
    assert ask(second.url(), "SELECT 1") == [1]
    assert second.let_go() == 0


def stop_all_below(folder: Path) -> set[int]:
    """Stop what runs there, also what is started meanwhile by what is not stopped yet.

    Returns what stands still.
    """
    stopped: set[int] = set()
    while running := set(processes_below(folder)) - stopped:
        stopped |= {pid for pid in running if signal_to(pid, signal.SIGSTOP)}
    return stopped & set(processes_below(folder))


def signal_to(pid: int, number: signal.Signals) -> bool:
    """Whether there was still such a process: initdb's own live for milliseconds."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def test_a_draft_that_a_crash_of_the_machine_left_is_made_anew(data_dir: Path) -> None:
    draft = data_dir / "postgres.draft"
    (draft / "base").mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18\n")
    with embedded_postgres.running(data_dir) as url:
        assert ask(url, "SELECT 1") == [1]
    assert not draft.exists()


def test_a_process_that_took_the_dead_servers_number_is_no_obstacle(data_dir: Path) -> None:
    with embedded_postgres.running(data_dir):
        left = (data_dir / "postgres" / "postmaster.pid").read_text()
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            _, rest = left.split("\n", 1)
            (data_dir / "postgres" / "postmaster.pid").write_text(f"{stranger.pid}\n{rest}")
            with embedded_postgres.running(data_dir) as url:
                assert ask(url, "SELECT 1") == [1]
            assert stranger.poll() is None
        finally:
            stranger.kill()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("x" * 200, id="longer than a socket's path may be"),
        pytest.param("ü" * 40, id="short in characters and long in bytes"),
        pytest.param("a b & 50% %41", id="blanks, ampersand and percent signs"),
        pytest.param("a,b", id="a comma"),
        pytest.param("""it's "so" $HOME #1?""", id="quotes and more"),
    ],
)
def test_odd_folders_work(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    short = tmp_path_factory.mktemp("p")
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    folder = short / name
    with embedded_postgres.running(folder) as url:
        asyncio.run(database.migrate(url))
        assert ask(url, "SELECT count(*) FROM users") == [0]
    assert not processes_below(short)


def test_a_server_that_somebody_started_by_hand_is_not_overrun(
    data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with embedded_postgres.running(data_dir):
        pass
    folder = data_dir / "postgres"
    sockets = tmp_path_factory.mktemp("s")
    programs = postgres_cluster.find_programs()
    account = postgres_account.choose_account(programs, folder)
    command = [
        *account.prefix(programs, (folder, sockets)),
        str(programs / "postgres"),
        "-D",
        str(folder),
        "-k",
        str(sockets),
        "-c",
        "listen_addresses=",
    ]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: (sockets / ".s.PGSQL.5432").exists(), "the server listens")
        with (
            # A fenced one cannot send the other a signal, and sees its shared memory instead.
            pytest.raises(StartupError, match=r"postmaster\.pid|shared memory block"),
            embedded_postgres.running(data_dir),
        ):
            pass
        assert server.poll() is None and (folder / "postmaster.pid").exists()
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(START_SECONDS)


@pytest.mark.parametrize("is_link", [True, pytest.param(False, marks=only_as_root)])
def test_a_socket_folder_of_someone_else_is_not_used(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_link: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data_dir /= "x" * 200
    theirs = postgres_cluster.choose_socket_dir(data_dir / "postgres")
    assert theirs.parent == tmp_path
    if is_link:
        theirs.symlink_to(tmp_path)
    else:
        theirs.mkdir()
        os.chown(theirs, 65534, 65534)
    with pytest.raises(StartupError, match="DATA_DIR"), embedded_postgres.running(data_dir):
        pass


@pytest.mark.parametrize(
    ("how", "workers"), [(signal.SIGINT, "1"), (signal.SIGTERM, "1"), (signal.SIGINT, "2")]
)
def test_a_signal_ends_the_service_and_then_its_database(
    data_dir: Path, start_main: Callable[..., Service], how: signal.Signals, workers: str
) -> None:
    service = start_main(WORKERS=workers)
    service.register()
    wait_until(
        lambda: service.log().count("startup complete") == int(workers), "every worker started"
    )
    process = service.process
    assert process is not None
    server = postmaster(data_dir)
    assert server in processes_below(data_dir)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # a terminal's Ctrl-C goes to all
    else:
        process.send_signal(how)
    assert process.wait(START_SECONDS) == (128 + signal.SIGINT if how == signal.SIGINT else 0)
    assert server not in processes_below(data_dir)
    wait_until_none_is_left(data_dir)
    assert "Traceback" not in service.log()
    assert (
        "database system is shut down" in (data_dir / "postgres.log").read_text().splitlines()[-1]
    )


@pytest.fixture
def open_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that every user can enter, unlike pytest's; the programs lie in such a one too."""
    folder = Path(tempfile.mkdtemp(prefix="darkroom-open-"))
    folder.chmod(0o755)
    programs = postgres_cluster.find_programs()
    if not all(parent.stat().st_mode & stat.S_IXOTH for parent in programs.parents):
        package = programs.parent.parent
        for each in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(each, folder / each.name)
        programs = folder / programs.relative_to(package.parent)
        for module in (embedded_postgres, postgres_cluster):
            monkeypatch.setattr(module, "find_programs", lambda: programs)
    yield folder
    wait_until_none_is_left(folder)
    shutil.rmtree(folder)


@pytest.fixture(params=["a user of its own", "a fenced namespace"])
def folder_of_root(
    request: pytest.FixtureRequest, data_dir: Path, open_folder: Path
) -> tuple[Path, int]:
    """A data folder to be, and the user to whom its cluster will belong."""
    if request.param == "a user of its own":
        return open_folder / "data", postgres_account.OWN_UID
    data_dir.parent.chmod(0o700)
    return data_dir, 0


@only_as_root
def test_as_root_nothing_outside_of_the_cluster_is_changed(
    folder_of_root: tuple[Path, int],
) -> None:
    data_dir, owner = folder_of_root
    binaries = postgres_cluster.find_programs()
    watched = [*data_dir.parents, *binaries.parents, *binaries.iterdir()]
    accounts = [
        path for path in map(Path, ("/etc/passwd", "/etc/group", "/etc/shadow")) if path.exists()
    ]

    def look() -> list[object]:
        found = [path.stat() for path in watched]
        return [
            [(at.st_mode, at.st_uid, at.st_gid) for at in found],
            [path.read_bytes() for path in accounts],
        ]

    before = look()
    with embedded_postgres.running(data_dir) as url:
        ask(url, "CREATE TABLE notes (body text)")
        assert look() == before
    assert look() == before
    assert {path.lstat().st_uid for path in data_dir.glob("postgres/**/*")} == {owner}
    assert {path.lstat().st_uid for path in data_dir.iterdir() if path.is_file()} == {0}


@only_as_root
def test_as_root_the_database_can_touch_nothing_of_roots(folder_of_root: tuple[Path, int]) -> None:
    data_dir, _ = folder_of_root
    private = data_dir / "private"
    data_dir.mkdir()
    private.write_text("for root alone")
    private.chmod(0o600)
    with (
        subprocess.Popen(["sleep", "600"]) as bystander,
        embedded_postgres.running(data_dir) as url,
    ):
        commands = (
            "cat /etc/shadow",
            f"cat {private}",
            f"touch {data_dir}/made",
            f"kill -0 {bystander.pid}",
            f"cat /proc/{bystander.pid}/environ >/dev/null",
        )
        superuser = make_url(url).set(username=postgres_cluster.SUPERUSER).render_as_string()
        for connection in (url, superuser):
            for path in ("/etc/shadow", str(private)):
                with pytest.raises(DBAPIError, match=r"[Pp]ermission denied"):
                    ask(connection, f"SELECT pg_read_file('{path}')")
            for command in commands:
                with pytest.raises(DBAPIError, match=r"permission denied to COPY|failed"):
                    ask(connection, f"COPY (SELECT 1) TO PROGRAM '{command}'")
        # The superuser may run what harms nobody: so it was the fence that refused the others.
        assert ask(superuser, "COPY (SELECT 1) TO PROGRAM 'cat >/dev/null'") == []
        bystander.kill()
    assert not (data_dir / "made").exists()


@only_as_root
def test_a_folder_of_an_earlier_version_is_taken_over_and_whoever_can_enter_it_runs_it(
    open_folder: Path,
) -> None:
    data_dir = open_folder / "data"
    mark = data_dir / "postgres" / postgres_cluster.ROLE_MARK

    def find_owners() -> set[int]:
        return {path.lstat().st_uid for path in data_dir.glob("postgres/**/*")}

    open_folder.chmod(0o700)
    with embedded_postgres.running(data_dir) as url:
        old_url = make_url(url).set(username="postgres").render_as_string()
        execute(url, "ALTER DATABASE darkroom OWNER TO postgres", "DROP ROLE darkroom")
        asyncio.run(database.migrate(old_url))
        ask(
            old_url,
            "CREATE TYPE mood AS ENUM ('good', 'bad')",
            "CREATE SCHEMA more",
            "CREATE TABLE more.notes (id serial, body text, felt mood) PARTITION BY LIST (felt)",
            "CREATE TABLE more.good PARTITION OF more.notes FOR VALUES IN ('good')",
            "CREATE VIEW shown AS SELECT body FROM more.notes",
            "CREATE SEQUENCE loose",
            "CREATE FUNCTION one() RETURNS int LANGUAGE sql RETURN 1",
            "INSERT INTO more.notes (body, felt) VALUES ('kept', 'good')",
        )
    mark.unlink()
    assert find_owners() == {0}

    open_folder.chmod(0o755)
    with embedded_postgres.running(data_dir) as url:
        assert make_url(url).username == postgres_cluster.ROLE
        asyncio.run(database.migrate(url))
        assert ask(url, "SELECT count(*) FROM users") == [0]
        assert ask(
            url,
            "ALTER TYPE mood ADD VALUE 'mixed'",
            "ALTER FUNCTION one() RENAME TO two",
            "ALTER SEQUENCE loose RESTART",
            "ALTER TABLE more.good ALTER body SET NOT NULL",
            "ALTER VIEW shown RENAME TO seen",
            "SELECT body FROM seen",
        ) == ["kept"]
    assert find_owners() == {postgres_account.OWN_UID} and mark.exists()

    open_folder.chmod(0o700)
    with embedded_postgres.running(data_dir) as url:
        assert ask(url, "SELECT body FROM seen") == ["kept"]
    assert find_owners() == {0}


@only_as_root
def test_a_cluster_is_made_where_no_other_process_of_the_same_user_can_enter(
    open_folder: Path,
) -> None:
    programs = open_folder / "bin"
    programs.mkdir()
    (programs / "postgres").symlink_to(postgres_cluster.find_programs() / "postgres")
    initdb = programs / "initdb"
    initdb.write_text("""#!/bin/sh
echo "error: user $(id -u) groups $(id -G) folder $(stat -c '%a %u %g' "$2/..")" >&2
exit 1
""")
    initdb.chmod(0o755)
    folder = open_folder / "data" / "postgres"
    folder.parent.mkdir()
    cluster = postgres_cluster.Cluster(programs, folder, folder)
    with (
        open(open_folder / "lock", "w") as lock,
        pytest.raises(StartupError) as caught,
    ):
        cluster.make(lock.fileno())
    nobody = pwd.getpwnam("nobody").pw_uid
    own = postgres_account.OWN_UID
    assert f"user {nobody} groups {own} folder 710 0 {own}." in str(caught.value)


def test_a_program_whose_starter_has_died_meanwhile_does_not_run() -> None:
    programs = postgres_cluster.find_programs()
    prefix = postgres_account.Account().prefix(programs, ())
    orders = json.loads(prefix[-1])
    for parent, said in ((os.getpid(), "it runs\n"), (1, "")):
        ordered = json.dumps({**orders, "parent": parent})
        command = [*prefix[:-1], ordered, "/bin/echo", "it runs"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == said


@only_as_root
def test_root_runs_an_ordinary_users_database_as_that_user(open_folder: Path) -> None:
    data_dir = open_folder / "data"
    with embedded_postgres.running(data_dir):
        pass
    ordinary = 54_321
    for path in (data_dir, *data_dir.rglob("*")):
        os.chown(path, ordinary, ordinary)
    with embedded_postgres.running(data_dir) as url:
        assert ask(url, "SELECT 1") == [1]
        assert Path(f"/proc/{postmaster(data_dir)}").stat().st_uid == ordinary
    assert {path.lstat().st_uid for path in data_dir.glob("postgres/**/*")} == {ordinary}


@only_as_root
def test_an_ordinary_user_without_a_name_makes_and_keeps_a_database(open_folder: Path) -> None:
    data_dir = open_folder / "data"
    data_dir.mkdir()
    os.chown(data_dir, 54_321, 54_321)
    programs = postgres_cluster.find_programs()
    program = (
        "import os, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from ops import embedded_postgres\n"
        f"embedded_postgres.find_programs = lambda: Path({str(programs)!r})\n"
        "sys.executable = '/usr/bin/python3'\n"  # this one may lie in a folder of root's
        "os.setgroups([]); os.setgid(54321); os.setuid(54321)\n"
        f"with embedded_postgres.running(Path({str(data_dir)!r})): print('it runs')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd="/", capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("it runs\n", "")


def test_without_the_wheel_one_sentence_asks_for_a_database(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(StartupError) as caught, embedded_postgres.running(data_dir):
        pass
    assert_is_a_sentence(str(caught.value))
    assert not data_dir.exists()


@pytest.mark.parametrize("version", ["14\n", None])
def test_a_cluster_of_another_version_is_left_alone(data_dir: Path, version: str | None) -> None:
    cluster = data_dir / "postgres"
    cluster.mkdir(parents=True)
    (cluster / "precious").write_text("data")
    if version is not None:
        (cluster / "PG_VERSION").write_text(version)
    with pytest.raises(StartupError) as caught, embedded_postgres.running(data_dir):
        pass
    assert_is_a_sentence(str(caught.value))
    assert str(cluster) in str(caught.value)
    assert (cluster / "precious").read_text() == "data"


def test_a_failed_start_can_be_tried_again(data_dir: Path) -> None:
    cluster = data_dir / "postgres"
    with embedded_postgres.running(data_dir):
        pass
    good = (cluster / "postgresql.conf").read_text()
    (cluster / "postgresql.conf").write_text(good + "\nno_such_setting = 1\n")
    with pytest.raises(StartupError) as caught, embedded_postgres.running(data_dir):
        pass
    assert_is_a_sentence(str(caught.value))
    (cluster / "postgresql.conf").write_text(good)
    with embedded_postgres.running(data_dir) as url:
        assert ask(url, "SELECT 1") == [1]


def test_a_server_that_recovers_is_waited_for_and_said_to_be(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = data_dir / "postgres"
    with embedded_postgres.running(data_dir) as url:
        ask(url, "CREATE TABLE notes (body text)", "INSERT INTO notes VALUES ('kept')")
    # It recovers until it is told that this is enough, and takes nobody meanwhile.
    (cluster / "standby.signal").touch()
    (cluster / "postgresql.auto.conf").write_text("hot_standby = off\n")
    monkeypatch.setattr(embedded_postgres, "START_SECONDS", 0.1)
    monkeypatch.setattr(embedded_postgres, "SAY_SECONDS", 0.2)
    found: list[list[Any]] = []
    # Whoever owns the server must not end it before the other has joined.
    both = threading.Barrier(2)

    def hold() -> None:
        with embedded_postgres.running(data_dir) as url:
            found.append(ask(url, "SELECT body FROM notes"))
            both.wait(START_SECONDS)

    def count_said() -> int:
        return sum("is waited for" in message for message in caplog.messages)

    keeper = threading.Thread(target=hold)
    keeper.start()
    wait_until(count_said, "it is said")
    joining = threading.Thread(target=hold)
    joining.start()
    said_alone = count_said()
    wait_until(lambda: count_said() > said_alone + 3, "it is said by both")
    number = postmaster(data_dir)
    (cluster / "promote").touch()
    os.kill(number, signal.SIGUSR1)
    for holder in (keeper, joining):
        holder.join(START_SECONDS)
    assert found == [["kept"], ["kept"]]


def test_an_owner_that_stays_silent_is_not_waited_for(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with embedded_postgres.running(data_dir):
        pass
    monkeypatch.setattr(embedded_postgres, "START_SECONDS", 0.1)
    (lock,) = data_dir.glob("*.lock")
    with lock.open("r+") as held:
        assert try_to_lock(held)
        with pytest.raises(StartupError) as caught, embedded_postgres.running(data_dir):
            pass
    assert_is_a_sentence(str(caught.value))
    assert "does not answer" in str(caught.value)


def test_nothing_listens_on_the_network(data_dir: Path, start_main: Callable[..., Service]) -> None:
    service = start_main()
    pids = processes_below(data_dir)
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
            except OSError:
                continue
    listening = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        lines = Path(table).read_text().splitlines()[1:] if Path(table).exists() else []
        for fields in map(str.split, lines):
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                listening.add((address, int(port, 16)))
    assert listening == {("0100007F", service.port)}
    assert get(f"{service.url}/health/ready").status_code == 200
