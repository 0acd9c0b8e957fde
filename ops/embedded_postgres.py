"""The database of a machine that has none: a real Postgres out of a wheel, below `data_dir`.

`running` joins the server that another process of this machine keeps for the same folder, or starts
it for as long as the context lasts. It survives `kill -9` on either side.
"""

import logging
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from errors import StartupError
from ops.file_locks import try_to_lock, unlock
from ops.postgres_cluster import (
    INSTEAD,
    Cluster,
    choose_socket_dir,
    find_last_error,
    find_programs,
)
from ops.postgres_log import shorten_log

logger = logging.getLogger(__name__)

# Another process that holds the folder makes the cluster, which takes a slow disk this long.
START_SECONDS = 60.0
POLL_SECONDS = 0.02
WATCH_SECONDS = 0.2
# A server that recovers after a crash replays its log: seconds mostly, many minutes where it had
# much to do. Killing it would only let it begin anew, so it is waited for, and said so this often.
SAY_SECONDS = 30.0
RESTART_SECONDS = 1.0
# How long an owner that ends lets commands finish that
# joined it; a second service takes the server over instead.
JOINED_SECONDS = 5.0


@contextmanager
def running(data_dir: Path) -> Iterator[str]:
    """Yield the URL of the server for `data_dir`.

    It is started here unless another process already keeps it. Should that other process end first,
    this one takes the server over, under the same URL. Raises StartupError where it cannot run, and
    in the second of several workers of one uvicorn: set up like that, no one would own it.
    """
    programs = find_programs()
    folder = data_dir / "postgres"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = open(data_dir / "postgres.lock", "a+")  # noqa: SIM115 (closed below, as is the next)
        joined = open(data_dir / "postgres.joined", "a")  # noqa: SIM115
    except OSError as err:
        raise StartupError(
            f"The folder {data_dir} cannot be used: {err.strerror}."
            " Correct that, or set DATA_DIR to another."
        ) from err
    with lock, joined:
        cluster = Cluster(programs, folder, choose_socket_dir(folder))
        keeper = _Keeper(cluster, data_dir / "postgres.log", lock, joined)
        keeper.start()
        try:
            yield cluster.url
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
    """Keeps a server for the folder: its own, or another process's for as long as that lasts.

    Starts Postgres or joins it, starts it again if it dies, takes it over if its keeper ends, and
    stops it. All of it on one thread that lives as long as the process: the kernel ends the server
    when the *thread* that started it ends, which is how it never outlives a `kill -9`. Postgres
    inherits the locked file, so the lock outlives a killed owner for exactly as long as the server
    does.
    """

    def __init__(self, cluster: Cluster, log: Path, lock: IO[str], joined: IO[str]) -> None:
        super().__init__(name="embedded-postgres", daemon=True)
        self._cluster = cluster
        self._log = log
        self._lock = lock  # of the owner
        self._joined = joined  # locked, shared, by whoever joins
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._failure: Exception | None = None

    def start(self) -> None:
        """Return when the server accepts connections; raises StartupError when it cannot."""
        super().start()
        self._ready.wait()
        if isinstance(self._failure, OSError):
            raise StartupError(
                f"The embedded database cannot be used: {self._failure}. {INSTEAD}"
            ) from self._failure
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End the server if it is ours.

        Open connections are closed, and what was committed is on disk.
        """
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
                is_orphaned = server is None and self._try_to_own()
                is_dead = server is not None and server.poll() is not None
                if is_orphaned or is_dead:
                    server = self._serve()
                if server is not None:
                    shorten_log(self._log)
            except (StartupError, OSError):
                # The log has the cause; requests answer 503 until it works again.
                self._stopping.wait(RESTART_SECONDS)
        if server is not None:
            self._let_joined_finish()
            server.send_signal(signal.SIGINT)  # Postgres' fast shutdown
            server.wait()

    def _own_or_join(self) -> bool:
        """Return whether this process now owns the server; else it may join another's."""
        waiting = _Waiting(self._log)
        heard_at = time.monotonic()
        while not self._try_to_own():
            _refuse_sibling(self._lock)
            if self._try_to_join():
                return False
            if self._cluster.answers():
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > START_SECONDS:
                raise StartupError(
                    f"Another process holds the embedded database and does not answer. {INSTEAD}"
                )
            waiting.pause()
        return True

    def _try_to_own(self) -> bool:
        if not try_to_lock(self._lock):
            return False
        unlock(self._joined)
        self._cluster.forget_reused_number()
        self._lock.truncate(0)
        self._lock.write(f"{os.getpid()} {os.getppid()}\n")
        self._lock.flush()
        return True

    def _try_to_join(self) -> bool:
        if not try_to_lock(self._joined, is_shared=True):
            return False  # its owner is about to end it
        if self._cluster.has_role and self._cluster.accepts_connections():
            return True
        unlock(self._joined)
        return False

    def _serve(self) -> subprocess.Popen[bytes]:
        """Start the server, and return when it accepts connections, however long it recovers.

        Raises StartupError when it ends instead.
        """
        self._cluster.make(self._lock.fileno())
        server = self._cluster.start(self._log, self._lock.fileno())
        waiting = _Waiting(self._log)
        while not self._cluster.accepts_connections():
            if self._stopping.is_set():
                server.send_signal(signal.SIGINT)
                server.wait()
            if server.poll() is not None:
                cause = find_last_error(self._log)
                raise StartupError(f"The embedded database does not start: {cause}. {INSTEAD}")
            waiting.pause()
        if not self._cluster.has_role:
            try:
                self._cluster.make_role()
            except StartupError:
                server.send_signal(signal.SIGINT)
                server.wait()
                raise
        return server

    def _let_joined_finish(self) -> None:
        deadline = time.monotonic() + JOINED_SECONDS
        while time.monotonic() < deadline:
            if try_to_lock(self._joined):
                return  # held until the server is down, so that nobody joins it any more
            time.sleep(POLL_SECONDS)


class _Waiting:
    """Waits for a server in ever longer steps, and says every half minute that it does."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._began_at = time.monotonic()
        self._said_at = self._began_at

    @property
    def seconds(self) -> float:
        """How long it has waited."""
        return time.monotonic() - self._began_at

    def pause(self) -> None:
        # Asking starts a program, which a server that works hard can do without.
        time.sleep(min(POLL_SECONDS + self.seconds / 10, 1.0))
        if time.monotonic() - self._said_at >= SAY_SECONDS:
            self._said_at = time.monotonic()
            logger.warning(
                "the embedded database has recovered for %d seconds and is waited for: %s tells"
                " how far it is",
                self.seconds,
                self._log,
            )


def _refuse_sibling(lock: IO[str]) -> None:
    """Raise StartupError if the owner is another worker of the same process manager."""
    if multiprocessing.parent_process() is None:
        return
    lock.seek(0)
    numbers = lock.read().split()
    if len(numbers) != 2:
        return
    owner, parent_of_owner = numbers
    if owner != str(os.getpid()) and parent_of_owner == str(os.getppid()):
        raise StartupError(
            "Several workers cannot keep one embedded database: set DATABASE_URL, "
            "or let `WORKERS=2 scripts/serve` keep the database for them."
        )
