"""Objects of the local store, as a browser or a CDN loads them.

Typed, cached for ever, in parts where asked. What is not public is read with a signed link only,
and cached by nobody but its reader, for as long as the link is good.
"""

import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from config import KIB
from errors import (
    BadSignature,
    LinkExpired,
    ObjectNotFound,
    OutOfDescriptors,
    RangeNotSatisfiable,
    StoreRefused,
    StoreUnavailable,
    WrongStore,
)
from files import RequestBackends
from files.kinds import is_public
from storage import CACHE_CONTROL, AsyncStore, LinkSigner, OpenObject, Stores
from web.document import Responses, refuse_with

router = APIRouter(prefix="/media", tags=["media"])

CHUNK_BYTES = 64 * KIB

ANSWERS: Responses = {
    206: {"description": "The part that `Range` asks for"},
    304: {"description": "`If-None-Match` names its `ETag`"},
    **refuse_with(
        BadSignature,
        LinkExpired,
        ObjectNotFound,
        RangeNotSatisfiable,
        StoreUnavailable,
        StoreRefused,
        WrongStore,
        OutOfDescriptors,
    ),
}

_SECONDS = re.compile(r"[0-9]{1,12}")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@router.get("/{key:path}", response_class=Response, responses=ANSWERS)
@router.head("/{key:path}", response_class=Response, include_in_schema=False)
async def read_object(
    key: str,
    request: Request,
    backends: RequestBackends,
    expires: Annotated[str, Query(description="Of a signed link: seconds since 1970")] = "",
    sig: Annotated[str, Query(description="Of a signed link: its signature")] = "",
) -> Response:
    """One object, or the one range of it that was asked for (RFC 9110, section 14)."""
    etag = f'"{key.rpartition("/")[2]}"'
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": _check_access(key, expires, sig, backends.stores.signer),
        "Cross-Origin-Resource-Policy": "cross-origin",
        "ETag": etag,
    }
    store, found = await _open(backends.stores, key)
    known = request.headers.get("if-none-match", "")
    if etag in known or known.strip() == "*":
        found.stream.close()
        return Response(None, 304, headers)
    start = 0
    end = found.size_bytes
    status = 200
    asked = _read_range(request, etag)
    if asked is not None:
        start, end = _find_bounds(asked, found.size_bytes)
        if start >= end:
            found.stream.close()
            raise RangeNotSatisfiable(headers={"Content-Range": f"bytes */{found.size_bytes}"})
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.size_bytes}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        found.stream.close()
        return Response(None, status, headers, found.content_type)
    return StreamingResponse(
        _read_chunks(store, found, start, end), status, headers, found.content_type
    )


def _check_access(key: str, expires: str, signature: str, signer: LinkSigner) -> str:
    """Return how an object that may be read may be cached.

    Raises BadSignature and LinkExpired; without a link, what is private does not exist.
    """
    if is_public(key):
        return CACHE_CONTROL
    if not expires and not signature:
        raise ObjectNotFound
    if not _SECONDS.fullmatch(expires) or not signer.is_genuine(key, int(expires), signature):
        raise BadSignature
    left_seconds = int(expires) - time.time()
    if left_seconds <= 0:
        raise LinkExpired
    return f"private, max-age={int(left_seconds)}"


async def _open(stores: Stores, key: str) -> tuple[AsyncStore, OpenObject]:
    """Open it in the local store that has it; the ones before the current are asked last."""
    for store in stores.on_disk():
        with suppress(ObjectNotFound):
            return store, await store.open(key)
    raise ObjectNotFound


def _read_range(request: Request, etag: str) -> tuple[int | None, int | None] | None:
    """The first and last byte that were asked for.

    None for all of it, and for what is no single valid range.
    """
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or request.method != "GET" or request.headers.get("if-range", etag) != etag:
        return None
    first, last = (int(group) if group else None for group in match.groups())
    if (first is None and last is None) or (
        first is not None and last is not None and last < first
    ):
        return None
    return first, last


def _find_bounds(asked: tuple[int | None, int | None], size_bytes: int) -> tuple[int, int]:
    first, last = asked
    if first is None:
        return max(size_bytes - (last or 0), 0), size_bytes
    return first, size_bytes if last is None else min(last + 1, size_bytes)


async def _read_chunks(
    store: AsyncStore, found: OpenObject, start: int, end: int
) -> AsyncIterator[bytes]:
    try:
        found.stream.seek(start)
        while start < end:
            chunk = await store.read(found.stream, min(CHUNK_BYTES, end - start))
            if not chunk:
                raise ObjectNotFound
            start += len(chunk)
            yield chunk
    finally:
        found.stream.close()
