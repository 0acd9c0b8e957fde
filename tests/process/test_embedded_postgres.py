"""Proves that the embedded database survives kill -9 on either side.

It copes with odd folders and two starts at once, and leaves no process behind.
"""

import asyncio
import importlib.util
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

import database
from config import STARTUP_FAILURE_STATUS
from errors import StartupError
from ops import embedded_postgres, postgres_cluster
from tests.support import warm
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
    os.geteuid() != 0, reason="only root needs a user namespace for the database"
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
        service = Service(given, command=["setsid", sys.executable, str(ROOT / "main.py")])
        started.append(service)
        service.start()
        return service

    yield start
    for service in started:
        service.stop()


def test_the_first_start_makes_a_cluster_and_the_second_keeps_its_data(data_dir: Path) -> None:
    with embedded_postgres.running(data_dir) as url:
        ask(url, "CREATE TABLE notes (body text)", "INSERT INTO notes VALUES ('kept')")
    assert not processes_below(data_dir)
    with embedded_postgres.running(data_dir) as url:
        assert ask(url, "SELECT body FROM notes") == ["kept"]
        assert stat.S_IMODE((data_dir / "postgres").stat().st_mode) == 0o700
    assert not processes_below(data_dir)


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
    wait_until((draft / "global").exists, "the making of the cluster began")
    first.process.send_signal(signal.SIGSTOP)  # else it would start what comes next
    try:
        makers = stop_all_below(data_dir)
        assert makers, "it was made before it could be stopped"
        (draft / "mark").touch()
        first.kill()
        second.go()
        time.sleep(0.5)  # enough for a hasty one to begin anew
        assert (draft / "mark").exists()
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
    postgres = str(postgres_cluster.find_programs() / "postgres")
    command = [
        *postgres_cluster.prefix_unprivileged(),
        postgres,
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
            pytest.raises(StartupError, match=r"postmaster\.pid"),
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


@only_as_root
def test_as_root_nothing_outside_of_data_dir_is_changed(data_dir: Path) -> None:
    data_dir.parent.chmod(0o700)
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
    assert {path.lstat().st_uid for path in data_dir.rglob("*")} == {0}


def test_without_the_wheel_one_sentence_asks_for_a_database(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(StartupError) as caught, embedded_postgres.running(data_dir):
        pass
    assert_is_a_sentence(str(caught.value))
    assert not data_dir.exists()


@only_as_root
@pytest.mark.parametrize("missing", ["unshare", "setpriv"])
def test_as_root_without_its_tools_one_sentence_asks_for_a_database(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for tool in {"unshare", "setpriv"} - {missing}:
        (tmp_path / tool).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartupError, match=missing) as caught, embedded_postgres.running(data_dir):
        pass
    assert_is_a_sentence(str(caught.value))


@only_as_root
def test_where_namespaces_are_forbidden_the_service_says_one_sentence_and_ends(
    data_dir: Path, tmp_path: Path
) -> None:
    forbidden = tmp_path / "unshare"
    forbidden.write_text(
        "#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n"
    )
    forbidden.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "DATA_DIR": str(data_dir),
    }
    done = subprocess.run(
        [sys.executable, ROOT / "main.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == STARTUP_FAILURE_STATUS
    problem = done.stderr.strip()
    assert problem.startswith("Darkroom cannot start. ") and "Operation not permitted" in problem
    assert_is_a_sentence(problem)
    assert not (data_dir / "postgres").exists()


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
