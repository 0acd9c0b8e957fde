"""Check: what the rows say is compared with what the stores hold, beside a running service.

Changes nothing. What looks wrong is looked at again before it is reported, so that an account that
changes its picture meanwhile is no finding.
"""

import enum
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, exists, func, or_, select

import jobs
from config import MIB
from errors import ObjectNotFound, StoreError
from files import Backends, clocks, kinds
from files.hashing import FileHash
from models import FileState, StoredFile
from ops.database_risks import find_risks
from ops.failing import IS_FAILING
from ops.inventory import (
    FileRow,
    Keys,
    ask_patiently,
    find_stores,
    list_objects,
    read_files,
    run_side_by_side,
    show_progress,
    translate_errors,
)
from storage import AsyncStore

CHUNK_BYTES = MIB


class Verdict(enum.StrEnum):
    """What can be wrong with the object of a live file."""

    MISSING = "missing"
    WRONG = "wrong"  # another size or checksum
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class _Fault:
    verdict: Verdict
    key: str


@dataclass
class CheckReport:
    """What a check found: how much there is, and whatever is wrong with it."""

    rows: dict[str, int]  # by state
    in_grace: int  # of the doomed: their time has not come
    failing: int  # deletions, which are not wrong yet
    late_jobs: int  # neither are these
    overdue: int  # deletions that nobody does
    far_off: int  # deletions, and expiries, that a wrong clock has put off
    database: list[str]  # what it is set to that it loses data by
    objects: int = 0
    size_bytes: int = 0  # of the objects
    missing: Keys = field(default_factory=Keys)
    wrong: Keys = field(default_factory=Keys)
    unreadable: Keys = field(default_factory=Keys)
    unexplained: Keys = field(default_factory=Keys)
    unreferenced: Keys = field(default_factory=Keys)
    dangling: Keys = field(default_factory=Keys)

    @property
    def findings(self) -> dict[str, Keys]:
        """All that can be wrong, by the name that the printed report has for it."""
        return {
            "missing": self.missing,
            "wrong": self.wrong,
            "unreadable": self.unreadable,
            "unexplained": self.unexplained,
            "unreferenced": self.unreferenced,
            "dangling": self.dangling,
        }

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong: all that is let go of is being deleted, too."""
        is_found = any(keys.count for keys in self.findings.values())
        return not (is_found or self.overdue or self.far_off)

    def add_fault(self, fault: _Fault) -> None:
        self.findings[fault.verdict].add([fault.key])

    def as_json(self) -> dict[str, Any]:
        """The report as it is printed; docs/maintenance.md says what each field means."""
        return {
            "rows": self.rows,
            "objects": self.objects,
            "bytes": self.size_bytes,
            **{name: keys.first for name, keys in self.findings.items()},
            "in_grace": self.in_grace,
            "failing": self.failing,
            "overdue": self.overdue,
            "far_off": self.far_off,
            "late_jobs": self.late_jobs,
            "database": self.database,
            "counts": {name: keys.count for name, keys in self.findings.items()},
            "ok": self.is_well,
        }


async def check(backends: Backends) -> CheckReport:
    """Compare every live row with its object, by size and checksum, and every object with its row.

    Raises CannotLook, or DatabaseUnavailable.
    """
    stores = await find_stores(backends)
    report = await _count_rows(backends)
    with show_progress(sum(report.rows.values()), "listing") as advance:
        for store in stores:
            async for batch in list_objects(backends, store, stores):
                report.objects += len(batch.objects)
                report.size_bytes += sum(found.size_bytes for found in batch.objects)
                report.unexplained.add(found.key for found in batch.unexplained)
                advance(len(batch.objects))
    referred = select(StoredFile.id, StoredFile.key).where(_is_referred())
    async for files in read_files(backends, referred.where(StoredFile.state != FileState.LIVE)):
        report.dangling.add(file.key for file in files)
    with show_progress(report.rows["live"], "reading") as advance:
        live = select(
            StoredFile.id,
            StoredFile.storage,
            StoredFile.bucket,
            StoredFile.key,
            StoredFile.size_bytes,
            StoredFile.sha256,
            _is_referred().label("is_referred"),
        ).where(StoredFile.state == FileState.LIVE)
        async for files in read_files(backends, live):
            report.unreferenced.add(file.key for file in files if not file.is_referred)
            for fault in await _look_twice(backends, files, advance):
                report.add_fault(fault)
    return report


async def _count_rows(backends: Backends) -> CheckReport:
    """Begin a report, with what the database alone can tell."""
    rows = dict.fromkeys(map(str, FileState), 0)
    by_state = select(StoredFile.state, func.count()).group_by(StoredFile.state)
    async with backends.database.session() as db:
        for state, count in await db.execute(by_state):
            rows[str(state)] = count
        counts = {"in_grace": clocks.IS_IN_GRACE, "failing": IS_FAILING}
        counts |= {"overdue": clocks.IS_OVERDUE, "far_off": clocks.IS_FAR_OFF}
        columns = [func.count().filter(is_it).label(name) for name, is_it in counts.items()]
        let_go = select(*columns).where(StoredFile.state != FileState.LIVE)
        found = (await db.execute(let_go, clocks.list_limits(backends.settings))).one()
    return CheckReport(
        rows,
        **found._asdict(),
        late_jobs=await jobs.count_late(backends.database),
        database=await find_risks(backends.database),
    )


def _is_referred() -> ColumnElement[bool]:
    """Whether a row of any kind's tables refers to the stored file."""
    columns = [column for kind in kinds.KINDS for column in kind.referrers]
    return or_(*(exists().where(column == StoredFile.id) for column in columns))


async def _look_twice(
    backends: Backends, files: Sequence[FileRow], advance: Callable[[int], object]
) -> list[_Fault]:
    """Find what is wrong with the objects of those files that are still live at a second look."""

    async def look_first(file: FileRow) -> Verdict | None:
        verdict = await _look(backends, file)
        advance(1)
        return verdict

    first_verdicts = await run_side_by_side(look_first, files)
    suspects = [file for file, verdict in zip(files, first_verdicts, strict=True) if verdict]
    if not suspects:
        return []
    verdicts = await run_side_by_side(functools.partial(_look, backends), suspects)
    still_live = select(StoredFile.id).where(
        StoredFile.id.in_([file.id for file in suspects]), StoredFile.state == FileState.LIVE
    )
    async with backends.database.session() as db:
        live_ids = set(await db.scalars(still_live))
    return [
        _Fault(verdict, file.key)
        for file, verdict in zip(suspects, verdicts, strict=True)
        if verdict and file.id in live_ids
    ]


async def _look(backends: Backends, file: FileRow) -> Verdict | None:
    store = backends.stores.of(file.storage, file.bucket)
    try:
        is_right = await ask_patiently(functools.partial(_is_right, store, file))
    except ObjectNotFound:
        return Verdict.MISSING
    except StoreError:
        with translate_errors(store):  # if the store answers at all, it is this one object
            is_there = await store.exists(file.key)
        return Verdict.UNREADABLE if is_there else Verdict.MISSING
    return None if is_right else Verdict.WRONG


async def _is_right(store: AsyncStore, file: FileRow) -> bool:
    opened = await store.open(file.key)
    try:
        left_bytes = opened.size_bytes
        if left_bytes != file.size_bytes:
            return False
        hashed = FileHash.like(file.sha256)
        while left_bytes:
            chunk = await store.read(opened.stream, min(CHUNK_BYTES, left_bytes))
            if not chunk:
                break
            hashed.update(chunk)
            left_bytes -= len(chunk)
        return bool(hashed.text() == file.sha256)
    finally:
        opened.stream.close()
