"""An S3 server that is never what a benchmark waits for: it looks at no byte and keeps the first.

It knows just what streaming asks for: PUT, GET and DELETE of objects, and an upload in parts. Of
what is longer than KEPT_BYTES the rest reads as zeros, as padding does.
"""

import itertools
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from io import DEFAULT_BUFFER_SIZE
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from benchmarks.load import Pipe
from tests.support.s3_messages import render_deleted
from tests.support.web import QuietServer

# A whole photo, in front of its padding.
KEPT_BYTES = 8 * 1024 * 1024
BUCKET = "sink"
PIECE_BYTES = 1024 * 1024
_ZEROS = bytes(PIECE_BYTES)
_PART = re.compile(rb"<PartNumber>(\d+)</PartNumber>")
_LISTED_KEY = re.compile(rb"<Key>([^<]*)</Key>")
_RECEIPT = '"a-receipt"'


@dataclass(frozen=True)
class _Kept:
    """The first bytes of an object or a part, and how long it is."""

    begin: bytes
    size_bytes: int


@dataclass
class Sink:
    """What the server keeps."""

    objects: dict[str, _Kept] = field(default_factory=dict)
    parts: dict[str, dict[int, _Kept]] = field(default_factory=dict)  # by upload
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def complete(self, key: str, upload_id: str, asked: bytes) -> None:
        """Make the parts that are asked for one object."""
        parts = self.parts.pop(upload_id)
        chosen = [parts[int(number)] for number in _PART.findall(asked)]
        self.objects[key] = _Kept(chosen[0].begin, sum(part.size_bytes for part in chosen))


class SinkServer(QuietServer):
    """The sink on a port of loopback; as a context it closes itself."""

    def __init__(self) -> None:
        self.sink = Sink()
        super().__init__(_Handler)
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve_sink(pipe: Pipe) -> None:
    """Serve in a process of its own (load.apart): tell the URL, then wait to be told to end."""
    with SinkServer() as server:
        pipe.send("ready")
        pipe.send(server.url)
        pipe.recv()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: SinkServer
    # The kernel drops what is received with MSG_TRUNC, and writes nothing here (tcp(7)).
    _none = bytearray(PIECE_BYTES)

    def do_PUT(self) -> None:
        asked = self._read_query()
        number = int(asked.get("partNumber", 1))
        kept = self._read_body(KEPT_BYTES if number == 1 else 0)
        if "uploadId" in asked:
            self.server.sink.parts[asked["uploadId"]][number] = kept
        else:
            self.server.sink.objects[self._key] = kept
        self._answer(b"", {"ETag": _RECEIPT})

    def do_POST(self) -> None:
        asked = self._read_query()
        body = self._read_body(KEPT_BYTES)
        sink = self.server.sink
        if "delete" in asked:
            keys = [key.decode() for key in _LISTED_KEY.findall(body.begin)]
            for key in keys:
                sink.objects.pop(key, None)
            self._answer(render_deleted(keys))
            return
        if "uploads" in asked:
            upload_id = str(next(sink.numbers))
            sink.parts[upload_id] = {}
            self._answer(
                b"<InitiateMultipartUploadResult><UploadId>%s</UploadId>"
                b"</InitiateMultipartUploadResult>" % upload_id.encode()
            )
            return
        sink.complete(self._key, asked["uploadId"], body.begin)
        self._answer(
            b"<CompleteMultipartUploadResult><ETag>%s</ETag></CompleteMultipartUploadResult>"
            % _RECEIPT.encode()
        )

    def do_GET(self) -> None:
        found = self.server.sink.objects.get(self._key)
        if found is None:
            self._answer(b"<Error><Code>NoSuchKey</Code></Error>", status=404)
            return
        self.send_response(200)
        self.send_header("ETag", _RECEIPT)
        self.send_header("x-amz-request-id", "sink")
        self.send_header("Content-Length", str(found.size_bytes))
        self.end_headers()
        self.wfile.write(found.begin)
        left_bytes = found.size_bytes - len(found.begin)
        while left_bytes:
            left_bytes -= self.wfile.write(_ZEROS[:left_bytes])

    def do_DELETE(self) -> None:
        asked = self._read_query()
        if "uploadId" in asked:
            self.server.sink.parts.pop(asked["uploadId"], None)
        else:
            self.server.sink.objects.pop(self._key, None)
        self._answer(b"", status=204)

    @property
    def _key(self) -> str:
        return urlsplit(self.path).path.removeprefix(f"/{BUCKET}/")

    def _read_query(self) -> dict[str, str]:
        asked = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        return {name: values[0] for name, values in asked.items()}

    def _read_body(self, most_kept_bytes: int) -> _Kept:
        length = int(self.headers.get("Content-Length", 0))
        begin = self.rfile.read(min(length, most_kept_bytes))
        left_bytes = length - len(begin)
        if left_bytes:  # what came with the head, or with the beginning
            left_bytes -= len(self.rfile.read1(min(left_bytes, DEFAULT_BUFFER_SIZE)))
        while left_bytes:
            dropped_bytes = self.connection.recv_into(
                self._none, min(left_bytes, PIECE_BYTES), socket.MSG_TRUNC
            )
            if not dropped_bytes:
                raise ConnectionError
            left_bytes -= dropped_bytes
        return _Kept(begin, length)

    def _answer(
        self, content: bytes, headers: Mapping[str, str] | None = None, status: int = 200
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("x-amz-request-id", "sink")
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass
