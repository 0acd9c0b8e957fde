"""Proves that code in a decoder can do nothing but answer, as root and as an ordinary user."""

import contextlib
import ctypes
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from errors import DecoderUnavailable, StartupError, UndecodablePicture
from ops import process
from ops.process import DUMPABLE_VARIABLE
from pictures import Cost, ProcessedImage
from pictures.confinement import EVERY_LAYER, NO_LAYER, Layer
from pictures.costs import MIB
from pictures.pool import DecoderPool
from tests.support.pictures import jpeg
from tests.support.services import ROOT, wait_until

IS_LINUX_X86 = (sys.platform, platform.machine()) == ("linux", "x86_64")
pytestmark = pytest.mark.skipif(not IS_LINUX_X86, reason="the filter is run on x86-64 Linux only")

# Loads what a decoder loads, once; then each attempt is made inside a decoder of its own, forked
# from it, that serves a file. Prints how each of them ended.
RUNNER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import ctypes, errno, json, mmap, os, pathlib, resource, signal, socket, struct, threading, time
import image_utils
from pictures import confinement, decoder
from pictures.messages import HEAD_BYTES, NOTHING_SHARED, READY_BYTES, Job

job = json.loads(sys.argv[1])
folder = job["folder"]
libc = ctypes.CDLL(None, use_errno=True)
secret = open(f"{{folder}}/secret.txt")  # of the service
parent = os.getpid()
its_memory = ctypes.create_string_buffer(b"a secret")
left_out = confinement.Layer(job["left_out"])
real_filter = confinement.filter_system_calls
real_landlock = confinement._enter_landlock
real_set = confinement._set

def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[
        ctypes.c_long(each) if isinstance(each, int) else each for each in arguments
    ])
    if result == -1:
        raise OSError(ctypes.get_errno(), "refused")
    return result

def attempt(code):
    def process(content, *arguments, **named):
        try:
            exec(code, globals())
        except OSError as err:
            name = errno.errorcode.get(err.errno, str(err))
            os.write(0, f"refused {{name}}".encode().ljust(HEAD_BYTES))
            os._exit(0)
        except (RuntimeError, ValueError):  # of mmap
            os.write(0, b"refused".ljust(HEAD_BYTES))
            os._exit(0)
        os.write(0, b"done".ljust(HEAD_BYTES))
        os._exit(0)
    return process

def try_each(name, code):
    ours, theirs = socket.socketpair()
    ours.sendall(NOTHING_SHARED)
    ours.sendall(Job(4, 0, 5.0, None, 1, 1).to_line() + b"file")
    pid = os.fork()
    if pid == 0:
        ours.close()
        os.dup2(theirs.fileno(), 0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        image_utils.process_profile_image = attempt(code)
        if confinement.Layer.SYSTEM_CALLS in left_out:
            confinement.filter_system_calls = lambda *_: False
        if confinement.Layer.LANDLOCK in left_out:
            confinement._enter_landlock = lambda _: False
        if confinement.Layer.NO_CAPABILITIES in left_out:
            confinement.drop_capabilities = lambda _: False
        if confinement.Layer.NOT_DUMPABLE in left_out:
            confinement._set = lambda *_: False
        if left_out == confinement.EVERY_LAYER:
            decoder.confine = lambda: confinement.NO_LAYER
        try:
            decoder.serve(socket.socket(fileno=0))
        finally:
            os._exit(99)
    theirs.close()
    ours.settimeout(20)
    with ours.makefile("rb") as stream:
        stream.read(READY_BYTES)
        said = stream.read(HEAD_BYTES)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return said.strip().rstrip(b"\\0").decode() or str(code)

if job["uid"]:
    os.setgroups([])
    os.setgid(job["uid"])
    os.setuid(job["uid"])
    libc.prctl(4, 1, 0, 0, 0)  # which the change of user has taken away
print(json.dumps({{name: try_each(name, code) for name, code in job["attempts"].items()}}))
"""
# What a file's code may try. The numbers are those of x86-64.
ATTEMPTS = {
    "symlink": "os.symlink(folder + '/secret.txt', folder + '/linked')",
    "link": "os.link(folder + '/secret.txt', folder + '/linked2')",
    "unlink": "os.unlink(folder + '/to_remove')",
    "rename": "os.rename(folder + '/to_rename', folder + '/renamed')",
    "mkdir": "os.mkdir(folder + '/made')",
    "rmdir": "os.rmdir(folder + '/empty')",
    "chmod": "os.chmod(folder + '/to_change', 0o777)",
    "truncate": "os.truncate(folder + '/to_change', 0)",
    "mknod": "os.mkfifo(folder + '/fifo')",
    "chdir": "os.chdir(folder)",
    "signal to its parent": "os.kill(parent, 0)",
    "signal to all": "os.kill(-1, 0)",
    "a thread's signal to its parent": "call(234, parent, parent, 0)",
    "fork": "os.fork() or os._exit(0)",
    "exec": "os.execv('/bin/sh', ['sh', '-c', 'printf done >&0'])",
    "ptrace": "call(101, 0x4206, parent, 0, 0)",
    "priority of its parent": "os.setpriority(os.PRIO_PROCESS, parent, 19)",
    "affinity of its parent": "os.sched_setaffinity(parent, {0})",
    "limits of its parent": "resource.prlimit(parent, resource.RLIMIT_CORE)",
    "its own limits": "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    "its own group": "os.setpgid(0, 0) if os.getsid(0) != os.getpid() else os.getpgid(parent)",
    "executable memory": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
    "memory made executable": (
        "page = mmap.mmap(-1, 4096)\n"
        "place = ctypes.addressof(ctypes.c_char.from_buffer(page))\n"
        "call(10, place, 4096, 5)"
    ),
    "personality": "call(135, 0x0400000)",
    "shared memory of System V": "call(31, call(29, 0, 4096, 0o1600), 0, 0)",
    "a queue of System V": "call(71, call(68, 0, 0o1600), 0, 0)",
    "open": "os.open(folder + '/secret.txt', os.O_RDONLY)",
    "creat": "os.open(folder + '/new', os.O_CREAT | os.O_WRONLY)",
    "a descriptor that was closed before": "os.close(2); os.open('/etc/passwd', os.O_RDONLY)",
    "socket": "socket.socket()",
    "socket pair": "socket.socketpair()",
    "pipe": "os.pipe()",
    "dup": "os.dup(0)",
    "memfd": "os.memfd_create('x')",
    "epoll": "call(291, 0)",
    "io_uring": "call(425, 1, ctypes.create_string_buffer(120))",
    "eventfd": "call(290, 0, 0)",
    "inotify": "call(294, 0)",
    "userfaultfd": "call(323, 1)",
    "pidfd": "call(434, parent, 0)",
    "bpf": "call(321, 0, struct.pack('IIII56x', 2, 4, 4, 1), 72)",
    # Of its own process and the clock, without the kernel.
    "perf": "call(298, struct.pack('IIQQQQQ80x', 1, 128, 0, 0, 0, 0, 0x60), 0, -1, -1, 0)",
    "keys": "call(250, 0, -4, 1)",
    "seccomp": "call(317, 2, 0, struct.pack('I', 0x7FFF0000))",
    "a new namespace": "call(272, 0x10000000)",
    "memory of its parent": (
        "taken = ctypes.create_string_buffer(8)\n"
        "here = struct.pack('QQ', ctypes.addressof(taken), 8)\n"
        "there = struct.pack('QQ', ctypes.addressof(its_memory), 8)\n"
        "call(310, parent, here, 1, there, 1, 0)\n"
        "assert taken.raw == b'a secret'"
    ),
    "the list of a folder": "os.listdir(folder)",
    "x32's open": "call(0x40000002, b'/etc/passwd', 0)",
    "a message with a descriptor": "call(46, 0, ctypes.create_string_buffer(56), 0)",
    "an urgent byte": "call(44, 0, b'x', 1, 1, 0, 0)",
    "advice on memory that none needs": (
        "page = mmap.mmap(-1, 4096)\n"
        "place = ctypes.addressof(ctypes.c_char.from_buffer(page))\n"
        "call(28, place, 4096, 16)"
    ),
    "the sender of signals": "call(72, 0, 8, os.getpid())",
    "another root": "os.chroot(folder)",
    "another owner": "os.chown(folder + '/to_change', 1, 1)",
    "other groups": "os.setgroups([1])",
    "another user": "os.setresuid(1, 1, 1)",
}
# Those that libraries make in passing are refused, all others end the decoder.
REFUSED = {"open", "creat", "a descriptor that was closed before", "the list of a folder"}
REFUSED |= {"advice on memory that none needs"}
# What a kernel may lack, a container may forbid to everybody, or a system to all but root; and how
# it says so.
FORBIDS = ("EPERM", "ENOSYS")
MAY_BE_FORBIDDEN = {
    **dict.fromkeys(("bpf", "x32's open", "userfaultfd", "io_uring", "keys", "pidfd"), FORBIDS),
    **dict.fromkeys(("ptrace", "memory of its parent"), FORBIDS),
    "perf": (*FORBIDS, "EACCES", "ENOENT"),
    "a new namespace": (*FORBIDS, "ENOSPC"),
    "an urgent byte": (*FORBIDS, "EOPNOTSUPP"),
    **dict.fromkeys(("shared memory of System V", "a queue of System V"), FORBIDS),
}
CAPABILITIES_DECIDE = ("another root", "another owner", "other groups", "another user")
FOR_ROOT = {"signal to all", *CAPABILITIES_DECIDE}
# Without the filter, which knows the calls, this knows the files.
LANDLOCK_REFUSES = (
    *("symlink", "link", "unlink", "rename", "mkdir", "rmdir", "truncate", "mknod"),
    *("exec", "open", "creat", "the list of a folder", "ptrace", "memory of its parent"),
)
ALLOWED = {
    "a thread": "t = threading.Thread(target=time.sleep, args=(0.01,)); t.start(); t.join()",
    "memory": "kept = bytearray(64 << 20)",
    "the clock": "time.time(); time.sleep(0.001)",
}
NOBODY = 65534
# Of a decoder's program.
BEGINNING = (
    f"import sys\nsys.path.insert(0, {str(ROOT)!r})",
    "import os, socket, threading",
    "import image_utils",
    "from pictures import confinement, decoder",
)
END = "decoder.serve(socket.socket(fileno=0))"
WITHOUT_LANDLOCK = "confinement._enter_landlock = lambda _: False"


@cache
def try_each(uid: int, left_out: Layer) -> dict[str, str]:
    """Make every attempt as this user (0: whoever runs the tests); tell how each of them ended."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty").mkdir()
        for name in ("secret.txt", "to_remove", "to_rename", "to_change"):
            (folder / name).write_text("content")
        if uid:
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, uid, uid)
        job = {
            "uid": uid,
            "left_out": left_out.value,
            "folder": str(folder),
            "attempts": {**ATTEMPTS, **ALLOWED},
        }
        ended = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", RUNNER, json.dumps(job)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    outcomes: dict[str, str] = json.loads(ended.stdout)
    return outcomes


@pytest.fixture(params=["as it is", "as nobody"])
def uid(request: pytest.FixtureRequest) -> int:
    if request.param == "as it is":
        return 0
    if os.geteuid() != 0:
        pytest.skip("the tests run as an ordinary user already")
    return NOBODY


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_what_is_no_answer_ends_the_decoder_or_is_refused(uid: int, attempt: str) -> None:
    outcome = try_each(uid, NO_LAYER)[attempt]
    if attempt in REFUSED:
        assert outcome.startswith("refused")
    else:
        assert outcome == str(-signal.SIGSYS)


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_without_confinement_the_same_attempt_succeeds(uid: int, attempt: str) -> None:
    """So that a refusal above is the confinement's doing and not the attempt's."""
    if uid and attempt in FOR_ROOT:
        pytest.skip("an ordinary user may not do so anyway")
    outcome = try_each(uid, EVERY_LAYER)[attempt]
    _, _, reason = outcome.partition("refused ")
    if reason in MAY_BE_FORBIDDEN.get(attempt, ()):
        pytest.skip(f"this system forbids it to everybody, or to all but root: {reason}")
    assert outcome == "done"


@pytest.mark.parametrize("harmless", ALLOWED)
def test_what_a_picture_needs_is_allowed(uid: int, harmless: str) -> None:
    assert try_each(uid, NO_LAYER)[harmless] == "done"


@pytest.mark.parametrize("attempt", LANDLOCK_REFUSES)
def test_where_the_kernel_has_no_filter_landlock_holds(uid: int, attempt: str) -> None:
    assert try_each(uid, Layer.SYSTEM_CALLS)[attempt].startswith("refused")


@pytest.mark.parametrize("attempt", LANDLOCK_REFUSES)
def test_where_the_kernel_has_no_landlock_the_filter_holds(uid: int, attempt: str) -> None:
    assert try_each(uid, Layer.LANDLOCK)[attempt].startswith(("refused", str(-signal.SIGSYS)))


@pytest.mark.parametrize("attempt", CAPABILITIES_DECIDE)
def test_where_the_kernel_has_neither_root_has_lost_its_capabilities(attempt: str) -> None:
    assert try_each(0, EVERY_LAYER & ~Layer.NO_CAPABILITIES)[attempt] == "refused EPERM"


def test_a_system_that_confines_wholly_starts_where_that_is_required(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with contextlib.closing(DecoderPool(requires_confinement=True)) as pool:
        pool.warm()
        pool.wait_until_warm()
        (decoder,) = pool._idle
        status = Path(f"/proc/{decoder.pid}/status").read_text()
    assert re.search(r"^NoNewPrivs:\s1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\s2$", status, re.MULTILINE)
    empty = set(re.findall(r"^Cap(\w+):\s0+$", status, re.MULTILINE))
    assert empty >= {"Inh", "Prm", "Eff", "Amb"}
    # The bounding set is root's to empty, and of no use to anyone else.
    assert "Bnd" in empty or os.geteuid() != 0
    assert caplog.messages == []


@pytest.fixture
def make_pool(tmp_path: Path) -> Iterator[Callable[..., DecoderPool]]:
    """Makes a pool whose decoders do this before they serve."""
    with contextlib.ExitStack() as stack:

        def make(*lines: str, requires_confinement: bool = False) -> DecoderPool:
            program = tmp_path / "program.py"
            program.write_text("\n".join([*BEGINNING, *lines, END]))
            pool = DecoderPool((str(program),), requires_confinement=requires_confinement)
            stack.callback(pool.close)
            return pool

        yield make


def ask(pool: DecoderPool) -> ProcessedImage:
    return pool.process_profile_image(jpeg(32, 32), Cost(8 * MIB, 0.1), None, 10**6, 10**6)


def test_a_system_that_lacks_a_layer_says_so_once_or_refuses_to_start(
    make_pool: Callable[..., DecoderPool], caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(WITHOUT_LANDLOCK)
    pool.warm()
    pool.wait_until_warm()
    ask(pool)
    assert len(caplog.messages) == 1
    assert "Landlock" in caplog.messages[0]
    strict = make_pool(WITHOUT_LANDLOCK, requires_confinement=True)
    strict.warm()
    with pytest.raises(StartupError, match="DECODER_SANDBOX"):
        strict.wait_until_warm()


def test_a_later_decoder_that_lacks_what_the_first_one_has_is_not_used(
    make_pool: Callable[..., DecoderPool],
) -> None:
    pool = make_pool()
    pool.warm()
    pool.wait_until_warm()
    (first,) = pool._idle
    first.kill()
    make_pool(WITHOUT_LANDLOCK)  # the same program from now on
    with pytest.raises(DecoderUnavailable):
        ask(pool)


def test_a_forbidden_call_has_its_own_line_in_the_log(
    make_pool: Callable[..., DecoderPool], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UndecodablePicture):
        ask(make_pool("image_utils.process_profile_image = lambda *_, **__: os.fork()"))
    told = [message for message in caplog.messages if "SIGSYS" in message]
    assert len(told) == 2, "the picture was tried again in a new one"


def test_a_forbidden_call_behind_an_answer_is_told_as_well(
    make_pool: Callable[..., DecoderPool], caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(
        "real = image_utils.process_profile_image",
        "def process(*arguments, **named):",
        "    threading.Timer(0.2, os.fork).start()",
        "    return real(*arguments, **named)",
        "image_utils.process_profile_image = process",
    )
    ask(pool)
    (decoder,) = pool._idle
    wait_until(lambda: not decoder.is_alive, "the hidden call ended it")
    ask(pool)
    assert [message for message in caplog.messages if "SIGSYS" in message] == caplog.messages
    assert len(caplog.messages) == 1


# An application that prepares its process, and the manager of several workers before it does
# anything else.
PREPARE = "from ops import process\nprocess.prepare('json')\ntell()"
SERVE = """
import types
from config import Settings
from ops import serving
serving.bind = tell
serving.serve(types.SimpleNamespace(state=types.SimpleNamespace(settings=Settings())))
"""


@pytest.mark.parametrize(
    ("variable", "is_dumpable", "code"),
    [({}, "0", PREPARE), ({DUMPABLE_VARIABLE: "1"}, "1", PREPARE), ({}, "0", SERVE)],
)
def test_the_services_own_memory_is_kept_from_others(
    variable: dict[str, str], is_dumpable: str, code: str
) -> None:
    tell = (
        "import ctypes, os\n"
        "def tell(*_):\n"
        "    print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)\n"
        "    os._exit(0)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != DUMPABLE_VARIABLE}
    ended = subprocess.run(
        [sys.executable, "-c", tell + code],
        cwd=ROOT,
        env={**environment, **variable},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.strip() == is_dumpable


def test_memory_that_cannot_be_kept_from_others_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(DUMPABLE_VARIABLE, raising=False)
    without_prctl = SimpleNamespace(prctl=lambda *_: -1)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: without_prctl)
    process.hide_memory()
    assert "can read this one's memory" in caplog.text
