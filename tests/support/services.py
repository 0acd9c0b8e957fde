"""The service and the S3 servers as processes of their own, and what the tests ask of them."""

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import asyncpg
import boto3
import httpx

from ops.process import DUMPABLE_VARIABLE
from storage import markers
from tests.support import questions, warm

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60
# How many connections of this database wait for a lock now.
SOMEONE_WAITS = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
BOUNDARY = "a-boundary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
# For httpx: no TLS to set up, which takes longer than the request, and no proxy.
PLAIN: dict[str, Any] = {"trust_env": False, "verify": False}


def get(url: str, **options: Any) -> httpx.Response:
    """One GET over plain HTTP."""
    return httpx.get(url, **PLAIN, **options)


def free_port() -> int:
    """A port of loopback that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Account:
    """An account of a service, logged in."""

    id: int
    email: str
    password: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@dataclass
class Service:
    """A uvicorn process of `main:app` (or of another command) and a client for it."""

    settings: dict[str, str]
    command: list[str] = field(default_factory=list)
    host: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    # As what a terminal starts: a signal can go to all of its processes.
    leads_group: bool = False
    log_name: str = "service.log"
    process: subprocess.Popen[bytes] | warm.Forked | None = None

    def start(self) -> None:
        """Start, and return when it is ready; what it logs goes to a file beside its data."""
        Path(self.settings["DATA_DIR"]).mkdir(parents=True, exist_ok=True)
        command = self.command or [
            *(sys.executable, "-m", "uvicorn", "main:app", "--app-dir", str(ROOT)),
            *("--host", self.host, "--port", str(self.port), "--log-level", "info"),
        ]
        given: dict[str, Any] = {"cwd": self.settings["DATA_DIR"], "env": self.environment}
        with open(self.log_path, "ab") as log:
            if command[0] == sys.executable:
                given["leads_group"] = self.leads_group
                self.process = warm.fork(*command[1:], **given, stdout=log, stderr=log)
            else:
                given["start_new_session"] = self.leads_group
                self.process = subprocess.Popen(command, **given, stdout=log, stderr=log)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError, httpx.HTTPError):
                # To be refused by a socket costs a hundredth of what a client does.
                socket.create_connection((self.host, self.port), timeout=5).close()
                if get(f"{self.url}/health/ready", timeout=5).status_code == 200:
                    return
            ended = self.process is not None and self.process.poll() is not None
            assert not ended and time.monotonic() < deadline, (
                f"the service did not start:\n{self.log()}"
            )
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the process and return its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(START_SECONDS)

    @property
    def environment(self) -> dict[str, str]:
        given = {"PORT": str(self.port), "HOST": self.host, DUMPABLE_VARIABLE: "1"}
        return {**os.environ, **given, **self.settings}

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def log_path(self) -> Path:
        return Path(self.settings["DATA_DIR"]) / self.log_name

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def client(self, account: Account | None = None, **options: Any) -> httpx.Client:
        """An HTTP client with the account's token; the caller closes it."""
        return httpx.Client(
            base_url=self.url,
            headers=account.headers if account else {},
            **{"timeout": 60, **PLAIN, **options},
        )

    def register(self, name: str = "alice", *, is_admin: bool = False) -> Account:
        """Make an account and log in."""
        email = f"{name}@example.com"
        password = f"{name}-password"
        with self.client() as client:
            made = client.post(
                "/users", json={"username": name, "email": email, "password": password}
            )
            assert made.status_code == 201, made.text
            if is_admin:
                self.sql("UPDATE users SET is_admin = true WHERE id = $1", made.json()["id"])
            token = client.post(
                "/users/token", data={"username": email, "password": password}
            ).json()["access_token"]
        return Account(made.json()["id"], email, password, token)

    def sql(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the service's own database."""
        url = self.settings["DATABASE_URL"].replace("+asyncpg", "")
        return questions.ask(url, statement, *arguments)

    def objects(self) -> dict[str, bytes]:
        """Every object in the service's store, by key; the store's marker is none."""
        if self.settings.get("STORAGE") == "s3":
            return Bucket.of(self.settings).objects()
        media = Path(self.settings["DATA_DIR"]) / "media"
        found = {}
        for path in media.rglob("*"):
            # What the service deletes, or names, between the list and the look is not there.
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                found[path.relative_to(media).as_posix()] = path.read_bytes()
        found.pop(markers.LOCAL_KEY, None)
        return found

    def patch_picture(
        self, account: Account, content: bytes, filename: str = "photo.jpg", **more: Any
    ) -> httpx.Response:
        """Send a picture as a browser's form does."""
        with self.client(account) as client:
            return client.patch(
                f"/users/{account.id}/picture", files={"file": (filename, content)}, **more
            )

    def get_picture(self, image_path: str) -> httpx.Response:
        """Load what `image_path` names, as a browser does."""
        with self.client() as client:
            return client.get(image_path)


@dataclass(frozen=True)
class Bucket:
    """A bucket on one of the S3 servers, publicly readable."""

    endpoint: str
    name: str

    @classmethod
    def make(cls, endpoint: str) -> "Bucket":
        bucket = cls(endpoint, f"bucket-{uuid.uuid4().hex}")
        bucket.client().create_bucket(Bucket=bucket.name)
        bucket.client().put_bucket_policy(Bucket=bucket.name, Policy=json.dumps(bucket.policy))
        return bucket

    @classmethod
    def of(cls, settings: dict[str, str]) -> "Bucket":
        return cls(settings["S3_ENDPOINT_URL"], settings["S3_BUCKET_NAME"])

    @property
    def policy(self) -> dict[str, Any]:
        """Lets everyone read the pictures."""
        everyone_reads = {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": [
                f"arn:aws:s3:::{self.name}/{name}/*"
                for name in ("profile_pics", "photos", "thumbnails")
            ],
        }
        return {"Version": "2012-10-17", "Statement": [everyone_reads]}

    def settings(self) -> dict[str, str]:
        return {
            "STORAGE": "s3",
            "S3_BUCKET_NAME": self.name,
            "S3_ENDPOINT_URL": self.endpoint,
            "S3_ACCESS_KEY_ID": "test",
            "S3_SECRET_ACCESS_KEY": "test",
        }

    def client(self) -> Any:
        return _s3_client(self.endpoint)

    def objects(self) -> dict[str, bytes]:
        client = self.client()
        found = {}
        for listed in client.list_objects_v2(Bucket=self.name).get("Contents", []):
            # What the service deletes between the list and the look is not there.
            with contextlib.suppress(client.exceptions.NoSuchKey):
                answer = client.get_object(Bucket=self.name, Key=listed["Key"])
                found[listed["Key"]] = answer["Body"].read()
        found.pop(markers.BUCKET_KEY, None)
        return found


@functools.cache
def _s3_client(endpoint: str) -> Any:
    """One for all and for any thread: making it takes longer than most of what it is asked."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


@contextlib.contextmanager
def s3_server(kind: str) -> Iterator[str]:
    """moto or ministack in a process of its own, on loopback; yields its endpoint."""
    port = free_port()
    if kind == "moto":
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        environment = dict(os.environ)
    else:
        command = [sys.executable, "-m", "ministack"]
        environment = {
            **os.environ,
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "SERVICES": "s3",
        }
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(httpx.HTTPError):
                get(endpoint, timeout=5)
                break
            assert process.poll() is None and time.monotonic() < deadline, f"{kind} did not start"
            time.sleep(0.05)
        yield endpoint
    finally:
        process.terminate()
        process.wait(10)


def processes_below(folder: Path) -> dict[int, str]:
    """The running processes that work in this folder or name it on their command line, by pid."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            cwd = os.readlink(entry / "cwd")  # a zombie has none, and is no running process
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if Path(cwd.removesuffix(" (deleted)")).is_relative_to(folder) or str(folder) in command:
            found[int(entry.name)] = command
    return found


def wait_until(happened: Callable[[], object], what: str) -> None:
    """Return as soon as it is so; fail when it does not come to be."""
    deadline = time.monotonic() + START_SECONDS
    while not happened():
        assert time.monotonic() < deadline, f"this did not happen: {what}"
        time.sleep(0.02)


def wait_until_none_is_left(folder: Path) -> None:
    """Wait for the end of every process of the folder; fail for those that stay, and end them."""
    try:
        wait_until(lambda: not processes_below(folder), "every process of the folder ended")
    finally:
        for pid in processes_below(folder):
            os.kill(pid, signal.SIGKILL)


def postmaster(data_dir: Path) -> int:
    """The pid of the embedded database's server."""
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


def part(
    content: bytes, disposition: str = 'form-data; name="file"; filename="photo.jpg"'
) -> bytes:
    """One part of a form, with the boundary before it."""
    return (
        f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"
    )


def form(*parts: bytes) -> bytes:
    """A whole form."""
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def read_answer(connection: socket.socket) -> httpx.Response:
    """Read one answer from a socket."""
    found = HTTPResponse(connection)
    found.begin()
    return httpx.Response(found.status, headers=found.getheaders(), content=found.read())


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    """The answer is this error, in the one shape."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code), body
    assert body["type"] == f"urn:darkroom:error:{code}"
    assert set(body) == {"type", "title", "status", "detail", "code", "request_id"}
    assert body["title"] and body["detail"].endswith(".")
    assert body["request_id"] and body["request_id"] == answer.headers["x-request-id"]
