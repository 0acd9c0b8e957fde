"""A file's row, committed before its first byte is stored: where it belongs, and that it may come.

It is pending until a change attaches it. Left alone it expires, and the reaper deletes what came.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import faults
from errors import ObjectExists, UploadExpired
from files import statements
from files.backends import Backends
from files.kinds import Kind
from pictures import ProcessedImage
from storage import AsyncStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NewFile:
    """A file whose row is committed and pending, and where its bytes belong."""

    id: int
    store: AsyncStore
    key: str
    # What the row does not say yet, because it was reserved before the last byte had come.
    late_facts: Mapping[str, object] | None = None


def list_facts(picture: ProcessedImage) -> dict[str, object]:
    """List what the row of a picture keeps of it, by column."""
    facts = {name: getattr(picture, name) for name in statements.FACTS if name != "size_bytes"}
    return {**facts, "size_bytes": len(picture.content)}


async def reserve(
    backends: Backends,
    owner_id: int,
    kind: Kind,
    filename: str,
    facts: Mapping[str, object] | None = None,
) -> NewFile:
    """Commit a pending row in the current store. `facts` are the columns of FACTS, once known.

    Raises ObjectExists where the key is taken, or DatabaseUnavailable.
    """
    store = backends.stores.current
    key = kind.prefix + filename
    faults.reached("before_announce")
    reserved = await backends.database.fetch(
        statements.RESERVE,
        storage=store.name,
        bucket=store.bucket,
        key=key,
        purpose=kind.name,
        owner_id=owner_id,
        expiry_seconds=backends.settings.pending_expiry_seconds,
        **(facts or dict.fromkeys(statements.FACTS)),
    )
    if not reserved:
        logger.error("the key %s is taken", key)
        raise ObjectExists
    faults.reached("after_announce")
    return NewFile(reserved[0]["id"], store, key)


async def renew(backends: Backends, file: NewFile) -> None:
    """Put off the expiry, while bytes still come. Raises UploadExpired, or DatabaseUnavailable."""
    renewed = await backends.database.fetch(
        statements.RENEW,
        file_id=file.id,
        expiry_seconds=backends.settings.pending_expiry_seconds,
    )
    if not renewed:
        raise UploadExpired
