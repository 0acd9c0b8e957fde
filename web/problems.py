"""The one JSON body of every error (RFC 9457), with our `code` and the request's id."""

import logging
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import iter_route_contexts
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.routing import Match

import logs
from errors import (
    DarkroomError,
    InvalidRequest,
    MalformedBody,
    MethodNotAllowed,
    NotFound,
    PhotoNotFound,
    RangeNotSatisfiable,
    ThumbnailNotFound,
    UserNotFound,
)
from web.sentences import explain_body, explain_error, explain_unread_body

logger = logging.getLogger(__name__)

PROBLEM_MEDIA_TYPE = "application/problem+json"

# The code of a refusal by the framework of which only the status is known.
OTHER_REFUSAL = "http_error"
# What a path's parameter names, and the refusal where there is none.
_NAMED_IN_PATHS: dict[str | int, type[DarkroomError]] = {
    "user_id": UserNotFound,
    "photo_id": PhotoNotFound,
    "thumbnail_id": ThumbnailNotFound,
}
# No form has as many fields, of its own and misspelt ones; what a validator finds first is of its
# own.
MOST_ERRORS = 20
# Longer than the name of any field.
LONGEST_NAME = 40
# What the plain refusals of the framework are called.
_PLAIN_REFUSALS: dict[int, type[DarkroomError]] = {
    400: MalformedBody,
    404: NotFound,
    405: MethodNotAllowed,
    416: RangeNotSatisfiable,
    500: DarkroomError,
}


def _make_problem(
    request: Request,
    status: int,
    code: str,
    title: str,
    detail: str,
    headers: Mapping[str, str] | None,
    **more: Any,
) -> JSONResponse:
    logs.note_code(code)
    body = {
        "type": f"urn:darkroom:error:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": getattr(request.state, "request_id", None),
        **more,
    }
    return JSONResponse(body, status, headers, media_type=PROBLEM_MEDIA_TYPE)


def make_problem(request: Request, error: DarkroomError, **more: Any) -> JSONResponse:
    """The answer to one of our own errors; what is behind an outage goes to the log."""
    if error.status >= 500 and error.__cause__ is not None:
        logger.warning("%s: %r", error.code, error.__cause__)
    return _make_problem(
        request, error.status, error.code, error.title, error.detail, error.headers, **more
    )


def make_status_problem(
    request: Request, status: int, headers: Mapping[str, str] | None
) -> JSONResponse:
    """The answer where only a status is known: a refusal of the framework's or a file server's."""
    if known := _PLAIN_REFUSALS.get(status):
        return _make_problem(request, status, known.code, known.title, known.sentence, headers)
    phrase = HTTPStatus(status).phrase
    return _make_problem(request, status, OTHER_REFUSAL, phrase, f"{phrase}.", headers)


async def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    """FastAPI's handler for our errors and the framework's own."""
    if isinstance(error, DarkroomError):
        return make_problem(request, error)
    assert isinstance(error, HTTPException)
    if error.status_code == MalformedBody.status:
        content_type = request.headers.get("content-type", "")
        return make_problem(request, MalformedBody(explain_unread_body(content_type)))
    headers = {"Allow": _find_methods(request)} if error.status_code == 405 else error.headers
    return make_status_problem(request, error.status_code, headers)


def _find_methods(request: Request) -> str:
    """The methods of the address, on however many routes.

    Starlette names those of the first one only.
    """
    routes = [
        route
        for route in iter_route_contexts(request.app.routes)
        if route.matches(request.scope)[0] != Match.NONE
    ]
    methods = {
        method for route in routes if route.path == routes[0].path for method in route.methods or ()
    }
    return ", ".join(sorted(methods or {"GET", "HEAD"}))  # none below a mount, which serves files


async def _answer_validation_error(request: Request, error: Exception) -> JSONResponse:
    """FastAPI's handler for input that does not fit the schema.

    What was sent is not repeated: it may be a password. An address that names nothing for its form
    alone is answered as one that names nothing.
    """
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    for item in found:
        if item["loc"][0] == "path":
            return make_problem(request, _NAMED_IN_PATHS[item["loc"][1]]())
    whole = explain_body(error.body, request.headers.get("content-type", ""))
    is_login = isinstance(error.body, FormData)
    errors = [
        {
            "loc": [_shorten(part) for part in item["loc"][:2]],
            "msg": (len(item["loc"]) == 1 and whole) or explain_error(item, is_login=is_login),
            "type": item["type"],
        }
        for item in found[:MOST_ERRORS]
    ]
    return make_problem(request, InvalidRequest(whole or errors[0]["msg"]), errors=errors)


def _shorten(part: str | int) -> str | int:
    """A field's name may be the client's, and no text."""
    if isinstance(part, int):
        return part
    shown = part if len(part) <= LONGEST_NAME else f"{part[:LONGEST_NAME]}..."
    return shown.encode(errors="replace").decode()


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    HTTPException: _answer_http_error,
    RequestValidationError: _answer_validation_error,
}
