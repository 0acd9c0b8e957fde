"""Where a URL says that servers are: names, addresses of IPv6, folders of sockets, several of them.

As libpq reads them, in the place of the host or as the words `host` and `port`.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote

DEFAULT_PORT = 5432
# An address of IPv6 in brackets, or whatever has no colon in it, and a port.
_WITH_PORT = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([^:]*))?")
# A folder of sockets may have colons in its name, as those of Cloud SQL do.
_FOLDER_WITH_PORT = re.compile(r"(.*?)(?::([0-9]+))?")


@dataclass(frozen=True)
class Host:
    """A name, an address without brackets, or the folder of a socket; a port, if one is given."""

    name: str
    port: int | None = None

    @property
    def is_folder(self) -> bool:
        return self.name.startswith("/")


def split_authority(authority: str) -> list[Host]:
    """Read what a URL has in the place of its host. Raises ValueError for what is no host."""
    written = [_split_port(part) for part in authority.split(",")] if authority else []
    return [Host(unquote(host.name), host.port) for host in written]


def join_words(names: list[str], ports: list[str]) -> list[Host]:
    """Read the words `host` and `port`, of which there may be several of each.

    Raises ValueError where they do not fit together.
    """
    parts = [part for name in names for part in name.split(",") if part]
    # A folder is taken whole, whatever its name ends in.
    hosts = [Host(part) if part.startswith("/") else _split_port(part) for part in parts]
    numbers = [_read_port(part) for port in ports for part in port.split(",")]
    if not numbers:
        return hosts
    if not hosts and len(numbers) == 1:
        return [Host("", numbers[0])]
    if len(numbers) == 1:
        numbers *= len(hosts)
    if len(numbers) != len(hosts):
        raise ValueError("must have one port for all hosts, or as many ports as hosts")
    return [Host(host.name, port or host.port) for host, port in zip(hosts, numbers, strict=True)]


def _split_port(written: str) -> Host:
    is_folder = written.startswith("/") or written.upper().startswith("%2F")
    if not is_folder and written.count(":") > 1 and not written.startswith("["):
        return Host(written)  # an address of IPv6 as the word host may have it
    found = (_FOLDER_WITH_PORT if is_folder else _WITH_PORT).fullmatch(written)
    if found is None:
        raise ValueError("has a host that is neither a name nor an address")
    name, port = found.groups()
    return Host(name.removeprefix("[").removesuffix("]"), _read_port(port or ""))


def _read_port(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise ValueError("has a port that is no number")
    return int(text)
