"""Files read back from their store, whole or as much as a picture takes, and proven by hash."""

import logging

from config import MIB
from errors import ObjectNotFound, StoreUnavailable
from files.hashing import FileHash
from models import StoredFile
from storage import AsyncStore

logger = logging.getLogger(__name__)

# What is read at once: each read hops to a thread, and has the store's deadline for itself.
CHUNK_BYTES = MIB


async def read_file(file: StoredFile) -> bytes:
    """Read a live file whole. Raises what `read_stored` raises, and StoreRefused."""
    assert file.size_bytes is not None and file.sha256 is not None  # of what is live
    return await read_stored(file.store, file.key, file.size_bytes, file.sha256)


async def read_stored(store: AsyncStore, key: str, size_bytes: int, sha256: str) -> bytes:
    """Read the first `size_bytes` of an object, whose hash is known as rows keep it.

    Raises StoreError; StoreUnavailable also where the object is gone, or is not what was stored.
    """
    try:
        found = await store.open(key)
    except ObjectNotFound as err:
        logger.error("%s is not where it was stored", key)
        raise StoreUnavailable from err
    content = bytearray()
    try:
        while len(content) < size_bytes:
            chunk = await store.read(found.stream, min(CHUNK_BYTES, size_bytes - len(content)))
            if not chunk:
                break
            content += chunk
    finally:
        found.stream.close()
    hashed = FileHash.like(sha256)
    hashed.update(content)
    if hashed.text() != sha256:
        logger.error("%s is not what was stored: %d bytes came", key, len(content))
        raise StoreUnavailable
    return bytes(content)
