"""Bounding a request's body while it arrives, in length and pace; nothing goes to disk."""

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from config import KIB, Settings
from errors import BodyTooLarge, TooLarge, UploadStalled
from web.admission import STEP_BYTES, Reservation

Model = TypeVar("Model", bound=BaseModel)

# Of every request but an upload. The largest of them is an account's, of a few KiB at most.
MAX_SMALL_BODY_BYTES = 64 * KIB
# Whoever has sent a head has the beginning of its body at hand.
FIRST_BYTE_SECONDS = 5.0


def read_announced_bytes(request: Request) -> int | None:
    """Read the length that the client announces; None if it announces none."""
    value = request.headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() else None


class PacedReceive:
    """Receives a body from a client that neither pauses too long, nor trickles, nor sends too much.

    Raises UploadStalled, `too_large` beyond `longest_bytes`, and Busy where there is a reservation
    that cannot grow any more; while it waits for that, no clock runs against the client. Behind the
    last byte it waits for as long as anyone asks: then only the end of the connection can come.
    """

    def __init__(
        self,
        receive: Receive,
        settings: Settings,
        *,
        longest_bytes: int,
        too_large: Callable[[], TooLarge],
        reservation: Reservation | None = None,
    ) -> None:
        self._receive = receive
        self._stall_seconds = settings.upload_stall_seconds
        self._lowest_bytes_per_second = settings.upload_lowest_bytes_per_second
        self._longest_bytes = longest_bytes
        self._too_large = too_large
        self._reservation = reservation
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()  # later, the more it paused for memory
        self._waits_since = self._started
        self._waiting: asyncio.Timeout | None = None
        # One for many pieces: to set one anew for each costs as much as to receive it.
        self._timer: asyncio.TimerHandle | None = None
        self._received_bytes = 0
        self._is_read = False

    async def __call__(self) -> Message:
        if self._is_read:
            return await self._receive()
        if self._reservation is not None:
            await self._reserve(self._reservation)
        self._waits_since = self._loop.time()
        if self._timer is None:
            self._set_timer()
        try:
            async with asyncio.timeout(None) as self._waiting:
                message = await self._receive()
        except TimeoutError as err:
            raise UploadStalled from err
        finally:
            self._waiting = None
        self._received_bytes += len(message.get("body", b""))
        if self._received_bytes > self._longest_bytes:
            raise self._too_large()
        if not message.get("more_body", False):
            self._end()
        return message

    async def read_piece(self) -> tuple[bytes, bool]:
        """Read the next bytes, and whether they are the last.

        Raises ClientDisconnect when the client is gone, and what receiving raises.
        """
        message = await self()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        return message.get("body", b""), not message.get("more_body", False)

    async def _reserve(self, reservation: Reservation) -> None:
        """Reserve one step more than has come; of a longer body, what one may hold at once."""
        before = self._loop.time()
        await reservation.grow_to(min(self._received_bytes + STEP_BYTES, self._longest_bytes))
        self._started += self._loop.time() - before

    def _end(self) -> None:
        self._is_read = True
        if self._timer is not None:
            self._timer.cancel()
        if self._reservation is not None:
            self._reservation.stop_growing()

    def _find_deadline(self) -> float:
        """The first byte has its time, then each pause; a slowest pace holds while others wait."""
        if not self._received_bytes:
            return self._started + min(FIRST_BYTE_SECONDS, self._stall_seconds)
        pause_ends = self._waits_since + self._stall_seconds
        if self._reservation is not None and not self._reservation.is_short:
            return pause_ends
        at_slowest_pace = self._received_bytes / self._lowest_bytes_per_second
        return min(pause_ends, self._started + self._stall_seconds + at_slowest_pace)

    def _set_timer(self) -> None:
        # A body that is read no more is not held for it.
        self._timer = self._loop.call_at(self._find_deadline(), _look_at, weakref.ref(self))

    def _look(self) -> None:
        self._timer = None
        if self._waiting is None:  # the next wait sets it
            return
        now = self._loop.time()
        if now < self._find_deadline():
            self._set_timer()
        else:
            self._waiting.reschedule(now)


def _look_at(reference: weakref.ref[PacedReceive]) -> None:
    receive = reference()
    if receive is not None:
        receive._look()


async def read_json(request: Request, settings: Settings, model: type[Model]) -> Model:
    """Read a small body that is JSON, where a route takes other bodies too.

    Raises RequestValidationError, BodyTooLarge or UploadStalled.
    """
    receive = PacedReceive(
        request.receive,
        settings,
        longest_bytes=MAX_SMALL_BODY_BYTES,
        too_large=BodyTooLarge,
    )
    content = bytearray()
    is_last = False
    while not is_last:
        piece, is_last = await receive.read_piece()
        content += piece
    try:
        return model.model_validate_json(bytes(content))
    except ValidationError as err:
        raise refuse_body(err) from err


def refuse_body(err: ValidationError) -> RequestValidationError:
    """Make FastAPI's own refusal of what was read of a body and does not fit its model."""
    errors = [{**error, "loc": ("body", *error["loc"])} for error in err.errors(include_url=False)]
    return RequestValidationError(errors)


class BoundedRoute(APIRoute):
    """A route whose body is JSON or a small form: bounded in size and time.

    What exceeds either is refused before the handler runs.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_bounded(request: Request) -> Response:
            if (read_announced_bytes(request) or 0) > MAX_SMALL_BODY_BYTES:
                raise BodyTooLarge
            settings: Settings = request.app.state.settings
            receive = PacedReceive(
                request.receive,
                settings,
                longest_bytes=MAX_SMALL_BODY_BYTES,
                too_large=BodyTooLarge,
            )
            return await handle(Request(request.scope, receive))

        return handle_bounded
