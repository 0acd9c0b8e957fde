"""No test reaches anything but this machine: other addresses and names are refused.

The hook sees what Python's sockets do, in the process that sets it and in all that it forks. uvloop
connects past it, and so do other programs; a name given to `connect` is looked up before it.
"""

import ipaddress
import sys
from collections.abc import Callable
from typing import Any


class OutsideWorld(BaseException):
    """A test, or a service of one, wanted to reach another machine.

    No `Exception`, or the code under test would take it for a store or a database that is away.
    """


def refuse_others() -> None:
    """Let this process reach loopback and sockets in the file system alone, from now on.

    There is no way back: a hook stays as long as its process.
    """
    sys.addaudithook(_check)


def _check(event: str, arguments: tuple[Any, ...]) -> None:
    check = _CHECKS.get(event)
    if check is not None:
        check(*arguments)


def _check_address(_: object, address: object) -> None:
    """Refuse a connection, or a packet, to an address that is not of loopback."""
    if not isinstance(address, tuple) or not isinstance(address[0], str):
        return  # a socket in the file system, or of the kernel
    found = _parse(address[0])
    if found is None:
        _check_name(address[0])
    elif not found.is_loopback:
        raise OutsideWorld(f"A test may not reach {address[0]}, only loopback.")


def _check_name(host: object, *_: object) -> None:
    """Refuse to look up a name; an address is no name, and is refused when it is used."""
    if host is None:
        return
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name not in ("", "localhost") and _parse(name) is None:
        raise OutsideWorld(f"A test may not look up {name}, only localhost.")


def _parse(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


_CHECKS: dict[str, Callable[..., None]] = {
    "socket.connect": _check_address,
    "socket.sendto": _check_address,
    "socket.sendmsg": _check_address,
    "socket.getaddrinfo": _check_name,
    "socket.gethostbyname": _check_name,
}
