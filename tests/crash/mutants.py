"""The product with one of its mechanisms taken out, each of which the crash run must notice.

A mutant is a few replacements of text. Each old text stands exactly once in its file, so that a
line may move or be formatted anew, and a mechanism that was rewritten is noticed at once.
"""

from dataclasses import dataclass
from pathlib import Path

CHANGE = "files/change.py"
DELETIONS = "files/deletions.py"


@dataclass(frozen=True)
class Edit:
    """One text in a file, and what is written in its place."""

    file: str
    old: str
    new: str

    def rewrite(self, content: str) -> str:
        """The content with the new text; raises ValueError unless the old one is there once."""
        count = content.count(self.old)
        if count != 1:
            raise ValueError(f"{self.file} has {self.old!r} {count} times, not once")
        return content.replace(self.old, self.new)


@dataclass(frozen=True)
class Mutant:
    """A fault in the product; `found_by` are the trials that show it in most of their turns."""

    name: str
    breaks: str
    found_by: tuple[str, ...]
    edits: tuple[Edit, ...]


def apply(mutant: Mutant, folder: Path) -> None:
    """Write the fault into the copy of the code in this folder.

    Raises ValueError unless each old text is there exactly once.
    """
    for edit in mutant.edits:
        path = folder / edit.file
        path.write_text(edit.rewrite(path.read_text()))


MUTANTS = (
    Mutant(
        name="delete_before_commit",
        breaks="The old object is deleted before the commit that lets go of it (G6).",
        found_by=("kill at inside_swap",),
        edits=(
            Edit(
                CHANGE,
                'faults.reached("inside_swap")',
                """\
if old is not None:
                await deletions.delete_object(old)
            faults.reached("inside_swap")""",
            ),
        ),
    ),
    Mutant(
        name="delete_on_commit_error",
        breaks="A commit without an answer is taken for one that failed, and the new object is "
        "deleted (G3).",
        found_by=("COMMITs without an answer, one client",),
        edits=(
            Edit(
                CHANGE,
                "user = await self._settle(file_id)",
                """\
await deletions.delete_object(file)
            raise OutcomeUnknown""",
            ),
        ),
    ),
    Mutant(
        name="expired_goes_live",
        breaks="The swap does not look whether the reaper has claimed the file (G1).",
        found_by=(
            "SIGSTOP past the expiry at during_put",
            "SIGSTOP past the expiry at after_put",
        ),
        edits=(
            Edit(
                CHANGE,
                "if file is None or file.state != FileState.PENDING:",
                "if file is None:",
            ),
        ),
    ),
    Mutant(
        name="forgotten_expiry",
        breaks="The reaper passes over what was announced and never finished (G2).",
        found_by=("kill at after_announce",),
        edits=(
            Edit(
                DELETIONS,
                "(StoredFile.state != FileState.LIVE) &",
                "StoredFile.state.in_([FileState.DOOMED, FileState.DELETING]) &",
            ),
        ),
    ),
    Mutant(
        name="no_lock",
        breaks="The old picture is read without the lock of the account (G4).",
        found_by=(
            "kill at reaper_claimed",
            "database gone at release_claimed, then kill",
        ),
        edits=(
            Edit(CHANGE, "with_for_update=True, populate_existing=True", "populate_existing=True"),
        ),
    ),
    Mutant(
        name="no_pending_row",
        breaks="The bytes are stored before any row knows of them (G2).",
        found_by=("kill at before_announce", "kill at during_put"),
        edits=(
            Edit(
                CHANGE,
                'faults.reached("before_announce")',
                """\
await _put_early(file, picture)
        faults.reached("before_announce")""",
            ),
            Edit(
                CHANGE,
                "async def _put(",
                """\
async def _put(*_: object) -> None:
    pass


async def _put_early(""",
            ),
        ),
    ),
    Mutant(
        name="no_tombstone",
        breaks="An expired row is forgotten at once, though its bytes may still come (G2).",
        found_by=("SIGSTOP past the expiry, kill at after_put",),
        edits=(Edit(DELETIONS, "tombstone_until=func.now() + _TOMBSTONE", "tombstone_until=None"),),
    ),
    Mutant(
        name="reused_key",
        breaks="The key is made from the account, and so used again (G8).",
        found_by=("kill at after_announce",),
        edits=(
            Edit(
                CHANGE,
                "PROFILE_PICTURE.prefix + picture.filename",
                'PROFILE_PICTURE.prefix + f"{self._owner_id}.jpg"',
            ),
        ),
    ),
    Mutant(
        name="row_goes_first",
        breaks="The row of a deletion goes before its object (G6).",
        found_by=("kill at object_deleted",),
        edits=(
            Edit(DELETIONS, 'faults.reached("object_deleted")', "pass"),
            Edit(
                DELETIONS,
                "errors = await asyncio.gather(",
                """\
async with database.session() as db:
        ids = [file.id for file in claimed if file.tombstone_until is None]
        await db.execute(delete(StoredFile).where(StoredFile.id.in_(ids)))
        await db.commit()
    faults.reached("object_deleted")
    errors = await asyncio.gather(""",
            ),
        ),
    ),
    Mutant(
        name="swap_before_put",
        breaks="The row is made live first and the bytes are stored after the commit (G1).",
        found_by=("kill with the COMMIT of the swap sent",),
        edits=(
            Edit(
                CHANGE,
                "file = await self._announce_and_put(picture)",
                """\
file = await self._announce(picture)
                self._put_late = _put(file, picture)""",
            ),
            Edit(
                CHANGE,
                "self._put.clear()",
                """\
await self._put_late
        self._put.clear()""",
            ),
        ),
    ),
    Mutant(
        name="told_though_lost",
        breaks="A commit without an answer is answered as done, whether it was or not (G3).",
        found_by=("COMMITs without an answer, one client",),
        edits=(Edit(CHANGE, "user = await self._settle(file_id)", "pass"),),
    ),
)
