"""Sweep: objects that no row explains are reported and, asked twice, deleted.

Nothing is deleted but by a row: the sweep announces its key as one to be deleted, which fails if
anyone else announced it, and from then on nobody can. Killed anywhere, it leaves what the reaper or
the next sweep finishes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, String, delete, exists, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import aliased

import faults
from config import Settings
from files import Backends, deletions
from models import FileState, Installation, Sighting, StoredFile
from ops.inventory import (
    SIDE_BY_SIDE,
    Keys,
    describe_store,
    find_stores,
    is_any_of,
    is_possible_key,
    list_objects,
    show_progress,
    translate_errors,
)
from storage import AsyncStore

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
class StoreReport:
    """What a sweep found in one store, and what it did there."""

    store: AsyncStore
    claimant: str
    due: Keys  # seen before, long enough ago
    refusal: str | None = None  # the sentence that says why nothing was deleted
    objects: int = 0
    explained: int = 0
    too_young: int = 0
    not_ours: int = 0  # of the unexplained: keys that we never make, and never delete
    seen_lately: int = 0
    deleted: int = 0
    left_to_the_reaper: int = 0
    unexplained: Keys = field(default_factory=Keys)
    first_sightings: Keys = field(default_factory=Keys)

    def refuse(self, reason: str) -> None:
        self.refusal = f"Nothing was deleted in {describe_store(self.store)}: {reason}."

    def as_json(self) -> dict[str, Any]:
        return {
            "storage": self.store.name,
            "bucket": self.store.bucket,
            "claimed": self.claimant,
            "refused": self.refusal,
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


@dataclass(frozen=True)
class SweepReport:
    """What a sweep found and did, store by store."""

    database_id: str
    deletes: bool
    age_floor_seconds: float
    stores: list[StoreReport]

    @property
    def is_well(self) -> bool:
        """Whether nothing is unexplained or, with `deletes`, all that is due was deleted."""
        if self.deletes:
            return not any(store.refusal or store.left_to_the_reaper for store in self.stores)
        return not any(store.unexplained.count for store in self.stores)

    def as_json(self) -> dict[str, Any]:
        """The report as it is printed; docs/maintenance.md says what each field means."""
        return {
            "database": self.database_id,
            "deletes": self.deletes,
            "age_floor_seconds": self.age_floor_seconds,
            "places": [store.as_json() for store in self.stores],
            "ok": self.is_well,
        }


async def sweep(backends: Backends, *, deletes: bool = False, limit: int = LIMIT) -> SweepReport:
    """Report what no row explains, and write nothing.

    With `deletes` remember it, and delete what was remembered. Refuses a store that is not marked
    as this database's or that has objects but not one with a row, and all stores if more than
    `limit` objects would be deleted. Raises CannotLook, or DatabaseUnavailable.
    """
    own_id = await _read_own_id(backends)
    stores = await find_stores(backends)
    reports = []
    for store in stores:
        report = StoreReport(store, await _find_claimant(backends, store), due=Keys(limit))
        await _look_into(backends, report, stores, deletes=deletes)
        reports.append(report)
    if deletes:
        await _delete_due(backends, reports, limit)
    return SweepReport(own_id, deletes, age_floor_seconds(backends.settings), reports)


def age_floor_seconds(settings: Settings) -> float:
    """How old an object, and then its first sighting, must be."""
    return AGE_FLOOR_SECONDS + settings.pending_expiry_seconds


async def _read_own_id(backends: Backends) -> str:
    async with backends.database.session() as db:
        return str((await db.scalars(select(Installation.id))).one())


async def _find_claimant(backends: Backends, store: AsyncStore) -> str:
    """Tell who reaps the store, and so may sweep it."""
    with translate_errors(store):
        marker, is_own = await backends.identities.read_marker(store)
    if marker is None:
        return NOBODY
    return THIS_DATABASE if is_own else ANOTHER_DATABASE


async def _look_into(
    backends: Backends, report: StoreReport, stores: Sequence[AsyncStore], *, deletes: bool
) -> None:
    """Go through all objects of the report's store; rows of any of the `stores` explain them."""
    if deletes and report.claimant != THIS_DATABASE:
        report.refuse(f"it is claimed by {report.claimant}")
    remembers = deletes and report.refusal is None
    async with backends.database.session() as db:
        began_at = (await db.scalars(select(func.now()))).one()
    youngest_at = began_at - timedelta(seconds=age_floor_seconds(backends.settings))
    with show_progress(0, "listing") as advance:
        async for batch in list_objects(backends, report.store, stores):
            report.objects += len(batch.objects)
            report.explained += batch.explained_count
            old = [found.key for found in batch.unexplained if found.modified_at <= youngest_at]
            report.too_young += len(batch.unexplained) - len(old)
            report.unexplained.add(old)
            candidates = sorted(key for key in old if is_possible_key(key))
            report.not_ours += len(old) - len(candidates)
            await _sight(backends, report, candidates, remembers=remembers)
            advance(len(batch.objects))
    if remembers:
        is_outdated = _is_in(report.store) & (Sighting.last_seen_at < began_at)
        async with backends.database.session() as db:
            await db.execute(delete(Sighting).where(is_outdated))
            await db.commit()
        if report.objects and not report.explained:
            report.refuse(
                "not one of its objects has a row, so they surely belong to another database"
            )


async def _sight(
    backends: Backends, report: StoreReport, keys: Sequence[str], *, remembers: bool
) -> None:
    """Tell by earlier sweeps what is due, and remember the others as seen for the first time."""
    if not keys:
        return
    seen_before = select(Sighting.key, _is_ripe(backends)).where(
        _is_in(report.store), is_any_of(Sighting.key, keys)
    )
    async with backends.database.session() as db:
        is_ripe = dict((await db.execute(seen_before)).all())
        if remembers:
            sightings = select(
                literal(report.store.name),
                literal(report.store.bucket),
                func.unnest(literal(keys, ARRAY(String))),
            )
            remember = insert(Sighting).from_select(["storage", "bucket", "key"], sightings)
            see_again = {"last_seen_at": func.now()}
            await db.execute(
                remember.on_conflict_do_update(constraint="sightings_pkey", set_=see_again)
            )
            await db.commit()
    report.first_sightings.add(key for key in keys if key not in is_ripe)
    report.due.add(key for key in keys if is_ripe.get(key))
    report.seen_lately += sum(not ripe for ripe in is_ripe.values())


async def _delete_due(backends: Backends, reports: Sequence[StoreReport], limit: int) -> None:
    """Delete what is due in the stores that were not refused, or nothing if it is too much."""
    willing = [report for report in reports if report.refusal is None]
    due = sum(report.due.count for report in willing)
    if due > limit:
        for report in willing:
            report.refuse(f"it would be {due} objects, more than the limit of {limit}")
        return
    faults.reached("sweep_listed")
    for report in willing:
        for start in range(0, report.due.count, SIDE_BY_SIDE):
            await _delete(backends, report, report.due.first[start : start + SIDE_BY_SIDE])


async def _delete(backends: Backends, report: StoreReport, keys: Sequence[str]) -> None:
    """Claim these keys by rows of our own, then delete their objects.

    What has a row by now is left alone.
    """
    row = aliased(StoredFile)
    is_sighting = _is_in(report.store) & is_any_of(Sighting.key, keys)
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
        is_sighting, _is_ripe(backends), ~exists().where(row.key == Sighting.key)
    )
    rows = insert(StoredFile).from_select(list(values), still_due)
    rows = rows.on_conflict_do_nothing(constraint="stored_files_place_key")
    async with backends.database.session() as db:
        claimed = (await db.execute(rows.returning(StoredFile.__table__))).mappings().all()
        await db.execute(delete(Sighting).where(is_sighting))
        await db.commit()
    files = [deletions.Claimed(row, backends.stores) for row in claimed]
    await deletions.purge(backends.database, files)
    left = select(func.count()).where(StoredFile.id.in_([row["id"] for row in claimed]))
    async with backends.database.session() as db:
        left_count = await db.scalar(left) or 0
    report.left_to_the_reaper += left_count
    report.deleted += len(claimed) - left_count


def _is_in(store: AsyncStore) -> ColumnElement[bool]:
    return (Sighting.storage == store.name) & (Sighting.bucket == store.bucket)


def _is_ripe(backends: Backends) -> ColumnElement[bool]:
    age_floor = timedelta(seconds=age_floor_seconds(backends.settings))
    return Sighting.first_seen_at <= func.now() - age_floor
