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

from config import FORM_OVERHEAD_BYTES, KIB, Settings
from errors import BadBackground, BadCrop
from pictures import PICTURES_TAKEN, Background, Crop
from web.admission import Admission, Reservation
from web.bodies import PacedReceive, read_announced_bytes
from web.form_reader import FormReader, make_too_large

# Text fields are numbers and colours, such as crop and background.
LONGEST_FIELD_BYTES = KIB
# What a program writes where a variable has no value.
NO_VALUES = ("undefined", "null", "None", "NaN", "[object Object]")
_COLOUR = re.compile("#([0-9a-fA-F]{6})")

_CROP_DESCRIPTION = "x,y,size: a square in pixels of the upright picture; else its centre"
_BACKGROUND_DESCRIPTION = (
    "#rrggbb: what shows where the picture is transparent, else white, or nothing where the"
    " service keeps transparency; or auto: white or dark, whichever the drawing stands out from"
)
# The form as the API's document shows it. Neither the bare picture nor the JSON of a photo's id is
# in that: generators of clients warn of the one, and of the form and the other keep only the JSON.
PICTURE_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            # Of OpenAPI 3.0, and what every generator of clients understands.
                            "format": "binary",
                            "contentMediaType": "application/octet-stream",
                            "description": PICTURES_TAKEN,
                        },
                        "crop": {
                            "type": "string",
                            "pattern": r"^\d{1,9},\d{1,9},\d{1,9}$",
                            "examples": [""],  # what the try-it-out page fills in
                            "description": _CROP_DESCRIPTION,
                        },
                        "background": {
                            "type": "string",
                            "pattern": r"^(#[0-9a-fA-F]{6}|auto)$",
                            "examples": ["#ffffff"],  # what the try-it-out page sends
                            "description": _BACKGROUND_DESCRIPTION,
                        },
                    },
                }
            },
        },
    }
}


@dataclass
class PictureForm:
    """What the form held, and its memory, until it is let go of."""

    content: bytes
    crop: Crop | None
    reservation: Reservation
    background: Background | None = None

    def let_go(self) -> None:
        """Forget the picture, and give its memory back."""
        self.content = b""
        self.reservation.release()


@dataclass(frozen=True)
class ReadForm:
    """What a body held."""

    content: bytes
    crop: Crop | None = None
    background: Background | None = None


class BodyReader(Protocol):
    """Reads one kind of body, piece by piece."""

    def read_piece(self, piece: bytes) -> None:
        """Take the next bytes of the body. Raises a BadForm or FileTooLarge."""

    def finish(self) -> ReadForm:
        """Return what the whole body held. Raises a BadForm."""

    def let_go(self) -> None:
        """Free the file now."""


@asynccontextmanager
async def admit_picture_form(
    request: Request,
    admission: Admission,
    settings: Settings,
    account_id: int,
    address: str | None,
) -> AsyncIterator[PictureForm]:
    """Admit, read and parse a multipart form with one picture, or a body that is one.

    The seat is held until the context ends, the memory until then or until the form is let go of.
    Raises Busy or ShuttingDown, FileTooLarge (before the first byte if the client announces its
    length), UploadStalled, or a BadForm.
    """
    longest_bytes = settings.max_upload_size_bytes + FORM_OVERHEAD_BYTES
    announced_bytes = read_announced_bytes(request)
    too_large = partial(make_too_large, settings.max_upload_size_bytes)
    if announced_bytes is not None and announced_bytes > longest_bytes:
        raise too_large()
    reader = _choose_reader(request.headers.get("content-type", ""), settings.max_upload_size_bytes)
    async with admission.admit(account_id, address) as reservation:
        receive = PacedReceive(
            request.receive,
            settings,
            longest_bytes=longest_bytes if announced_bytes is None else announced_bytes,
            too_large=too_large,
            reservation=reservation,
        )
        try:
            read = await _read_body(receive, reader)
        finally:
            reader.let_go()
        form = PictureForm(read.content, read.crop, reservation, read.background)
        del read
        try:
            yield form
        finally:
            form.let_go()


def _choose_reader(content_type: str, max_file_bytes: int) -> BodyReader:
    if content_type.lower().startswith("image/"):
        return BareReader(max_file_bytes)
    return PictureFormReader(content_type, max_file_bytes)


async def _read_body(receive: PacedReceive, reader: BodyReader) -> ReadForm:
    """Read to the end of the body. Raises a BadForm, or what `receive` raises."""
    is_last = False
    while not is_last:
        piece, is_last = await receive.read_piece()
        reader.read_piece(piece)
    return reader.finish()


class BareReader:
    """Keeps a body that is nothing but the picture."""

    def __init__(self, max_file_bytes: int) -> None:
        self._max_file_bytes = max_file_bytes
        self._file = BytesIO()

    def read_piece(self, piece: bytes) -> None:
        """Take the next bytes of the body. Raises FileTooLarge."""
        if self._file.tell() + len(piece) > self._max_file_bytes:
            raise make_too_large(self._max_file_bytes)
        self._file.write(piece)

    def finish(self) -> ReadForm:
        """Return the picture."""
        return ReadForm(self._file.getvalue())

    def let_go(self) -> None:
        """Free the file now."""
        self._file = BytesIO()


class PictureFormReader:
    """Keeps the picture of a form, and how it is wanted.

    Raises NotAForm for another content type.
    """

    def __init__(self, content_type: str, max_file_bytes: int) -> None:
        # Written to and then read without a copy, which
        # a list of chunks joined at the end would need.
        self._file = BytesIO()
        self._form = FormReader(
            content_type,
            self._file,
            max_file_bytes=max_file_bytes,
            longest_field_bytes=LONGEST_FIELD_BYTES,
        )

    def read_piece(self, piece: bytes) -> None:
        """Take the next bytes of the body. Raises a BadForm or FileTooLarge."""
        self._form.read_piece(piece)

    def finish(self) -> ReadForm:
        """Return what the whole body held. Raises a BadForm."""
        self._form.finish()
        fields = {
            name: value.decode("ascii", "replace") for name, value in self._form.fields.items()
        }
        crop = fields.get(b"crop")
        background = fields.get(b"background")
        return ReadForm(
            self._file.getvalue(),
            None if crop is None else parse_crop(crop),
            None if background is None else parse_background(background),
        )

    def let_go(self) -> None:
        """Free the file now."""
        self._form.let_go()
        self._file = BytesIO()


def parse_crop(value: str) -> Crop:
    """Read a square, x,y,size. Raises BadCrop."""
    text = value.strip()
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


def parse_background(value: str) -> Background:
    """Read a colour, #rrggbb, or the word auto. Raises BadBackground."""
    text = value.strip()
    if not text:
        raise BadBackground("background is empty. Leave the field out for white.")
    if text in NO_VALUES:
        raise BadBackground(
            f"background is the word {text}: it seems that a variable has no value."
        )
    if text == "auto":
        return "auto"
    colour = _COLOUR.fullmatch(text)
    if colour is None:
        raise BadBackground
    red, green, blue = bytes.fromhex(colour[1])
    return red, green, blue
