"""The command `find`: what a store has whose keys begin so, and where each of it is loaded."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from files.urls import find_object_url
from ops.inventory import is_possible_key, translate_errors
from storage import AsyncStore, FoundObject


@dataclass(frozen=True)
class LoadableObject:
    """An object and its URL, which is None under a key that Darkroom never makes."""

    key: str
    size_bytes: int
    modified_at: datetime
    url: str | None


async def find_objects(store: AsyncStore, prefix: str) -> AsyncIterator[LoadableObject]:
    """Yield each such object, a batch of them in memory; raises CannotLook."""
    with translate_errors(store):
        async for batch in store.find(prefix):
            for found in batch:
                url = await _find_url(store, found)
                yield LoadableObject(found.key, found.size_bytes, found.modified_at, url)


async def _find_url(store: AsyncStore, found: FoundObject) -> str | None:
    return await find_object_url(store, found.key) if is_possible_key(found.key) else None
