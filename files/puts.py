"""Storing bytes that are whole: a row first, then the object; once more under a new key if need be.

A key is never used twice, for what a failed put left under it may yet arrive.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import TypeVar

from errors import StoreError, StoreUnavailable
from files.backends import Backends
from files.kinds import Kind
from files.reservations import NewFile, reserve

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# One more attempt, under a new key: a store that failed twice in a row is away.
PUT_ATTEMPTS = 2
# For both attempts. A store that takes no connection (3 seconds), or one that gives no answer (8),
# fails twice within it.
PUT_BUDGET_SECONDS = 20.0


async def put_whole(
    backends: Backends,
    owner_id: int,
    kind: Kind,
    filename: str,
    content: bytes,
    content_type: str,
    sha256: str,
    facts: Mapping[str, object] | None = None,
) -> NewFile:
    """Reserve a row for the bytes, then store them.

    Raises StoreError within PUT_BUDGET_SECONDS; then the row stays pending, for the bytes may yet
    arrive, and the reaper removes both. Raises DatabaseUnavailable.
    """
    filenames = _make_filenames(filename)

    async def reserve_and_put() -> NewFile:
        file = await reserve(backends, owner_id, kind, next(filenames), facts)
        await file.store.put(file.key, content, content_type, sha256)
        return file

    return await put_patiently(reserve_and_put)


def _make_filenames(first: str) -> Iterator[str]:
    """Give a name for each attempt; it is random, and was never used before."""
    yield first
    while True:
        yield f"{uuid.uuid4().hex}{PurePosixPath(first).suffix}"


async def put_patiently(put: Callable[[], Awaitable[Result]]) -> Result:
    """Put, and once more should the store fail. Raises StoreError within PUT_BUDGET_SECONDS."""
    attempt = 1
    try:
        async with asyncio.timeout(PUT_BUDGET_SECONDS):
            while True:
                try:
                    return await put()
                except StoreError as err:
                    logger.warning("put %d failed: %s %r", attempt, err.code, err.__cause__)
                    if attempt == PUT_ATTEMPTS:
                        raise
                    attempt += 1
    except TimeoutError as err:
        raise StoreUnavailable from err
