"""Proves that what is forked from the warm process is what Python would be.

It has the same words, environment, streams and end.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import warm
from tests.support.services import ROOT, wait_until

# What a program can tell of how it was started.
TELL = """
import json, os, sys
started = [sys.argv, __name__, sys.path[0], os.getcwd(), dict(os.environ)]
print(json.dumps([*started, sys.stdin.read()]))
print("said aside", file=sys.stderr)
"""


@pytest.mark.parametrize("how", ["-c", "-m", "file"])
def test_a_fork_is_what_python_would_be(tmp_path: Path, how: str) -> None:
    (tmp_path / "tell.py").write_text(TELL)
    words = {
        "-c": ["-c", TELL, "--some", "words"],
        "-m": ["-m", "tell", "x"],
        "file": [str(tmp_path / "tell.py"), "x"],
    }
    environment = {"PATH": os.environ["PATH"], "LC_CTYPE": "C.UTF-8", "PYTHONPATH": str(ROOT)}
    real = subprocess.run(
        [sys.executable, *words[how]],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    forked = warm.run(*words[how], env=environment, cwd=tmp_path)
    assert json.loads(forked.stdout) == json.loads(real.stdout)
    assert (
        (forked.returncode, forked.stderr)
        == (real.returncode, real.stderr.decode())
        == (0, "said aside\n")
    )


def test_our_modules_are_imported_anew_and_with_the_settings_of_the_fork(tmp_path: Path) -> None:
    program = (
        "import config, sys\n"
        "print(config.settings.port, config.__file__, 'sqlalchemy.orm' in sys.modules)"
    )
    (tmp_path / "config.py").write_text("class settings: port = 7")
    theirs = warm.run("-c", program, env={"PYTHONPATH": str(tmp_path)}, cwd="/")
    assert theirs.stdout == f"7 {tmp_path / 'config.py'} True\n"
    ours = warm.run(
        "-c",
        program,
        env={"PYTHONPATH": str(ROOT), "PORT": "8123", "DARKROOM_ENV_FILE": ""},
        cwd="/",
    )
    assert ours.stdout == f"8123 {ROOT / 'config.py'} True\n"


@pytest.mark.parametrize("leads_group", [True, False])
def test_a_fork_may_lead_a_group_of_processes(tmp_path: Path, leads_group: bool) -> None:
    program = "import os; print(os.getpid() == os.getpgrp())"
    with open(tmp_path / "said", "w+") as said:
        fork = warm.fork("-c", program, env={}, cwd=tmp_path, stdout=said, leads_group=leads_group)
        assert fork.wait() == 0
        said.seek(0)
        assert said.read() == f"{leads_group}\n"


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("pass", 0),
        ("raise SystemExit(3)", 3),
        ("1 / 0", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
    ],
)
def test_the_end_of_a_fork_is_told(program: str, status: int) -> None:
    run = warm.run("-c", program, env={})
    assert run.returncode == status
    assert ("ZeroDivisionError" in run.stderr) == (program == "1 / 0")


def test_a_fork_can_be_waited_for_and_signalled_by_several_at_once() -> None:
    talker = warm.Talker("-c", "print('begun', flush=True); input()", env={}, cwd=ROOT)
    assert talker.hear(60) == "begun"
    assert talker.process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        talker.process.wait(0.01)
    talker.process.terminate()
    assert [talker.process.wait(60) for _ in range(2)] == [-signal.SIGTERM] * 2
    talker.process.kill()  # it has ended, and its number may be another's
    talker.close()


def test_whoever_is_killed_before_the_answer_harms_nobody() -> None:
    control, lock = warm._reach()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    request = {"words": ["-c", "pass"], "env": {}, "cwd": "/", "leads_group": False}
    with theirs, open(os.devnull) as nothing, lock:
        streams = [nothing.fileno()] * 3
        socket.send_fds(control, [json.dumps(request).encode()], [*streams, theirs.fileno()])
    assert warm.run("-c", "pass", env={}).returncode == 0


def test_a_process_can_have_another_warm_one_which_ends_with_it() -> None:
    program = """
from tests.support import warm
warm.fork_warm_process("colorsys")
asked = "import os, sys; print('colorsys' in sys.modules, os.getppid())"
print(warm.run("-c", asked, env={}).stdout)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    is_loaded, number = done.stdout.split()
    assert is_loaded == "True"
    wait_until(lambda: not Path(f"/proc/{number}").exists(), "the other one ended")


def test_no_fork_outlives_who_asked_for_it() -> None:
    """Also when that one is killed: nothing of a test run is left."""
    sleeping = "import time; time.sleep(100)"
    asking = f"""
from tests.support import warm
print(warm.Talker("-c", {sleeping!r}, env={{}}, cwd="/").process.pid)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-u", "-c", asking],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        forked = Path(f"/proc/{int(process.stdout.readline())}")
        assert forked.exists()
        process.kill()
    wait_until(lambda: not forked.exists(), "the fork has ended")
