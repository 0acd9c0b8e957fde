"""Proves that Ctrl-C, a lost terminal and a closed pipe end every command quietly."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.launch import CLOSED_PIPE_STATUS, INTERRUPTED_STATUS
from tests.support.log_lines import read_json_lines, read_messages
from tests.support.services import (
    ROOT,
    START_SECONDS,
    free_port,
    get,
    processes_below,
    wait_until,
    wait_until_none_is_left,
)

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/cwd").exists(), reason="looks for processes in Linux' /proc"
)

# Of an account, whose body is not sent.
UNFINISHED = (
    b"POST /users HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n"
)


@pytest.fixture(autouse=True)
def hangs_up_by_default() -> Iterator[None]:
    """Also below nohup, which every process that is started here would inherit."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A folder to be; when the test is over no process of it may be left."""
    yield tmp_path / "data"
    wait_until_none_is_left(tmp_path)


@pytest.fixture
def start(data_dir: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a command as a terminal does: it leads a process group."""
    started: list[subprocess.Popen[str]] = []

    def run(*words: str, **settings: str) -> subprocess.Popen[str]:
        given = {"DATA_DIR": str(data_dir), "PORT": str(free_port()), "STORAGE": "local"}
        process = subprocess.Popen(
            [sys.executable, str(ROOT / words[0]), *words[1:]],
            cwd=data_dir.parent,
            env={**os.environ, **given, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def press_ctrl_c(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGINT)


def has_loaded(process: subprocess.Popen[str], part: str) -> bool:
    """Whether the process has a library of this name in its memory: its imports have got there."""
    return part in Path(f"/proc/{process.pid}/maps").read_text()


def assert_ended_quietly(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=START_SECONDS)
    # A second Ctrl-C may come when Python has given up its handlers: a shell says 130 of that too.
    assert process.returncode in (INTERRUPTED_STATUS, -signal.SIGINT)
    assert (out, err) == ("", "")


@pytest.mark.parametrize("words", [("main.py",), ("cli.py", "check"), ("check_s3.py",)])
def test_ctrl_c_during_the_imports_is_quiet(
    start: Callable[..., subprocess.Popen[str]], words: tuple[str, ...]
) -> None:
    process = start(*words)
    wait_until(lambda: has_loaded(process, "pydantic_core"), "it imports")
    press_ctrl_c(process)
    assert_ended_quietly(process)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_while_the_database_is_made_is_quiet_and_the_next_start_makes_it(
    start: Callable[..., subprocess.Popen[str]], data_dir: Path, times: int
) -> None:
    process = start("main.py")
    wait_until(lambda: is_made_now(data_dir), "the making of the database began")
    for _ in range(times):
        press_ctrl_c(process)
    assert_ended_quietly(process)
    wait_until_none_is_left(data_dir)
    assert not (data_dir / "postgres").exists()


def is_made_now(data_dir: Path) -> bool:
    return any("initdb" in command for command in processes_below(data_dir).values())


@pytest.mark.parametrize("words", [(), ("--reload",)])
def test_ctrl_c_while_it_serves_ends_it_in_order(
    start: Callable[..., subprocess.Popen[str]], data_dir: Path, words: tuple[str, ...]
) -> None:
    process = start("main.py", *words)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Darkroom listens on ")
    press_ctrl_c(process)
    _, err = process.communicate(timeout=START_SECONDS)
    assert process.returncode == INTERRUPTED_STATUS
    told = read_messages(err)
    assert [line for line in told if line.startswith("Started server process")], told
    is_reloading = [line for line in told if line.startswith("Stopping reloader process")]
    assert bool(is_reloading) == ("--reload" in words)
    wait_until_none_is_left(data_dir)


def test_a_second_ctrl_c_while_it_serves_cuts_who_still_sends_and_is_quiet(
    start: Callable[..., subprocess.Popen[str]], data_dir: Path
) -> None:
    port = free_port()
    process = start("main.py", PORT=str(port))
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Darkroom listens on ")
    with socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS) as sending:
        sending.sendall(UNFINISHED)
        # Its head was read: the first Ctrl-C waits for the rest.
        assert sending.recv(1000).startswith(b"HTTP/1.1 100 ")
        press_ctrl_c(process)
        wait_until(lambda: refuses_connections(port), "no new connection is taken")
        assert process.poll() is None
        press_ctrl_c(process)
        _, err = process.communicate(timeout=START_SECONDS)
    assert process.returncode == INTERRUPTED_STATUS
    failures = [line for line in read_json_lines(err) if line["level"] != "INFO"]
    assert failures == []
    wait_until_none_is_left(data_dir)


def refuses_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_second_ctrl_c_ends_what_still_waits(
    start: Callable[..., subprocess.Popen[str]], data_dir: Path
) -> None:
    """The database is stopped, so that the first one waits for it in vain."""
    process = start("cli.py", "worker")
    wait_until(lambda: (data_dir / "postgres" / "postmaster.pid").exists(), "the database runs")
    wait_until(lambda: "is ready" in (data_dir / "postgres.log").read_text(), "it is ready")
    number = int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
    os.kill(number, signal.SIGSTOP)
    try:
        press_ctrl_c(process)
        time.sleep(0.3)
        press_ctrl_c(process)
        process.wait(START_SECONDS)
    finally:
        os.kill(number, signal.SIGCONT)
    assert "Traceback" not in process.communicate()[1]


def test_a_lost_terminal_ends_the_service_in_order(
    start: Callable[..., subprocess.Popen[str]], data_dir: Path
) -> None:
    port = str(free_port())
    process = start("main.py", WORKERS="2", PORT=port)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Darkroom listens on")
    assert get(f"http://127.0.0.1:{port}/health/live").status_code == 200
    os.killpg(process.pid, signal.SIGHUP)
    _, err = process.communicate(timeout=START_SECONDS)
    assert (process.returncode, "Traceback" in err) == (0, False)
    log = (data_dir / "postgres.log").read_text()
    assert "database system is shut down" in log.splitlines()[-1]


def test_a_pipe_that_nobody_reads_is_no_error_of_ours(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    process = start("check_s3.py")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(START_SECONDS) == CLOSED_PIPE_STATUS


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("main.py", "--help"), 0),
        (("check_s3.py", "--help"), 0),
        (("main.py", "--prot", "8000"), 2),
        (("main.py", "serve"), 2),
        (("check_s3.py", "my-bucket"), 2),
    ],
)
def test_help_is_given_and_an_unknown_word_is_an_error(
    start: Callable[..., subprocess.Popen[str]], words: tuple[str, ...], status: int
) -> None:
    out, err = start(*words).communicate(timeout=START_SECONDS)
    said = out or err
    assert said.startswith(f"usage: {words[0]}")
    if status:
        assert words[1] in err
