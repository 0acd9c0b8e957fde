"""An address as it is pasted: taken apart, with the scheme that it lacks, or refused."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from s3.providers import Host, find_host

_DEFAULT_PORTS = {"http": 80, "https": 443}
_WEBSITE = re.compile(r"\bs3-website\b.*\.amazonaws\.")
# Of MinIO's console, whichever port it has.
_PAGES = re.compile(r"/(?:browser|login|object-browser)(?:/.*)?")


@dataclass(frozen=True)
class Address:
    """An address of the web, taken apart."""

    scheme: str
    host: str
    port: int | None
    path: str
    query: dict[str, list[str]]
    has_scheme: bool
    known: Host | None

    @property
    def segments(self) -> list[str]:
        return [segment for segment in self.path.split("/") if segment]

    @property
    def netloc(self) -> str:
        return self.name_netloc(self.host)

    def name_netloc(self, host: str) -> str:
        shown = f"[{host}]" if ":" in host else host
        is_default = self.port in (None, _DEFAULT_PORTS.get(self.scheme))
        return shown if is_default else f"{shown}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.path}".rstrip("/")

    @property
    def is_page(self) -> bool:
        """Whether people are shown pages there."""
        if self.known is not None:
            return self.known.is_console
        return bool(_PAGES.fullmatch(self.path))


def parse_address(text: str, name: str) -> Address:
    """Take an address apart; where it lacks a scheme that can only be https, it has that.

    Raises ValueError for what is none.
    """
    has_scheme = "://" in text
    whole = text if has_scheme else f"https://{text}"
    try:
        parts = urlsplit(whole)
        port = parts.port
    except ValueError as err:
        raise _refuse(name) from err
    scheme = parts.scheme.lower()
    host = (parts.hostname or "").rstrip(".")
    if scheme not in _DEFAULT_PORTS or not host or re.search(r"\s", whole):
        raise _refuse(name)
    if parts.username is not None:
        raise ValueError(f"{name} must be an address without a name or a password in it")
    known = find_host(host)
    if not has_scheme and known is None and not _is_surely_secure(host, port):
        raise ValueError(
            f"{name} must begin with http:// or https://, as in {name}=http://{text.rstrip('/')}"
        )
    if known is not None:
        # All of them answer that, and some of them nothing else; but AWS's websites have no TLS.
        scheme = "http" if _WEBSITE.search(host) else "https"
    return Address(
        scheme=scheme,
        host=host,
        port=port if known is None else None,
        path=parts.path.rstrip("/"),
        query=parse_qs(parts.query or parts.fragment.partition("?")[2]),
        has_scheme=has_scheme,
        known=known,
    )


def _refuse(name: str) -> ValueError:
    return ValueError(f"{name} must be an address like https://s3.example.com")


def _is_surely_secure(host: str, port: int | None) -> bool:
    """Whether a host that stands without a scheme can only mean https."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        is_public = "." in host and not host.endswith((".local", ".internal", ".lan", ".localhost"))
        return is_public and port in (None, 443)
    return False


def looks_like_address(text: str) -> bool:
    """Whether this is one, or the host of a known service without its scheme."""
    return "://" in text or find_host(text.partition("/")[0]) is not None
