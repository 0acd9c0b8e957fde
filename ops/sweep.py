"""Sweep: objects that no row explains are reported and,
asked twice and in a store claimed for it, deleted.

Nothing is deleted but by a row: the sweep announces its key as one to be
deleted, which fails if anyone else announced it, and from then on nobody
can. Killed anywhere, it leaves what the reaper or the next sweep finishes.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, String, delete, exists, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import aliased

import faults
from config import Settings
from errors import ObjectExists, ObjectNotFound
from files import Backends, deletions
from models import FileState, Installation, Sighting, StoredFile
from ops.check import (
    SIDE_BY_SIDE,
    Keys,
    asking,
    can_be_ours,
    find_stores,
    is_one_of,
    list_objects,
    named,
    progress,
)
from storage import AsyncStore

# Holds the id of the database that may sweep the store;
# outside our prefixes, so it is never taken for a picture.
MARKER = "darkroom/database-id.txt"
MARKER_BYTES = 100
# To this comes the longest time between announcing and
# storing: nothing that is still on its way is as old.
AGE_FLOOR_SECONDS = 3600.0
# What a bug or a crash of ours could leave, and far
# less than a wrong database would call unexplained.
LIMIT = 100
# Above STORE_DEADLINE_SECONDS, so that the reaper takes no claim of ours while we work on it.
CLAIM_SECONDS = 30.0
UNEXPLAINED = "unexplained"  # the purpose of a sweep's rows

NOBODY = "nobody"
THIS_DATABASE = "this database"
ANOTHER_DATABASE = "another database"


@dataclass
class _Place:
    """One store and what a sweep found in it."""

    store: AsyncStore
    claimed: str
    due: Keys  # seen before, long enough ago
    refused: str | None = None
    objects: int = 0
    explained: int = 0
    too_young: int = 0
    not_ours: int = 0  # of the unexplained: keys that we never make, and never delete
    seen_lately: int = 0
    deleted: int = 0
    left_to_the_reaper: int = 0
    unexplained: Keys = field(default_factory=Keys)
    first_sightings: Keys = field(default_factory=Keys)

    def refuse(self, why: str) -> None:
        self.refused = f"Nothing was deleted in {named(self.store)}: {why}."

    def report(self) -> dict[str, Any]:
        return {
            "storage": self.store.name,
            "bucket": self.store.bucket,
            "claimed": self.claimed,
            "refused": self.refused,
            "objects": self.objects,
            "too_young": self.too_young,
            "unexplained": self.unexplained.first,
            "first_sightings": self.first_sightings.first,
            "counts": {
                "unexplained": self.unexplained.count,
                "not_ours": self.not_ours,
                "first_sightings": self.first_sightings.count,
                "seen_lately": self.seen_lately,
                "due": self.due.count,
                "deleted": self.deleted,
                "left_to_the_reaper": self.left_to_the_reaper,
            },
        }


async def claim(backends: Backends) -> tuple[AsyncStore, str]:
    """Mark the current store as this database's, unless
    it is another's; return it and whose it is now.
    """
    own = await _own_id(backends)
    store = backends.stores.current
    if await _claimant(store, own) == NOBODY:
        content = own.encode()
        with (
            asking(store),
            suppress(ObjectExists),
        ):  # then someone was faster, and the answer says who
            await store.put(MARKER, content, "text/plain", hashlib.sha256(content).hexdigest())
    return store, await _claimant(store, own)


async def sweep(backends: Backends, *, deletes: bool = False, limit: int = LIMIT) -> dict[str, Any]:
    """Report what no row explains, and write nothing; with
    `deletes` remember it, and delete what was remembered.

    Refuses a place that is not marked as this database's or that has
    objects but not one with a row, and all places if more than `limit`
    objects would be deleted. Raises CannotLook, or DatabaseUnavailable.
    """
    own = await _own_id(backends)
    stores_named = await find_stores(backends)
    places = [
        await _look_into(
            backends, store, await _claimant(store, own), stores_named, deletes=deletes, limit=limit
        )
        for store in stores_named
    ]
    if deletes:
        willing = [place for place in places if place.refused is None]
        due = sum(place.due.count for place in willing)
        if due > limit:
            for place in willing:
                place.refuse(f"it would be {due} objects, more than the limit of {limit}")
        else:
            faults.reached("sweep_listed")
            for place in willing:
                for start in range(0, place.due.count, SIDE_BY_SIDE):
                    await _delete(backends, place, place.due.first[start : start + SIDE_BY_SIDE])
    return {
        "database": own,
        "deletes": deletes,
        "age_floor_seconds": age_floor_seconds(backends.settings),
        "places": [place.report() for place in places],
        "ok": all(_is_fine(place, deletes) for place in places),
    }


def age_floor_seconds(settings: Settings) -> float:
    """How old an object, and then its first sighting, must be."""
    return AGE_FLOOR_SECONDS + settings.pending_expiry_seconds


def _is_fine(place: _Place, deletes: bool) -> bool:
    if deletes:
        return place.refused is None and not place.left_to_the_reaper
    return not place.unexplained.count


async def _own_id(backends: Backends) -> str:
    async with backends.database.session() as db:
        return str((await db.scalars(select(Installation.id))).one())


async def _claimant(store: AsyncStore, own: str) -> str:
    with asking(store):
        try:
            opened = await store.open(MARKER)
        except ObjectNotFound:
            return NOBODY
        try:
            content = await store.read(opened.stream, MARKER_BYTES)
        finally:
            opened.stream.close()
    return THIS_DATABASE if content.decode(errors="replace").strip() == own else ANOTHER_DATABASE


async def _look_into(
    backends: Backends,
    store: AsyncStore,
    claimed: str,
    places: Sequence[AsyncStore],
    *,
    deletes: bool,
    limit: int,
) -> _Place:
    place = _Place(store, claimed, Keys(limit))
    if deletes and claimed != THIS_DATABASE:
        place.refuse(f"it is claimed by {claimed}")
    remembers = deletes and place.refused is None
    async with backends.database.session() as db:
        began = (await db.scalars(select(func.now()))).one()
    youngest = began - timedelta(seconds=age_floor_seconds(backends.settings))
    with progress(0, "listing") as advance:
        async for batch in list_objects(backends, store, places):
            place.objects += len(batch.found)
            place.explained += batch.explained
            old = [one.key for one in batch.unexplained if one.modified_at <= youngest]
            place.too_young += len(batch.unexplained) - len(old)
            place.unexplained.add(old)
            candidates = sorted(key for key in old if can_be_ours(key))
            place.not_ours += len(old) - len(candidates)
            await _sight(backends, place, candidates, remembers=remembers)
            advance(len(batch.found))
    if remembers:
        async with backends.database.session() as db:
            await db.execute(delete(Sighting).where(_is_here(store), Sighting.last_seen_at < began))
            await db.commit()
        if place.objects and not place.explained:
            place.refuse(
                "not one of its objects has a row, so they surely belong to another database"
            )
    return place


async def _sight(
    backends: Backends, place: _Place, keys: Sequence[str], *, remembers: bool
) -> None:
    """Tell by earlier sweeps what is due, and remember the others as seen for the first time."""
    if not keys:
        return
    async with backends.database.session() as db:
        known = select(Sighting.key, _is_ripe(backends)).where(
            _is_here(place.store), is_one_of(Sighting.key, keys)
        )
        is_due = dict((await db.execute(known)).all())
        if remembers:
            each = func.unnest(literal(keys, ARRAY(String)))
            seen = select(literal(place.store.name), literal(place.store.bucket), each)
            remember = insert(Sighting).from_select(["storage", "bucket", "key"], seen)
            again = {"last_seen_at": func.now()}
            await db.execute(
                remember.on_conflict_do_update(constraint="sightings_pkey", set_=again)
            )
            await db.commit()
    place.first_sightings.add(key for key in keys if key not in is_due)
    place.due.add(key for key in keys if is_due.get(key))
    place.seen_lately += sum(not ripe for ripe in is_due.values())


async def _delete(backends: Backends, place: _Place, keys: Sequence[str]) -> None:
    """Claim these keys by rows of our own, then delete
    their objects; what has a row by now is left alone.
    """
    row = aliased(StoredFile)
    here = _is_here(place.store) & is_one_of(Sighting.key, keys)
    values = {
        "storage": Sighting.storage,
        "bucket": Sighting.bucket,
        "key": Sighting.key,
        "purpose": literal(UNEXPLAINED),
        "state": literal(FileState.DELETING),
        "owner_id": literal(0),
        "attempts": literal(1),
        "next_attempt_at": func.now() + timedelta(seconds=CLAIM_SECONDS),
    }
    still_due = select(*values.values()).where(
        here, _is_ripe(backends), ~exists().where(row.key == Sighting.key)
    )
    rows = insert(StoredFile).from_select(list(values), still_due)
    rows = rows.on_conflict_do_nothing(constraint="stored_files_place_key")
    async with backends.database.session() as db:
        claimed = (await db.scalars(rows.returning(StoredFile))).all()
        await db.execute(delete(Sighting).where(here))
        await db.commit()
    await deletions.purge(backends.database, claimed)
    async with backends.database.session() as db:
        left = select(func.count()).where(StoredFile.id.in_([file.id for file in claimed]))
        place.left_to_the_reaper += (count := await db.scalar(left) or 0)
    place.deleted += len(claimed) - count


def _is_here(store: AsyncStore) -> ColumnElement[bool]:
    return (Sighting.storage == store.name) & (Sighting.bucket == store.bucket)


def _is_ripe(backends: Backends) -> ColumnElement[bool]:
    return Sighting.first_seen_at <= func.now() - timedelta(
        seconds=age_floor_seconds(backends.settings)
    )
