"""Meeting a store for the first time: it gets its marker, or is taken for what its marker says.

The row comes before the marker: all processes of a database make the same one, and a marker that
no row explains is another database's.
"""

import logging
import uuid
from dataclasses import dataclass, replace

from errors import ObjectExists, ObjectNotFound, StoreRefused, WrongStore
from files.store_records import StoreRecords
from storage import AsyncStore, Marker

logger = logging.getLogger(__name__)

# What `sweep --claim` once wrote: the id of the database that might sweep.
OLD_CLAIM = "darkroom/database-id.txt"
OLD_CLAIM_BYTES = 100


@dataclass(frozen=True)
class Look:
    """What one look at a store has found."""

    marker: Marker | None  # None where there is none, or it cannot be read
    is_readable: bool = True
    wrong: str | None = None  # why this is another store than the database knows
    is_reaper: bool = False


async def read(store: AsyncStore) -> Look:
    """Read the marker of a store. Raises StoreError, but for a marker that may not be read."""
    try:
        content = await store.read_marker()
    except StoreRefused:
        return Look(None, is_readable=False)
    return Look(None if content is None else Marker.decode(content))


async def meet(
    records: StoreRecords, store: AsyncStore, look: Look, *, is_current: bool, makes_markers: bool
) -> tuple[Look, str]:
    """Return what is there once the database knows the store, and the store's id.

    The id is '' where it cannot be known yet. A marker is made where no row was ever written, and
    by an existing installation that gets its first one, unless none of its pictures is there.
    Raises StoreError, and StartupError where a folder cannot be made.
    """
    place = await records.read_place(store)
    if place is not None and place.is_seen:
        return look, str(place.store_id)
    has_rows = await records.has_rows(store)
    if place is None and has_rows and await _lacks_pictures(records, store):
        return replace(look, wrong="not one of its pictures is there"), ""
    if not makes_markers:
        return look, look.marker.store if look.marker else ""
    if look.marker is None:
        look = await _make_marker(records, store, is_first=is_current and not has_rows)
    if look.wrong or look.marker is None:
        return look, ""
    try:
        store_id = uuid.UUID(look.marker.store)
    except ValueError:
        return replace(look, wrong="its marker says nothing"), ""
    await records.see_place(store, store_id)
    place = await records.read_place(store)
    assert place is not None
    return look, str(place.store_id)


async def _lacks_pictures(records: StoreRecords, store: AsyncStore) -> bool:
    """Whether none of a few live pictures is there; what we may not look at may be there."""
    keys = await records.sample_live(store)
    try:
        for key in keys:
            if await store.exists(key):
                return False
    except StoreRefused:
        return False
    return bool(keys)


async def _make_marker(records: StoreRecords, store: AsyncStore, *, is_first: bool) -> Look:
    """Make the first marker of a store; return the one that is there then."""
    store_id = await records.announce_place(store)
    if is_first:
        await store.prepare()
    reaper = await records.identify()
    old_claim = await _read_old_claim(store)
    if old_claim not in ("", await records.read_installation_id()):
        reaper = f"database {old_claim}"
    marker = await records.compose(store_id, reaper, await records.begin_lease(store_id))
    try:
        await store.write_marker(marker.encode(), is_first=True)
    except ObjectExists:
        logger.info("the store %s has its marker from another process", store.name)
    except StoreRefused:
        return Look(None, is_readable=False)
    except WrongStore:
        return Look(None, wrong="there is no such folder")
    return await read(store)


async def _read_old_claim(store: AsyncStore) -> str:
    """Read what `sweep --claim` once wrote; '' where it did not, or we may not look."""
    try:
        opened = await store.open(OLD_CLAIM)
        try:
            content = await store.read(opened.stream, OLD_CLAIM_BYTES)
        finally:
            opened.stream.close()
    except (ObjectNotFound, StoreRefused):
        return ""
    return content.decode(errors="replace").strip()
