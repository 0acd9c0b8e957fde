"""A multipart form read while it arrives: the one file goes to a sink, small fields are kept.

Browsers, phones and scripts say in different ways what is a file; all of them are understood here.
"""

import re
from pathlib import PureWindowsPath
from typing import Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from config import KIB, MIB
from errors import (
    FileIsAField,
    FileMissing,
    FileTooLarge,
    MalformedForm,
    NotAForm,
    TooManyFiles,
)
from web.sentences import NO_BOUNDARY

MOST_PARTS = 20
# What may stand before the first boundary (RFC 2046, section 5.1.1): a line or two, if anything.
LONGEST_PREAMBLE_BYTES = 4 * KIB

OTHER_NAME = (
    "The form has a file, but under another name. Please send the picture in a field named file."
)
# What a column of the database keeps of a file's name.
LONGEST_FILENAME = 255

_ENCODED_FILENAME = re.compile(rb";\s*filename\*[\d*]*\s*=", re.IGNORECASE)


class FileSink(Protocol):
    """Takes the bytes of a file."""

    def write(self, data: memoryview, /) -> object:
        """Take the next bytes, which are not kept by whoever gives them."""

    def tell(self) -> int:
        """Tell how many came so far."""


# JPEGs of 48 or 50 megapixels from today's phones have 8 to 16 MB; HEICs of 12 to 48, two to four.
LARGE_PHOTO_BYTES = 16_000_000
WHAT_PHONES_WRITE = (
    "Phones write 2 to 4 MB as HEIC (High Efficiency), but 8 to 16 MB as a JPEG of 48 megapixels:"
    " choose HEIC or 12 megapixels in the camera's settings, or a smaller size when you share it."
)


def make_too_large(max_file_bytes: int) -> FileTooLarge:
    """Make the refusal of a file beyond this limit, which it names, and what phones write."""
    limit = f"{max_file_bytes / MIB:.3g} MiB"
    sentence = f"The file is larger than {limit}. Please send a smaller one."
    if max_file_bytes < LARGE_PHOTO_BYTES:
        sentence = f"{sentence} {WHAT_PHONES_WRITE}"
    return FileTooLarge(sentence)


class FormReader:
    """Feeds a body to a streaming parser; writes the one file to a sink, and keeps the fields.

    Raises NotAForm for another content type.
    """

    def __init__(
        self,
        content_type: str,
        sink: FileSink,
        *,
        max_file_bytes: int,
        longest_field_bytes: int,
    ) -> None:
        kind, options = parse_options_header(content_type.encode("latin-1"))
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data":
            raise NotAForm
        if not boundary:
            raise NotAForm(NO_BOUNDARY)
        self.fields: dict[bytes, bytearray] = {}
        self.filename = ""  # as the sender named it, without a path
        self._sink = sink
        self._max_file_bytes = max_file_bytes
        self._longest_field_bytes = longest_field_bytes
        self._delimiter = b"--" + boundary
        self._preamble: bytearray | None = bytearray()  # None once it is over
        self._has_file = False
        self._is_other_file = False
        # Where the content of the part goes; None: a file, if anything comes.
        self._target: FileSink | bytearray | None = bytearray()
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

    def finish(self) -> None:
        """Say that the body has ended. Raises a BadForm where the form, or its file, has not."""
        if not self._is_complete:
            raise MalformedForm
        if not self._has_file:
            raise FileIsAField if b"file" in self.fields else FileMissing

    def let_go(self) -> None:
        """Let go of the sink now; parser and reader hold each other until the collector comes."""
        del self._sink
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
            self.filename = read_filename(options.get(b"filename", b""))
        elif b"filename" in options or (name == b"file" and self._is_typed_as_file()):
            self._target = None
        elif name in self.fields:
            raise MalformedForm("A text field of the form comes twice.")
        else:
            self._target = bytearray()
            self.fields[name] = self._target

    def _is_typed_as_file(self) -> bool:
        """Whether a part without a file's name says in another way that it is a file."""
        kind, _ = parse_options_header(self._headers.get(b"content-type", b"text/plain"))
        encoding = self._headers.get(b"content-transfer-encoding", b"")
        return not kind.startswith(b"text/") or encoding.strip().lower() == b"binary"

    def _begin_file(self) -> FileSink:
        if self._has_file:
            raise TooManyFiles
        if self._is_other_file:
            raise FileMissing(OTHER_NAME)
        self._has_file = True
        self._target = self._sink
        return self._sink

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        if self._target is None:
            # Not the empty part that a browser sends where no file was chosen.
            self._target = self._begin_file()
        if not isinstance(self._target, bytearray):
            if self._target.tell() + end - start > self._max_file_bytes:
                raise make_too_large(self._max_file_bytes)
            self._target.write(memoryview(data)[start:end])
        elif len(self._target) + end - start > self._longest_field_bytes:
            if self._target is self.fields.get(b"file"):
                raise FileIsAField
            raise MalformedForm("A text field of the form is too long.")
        else:
            self._target += data[start:end]

    def _end(self) -> None:
        self._is_complete = True


def read_filename(value: bytes) -> str:
    """Read the name that a sender gave to a file: without a path, and shown, never opened."""
    name = PureWindowsPath(value.decode("utf-8", "replace")).name
    return "".join(character for character in name if character.isprintable())[:LONGEST_FILENAME]
