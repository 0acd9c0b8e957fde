"""The body of an upload: admitted before its first byte is read, parsed while it arrives.

It is a form with one picture, which stays in memory, and small text fields; or the bare picture.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Protocol

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
from web.sentences import NO_BOUNDARY

# Text fields are numbers such as crop.
LONGEST_FIELD_BYTES = KIB
MOST_PARTS = 20
# What may stand before the first boundary (RFC 2046, section 5.1.1): a line or two, if anything.
LONGEST_PREAMBLE_BYTES = 4 * KIB

OTHER_NAME = (
    "The form has a file, but under another name. Please send the picture in a field named file."
)
# What a program writes where a variable has no value.
NO_VALUES = ("undefined", "null", "None", "NaN", "[object Object]")

_ENCODED_FILENAME = re.compile(rb";\s*filename\*[\d*]*\s*=", re.IGNORECASE)


@dataclass
class PictureForm:
    """What the form held; `content` is empty again once its bytes are no longer admitted."""

    content: bytes
    crop: Crop | None


class BodyReader(Protocol):
    """Reads one kind of body, piece by piece."""

    def read_piece(self, piece: bytes) -> None:
        """Take the next bytes of the body. Raises a BadForm or FileTooLarge."""

    def finish(self) -> PictureForm:
        """Return what the whole body held. Raises a BadForm."""

    def let_go(self) -> None:
        """Free the file now."""


@asynccontextmanager
async def admit_picture_form(
    request: Request, admission: Admission, settings: Settings
) -> AsyncIterator[PictureForm]:
    """Admit, read and parse a multipart form with one picture, or a body that is one.

    Its memory is reserved until the context ends. Raises Busy or ShuttingDown, FileTooLarge (before
    the first byte if the client announces its length), UploadStalled, or a BadForm.
    """
    longest_bytes = settings.max_upload_size_bytes + FORM_OVERHEAD_BYTES
    announced_bytes = read_announced_bytes(request)
    too_large = partial(_make_too_large, settings.max_upload_size_bytes)
    if announced_bytes is not None and announced_bytes > longest_bytes:
        raise too_large()
    reader = _choose_reader(request.headers.get("content-type", ""), settings.max_upload_size_bytes)
    async with admission.reserve(longest_bytes if announced_bytes is None else announced_bytes):
        receive = PacedReceive(
            request.receive,
            stall_seconds=settings.upload_stall_seconds,
            longest_bytes=longest_bytes,
            too_large=too_large,
        )
        try:
            form = await _read_body(receive, reader)
        finally:
            reader.let_go()
        try:
            yield form
        finally:
            form.content = b""


def _choose_reader(content_type: str, max_file_bytes: int) -> BodyReader:
    if content_type.lower().startswith("image/"):
        return BareReader(max_file_bytes)
    return FormReader(content_type, max_file_bytes)


async def _read_body(receive: Receive, reader: BodyReader) -> PictureForm:
    """Read to the end of the body. Raises a BadForm, or what `receive` raises."""
    is_last = False
    while not is_last:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        reader.read_piece(message.get("body", b""))
        is_last = not message.get("more_body", False)
    return reader.finish()


def _make_too_large(max_file_bytes: int) -> FileTooLarge:
    limit = f"{max_file_bytes / MIB:.3g} MiB"
    return FileTooLarge(f"The file is larger than {limit}. Please send a smaller one.")


class BareReader:
    """Keeps a body that is nothing but the picture."""

    def __init__(self, max_file_bytes: int) -> None:
        self._max_file_bytes = max_file_bytes
        self._file = BytesIO()

    def read_piece(self, piece: bytes) -> None:
        """Take the next bytes of the body. Raises FileTooLarge."""
        if self._file.tell() + len(piece) > self._max_file_bytes:
            raise _make_too_large(self._max_file_bytes)
        self._file.write(piece)

    def finish(self) -> PictureForm:
        """Return the picture."""
        return PictureForm(self._file.getvalue(), None)

    def let_go(self) -> None:
        """Free the file now."""
        self._file = BytesIO()


class FormReader:
    """Feeds a body to a streaming parser, and keeps the one file and the small fields it holds.

    Raises NotAForm for another content type.
    """

    def __init__(self, content_type: str, max_file_bytes: int) -> None:
        kind, options = parse_options_header(content_type.encode("latin-1"))
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data":
            raise NotAForm
        if not boundary:
            raise NotAForm(NO_BOUNDARY)
        self._max_file_bytes = max_file_bytes
        self._delimiter = b"--" + boundary
        self._preamble: bytearray | None = bytearray()  # None once it is over
        # Written to and then read without a copy, which
        # a list of chunks joined at the end would need.
        self._file: BytesIO | None = None
        self._is_other_file = False
        self._fields: dict[bytes, bytearray] = {}
        # Where the content of the part goes; None: a file, if anything comes.
        self._target: BytesIO | bytearray | None = bytearray()
        self._parts = 0
        self._is_complete = False
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._headers: dict[bytes, bytes] = {}
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

    def read_piece(self, piece: bytes) -> None:
        """Take the next bytes of the body. Raises a BadForm or FileTooLarge."""
        try:
            self._parser.write(self._skip_preamble(piece))
        except FormParserError as err:
            raise MalformedForm from err

    def finish(self) -> PictureForm:
        """Return what the whole body held. Raises a BadForm."""
        if not self._is_complete:
            raise MalformedForm
        if self._file is None:
            raise FileIsAField if b"file" in self._fields else FileMissing
        return PictureForm(self._file.getvalue(), _parse_crop(self._fields.get(b"crop")))

    def let_go(self) -> None:
        """Free the file now; parser and reader hold each other until the collector comes."""
        self._file = None
        self._target = bytearray()
        self._parser.callbacks = {}

    def _skip_preamble(self, piece: bytes) -> bytes:
        """Leave out what stands before the first boundary."""
        if self._preamble is None:
            return piece
        if not self._preamble and piece.startswith(self._delimiter):
            self._preamble = None
            return piece
        self._preamble += piece
        begun = bytes(self._preamble)
        start = 0 if begun.startswith(self._delimiter) else begun.find(b"\n" + self._delimiter) + 1
        is_found = begun.startswith(self._delimiter, start)
        if (start if is_found else len(begun)) > LONGEST_PREAMBLE_BYTES:
            raise MalformedForm
        if not is_found:
            return b""
        self._preamble = None
        return begun[start:]

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise MalformedForm
        self._headers = {}

    def _end_header(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name = bytearray()
        self._header_value = bytearray()

    def _begin_content(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        _, options = parse_options_header(disposition)
        name = options.get(b"name")
        if name is None:
            raise MalformedForm
        self._is_other_file = name != b"file"
        # `filename*` is not for forms (RFC 7578, section 4.2), but some clients send only that.
        if options.get(b"filename") or _ENCODED_FILENAME.search(disposition):
            self._begin_file()
        elif b"filename" in options or (name == b"file" and self._is_typed_as_file()):
            self._target = None
        elif name in self._fields:
            raise MalformedForm("A text field of the form comes twice.")
        else:
            self._target = bytearray()
            self._fields[name] = self._target

    def _is_typed_as_file(self) -> bool:
        """Whether a part without a file's name says in another way that it is a file."""
        kind, _ = parse_options_header(self._headers.get(b"content-type", b"text/plain"))
        encoding = self._headers.get(b"content-transfer-encoding", b"")
        return not kind.startswith(b"text/") or encoding.strip().lower() == b"binary"

    def _begin_file(self) -> BytesIO:
        if self._file is not None:
            raise TooManyFiles
        if self._is_other_file:
            raise FileMissing(OTHER_NAME)
        self._file = BytesIO()
        self._target = self._file
        return self._file

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        if self._target is None:
            # Not the empty part that a browser sends where no file was chosen.
            self._target = self._begin_file()
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
    if value is None:
        return None
    text = bytes(value).decode("ascii", "replace").strip()
    if not text:
        raise BadCrop("crop is empty. Leave the field out to take the square in the centre.")
    if text in NO_VALUES:
        raise BadCrop(f"crop is the word {text}: it seems that a variable has no value.")
    parts = text.split(",")
    are_numbers = all(part.strip().isdigit() and len(part) <= 9 for part in parts)
    if len(parts) != 3 or not are_numbers:
        raise BadCrop
    x_px, y_px, size_px = map(int, parts)
    return Crop(x_px, y_px, size_px)
