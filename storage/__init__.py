"""Where bytes lie: the contract of a store, its asynchronous face, and the configured stores.

Which object belongs to whom, and when it may go, is not known here: that is the room `files`.
"""

from storage.async_store import AsyncStore, Guard
from storage.configured import Stores
from storage.content_types import UNKNOWN_TYPE, find_suffix
from storage.contract import (
    CACHE_CONTROL,
    DELETED_AT_ONCE,
    PART_BYTES,
    FoundObject,
    OpenObject,
    Store,
)
from storage.markers import BUCKET_KEY, Marker
from storage.signing import LinkSigner

__all__ = [
    "BUCKET_KEY",
    "CACHE_CONTROL",
    "DELETED_AT_ONCE",
    "PART_BYTES",
    "UNKNOWN_TYPE",
    "AsyncStore",
    "FoundObject",
    "Guard",
    "LinkSigner",
    "Marker",
    "OpenObject",
    "Store",
    "Stores",
    "find_suffix",
]
