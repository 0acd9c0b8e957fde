"""Which pages of other origins may call the service, and a log line for those that may not.

The browser tells whoever wrote such a page next to nothing, so the log says what to set.
"""

import logging
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from config import Settings
from errors import PreflightRefused
from web.problems import make_problem

logger = logging.getLogger(__name__)

ALLOWED_METHODS = ["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"]
# Beside those that any page may send: what clients, upload widgets and tracers add.
ALLOWED_HEADERS = [
    *("Authorization", "Content-Type", "X-Request-ID", "X-Requested-With", "Cache-Control"),
    *("Idempotency-Key", "Content-Digest"),
    *("traceparent", "tracestate", "baggage", "sentry-trace"),
]
EXPOSED_HEADERS = ["X-Request-ID", "Retry-After", "RateLimit", "RateLimit-Policy", "Link"]
# Longer ones are cut in the log; no origin of a real page is as long.
LONGEST_SHOWN = 200


class CrossOrigin(CORSMiddleware):
    """Lets the pages of some origins in; nobody else's, and no cookies."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        super().__init__(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=ALLOWED_METHODS,
            allow_headers=[*ALLOWED_HEADERS, *settings.cors_headers],
            expose_headers=EXPOSED_HEADERS,
        )
        # A proxy may hide the host that browsers ask.
        self._public_host = urlsplit(settings.public_url or "").netloc

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and self._is_strange(origin, headers):
                logger.warning(
                    "a page of %r may not call this service: CORS_ORIGINS does not name it",
                    origin[:LONGEST_SHOWN],
                )
            if origin is not None and _is_preflight(scope, headers):
                response = self.preflight_response(headers)
                if response.status_code >= 400:
                    response = self._refuse(Request(scope), headers, response)
                await response(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def _is_strange(self, origin: str, headers: Headers) -> bool:
        """Whether it is neither allowed nor the service's own, which the browser does not ask."""
        host = origin.partition("://")[2]
        is_own = host in (headers.get("host"), self._public_host)
        return not is_own and not self.is_allowed_origin(origin)

    def _refuse(self, request: Request, headers: Headers, refused: Response) -> Response:
        """Say in the one shape of errors what a preflight was refused for."""
        sentence = None
        if self.is_allowed_origin(headers["origin"]):
            asked = headers.get("access-control-request-headers", "").lower().split(",")
            names = sorted({name.strip() for name in asked} - {"", *self.allow_headers})
            if names:
                shown = ", ".join(names)[:LONGEST_SHOWN]
                logger.warning("a page may not send %r: CORS_HEADERS does not name it", shown)
                sentence = "This page sends a header that is not allowed. CORS_HEADERS allows more."
            elif headers["access-control-request-method"] in self.allow_methods:
                sentence = "Pages of other origins may not reach into a private network."
            else:
                sentence = "Pages of other origins may not use this method."
        problem = make_problem(request, PreflightRefused(sentence))
        for name, value in refused.headers.items():
            if name == "vary" or name.startswith("access-control-"):
                problem.headers[name] = value
        return problem


def _is_preflight(scope: Scope, headers: Headers) -> bool:
    return scope["method"] == "OPTIONS" and "access-control-request-method" in headers
