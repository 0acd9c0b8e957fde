"""The address that a service listens on: bound before anything else begins, said once it listens.

As long as it is only bound, whoever asks is refused at once.
"""

import errno
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from config import Settings
from errors import StartupError
from locations import EVERY_ADDRESS, find_env_files

LOWEST_OPEN_PORT = 1024
POLL_SECONDS = 0.1


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind every address that the host's name stands for; raises StartupError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as err:
        raise StartupError(
            f"HOST {host} is not known: set it to an address of this machine, such as 127.0.0.1."
        ) from err
    bound = []
    failure: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            bound.append(_bind_one(family, address))
        except OSError as err:
            # localhost has an address of IPv6 also where a container has none.
            if failure is None or err.errno != errno.EADDRNOTAVAIL:
                failure = err
    if failure is not None and (not bound or failure.errno == errno.EADDRINUSE):
        for each in bound:
            each.close()
        raise StartupError(_explain(failure, host, port)) from failure
    return bound


def _bind_one(family: socket.AddressFamily, address: Any) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    made.set_inheritable(True)
    return made


def _explain(err: OSError, host: str, port: int) -> str:
    if err.errno == errno.EADDRINUSE:
        return explain_taken(host, port)
    if err.errno == errno.EACCES and port < LOWEST_OPEN_PORT:
        return f"PORT {port} is for root only: set PORT to {LOWEST_OPEN_PORT} or more."
    if err.errno == errno.EADDRNOTAVAIL:
        return (
            f"HOST {host} is no address of this machine: set it to 127.0.0.1, or to"
            f" {EVERY_ADDRESS} for every address that it has."
        )
    return f"Nothing can listen on HOST {host} and PORT {port}: {err.strerror}."


def explain_taken(host: str, port: int) -> str:
    """Say that another program has the address."""
    return (
        f"Another program listens on port {port} of {host}: end that one, or set PORT to another."
    )


def call_when_open(bound: socket.socket, announce: Callable[[], None]) -> None:
    """Wait until a process accepts connections at this address, and call; blocks."""
    while True:
        try:
            with socket.socket(bound.family, bound.type) as asking:
                asking.connect(bound.getsockname())
        except OSError:
            time.sleep(POLL_SECONDS)
        else:
            announce()
            return


def describe_where(settings: Settings, *, is_embedded: bool) -> str:
    """Tell where the service listens, what it is, and where it keeps its things."""
    current = settings.stores()[settings.store_name]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    everywhere = ", every address of this machine" if settings.host == EVERY_ADDRESS else ""
    if current.storage == "s3":
        store = f"bucket {current.bucket_name}"
    else:
        store = f"folder {current.directory}"
    files = ", ".join(str(file) for file in find_env_files())
    return (
        f"Darkroom listens on http://{host}:{settings.port}{everywhere} (try it: /docs)\n"
        f"  for       {settings.environment}\n"
        f"  settings  {files or 'of the environment only'}\n"
        f"  data      {settings.data_dir}\n"
        f"  database  {'embedded PostgreSQL' if is_embedded else 'DATABASE_URL'}\n"
        f"  store     {settings.store_name}: {store}"
    )
