"""Proves that every module loads without what only Linux, POSIX or a common installation has.

What is taken away is what Windows, macOS, a bare container or `pip install --target` lacks.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.pictures import jpeg
from tests.support.services import ROOT

# What POSIX or Linux has, by what Python's manual says of it.
LOAD_ALL = """
import sys
names, modules = sys.argv[1].split(","), sys.argv[2].split(",")
import asyncio, ctypes, multiprocessing, os, pathlib, signal, socket, subprocess, threading
import alembic, asyncpg, fastapi, httpx, pydantic_settings, sqlalchemy.ext.asyncio, uvicorn
import argon2, boto3, pillow_heif, pwdlib, tempfile, email_validator, tqdm, multipart
for name in ("SIGKILL", "SIGSTOP", "SIGHUP", "SIGPROF", "SIGPIPE", "SIGALRM", "setitimer"):
    delattr(signal, name)
for name in ("fork", "geteuid", "getuid", "getppid", "memfd_create", "O_DIRECTORY", "sysconf"):
    delattr(os, name)
for name in names:
    sys.modules[name] = None
for name in modules:
    __import__(name)
print(len(modules))
"""
POSIX_ONLY = "fcntl,resource,pwd,grp,termios,tty,pty,syslog,crypt,spwd,nis,posix,uvloop,readline"
DECODE = """
import sys
sys.path.append(sys.argv[1])  # as a .pth file, PYTHONPATH or a program of one's own may
from pictures.costs import DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS, Cost
from pictures.pool import DecoderPool
pool = DecoderPool()
content = sys.stdin.buffer.read()
cost = Cost(memory_bytes=2**28, cpu_seconds=1)
limits = (None, DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS)
picture = pool.process_profile_image(content, cost, *limits)
print(picture.width_px, picture.height_px)
pool.close()
"""


def find_modules() -> list[str]:
    rooms = [path.parent for path in ROOT.glob("*/__init__.py")]
    folders = [ROOT, *(room for room in rooms if room.name not in ("tests", "benchmarks"))]
    paths = [path.relative_to(ROOT) for folder in folders for path in sorted(folder.glob("*.py"))]
    return [".".join(path.with_suffix("").parts) for path in paths if path.stem != "__init__"]


def test_every_module_loads_without_what_only_posix_has(tmp_path: Path) -> None:
    names = find_modules()
    assert {"main", "cli", "check_s3", "ops.embedded_postgres", "storage.local"} <= set(names)
    done = subprocess.run(
        [sys.executable, "-c", LOAD_ALL, POSIX_ONLY, ",".join(names)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{len(names)}\n"), done.stderr


def test_a_decoder_finds_its_modules_where_the_service_found_them(tmp_path: Path) -> None:
    """As with `pip install --target`: this Python has no libraries of its own."""
    bare = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
    libraries = Path(os.__file__).parent  # of the bare one
    found = [entry for entry in sys.path if entry.endswith("site-packages")]
    (packages,) = [entry for entry in found if not Path(entry).is_relative_to(libraries)]
    done = subprocess.run(
        [str(bare), "-S", "-c", DECODE, packages],
        cwd=ROOT,
        input=jpeg(),
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"300 300\n"), done.stderr.decode()
