"""The service with other constants, a picture step that
can be held, and a page that tells what the process holds.

While a file named `hold` lies in DATA_DIR no picture
is decoded. `/test/held` tells what this process holds.
"""

import contextlib
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.services import FORM, ROOT, Account, Service, get

_PROGRAM = """
import io, pathlib, sys, time, weakref
import main, storage
from files import unit_of_work
from web import admission, uploads
from routers import users

bodies, decoding = weakref.WeakSet(), []
free_at_first = admission.admission._bodies.free[0]

class Body(io.BytesIO):
    def __init__(self):
        bodies.add(self)

uploads.BytesIO = Body
real = users.process_profile_image

def process(*arguments):
    decoding.append(1)
    while pathlib.Path("hold").exists():
        time.sleep(0.01)
    decoding.pop()
    return real(*arguments)

users.process_profile_image = process

@main.app.get("/test/held")
async def held():
    return {
        "reserved": free_at_first - admission.admission._bodies.free[0],
        "waiting": len(admission.admission._bodies.waiting),
        "read": sum(body.tell() for body in bodies),
        "decoding": len(decoding),
        "unfinished": len(unit_of_work._unfinished),
    }
"""
_RUN = {
    "main.py": "main.serve()",
    "uvicorn": "import runpy; sys.argv[:1] = ['uvicorn', 'main:app']; runpy.run_module('uvicorn', None, '__main__')",
}


def launched(
    settings: dict[str, str], *constants: str, by: str = "main.py", grace_seconds: float = 60
) -> Service:
    """A service, not yet started, that is served as `main.py` or as uvicorn does it.

    `constants` are assignments in main, storage or
    unit_of_work, such as `main.SHUTDOWN_FINISH_SECONDS = 1`.
    """
    service = Service({"PYTHONPATH": str(ROOT), **settings})
    program = [_PROGRAM, f"main.GRACE_SECONDS = {grace_seconds}", *constants, _RUN[by]]
    service.command = [sys.executable, "-c", "\n".join(program)]
    if by == "uvicorn":
        grace = ("--timeout-graceful-shutdown", str(round(grace_seconds)))
        service.command += [
            "--host",
            service.host,
            "--port",
            str(service.port),
            "--log-level",
            "info",
            *grace,
        ]
    return service


def held(service: Service) -> dict[str, int]:
    """What the process holds now: bytes reserved, uploads
    that wait, bytes read, pictures in work, tasks unfinished.
    """
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
    """Close the connection, as a program that ends does or as one whose machine lost its network."""
    if by_reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def files_of(service: Service, account: Account) -> dict[str, str]:
    """The state of every file of the account, by its key."""
    found: list[Any] = service.sql(
        "SELECT key, state FROM stored_files WHERE owner_id = $1", account.id
    )
    return {row["key"]: row["state"] for row in found}
