"""A process that has imported every library, from which the tests fork Python: 0.3 s, not 2.

A fork becomes what `python -m MODULE`, `python -c PROGRAM` or `python FILE`
would be: it has an environment, a folder and streams of its own, and imports
our modules anew. Commands whose very start is tested are started without it.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

# What takes its time. One that is missing here is imported by the forks, as ours are.
LIBRARIES = (
    *("alembic.command", "argon2", "asyncpg", "boto3.session", "botocore.client"),
    *("botocore.config", "email_validator", "fastapi", "fastapi.staticfiles", "httptools"),
    *("httpx", "jwt", "multipart", "pgqueuer.adapters.persistence.queries", "pgqueuer.core.qm"),
    *("pillow_heif", "PIL.Image", "pwdlib", "pydantic_settings", "pythonjsonlogger.json"),
    *("regex", "sqlalchemy.dialects.postgresql.asyncpg", "sqlalchemy.ext.asyncio"),
    *("sqlalchemy.orm", "tqdm", "uvicorn.protocols.http.httptools_impl", "uvloop"),
)
# A command with its environment; a socket takes messages of twice that.
MOST_REQUEST_BYTES = 100_000
OUR_STDERR = 2


class Forked:
    """A process that the warm one forked, with what `subprocess.Popen` offers. For any thread."""

    def __init__(self, end: socket.socket) -> None:
        # Says the number of the process at once, and its exit status when it has ended.
        self._end = end
        weakref.finalize(self, end.close)
        self.pid = int(end.recv(MOST_REQUEST_BYTES))

    def poll(self) -> int | None:
        return self.wait() if select.select([self._end], [], [], 0)[0] else None

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal; raises TimeoutExpired."""
        if not select.select([self._end], [], [], timeout)[0]:
            assert timeout is not None
            raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout)
        # It stays, for whoever asks next.
        status = self._end.recv(MOST_REQUEST_BYTES, socket.MSG_PEEK)
        assert status, "the warm process has ended"
        return int(status)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it may end in this very moment
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork(
    *words: str | Path,
    env: Mapping[str, str],
    cwd: str | Path,
    stdout: IO[Any],
    stderr: IO[Any] | None = None,
    stdin: IO[Any] | None = None,
    leads_group: bool = False,
) -> Forked:
    """Start what `python WORDS` starts; the streams may be closed then.

    What it is not given is nothing, or ours. It may lead a process group, as in a terminal.
    """
    with _starting:  # or two threads that come first would each start one
        control, lock = _reach()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    request = json.dumps(
        {
            "words": [str(word) for word in words],
            "env": dict(env),
            "cwd": str(cwd),
            "leads_group": leads_group,
        }
    ).encode()
    with theirs, open(os.devnull) as nothing, lock:
        streams = [
            (stdin or nothing).fileno(),
            stdout.fileno(),
            stderr.fileno() if stderr else OUR_STDERR,
        ]
        socket.send_fds(control, [request], [*streams, theirs.fileno()])
    return Forked(ours)


def run(
    *words: str | Path, env: Mapping[str, str], cwd: str | Path = "."
) -> subprocess.CompletedProcess[str]:
    """Run what `python WORDS` runs to its end."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        status = fork(*words, env=env, cwd=Path(cwd).resolve(), stdout=out, stderr=err).wait()
        for said in (out, err):
            said.seek(0)
        return subprocess.CompletedProcess(words, status, out.read(), err.read())


class Talker:
    """A fork that is told things and says things, a line each."""

    def __init__(
        self, *words: str | Path, env: Mapping[str, str], cwd: Path, stderr: IO[Any] | None = None
    ) -> None:
        theirs_in, told = os.pipe()
        said, theirs_out = os.pipe()
        self._told = os.fdopen(told, "w")
        self._said = os.fdopen(said, "rb", buffering=0)  # so that select sees every line
        with os.fdopen(theirs_in) as stdin, os.fdopen(theirs_out) as stdout:
            self.process = fork(*words, env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr)

    def tell(self, line: str = "") -> None:
        self._told.write(f"{line}\n")
        self._told.flush()

    def hear(self, timeout_seconds: float) -> str:
        """The next line, without its end; '' if it has ended."""
        assert select.select([self._said], [], [], timeout_seconds)[0], "it says nothing"
        return self._said.readline().decode().rstrip()

    def close(self) -> None:
        """Tell it that no more will come."""
        self._told.close()
        self._said.close()


_starting = threading.Lock()


_warm: tuple[socket.socket, threading.Lock] | None = None


def _reach() -> tuple[socket.socket, threading.Lock]:
    """The warm process of this one, which ends with it."""
    global _warm
    if _warm is None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, __file__], stdin=theirs.fileno(), stdout=subprocess.DEVNULL
            )
        atexit.register(_end, ours, process)
        _warm = ours, threading.Lock()
    return _warm


def fork_warm_process(*libraries: str) -> None:
    """Let one that has imported only these be the warm process of this one and of its forks.

    It ends with the last of them.
    """
    global _warm
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        try:
            ours.close()
            os.dup2(theirs.fileno(), sys.stdin.fileno())
            theirs.close()
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            control = socket.socket(fileno=sys.stdin.fileno())
            _end_quickly(partial(_be, **_serve(control, libraries)))
        finally:
            os._exit(1)
    theirs.close()
    _warm = ours, threading.Lock()


def _end(control: socket.socket, process: subprocess.Popen[bytes]) -> None:
    control.close()
    process.wait()


def _serve(control: socket.socket, libraries: tuple[str, ...] = LIBRARIES) -> dict[str, Any]:
    """Fork for every request; return in each fork, with what it is to be.

    Ends, with all forks, when nobody can ask.
    """
    for name in libraries:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that no fork looks through, and thereby copies, what all of them share
    # Of a terminal: whoever asks will end, and then so do we.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Process and listener, by the descriptor that tells of the fork's end.
    running: dict[int, tuple[int, socket.socket]] = {}
    while True:
        ready = set(select.select([control.fileno(), *running], [], [])[0])
        for ended in ready & set(running):
            pid, end = running.pop(ended)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            with end:
                _tell(end, status)
            os.close(ended)
        if control.fileno() not in ready:
            continue
        request, descriptors, _, _ = socket.recv_fds(control, MOST_REQUEST_BYTES, 4)
        if not request:
            for pid, _ in running.values():
                os.kill(pid, signal.SIGKILL)
            sys.exit()
        *streams, number = descriptors
        end = socket.socket(fileno=number)
        pid = os.fork()
        if pid == 0:
            for descriptor, (_, others) in running.items():
                os.close(descriptor)
                others.close()
            end.close()
            control.detach()  # it is standard input, which the next lines replace
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            wanted: dict[str, Any] = json.loads(request)
            return wanted
        for stream in streams:
            os.close(stream)
        _tell(end, pid)
        running[os.pidfd_open(pid)] = pid, end


def _tell(end: socket.socket, number: int) -> None:
    """Tell whoever asked, unless that has been killed meanwhile."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        end.send(str(number).encode())


def _be(words: list[str], env: dict[str, str], cwd: str, leads_group: bool) -> None:
    """Do what the interpreter does when it is started with these words."""
    if leads_group:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    first = {"-m": cwd, "-c": ""}.get(words[0], str(Path(words[0]).resolve().parent))
    sys.path[:1] = [first, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.modules["__main__"] = program = types.ModuleType("__main__")
        exec(compile(words[1], "<string>", "exec"), vars(program))
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


def _end_quickly(run: Callable[[], None]) -> None:
    """Run it and end as the interpreter does, but for one thing: no library is taken to pieces.

    That would copy most of the memory that all forks share. A traceback is the interpreter's own.
    """
    try:
        run()
        status = 0
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        status = end.code or 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    # As a script this has no package, but its folder is on the path.
    importlib.import_module("loopback").refuse_others()
    _end_quickly(partial(_be, **_serve(socket.socket(fileno=sys.stdin.fileno()))))
