"""What wraps every request: its id and log line, security headers, one error shape, a polite end.

All of it pure ASGI: nothing here holds a request or a response in memory.
"""

import asyncio
import logging
import re
import time
import uuid
from contextlib import suppress
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import logs
from config import MIB
from errors import DarkroomError, HeadTooLarge, NotFound, OutcomeUnknown, Overloaded, StartupError
from web.problems import PROBLEM_MEDIA_TYPE, make_problem, make_status_problem

logger = logging.getLogger("darkroom.requests")

# A client that sends all before it reads sees our early answer only if we take what it sends.
# So much and so long: what most people would try by mistake, on a connection of 30 Mbit/s.
DRAIN_BYTES = 128 * MIB
DRAIN_SECONDS = 30.0
# A client that sends nothing for so long has seen the answer, or never will.
DRAIN_PAUSE_SECONDS = 2.0
# So many at once, the others by turns: hundreds that are refused at once would leave no time for
# what is taken.
MOST_DRAINING = 8
# What Python says where the system has no thread for it, whoever asked: the framework for a file,
# a store, a hash.
NO_THREAD = "can't start new thread"
# In characters. A browser's has a boundary of 70 at most.
LONGEST_CONTENT_TYPE = 1024

# Of IPv6, with a zone; a proxy that is believed may pass on what no address is.
LONGEST_ADDRESS = 64

_SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
}


class RequestContext:
    """Gives each request an id, a log line and the security headers.

    Outermost, so that no answer goes without.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, _show_sentence(send))
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SAFE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        facts = logs.begin_request(request_id, _find_client(scope))
        path = scope["path"][: logs.LONGEST_PATH]
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._app(scope, _keep_last_bytes(receive), send_with_headers)
        finally:
            logger.info(
                "%s %s %s",
                scope["method"],
                path,
                status or "no answer",
                extra={
                    "client": facts.client,
                    "account": facts.account,
                    "method": scope["method"],
                    "path": path,
                    "status": status,
                    "code": facts.code,
                    "duration_ms": round((time.perf_counter() - started) * 1000, 1),
                },
            )


def _find_client(scope: Scope) -> str | None:
    """Find the address of who asks, as far as the proxies are believed that tell it."""
    client = scope.get("client")
    return client[0][:LONGEST_ADDRESS] if client else None


def _keep_last_bytes(receive: Receive) -> Receive:
    """What the client had sent before it went away, and only then that it did.

    uvicorn (0.54) turns that round: a small upload whose client closes right after its last
    byte would be lost, though all of it is here. Another server's receive is left as it is.
    """
    cycle: Any = getattr(receive, "__self__", None)
    is_over = not (hasattr(cycle, "body") and hasattr(cycle, "more_body"))

    async def receive_in_order() -> Message:
        nonlocal is_over
        message = await receive()
        if (
            message["type"] == "http.disconnect"
            and not is_over
            and (cycle.body or not cycle.more_body)
        ):
            message = {
                "type": "http.request",
                "body": bytes(cycle.body),
                "more_body": cycle.more_body,
            }
            cycle.body = bytearray()
        is_over = is_over or not message.get("more_body", False)
        return message

    return receive_in_order


def _show_sentence(send: Send) -> Send:
    """For the lifespan: an operator is shown our sentence, not a traceback."""

    async def send_message(message: Message) -> None:
        if message["type"] == "lifespan.startup.failed":
            name = f"{StartupError.__module__}.{StartupError.__name__}: "
            _, found, sentence = message.get("message", "").rpartition(name)
            if found:
                message = {**message, "message": sentence.strip()}
        await send(message)

    return send_message


class CatchAll:
    """Turns what no handler caught into an answer.

    Innermost, so that the answer gets all that the others get.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_started = False
        is_gone = False

        async def send_and_note(message: Message) -> None:
            nonlocal is_started, is_gone
            is_started = True
            try:
                await send(message)
            except Exception:
                is_gone = True  # the connection broke under the answer
                raise

        try:
            await self._app(scope, receive, send_and_note)
        except ClientDisconnect:
            logger.info("the client went away before its last byte")
        except asyncio.CancelledError:
            # The server's patience at shutdown is over. What was
            # whole goes on for a moment, the rest is the reaper's.
            if not is_started:
                await make_problem(Request(scope), OutcomeUnknown())(scope, receive, send)
        except Exception as err:
            if is_gone:
                logger.info("the client went away during its answer: %r", err)
                return
            refusal: DarkroomError = DarkroomError()
            if _lacks_threads(err):
                refusal = Overloaded()
                logger.error("no thread could be started")
            else:
                logger.exception("not handled")
            if is_started:
                raise
            await make_problem(Request(scope), refusal)(scope, receive, send)


def _lacks_threads(err: Exception) -> bool:
    """Whether the system gave us no further thread, of which Python has no error of its own."""
    return isinstance(err, RuntimeError) and str(err) == NO_THREAD


class StrictHead:
    """Refuses what the framework would read wrongly, or at length.

    An address may not end with a newline: the pattern of a route, which ends with `$`, would match
    what stands before it. A Content-Type that is long takes a second to be parsed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = _find_refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await make_problem(Request(scope), refusal)(scope, receive, send)


def _find_refusal(scope: Scope) -> DarkroomError | None:
    if scope["path"].endswith("\n"):
        return NotFound()
    if len(Headers(scope=scope).get("content-type", "")) > LONGEST_CONTENT_TYPE:
        return HeadTooLarge("The header Content-Type is too long. Please send a shorter one.")
    return None


class OneErrorShape:
    """Gives the shape of all errors to what a library refused: a preflight, a static file."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        replacement = None

        async def send_in_shape(message: Message) -> None:
            nonlocal replacement
            if message["type"] == "http.response.start" and message["status"] >= 400:
                headers = Headers(raw=message["headers"])
                if headers.get("content-type") != PROBLEM_MEDIA_TYPE:
                    kept = {
                        name: value
                        for name, value in headers.items()
                        if name in ("allow", "content-range", "vary")
                        or name.startswith("access-control-")
                    }
                    replacement = make_status_problem(Request(scope), message["status"], kept)
                    return
            if replacement is None:
                await send(message)
            elif not message.get("more_body", False):
                await replacement(scope, receive, send)

        await self._app(scope, receive, send_in_shape)


class PoliteEnd:
    """Answers early without a reset: says `Connection: close`, drains the body, then closes.

    Closing with unread bytes makes the kernel send a reset,
    in which many clients lose an answer that already arrived.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._turns = asyncio.Semaphore(MOST_DRAINING)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        is_read = not has_body

        async def receive_and_note() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = message["type"] == "http.disconnect" or not message.get("more_body", False)
            return message

        async def drain() -> None:
            left_bytes = DRAIN_BYTES
            async with asyncio.timeout(DRAIN_SECONDS), self._turns:
                while not is_read and left_bytes > 0:
                    async with asyncio.timeout(DRAIN_PAUSE_SECONDS):
                        message = await receive_and_note()
                    left_bytes -= len(message.get("body", b""))

        async def send_politely(message: Message) -> None:
            if message["type"] == "http.response.start" and not is_read:
                MutableHeaders(scope=message)["Connection"] = "close"
            is_last = message["type"] == "http.response.body" and not message.get(
                "more_body", False
            )
            if not is_last or is_read:
                await send(message)
                return
            # All of the answer is on its way but its end,
            # at which the server closes the connection.
            await send({**message, "more_body": True})
            # Cut short by a pause or by the server's end, the answer is whole all the same.
            with suppress(TimeoutError, asyncio.CancelledError):
                await drain()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app(scope, receive_and_note, send_politely)
