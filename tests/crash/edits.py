"""What a mutant is: a few replacements of text, and what they cause.

Each old text stands exactly once in its file, so that a line may move or be formatted anew, and a
mechanism that was rewritten is noticed at once.
"""

from dataclasses import dataclass
from pathlib import Path

from tests.crash.findings import Kind

CHANGE = "files/change.py"
DELETIONS = "files/deletions.py"
PICTURES = "files/profile_pictures.py"


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
    """A fault in the product; `found_by` are the trials that show it in most of their turns.

    It is noticed by a finding of a kind that it `causes`, and by no other: a machine that is too
    slow makes findings too.
    """

    name: str
    breaks: str
    causes: tuple[Kind, ...]
    found_by: tuple[str, ...]
    edits: tuple[Edit, ...]
    store: str = "local"


def apply(mutant: Mutant, folder: Path) -> None:
    """Write the fault into the copy of the code in this folder.

    Raises ValueError unless each old text is there exactly once.
    """
    for edit in mutant.edits:
        path = folder / edit.file
        path.write_text(edit.rewrite(path.read_text()))
