"""Bounding and reading a request's body.

Every body is counted while it arrives and must keep a minimum rate; a picture's
is admitted before its first byte is read. Nothing is written to disk.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect
from starlette.types import Message

from config import FORM_OVERHEAD_BYTES, KIB, settings
from errors import (
    BadCrop,
    BodyTooLarge,
    FileIsAField,
    FileMissing,
    FileTooLarge,
    MalformedForm,
    NotAForm,
    TooManyFiles,
    UploadStalled,
)
from pictures.costs import Crop
from web.admission import admission

# Text fields are numbers such as crop.
LONGEST_FIELD_BYTES = KIB
MOST_PARTS = 20
# Of every other request. The largest of them is an account's, of a few KiB at most.
MAX_SMALL_BODY_BYTES = 64 * KIB
# A bad mobile connection makes ten times this; a client
# that keeps below it holds memory that others wait for.
MINIMUM_BYTES_PER_SECOND = 8 * KIB
# At that rate, and after one pause.
SMALL_BODY_SECONDS = MAX_SMALL_BODY_BYTES / MINIMUM_BYTES_PER_SECOND


class BoundedRoute(APIRoute):
    """A route whose body is JSON or a small form: bounded
    in size and time, and refused before its handler runs.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_bounded(request: Request) -> Response:
            if (_announced_bytes(request) or 0) > MAX_SMALL_BODY_BYTES:
                raise BodyTooLarge
            received = 0
            is_read = False
            now = asyncio.get_running_loop().time
            deadline = now() + settings.upload_stall_seconds + SMALL_BODY_SECONDS

            async def receive() -> Message:
                nonlocal received, is_read
                try:
                    due = min(deadline, now() + settings.upload_stall_seconds)
                    async with asyncio.timeout_at(None if is_read else due):
                        message = await request.receive()
                except TimeoutError as err:
                    raise UploadStalled from err
                is_read = not message.get("more_body", False)
                received += len(message.get("body", b""))
                if received > MAX_SMALL_BODY_BYTES:
                    raise BodyTooLarge
                return message

            return await handle(Request(request.scope, receive))

        return handle_bounded


@dataclass
class PictureForm:
    """What the form held: the file's bytes, empty again once
    they are no longer admitted, and, if given, the crop.
    """

    content: bytes
    crop: Crop | None


@asynccontextmanager
async def admitted_picture_form(request: Request) -> AsyncIterator[PictureForm]:
    """Admit, read and parse a multipart form with one
    picture; its memory is reserved until the context ends.

    Raises Busy or ShuttingDown, FileTooLarge (before the first byte
    if the client announces its length), UploadStalled, or a BadForm.
    """
    longest = settings.max_upload_size_bytes + FORM_OVERHEAD_BYTES
    announced = _announced_bytes(request)
    if announced is not None and announced > longest:
        raise _too_large()
    reader = _FormReader(request, settings.max_upload_size_bytes)
    async with admission.reserve(longest if announced is None else announced):
        try:
            form = await reader.read(longest)
        finally:
            reader.let_go()
        try:
            yield form
        finally:
            form.content = b""


def _announced_bytes(request: Request) -> int | None:
    value = request.headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() else None


def _too_large() -> FileTooLarge:
    limit = settings.max_upload_size_bytes
    return FileTooLarge(
        f"The file is larger than {limit / 1024 / 1024:.3g} MiB. Please send a smaller one."
    )


class _FormReader:
    """Feeds the body to a streaming parser and keeps the one file and the small fields it may hold."""

    def __init__(self, request: Request, max_file_bytes: int) -> None:
        kind, options = parse_options_header(
            request.headers.get("content-type", "").encode("latin-1")
        )
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise NotAForm
        self._request = request
        self._max_file_bytes = max_file_bytes
        # Written to and then read without a copy, which
        # a list of chunks joined at the end would need.
        self._file: BytesIO | None = None
        self._file_name = b""
        self._fields: dict[bytes, bytearray] = {}
        self._target: BytesIO | bytearray = bytearray()
        self._parts = 0
        self._is_complete = False
        self._header_name, self._header_value = bytearray(), bytearray()
        self._disposition = b""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": lambda data, start, end: self._header_name.extend(
                        data[start:end]
                    ),
                    "on_header_value": lambda data, start, end: self._header_value.extend(
                        data[start:end]
                    ),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_content,
                    "on_part_data": self._add_content,
                    "on_end": self._end,
                },
            )
        except FormParserError as err:
            raise NotAForm from err

    async def read(self, longest_bytes: int) -> PictureForm:
        received = 0
        async for chunk in _paced(self._request):
            received += len(chunk)
            if received > longest_bytes:
                raise _too_large()
            try:
                self._parser.write(chunk)
            except FormParserError as err:
                raise MalformedForm from err
        if not self._is_complete:
            raise MalformedForm
        if self._file is None:
            raise FileIsAField if b"file" in self._fields else FileMissing
        content = self._file.getvalue()
        if not content and not self._file_name:  # what a browser sends when no file was chosen
            raise FileMissing
        return PictureForm(content, _parse_crop(self._fields.get(b"crop")))

    def let_go(self) -> None:
        """Free the file now: parser and reader hold each
        other, which otherwise only the collector would end.
        """
        self._file, self._target = None, bytearray()
        self._parser.callbacks = {}

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise MalformedForm
        self._disposition = b""

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name, self._header_value = bytearray(), bytearray()

    def _begin_content(self) -> None:
        kind, options = parse_options_header(self._disposition)
        name = options.get(b"name")
        if kind != b"form-data" or name is None:
            raise MalformedForm
        if b"filename" not in options:
            if name in self._fields:
                raise MalformedForm("A text field of the form comes twice.")
            self._target = self._fields[name] = bytearray()
        elif self._file is not None or name != b"file":
            raise TooManyFiles if self._file is not None else FileMissing
        else:
            self._file_name = options[b"filename"]
            self._target = self._file = BytesIO()

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        if isinstance(self._target, BytesIO):
            if self._target.tell() + end - start > self._max_file_bytes:
                raise _too_large()
            self._target.write(memoryview(data)[start:end])
        elif len(self._target) + end - start > LONGEST_FIELD_BYTES:
            if self._target is self._fields.get(b"file"):
                raise FileIsAField
            raise MalformedForm("A text field of the form is too long.")
        else:
            self._target += data[start:end]

    def _end(self) -> None:
        self._is_complete = True


def _parse_crop(value: bytearray | None) -> Crop | None:
    if not value:
        return None
    parts = bytes(value).decode("ascii", "replace").split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() and len(part) <= 9 for part in parts):
        raise BadCrop
    x_px, y_px, size_px = map(int, parts)
    return Crop(x_px, y_px, size_px)


async def _paced(request: Request) -> AsyncIterator[bytes]:
    """The body's chunks, from a client that neither pauses too long nor trickles.

    Raises UploadStalled.
    """
    started = time.monotonic()
    received = 0
    while True:
        due = started + settings.upload_stall_seconds + received / MINIMUM_BYTES_PER_SECOND
        try:
            async with asyncio.timeout(min(settings.upload_stall_seconds, due - time.monotonic())):
                message = await request.receive()
        except TimeoutError as err:
            raise UploadStalled from err
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        received += len(message.get("body", b""))
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return
