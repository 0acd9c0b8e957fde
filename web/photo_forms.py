"""The body of a photo's upload, whose bytes are handed on while they arrive.

It is a form with one file and small text fields, or the bare bytes of the file.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from fastapi import Request

from config import FORM_OVERHEAD_BYTES, KIB, Settings
from errors import MalformedForm
from web.admission import Reservation
from web.bodies import PacedReceive, read_announced_bytes
from web.form_reader import FormReader, make_too_large

# A caption of 2,000 characters in any script.
LONGEST_FIELD_BYTES = 8 * KIB
# Bodies that may be a file's bare bytes, whatever the file is: its content decides.
BARE_TYPES = ("image/", "application/octet-stream")


@dataclass(frozen=True)
class PhotoForm:
    """What a body said beside the bytes of its file."""

    filename: str = ""
    fields: dict[str, str] = field(default_factory=dict)


class PieceSink:
    """Keeps what came of a file until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size_bytes = 0

    def write(self, data: memoryview) -> None:
        self._pieces.append(bytes(data))
        self._size_bytes += len(data)

    def tell(self) -> int:
        return self._size_bytes

    def take(self) -> list[bytes]:
        """Take what came since the last time."""
        pieces = self._pieces
        self._pieces = []
        return pieces


async def read_photo_form(
    request: Request,
    settings: Settings,
    hand_on: Callable[[bytes], Awaitable[None]],
    reservation: Reservation,
) -> PhotoForm:
    """Read the body to its end and hand on each piece of the file; nothing is read meanwhile.

    What is handed on may hold as much as one body may reserve. Raises FileTooLarge (before the
    first byte if the client announces its length), UploadStalled, Busy, ShuttingDown, a BadForm, or
    what `hand_on` raises.
    """
    most_bytes = settings.max_photo_size_bytes
    longest_bytes = most_bytes + FORM_OVERHEAD_BYTES
    too_large = partial(make_too_large, most_bytes)
    if (read_announced_bytes(request) or 0) > longest_bytes:
        raise too_large()
    receive = PacedReceive(
        request.receive,
        settings,
        longest_bytes=longest_bytes,
        too_large=too_large,
        reservation=reservation,
    )
    content_type = request.headers.get("content-type", "")
    if content_type.lower().startswith(BARE_TYPES):
        await _read_bare(receive, most_bytes, hand_on)
        return PhotoForm()
    sink = PieceSink()
    form = FormReader(
        content_type, sink, max_file_bytes=most_bytes, longest_field_bytes=LONGEST_FIELD_BYTES
    )
    try:
        is_last = False
        while not is_last:
            piece, is_last = await receive.read_piece()
            form.read_piece(piece)
            for arrived in sink.take():
                await hand_on(arrived)
        form.finish()
    finally:
        form.let_go()
    return PhotoForm(form.filename, _decode_fields(form.fields))


async def _read_bare(
    receive: PacedReceive, most_bytes: int, hand_on: Callable[[bytes], Awaitable[None]]
) -> None:
    read_bytes = 0
    is_last = False
    while not is_last:
        piece, is_last = await receive.read_piece()
        read_bytes += len(piece)
        if read_bytes > most_bytes:
            raise make_too_large(most_bytes)
        await hand_on(piece)


def _decode_fields(fields: dict[bytes, bytearray]) -> dict[str, str]:
    try:
        return {name.decode(): value.decode() for name, value in fields.items()}
    except UnicodeDecodeError as err:
        raise MalformedForm("A text field of the form is no valid text (UTF-8).") from err
