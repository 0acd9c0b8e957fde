"""Small servers before moto or ministack that answer as other S3 services do.

A `Front` passes everything on, save for what its `Quirks` say; PROVIDERS has those of services that
people use, as their documentation or the reports of others tell them: none was asked itself.
"""

import contextlib
import http.client
import http.server
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support.s3_messages import OF_THE_HOP, Request, is_of_many, render
from tests.support.web import QuietServer


@dataclass(frozen=True)
class Refusal:
    """How a service refuses a request; `{name}` and `{value}` are those of the header that it was.

    Further fields of the error are given by name; a status of 200 to 499 without a code is a page.
    """

    status: int
    code: str
    message: str = "planned"
    fields: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def render(self, method: str, name: str = "", value: str = "") -> bytes:
        told = {"Code": self.code, "Message": self.message, **self.fields}
        inner = "".join(
            f"<{field}>{text.format(name=name, value=value)}</{field}>"
            for field, text in told.items()
        )
        body = f"<?xml version='1.0' encoding='UTF-8'?><Error>{inner}</Error>".encode()
        headers = {"Content-Type": "application/xml", "x-amz-request-id": "front", **self.headers}
        return render(self.status, list(headers.items()), b"" if method == "HEAD" else body)


@dataclass(frozen=True)
class Quirks:
    """In what a service differs from AWS."""

    # Headers that it refuses, by a pattern of their names, and how.
    refused_headers: dict[str, Refusal] = field(default_factory=dict)
    # The same for one operation alone, as PutObject, UploadPart, CompleteMultipartUpload,
    # CreateMultipartUpload, GetObject, DeleteObjects.
    refused_of: dict[str, dict[str, Refusal]] = field(default_factory=dict)
    # Fields in the body that it does not know, as ChecksumSHA256 of a part.
    refused_fields: dict[str, Refusal] = field(default_factory=dict)
    # Operations that it does not have.
    lacks: dict[str, Refusal] = field(default_factory=dict)
    # Headers that it takes and ignores, or that a proxy before it drops.
    ignored_headers: tuple[str, ...] = ()
    # Every request for the bucket is answered so, as to a bucket of another region.
    redirect: Refusal | None = None
    # Every answer is this page.
    page: bytes | None = None
    # Whether ETags come in their quotes, and what the headers of the service begin with.
    quotes_etags: bool = True
    header_prefix: str = "x-amz-"


class Front:
    """A server with these quirks before a real one, until it is closed; counts what it refused."""

    def __init__(self, endpoint: str, quirks: Quirks) -> None:
        self.endpoint = endpoint
        self.quirks = quirks
        self.requests: list[Request] = []
        self.refused: list[str] = []  # operations, in the order in which they came
        self._server = _Server(self)
        self.url = self._server.url
        self._server.start()

    def close(self) -> None:
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def sent(self, operation: str) -> list[Request]:
        """The requests for this operation, as they arrived."""
        return [request for request in self.requests if name_operation(request) == operation]

    def answer(self, request: Request) -> bytes:
        self.requests.append(request)
        refusal = self._refuse(request)
        if refusal is not None:
            self.refused.append(name_operation(request))
            return refusal
        return self._pass_on(request)

    def _refuse(self, request: Request) -> bytes | None:
        quirks = self.quirks
        if quirks.page is not None:
            return render(200, [("Content-Type", "text/html")], quirks.page)
        operation = name_operation(request)
        if quirks.redirect is not None:
            return quirks.redirect.render(request.method)
        if operation in quirks.lacks:
            return quirks.lacks[operation].render(request.method)
        refused = {**quirks.refused_headers, **quirks.refused_of.get(operation, {})}
        for pattern, refusal in refused.items():
            for name, value in request.headers.items():
                if re.fullmatch(pattern, name):
                    return refusal.render(request.method, name, value)
        if operation not in ("PutObject", "UploadPart"):
            for name, refusal in quirks.refused_fields.items():
                if f"<{name}>".encode() in request.body:
                    return refusal.render(request.method, name)
        return None

    def _pass_on(self, request: Request) -> bytes:
        connection = http.client.HTTPConnection(urlsplit(self.endpoint).netloc, timeout=60)
        try:
            connection.putrequest(
                request.method, request.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in request.headers.items():
                if name not in OF_THE_HOP and name not in self.quirks.ignored_headers:
                    connection.putheader(name, value)  # Host as the client signed it
            connection.putheader("Content-Length", str(len(request.body)))
            connection.endheaders(request.body)
            found = connection.getresponse()
            content = found.read()
            length = found.getheader("Content-Length") if request.method == "HEAD" else None
            return render(found.status, self._say(found.getheaders()), content, length)
        finally:
            connection.close()

    def _say(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        told = []
        for name, value in headers:
            if name.lower() == "etag" and not self.quirks.quotes_etags:
                value = value.strip('"')
            if name.lower().startswith("x-amz-"):
                name = self.quirks.header_prefix + name.lower().removeprefix("x-amz-")
            told.append((name, value))
        return told


def name_operation(request: Request) -> str:
    """Name what a request asks for, as the documentation of S3 does."""
    query = request.path.partition("?")[2]
    words = {word.partition("=")[0] for word in query.split("&")}
    if request.method == "POST" and is_of_many(request.path):
        return "DeleteObjects"
    if not request.key:
        content_type = request.headers.get("content-type", "")
        is_form = content_type.startswith("multipart/form-data")
        return "PostObject" if request.method == "POST" and is_form else "ofTheBucket"
    is_part = "uploadId" in words
    names = {
        "PUT": "UploadPart" if is_part else "PutObject",
        "POST": "CompleteMultipartUpload" if is_part else "CreateMultipartUpload",
        "DELETE": "AbortMultipartUpload" if is_part else "DeleteObject",
        "GET": "GetObject",
        "HEAD": "HeadObject",
        "OPTIONS": "preflight",
    }
    return names[request.method]


_CHECKSUMS = "x-amz-checksum-.*|x-amz-sdk-checksum-algorithm|x-amz-trailer"
_NOT_IMPLEMENTED = Refusal(
    501,
    "NotImplemented",
    "A header you provided implies functionality that is not implemented",
    {"Header": "{name}"},
)
_NO_OPERATION = Refusal(501, "NotImplemented", "This operation is not implemented.")
AWS = Quirks()
# https://developers.cloudflare.com/r2/api/s3/api/ and, for the older one, the reports of
# github.com/aws/aws-sdk-js-v3/issues/6810.
R2 = Quirks(lacks={"PostObject": _NO_OPERATION})
OLD_R2 = replace(
    R2,
    refused_headers={
        _CHECKSUMS: Refusal(
            501, "NotImplemented", "Header '{name}' with value '{value}' not implemented"
        )
    },
)
# https://www.backblaze.com/docs/cloud-storage-s3-compatible-api; github.com/home-assistant/core
# /issues/143995 (checksums), github.com/hashicorp/terraform/issues/37143 (If-None-Match).
B2 = Quirks(
    refused_headers={
        _CHECKSUMS: Refusal(
            400, "InvalidArgument", "Unsupported header '{name}' received for this API call."
        )
    },
    refused_of={
        operation: {
            "if-none-match": Refusal(
                501,
                "NotImplemented",
                "A header you provided implies functionality that is not implemented",
            )
        }
        for operation in ("PutObject", "CompleteMultipartUpload")
    },
    lacks={"PostObject": _NO_OPERATION},
)
# The preconditions of Google's XML API are for reading (cloud.google.com/storage/docs/request-
# preconditions); a deletion of many was an InvalidArgument (github.com/boto/boto3/issues/2293).
GCS = Quirks(
    lacks={"DeleteObjects": Refusal(400, "InvalidArgument", "Invalid argument.")},
    ignored_headers=("if-none-match",),
    header_prefix="x-goog-",
)
# github.com/boto/boto3/issues/4400: what it does not know in the signed headers breaks its check.
OLD_GCS = replace(
    GCS,
    refused_headers={
        _CHECKSUMS: Refusal(403, "SignatureDoesNotMatch", "Invalid argument."),
    },
)
SPACES = Quirks()
# https://docs.wasabi.com: another region is a redirect that names the right endpoint.
WASABI = Quirks(ignored_headers=("if-none-match",))
WASABI_ELSEWHERE = Quirks(
    redirect=Refusal(
        301,
        "PermanentRedirect",
        "The bucket you are attempting to access must be addressed using the specified endpoint.",
        {"Endpoint": "s3.eu-central-1.wasabisys.com"},
    )
)
# Before conditional writes came, in 2024: it ignored the header.
OLD_MINIO = Quirks(ignored_headers=("if-none-match",))
MINIO = Quirks()
# Aliyun OSS: github.com/ZhuJHua/moodiary/pull/305.
ALIYUN = Quirks(
    refused_headers={
        "if-none-match": replace(_NOT_IMPLEMENTED, status=400),
    }
)
# What services, and proxies before them, were seen to do besides.
CREATE_ONLY_UNKNOWN = Quirks(refused_headers={"if-none-match": _NOT_IMPLEMENTED})
CREATE_ONLY_INVALID = Quirks(
    refused_headers={
        "if-none-match": Refusal(400, "InvalidRequest", "Unsupported header: {name}"),
    }
)
CREATE_ONLY_NOT_ALLOWED = Quirks(
    refused_headers={"if-none-match": Refusal(405, "MethodNotAllowed")}
)
CREATE_ONLY_ALWAYS_FAILS = Quirks(
    refused_of={
        operation: {"if-none-match": Refusal(412, "PreconditionFailed")}
        for operation in ("PutObject", "CompleteMultipartUpload")
    }
)
CREATE_ONLY_UNSIGNED = Quirks(
    refused_headers={"if-none-match": Refusal(403, "SignatureDoesNotMatch")}
)
CREATE_ONLY_OF_UPLOADS_UNKNOWN = Quirks(
    refused_of={"CompleteMultipartUpload": {"if-none-match": _NOT_IMPLEMENTED}}
)
CHECKSUMS_OF_PARTS_UNKNOWN = Quirks(
    refused_fields={"ChecksumSHA256": Refusal(400, "MalformedXML", "The XML was not well-formed")}
)
BARE_ETAGS = Quirks(quotes_etags=False)
A_PAGE = Quirks(page=b"<!DOCTYPE html><html><body>Welcome to our console</body></html>")
AWS_ELSEWHERE = Quirks(
    redirect=Refusal(
        301,
        "PermanentRedirect",
        "The bucket you are attempting to access must be addressed using the specified endpoint.",
        headers={"x-amz-bucket-region": "eu-west-1"},
    )
)
AWS_WRONG_SIGNATURE = Quirks(
    redirect=Refusal(
        400,
        "AuthorizationHeaderMalformed",
        "The authorization header is malformed; the region is wrong; expecting 'eu-west-1'",
        {"Region": "eu-west-1"},
    )
)

PROVIDERS: dict[str, Quirks] = {
    "aws": AWS,
    "r2": R2,
    "old r2": OLD_R2,
    "b2": B2,
    "gcs": GCS,
    "old gcs": OLD_GCS,
    "spaces": SPACES,
    "wasabi": WASABI,
    "minio": MINIO,
    "old minio": OLD_MINIO,
    "aliyun": ALIYUN,
    "create-only unknown": CREATE_ONLY_UNKNOWN,
    "create-only invalid": CREATE_ONLY_INVALID,
    "create-only not allowed": CREATE_ONLY_NOT_ALLOWED,
    "create-only always fails": CREATE_ONLY_ALWAYS_FAILS,
    "create-only unsigned": CREATE_ONLY_UNSIGNED,
    "create-only of uploads unknown": CREATE_ONLY_OF_UPLOADS_UNKNOWN,
    "checksums of parts unknown": CHECKSUMS_OF_PARTS_UNKNOWN,
    "bare etags": BARE_ETAGS,
}


@contextlib.contextmanager
def serve_as(endpoint: str, quirks: Quirks) -> Iterator[Front]:
    """A front with these quirks before the server at this endpoint."""
    with Front(endpoint, quirks) as front:
        yield front


class _Server(QuietServer):
    def __init__(self, front: Front) -> None:
        self.front = front
        super().__init__(_Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _respond(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        request = Request(self.command, self.path, headers, body)
        self.connection.sendall(self.server.front.answer(request))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = _respond

    def log_message(self, format: str, *args: Any) -> None:
        pass
