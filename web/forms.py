"""The form of an upload: admitted before its first byte is read, parsed while it arrives.

It holds one picture, which stays in memory, and small text fields.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from config import FORM_OVERHEAD_BYTES, KIB, MIB, Settings
from errors import (
    BadCrop,
    FileIsAField,
    FileMissing,
    FileTooLarge,
    MalformedForm,
    NotAForm,
    TooManyFiles,
)
from pictures import Crop
from web.admission import Admission
from web.bodies import PacedReceive, read_announced_bytes

# Text fields are numbers such as crop.
LONGEST_FIELD_BYTES = KIB
MOST_PARTS = 20


@dataclass
class PictureForm:
    """What the form held; `content` is empty again once its bytes are no longer admitted."""

    content: bytes
    crop: Crop | None


@asynccontextmanager
async def admit_picture_form(
    request: Request, admission: Admission, settings: Settings
) -> AsyncIterator[PictureForm]:
    """Admit, read and parse a multipart form with one picture.

    Its memory is reserved until the context ends. Raises Busy or ShuttingDown, FileTooLarge (before
    the first byte if the client announces its length), UploadStalled, or a BadForm.
    """
    longest_bytes = settings.max_upload_size_bytes + FORM_OVERHEAD_BYTES
    announced_bytes = read_announced_bytes(request)
    too_large = partial(_make_too_large, settings.max_upload_size_bytes)
    if announced_bytes is not None and announced_bytes > longest_bytes:
        raise too_large()
    reader = FormReader(request.headers.get("content-type", ""), settings.max_upload_size_bytes)
    async with admission.reserve(longest_bytes if announced_bytes is None else announced_bytes):
        receive = PacedReceive(
            request.receive,
            stall_seconds=settings.upload_stall_seconds,
            longest_bytes=longest_bytes,
            too_large=too_large,
        )
        try:
            form = await reader.read(receive)
        finally:
            reader.let_go()
        try:
            yield form
        finally:
            form.content = b""


def _make_too_large(max_file_bytes: int) -> FileTooLarge:
    limit = f"{max_file_bytes / MIB:.3g} MiB"
    return FileTooLarge(f"The file is larger than {limit}. Please send a smaller one.")


class FormReader:
    """Feeds a body to a streaming parser, and keeps the one file and the small fields it holds.

    Raises NotAForm for another content type.
    """

    def __init__(self, content_type: str, max_file_bytes: int) -> None:
        kind, options = parse_options_header(content_type.encode("latin-1"))
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise NotAForm
        self._max_file_bytes = max_file_bytes
        # Written to and then read without a copy, which
        # a list of chunks joined at the end would need.
        self._file: BytesIO | None = None
        self._file_name = b""
        self._fields: dict[bytes, bytearray] = {}
        self._target: BytesIO | bytearray = bytearray()
        self._parts = 0
        self._is_complete = False
        self._header_name = bytearray()
        self._header_value = bytearray()
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

    async def read(self, receive: Receive) -> PictureForm:
        """Read to the end of the body. Raises a BadForm, or what `receive` raises."""
        is_last = False
        while not is_last:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            try:
                self._parser.write(message.get("body", b""))
            except FormParserError as err:
                raise MalformedForm from err
            is_last = not message.get("more_body", False)
        if not self._is_complete:
            raise MalformedForm
        if self._file is None:
            raise FileIsAField if b"file" in self._fields else FileMissing
        content = self._file.getvalue()
        if not content and not self._file_name:  # what a browser sends when no file was chosen
            raise FileMissing
        return PictureForm(content, _parse_crop(self._fields.get(b"crop")))

    def let_go(self) -> None:
        """Free the file now; parser and reader hold each other until the collector comes."""
        self._file = None
        self._target = bytearray()
        self._parser.callbacks = {}

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise MalformedForm
        self._disposition = b""

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name = bytearray()
        self._header_value = bytearray()

    def _begin_content(self) -> None:
        kind, options = parse_options_header(self._disposition)
        name = options.get(b"name")
        if kind != b"form-data" or name is None:
            raise MalformedForm
        if b"filename" not in options:
            if name in self._fields:
                raise MalformedForm("A text field of the form comes twice.")
            self._target = bytearray()
            self._fields[name] = self._target
        elif self._file is not None:
            raise TooManyFiles
        elif name != b"file":
            raise FileMissing
        else:
            self._file_name = options[b"filename"]
            self._file = BytesIO()
            self._target = self._file

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        if isinstance(self._target, BytesIO):
            if self._target.tell() + end - start > self._max_file_bytes:
                raise _make_too_large(self._max_file_bytes)
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
    are_numbers = all(part.strip().isdigit() and len(part) <= 9 for part in parts)
    if len(parts) != 3 or not are_numbers:
        raise BadCrop
    x_px, y_px, size_px = map(int, parts)
    return Crop(x_px, y_px, size_px)
