"""The URL of any stored file on any store: for ever if it is public, else good for a while."""

from errors import StoreRefused
from files.kinds import is_public
from models import StoredFile
from storage import AsyncStore

# Long enough to load a page with all its pictures on a slow line; whoever finds
# the link later, in a log or in a chat, finds it dead.
LINK_SECONDS = 600


async def find_url(file: StoredFile, seconds: int = LINK_SECONDS) -> str | None:
    """Name what a browser loads; None when the settings no longer know the file's store."""
    try:
        store = file.store
    except StoreRefused:
        return None
    return await find_object_url(store, file.key, seconds)


async def find_object_url(store: AsyncStore, key: str, seconds: int = LINK_SECONDS) -> str:
    """Name what a browser loads of an object, which no row has to know."""
    if is_public(key):
        return store.url(key)
    return await store.signed_url(key, seconds)
