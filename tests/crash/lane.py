"""One lane of the crash runner: a service that gets killed, and what outlives it."""

import contextlib
import http.client
import json
import os
import random
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from accounts import Tokens
from tests.crash.accounts import Account
from tests.crash.displaced import Displaced
from tests.crash.findings import Finding
from tests.crash.galleries import Originals
from tests.crash.state import Pictures, State
from tests.crash.thumbnails import KEY as THUMBNAIL_KEY
from tests.crash.thumbnails import PRESET_PX
from tests.support import warm
from tests.support.postgres import PostgresProxy
from tests.support.postgres_server import kill_server
from tests.support.s3 import FakeS3
from tests.support.services import Bucket, free_port

# How long a fault may take to be reached under load; far longer than it takes.
FAULT_SECONDS = 20.0
# The services', which believe these tokens for longer than the longest run takes.
SECRET = "0123456789abcdef" * 2
TOKENS = Tokens(SECRET, expire_minutes=10_000)


class Missed(Exception):
    """The fault that was ordered did not happen."""


class _Host:
    """A process of tests/crash/host.py, with the product's code out of a folder.

    It answers one line with another, to any thread.
    """

    def __init__(self, *, code: Path, settings: dict[str, str], log: IO[bytes]) -> None:
        environment = {**os.environ, "DARKROOM_ENV_FILE": "", **settings}
        self._asking = threading.Lock()
        self._talker = warm.Talker("-m", "tests.crash.host", cwd=code, env=environment, stderr=log)
        self._hear()

    def ask(self, line: str) -> str:
        with self._asking:
            self._talker.tell(line)
            return self._hear()

    def close(self) -> None:
        self._talker.close()
        self._talker.process.wait(FAULT_SECONDS)

    def _hear(self) -> str:
        line = self._talker.hear(FAULT_SECONDS)
        assert line, "the host of the service ended: see its log"
        return line


class Lane:
    """A database and a store that outlive the services
    which use them; `findings` is what was broken.

    The services are of the code in that folder, which may be a copy with a fault in it. A lane
    whose database server is its own can kill that as well: `server_dir` is where it lies. The
    services reach the database by the pooler's URL, where there is one.
    """

    def __init__(
        self,
        folder: Path,
        database_url: str,
        s3_endpoint: str | None,
        code: Path,
        server_dir: Path | None,
        pooler_url: str | None = None,
    ) -> None:
        self.random = random.Random()
        self.port = free_port()
        self._second_port = free_port()
        self._server_dir = server_dir
        self.findings: list[Finding] = []
        self.kills = 0  # of a service under load
        self.postgres = PostgresProxy(pooler_url or database_url)
        self._has_pooler = pooler_url is not None
        self.store = FakeS3(s3_endpoint) if s3_endpoint else None
        bucket = Bucket.make(s3_endpoint) if s3_endpoint else None
        self.state = State(folder, database_url, bucket)
        self._displaced = Displaced(folder, bucket, self.store, self.random)
        self._is_displaced = False
        settings = {
            "DATA_DIR": str(folder),
            "SECRET_KEY": SECRET,
            "THUMBNAIL_KEYS": THUMBNAIL_KEY,
        }
        settings |= {"REAPER_INTERVAL_SECONDS": "0.1", "DATABASE_URL": self.postgres.url}
        if self.store and bucket:
            settings |= {**bucket.settings(), "S3_ENDPOINT_URL": self.store.url}
        else:
            settings |= {"STORAGE": "local"}
        self._log = open(folder / "service.log", "ab")  # noqa: SIM115 (closed with the lane)
        self._host = _Host(code=code, settings=settings, log=self._log)
        self.pid: int | None = None
        self._end_of_service = -1
        self._second_pid: int | None = None
        self.accounts: list[Account] = []
        self.short_lived: list[Account] = []  # of one trial, beside the others
        self.sent = 0
        self.grace_seconds = 0.0  # of what is replaced
        self.has_presets = False  # else a photo has no thumbnails but on demand
        self.pictures = Pictures()
        self.originals = Originals()

    def close(self) -> None:
        if self.pid is not None:
            self.kill()
        self._host.close()
        self.state.close()
        self.postgres.close()
        if self.store:
            self.store.close()
        self._log.close()

    # The service

    def start(self, faults: str = "") -> None:
        """Start it, with faults or without, and return when it answers."""
        pid = self._fork_service(faults, self.port)
        with contextlib.suppress(ProcessLookupError):  # it may have ended already, by its fault
            self._end_of_service = os.pidfd_open(pid)
            self.pid = pid
        deadline = time.monotonic() + FAULT_SECONDS
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.request("GET", "/health/live")[0] == 200:
                    return
            if faults and self.has_ended():
                return  # a fault of the reaper may come before the first answer
            if self.has_ended() or time.monotonic() > deadline:
                raise AssertionError(
                    f"the service did not start:\n{Path(self._log.name).read_text()[-4000:]}"
                )
            time.sleep(0.01)

    def start_second(self) -> None:
        """Start another service beside it, without a fault, on the same database and store."""
        pid = self._fork_service("", self._second_port)
        self._second_pid = pid
        deadline = time.monotonic() + FAULT_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.request("GET", "/health/live", port=self._second_port)[0] == 200:
                    return
            time.sleep(0.01)
        raise AssertionError("the second service did not start")

    def _fork_service(self, faults: str, port: int) -> int:
        widths = [PRESET_PX] if self.has_presets else []
        settings = {
            "thumbnail_widths": widths,
            "old_picture_grace_seconds": self.grace_seconds,
        }
        wanted = {"faults": faults, "port": port, "settings": settings}
        return int(self._host.ask(json.dumps(wanted)))

    @property
    def has_second(self) -> bool:
        return self._second_pid is not None

    def kill_server(self) -> None:
        """Kill -9 the database; its keeper starts it again."""
        assert self._server_dir is not None
        kill_server(self._server_dir)

    def has_ended(self, wait_seconds: float = 0) -> bool:
        return self.pid is None or bool(
            select.select([self._end_of_service], [], [], wait_seconds)[0]
        )

    def wait_for_stop(self) -> None:
        """Wait until the service has stopped itself."""
        deadline = time.monotonic() + FAULT_SECONDS
        while not self.findings and not self.is_stopped():
            if time.monotonic() > deadline:
                raise Missed
            time.sleep(0.01)

    def refuses_connections(self, wait_seconds: float) -> bool:
        """Whether it has taken note that it is to end, after so long."""
        time.sleep(min(wait_seconds, 0.005))
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
        return False

    def is_stopped(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        return False

    def kill_under_load(self) -> None:
        """What ends a trial whose fault does not kill."""
        if not self.has_ended():
            self.signal(signal.SIGKILL)
            self.kills += 1

    def signal(self, number: signal.Signals) -> None:
        assert self.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End the service, whatever it does, and wait until the database has noticed."""
        if self._second_pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._second_pid, signal.SIGKILL)
            self._second_pid = None
        if self.pid is None:
            return
        self.signal(signal.SIGKILL)
        assert self.has_ended(FAULT_SECONDS)
        os.close(self._end_of_service)
        self.pid = None
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        if self._has_pooler:  # which keeps its connections
            others += " AND state <> 'idle'"
        connections = f"SELECT count(*) FROM pg_stat_activity WHERE {others}"
        deadline = time.monotonic() + FAULT_SECONDS
        while self.state.sql(connections)[0][0]:
            assert time.monotonic() < deadline, "the database keeps connections of a dead service"
            time.sleep(0.01)

    # The clients

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        port: int | None = None,
    ) -> tuple[int, bytes]:
        """One request on a connection of its own, to either service where there are two.

        Raises OSError or HTTPException when there is no whole answer.
        """
        status, content, _ = self._request(method, path, body, headers or {}, port)
        return status, content

    def request_redirect(
        self, path: str, headers: dict[str, str], port: int | None = None
    ) -> tuple[int, bytes, str]:
        """The same for what may lead elsewhere: where to, or nothing, comes last."""
        return self._request("GET", path, None, headers, port)

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        port: int | None,
    ) -> tuple[int, bytes, str]:
        connection = self._connect(port)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.getheader("Location", "")
        finally:
            connection.close()

    def _connect(self, port: int | None) -> http.client.HTTPConnection:
        ports = [port or self.port]
        if port is None and self.has_second:
            # One that is stopped would take a connection, and answer nothing.
            ports = [] if self.is_stopped() else [self.port]
            ports = self.random.sample([*ports, self._second_port], len(ports) + 1)
        for number, each in enumerate(ports, 1):
            connection = http.client.HTTPConnection("127.0.0.1", each, timeout=FAULT_SECONDS)
            try:
                connection.connect()
                break
            except ConnectionRefusedError:
                if number == len(ports):
                    raise
        return connection

    def register(self, name: str) -> Account:
        """Make an account, with a token of it; no service has to run."""
        name = f"{name}{time.monotonic_ns()}"
        account_id, now = self.state.make_account(name)
        return Account(name, account_id, TOKENS.issue(account_id, now))

    def wrong(self, sentence: str) -> None:
        """A client was answered what is not so."""
        if not self._is_displaced:
            self.findings.append(Finding("wrong", sentence))

    def lost(self, sentence: str) -> None:
        """A client cannot load what an account shows."""
        if not self._is_displaced:
            self.findings.append(Finding("lost", sentence))

    # Its store is not what it seems

    @contextlib.contextmanager
    def marker_hidden(self) -> Iterator[None]:
        """The store has lost its marker until the context ends."""
        with self._displaced.without_marker():
            yield

    @contextlib.contextmanager
    def store_elsewhere(self) -> Iterator[None]:
        """Something else is in the place of the store until the context ends.

        What clients load meanwhile is no finding: nothing is there.
        """
        self._is_displaced = True
        with self._displaced.elsewhere() as strays:
            yield
        self._is_displaced = False
        if strays:
            self.lost(f"{strays[0]} was put where the store was not")

    def expect_no_start(self) -> None:
        """A service that is started now ends by itself, and answers nobody."""
        pid = self._fork_service("", self.port)
        with contextlib.suppress(ProcessLookupError):
            self._end_of_service = os.pidfd_open(pid)
            self.pid = pid
        is_refused = self.has_ended(FAULT_SECONDS)
        self.kill()
        if not is_refused:
            self.findings.append(Finding("wrong", "a service started on a store that is not its"))

    # The end of a trial

    def reap(self) -> None:
        """Let all that waits come due, as it does in time, and make one pass of the reaper."""
        self.state.make_due()
        self._host.ask("reap")

    def compare(self) -> None:
        """After a crash: one pass of the reaper, and all is as
        clients were told; a day later nothing else is left.
        """
        accounts = [*self.accounts, *self.short_lived]
        self.findings += self.state.never_due()
        self.reap()
        self.findings += self.state.compare(accounts, self.originals, is_a_day_later=False)
        self.state.let_a_day_pass()
        self.reap()
        self.findings += self.state.compare(accounts, self.originals, is_a_day_later=True)

    def ensure_accounts(self) -> None:
        """Make accounts until there are two."""
        known = {row["id"] for row in self.state.sql("SELECT id FROM users")}
        self.accounts = [account for account in self.accounts if account.id in known]
        while len(self.accounts) < 2:
            self.accounts.append(self.register(f"user{len(self.accounts)}-"))
