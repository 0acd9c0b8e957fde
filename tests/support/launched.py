"""Services that serve tests/support/program.py, and what tests send to them over bare sockets."""

import contextlib
import json
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from tests.support.services import FORM, ROOT, Account, Service, get

By = Literal["main.py", "uvicorn"]


def launched(
    settings: dict[str, str],
    constants: Mapping[str, object] | None = None,
    *,
    by: By = "main.py",
    grace_seconds: float = 60,
) -> Service:
    """A service, not yet started, that is served as `main.py` or as uvicorn does it.

    `constants` are those of its modules, by their dotted names.
    """
    changed = {"ops.serving.GRACE_SECONDS": grace_seconds, **(constants or {})}
    program = json.dumps({"by": by, "constants": changed})
    service = Service({"PYTHONPATH": str(ROOT), "TEST_PROGRAM": program, **settings})
    service.command = [sys.executable, "-m", "tests.support.program"]
    if by == "uvicorn":
        service.command += ["--host", service.host, "--port", str(service.port)]
        service.command += ["--timeout-graceful-shutdown", str(round(grace_seconds))]
        service.command += ["--log-level", "info"]
    return service


def held(service: Service) -> dict[str, int]:
    """What the process holds now: bytes reserved, waiting uploads, bytes read, pictures, tasks."""
    found: dict[str, int] = get(f"{service.url}/test/held", timeout=30).json()
    return found


def hold_decoding(service: Service) -> Path:
    """Let no picture be decoded until the file that is returned is removed."""
    gate = Path(service.settings["DATA_DIR"]) / "hold"
    gate.touch()
    return gate


def head(account: Account, length: int) -> bytes:
    """The head of a request that sends a picture in a form of this length."""
    lines = [
        f"PATCH /users/{account.id}/picture HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {length}",
    ]
    lines += [f"{name}: {value}" for name, value in {**account.headers, **FORM}.items()]
    return "\r\n".join([*lines, "", ""]).encode()


@contextlib.contextmanager
def sending(service: Service, content: bytes) -> Iterator[socket.socket]:
    """A connection over which this was sent."""
    with socket.create_connection((service.host, service.port), timeout=60) as connection:
        connection.sendall(content)
        yield connection


def leave(connection: socket.socket, *, by_reset: bool) -> None:
    """Close the connection as a program that ends does, or one that lost its network."""
    if by_reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def files_of(service: Service, account: Account) -> dict[str, str]:
    """The state of every file of the account, by its key."""
    found: list[Any] = service.sql(
        "SELECT key, state FROM stored_files WHERE owner_id = $1", account.id
    )
    return {row["key"]: row["state"] for row in found}
