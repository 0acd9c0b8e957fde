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

Model = TypeVar("Model", bound=BaseModel)

# Of every request but an upload. The largest of them is an account's, of a few KiB at most.
MAX_SMALL_BODY_BYTES = 64 * KIB
# A bad mobile connection makes ten times this; a client that keeps below it holds memory that
# others wait for.
MINIMUM_BYTES_PER_SECOND = 8 * KIB


def read_announced_bytes(request: Request) -> int | None:
    """Read the length that the client announces; None if it announces none."""
    value = request.headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() else None


class PacedReceive:
    """Receives a body from a client that neither pauses too long, nor trickles, nor sends too much.

    Raises UploadStalled, and `too_large` beyond `longest_bytes`. Behind the last byte it waits for
    as long as anyone asks: then only the end of the connection can come.
    """

    def __init__(
        self,
        receive: Receive,
        *,
        stall_seconds: float,
        longest_bytes: int,
        too_large: Callable[[], TooLarge],
    ) -> None:
        self._receive = receive
        self._stall_seconds = stall_seconds
        self._longest_bytes = longest_bytes
        self._too_large = too_large
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._waits_since = self._started
        self._waiting: asyncio.Timeout | None = None
        # One for many pieces: to set one anew for each costs as much as to receive it.
        self._timer: asyncio.TimerHandle | None = None
        self._received_bytes = 0
        self._is_read = False

    async def __call__(self) -> Message:
        if self._is_read:
            return await self._receive()
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
        self._is_read = not message.get("more_body", False)
        if self._is_read and self._timer is not None:
            self._timer.cancel()
        self._received_bytes += len(message.get("body", b""))
        if self._received_bytes > self._longest_bytes:
            raise self._too_large()
        return message

    async def read_piece(self) -> tuple[bytes, bool]:
        """Read the next bytes, and whether they are the last.

        Raises ClientDisconnect when the client is gone, and what receiving raises.
        """
        message = await self()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        return message.get("body", b""), not message.get("more_body", False)

    def _find_deadline(self) -> float:
        """One pause is allowed, now or earlier, beyond the time that the slowest pace takes.

        It only ever moves back.
        """
        at_slowest_pace = self._received_bytes / MINIMUM_BYTES_PER_SECOND
        pause_ends = self._waits_since + self._stall_seconds
        return min(pause_ends, self._started + self._stall_seconds + at_slowest_pace)

    def _set_timer(self) -> None:
        # A body that is read no more is not held for it.
        self._timer = self._loop.call_at(self._find_deadline(), _look_at, weakref.ref(self))

    def _look(self) -> None:
        self._timer = None
        if self._waiting is None:  # the next wait sets it
            return
        if self._loop.time() < self._find_deadline():
            self._set_timer()
        else:
            self._waiting.reschedule(self._loop.time())


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
        stall_seconds=settings.upload_stall_seconds,
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
                stall_seconds=settings.upload_stall_seconds,
                longest_bytes=MAX_SMALL_BODY_BYTES,
                too_large=BodyTooLarge,
            )
            return await handle(Request(request.scope, receive))

        return handle_bounded
