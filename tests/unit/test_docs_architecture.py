"""What docs/architecture.md says of modules, imports and kinds of files is what the code says."""

import re
import runpy
from collections.abc import Set
from pathlib import Path

import pytest

from files.kinds import KINDS
from models import FileState

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
DRAWING = (ROOT / "docs" / "architecture.svg").read_text()
# Loaded and not imported: a test may read the table that another one enforces, but not its names.
ENFORCED = runpy.run_path(str(ROOT / "tests" / "unit" / "test_architecture.py"))
MAY_IMPORT: dict[str, set[str]] = ENFORCED["MAY_IMPORT"]
BASE: set[str] = ENFORCED["BASE"]
ORDER = [*sorted(BASE), *(room for room in MAY_IMPORT if room not in BASE)]
ROOMS: tuple[str, ...] = tuple(ENFORCED["PACKAGES"])
LISTED = re.compile(r"^\| `(\w+\.py)` \| (.+) \|$", re.MULTILINE)


def section(heading: str) -> str:
    """What stands below a heading, up to the next one."""
    assert f"\n{heading}\n" in PAGE, f"there is no {heading}"
    return re.split(r"\n##", PAGE.split(f"\n{heading}\n", 1)[1])[0]


def modules_in(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.py") if path.name != "__init__.py"}


def import_table() -> str:
    """The table as the page must show it: rooms with the same rights share a row."""
    sharing: dict[frozenset[str], list[str]] = {}
    for room in ORDER:
        rights = frozenset(BASE if room in BASE else MAY_IMPORT[room] - {room})
        sharing.setdefault(rights, []).append(room)
    rows = ["| room | may import |", "| --- | --- |"]
    for rights, rooms in sharing.items():
        rows.append(f"| {', '.join(map(shown, rooms))} | {listed(rights)} |")
    for module, more in ENFORCED["ALSO"].items():
        rows.append(f"| exception: `{module}` | may also import {listed(more)} |")
    for module, fewer in ENFORCED["EXCEPT"].items():
        names = ", ".join(f"`{name}`" for name in sorted(fewer))
        rows.append(f"| exception: `{module}` | may not import {names} |")
    return "\n".join(rows)


def listed(rooms: Set[str]) -> str:
    has_base = rooms >= BASE
    rest = rooms - BASE if has_base else rooms
    names = [shown(room) for room in ORDER if room in rest]
    return ", ".join(["the base", *names] if has_base else names)


def shown(room: str) -> str:
    return f"`{room}/`" if room in ROOMS else f"`{room}`"


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_of_a_room_is_listed_and_every_listed_one_exists(room: str) -> None:
    rows = LISTED.findall(section(f"### `{room}/`"))
    assert {name for name, _ in rows} == modules_in(ROOT / room)
    assert len(rows) == len(dict(rows))


def test_every_module_of_the_root_is_listed_and_every_listed_one_exists() -> None:
    rows = LISTED.findall(section("### The root"))
    assert {name for name, _ in rows} == modules_in(ROOT)
    assert len(rows) == len(dict(rows))


def test_the_rooms_are_those_that_are_listed() -> None:
    assert set(re.findall(r"^### `(\w+)/`$", PAGE, re.MULTILINE)) == set(ROOMS)


def test_the_table_of_imports_is_the_one_that_is_enforced() -> None:
    assert import_table() in PAGE, f"the table should be\n\n{import_table()}\n"


def test_the_base_is_what_the_page_calls_so() -> None:
    (sentence,) = re.findall(r'"The base" is ([^;]+);', PAGE)
    assert set(re.findall(r"`(\w+)`", sentence)) == BASE


def test_the_kinds_of_files_are_those_of_the_table() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| `([\w/]+)` \| (everyone|whoever has a signed URL) \| ([^|]+) \|$",
        section("## The kinds of files"),
        re.MULTILINE,
    )
    assert [
        (name, prefix, readers == "everyone", re.findall(r"`([\w.]+)`", columns))
        for name, prefix, readers, columns in rows
    ] == [
        (
            kind.name,
            kind.prefix,
            kind.is_public,
            [f"{column.class_.__tablename__}.{column.key}" for column in kind.referrers],
        )
        for kind in KINDS
    ]


def test_the_words_are_in_order_and_hold_every_state() -> None:
    words = re.findall(r"^\| ([a-z ]+) \| ", section("## Words"), re.MULTILINE)[1:]
    assert words == sorted(set(words))
    assert {state.value for state in FileState} <= set(words)


def test_the_drawing_names_rooms_that_exist_and_the_states_on_the_way() -> None:
    rooms = set(re.findall(r">(\w+)/</text>", DRAWING))
    assert len(rooms) >= 5
    assert rooms <= set(ROOMS)
    states = set(re.findall(r'font-weight="600">(\w+)<', DRAWING))
    assert states == {FileState.PENDING, FileState.LIVE, FileState.DELETING}
