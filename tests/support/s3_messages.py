"""What goes over the wire between a client and an S3 server: requests, answers, errors."""

import http.client
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# Headers that are about one connection and not about what goes over it.
OF_THE_HOP = {
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "content-length",
    "expect",
}

# What a store says with every answer, and of every object.
HEADERS = {
    "Content-Type": "application/xml",
    "x-amz-request-id": "planned",
    "ETag": '"planned"',
}
_LISTED_KEY = re.compile(rb"<Key>([^<]*)</Key>")


@dataclass(frozen=True)
class Request:
    """A request as it arrived; the key is as it stands in the path, '' for one of a bucket."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return key_of(self.path)

    @property
    def is_deletion(self) -> bool:
        """Whether objects are to be deleted: one, or many in one call."""
        return self.method == "DELETE" or (self.method == "POST" and is_of_many(self.path))

    @property
    def keys(self) -> list[str]:
        """The keys of all objects that it is about."""
        if self.method == "POST" and is_of_many(self.path):
            return [key.decode() for key in _LISTED_KEY.findall(self.body)]
        return [self.key]


@dataclass
class Answer:
    """An answer of a script: a status with an S3 error code, or what else a broken service says.

    Its headers are those of a store, if no others are given.
    """

    status: int = 200
    code: str = ""
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=lambda: dict(HEADERS))
    length: int | None = None  # what Content-Length claims, if not the truth
    stalls: bool = False  # after it, instead of closing
    raw: bytes | None = None  # instead of HTTP

    def render(self, method: str) -> bytes:
        """What answers a request of this method."""
        if self.raw is not None:
            return self.raw
        content = self.body
        if content is None:
            content = render_error(self.code) if self.code else b""
        length = len(content) if self.length is None else self.length
        shown = content if method != "HEAD" else b""
        return render(self.status, list(self.headers.items()), shown, str(length))


def key_of(path: str) -> str:
    """The key of a request's path, as it stands there; '' for one of a bucket."""
    return path.partition("?")[0].strip("/").partition("/")[2]


def is_of_many(path: str) -> bool:
    """Whether a POST to this path is a deletion of many objects."""
    return path.partition("?")[2].split("&")[0] == "delete"


def render_deleted(keys: Iterable[str]) -> bytes:
    """The body of an answer to a deletion of many, all of which are gone."""
    deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
    return f"<?xml version='1.0'?><DeleteResult>{deleted}</DeleteResult>".encode()


def render_error(code: str) -> bytes:
    """The body of an answer with this error."""
    error = f"<Error><Code>{code}</Code><Message>planned</Message></Error>"
    return f"<?xml version='1.0'?>{error}".encode()


def render(
    status: int, headers: list[tuple[str, str]], content: bytes, length: str | None = None
) -> bytes:
    """A whole answer; of one to a HEAD the length is that of what is not there."""
    lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, '')}"]
    lines += [f"{name}: {value}" for name, value in headers if name.lower() not in OF_THE_HOP]
    if status != 204:
        lines.append(f"Content-Length: {length or len(content)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content
