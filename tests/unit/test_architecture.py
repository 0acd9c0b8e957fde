"""Every module stands in a room that imports only what
its row of the table allows; each fence has one gate.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.services import ROOT

# Who may import whom. A room may always import itself.
BASE = {"config", "errors", "faults", "logs"}
DATA = {"database", "models"}
MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(BASE, BASE),
    "pictures": {"errors", "image_utils", "faults"},
    "image_utils": {"pictures", "errors"},
    "storage": BASE,
    "database": BASE,
    "models": BASE | {"database", "storage"},
    "schemas": BASE | DATA | {"pictures"},
    "files": BASE | DATA | {"storage", "pictures", "image_utils"},
    "accounts": BASE | DATA | {"schemas", "files"},
    "web": BASE | {"pictures"},
    "routers": BASE | DATA | {"schemas", "storage", "pictures", "files", "accounts", "web"},
    "ops": BASE | DATA | {"schemas", "storage", "pictures", "files", "accounts", "web"},
    **dict.fromkeys(
        ("main", "cli", "check_s3"),
        BASE
        | DATA
        | {"schemas", "storage", "pictures", "files", "accounts", "web", "routers", "ops"},
    ),
}
PACKAGES = ("accounts", "files", "ops", "pictures", "routers", "storage", "web")
NOT_ROOMS = {"alembic", "benchmarks", "deploy", "docs", "scripts", "static", "tests"}
# Word -> the only files that may say it: an import, a name or an attribute.
FENCES = {
    "boto3": {"storage/s3.py", "check_s3.py"},
    "botocore": {"storage/s3.py", "check_s3.py"},
    "mypy_boto3_s3": {"storage/s3.py", "check_s3.py"},
    "PIL": {"image_utils.py", "pictures/metadata.py"},
    "HTTPException": {"errors.py", "web/problems.py"},
    "run_in_threadpool": {"storage/__init__.py", "web/admission.py", "accounts/auth.py"},
    "to_thread": {"main.py"},  # for the size of the pool, not to run anything
    "run_sync": {"database.py"},  # SQLAlchemy's, which needs no thread
    "run_in_executor": set[str](),
    "iterate_in_threadpool": set[str](),
}
STATE_WRITERS = {"files/deletions.py", "files/unit_of_work.py", "files/reaper.py", "ops/sweep.py"}

PATHS = sorted(
    [*ROOT.glob("*.py"), *(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))]
)
NAMES = [path.relative_to(ROOT).as_posix() for path in PATHS]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tree(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text())


def imported(tree: ast.AST) -> Iterator[str]:
    """The dotted names that a file imports, wherever
    in it; a relative import stays in its own package.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def words(tree: ast.AST) -> set[str]:
    """Every identifier that a file uses or imports."""
    said = {part for dotted in imported(tree) for part in dotted.split(".")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            said.add(node.id if isinstance(node, ast.Name) else node.attr)
    return said


def state_writes(tree: ast.AST) -> list[int]:
    """The lines that set a `state`, or use a FileState other than to compare with it."""
    compared = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for inner in ast.walk(node)
    }
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            is_state = (
                isinstance(node.value, ast.Name)
                and node.value.id == "FileState"
                and id(node) not in compared
            )
            is_set = node.attr == "state" and not isinstance(node.ctx, ast.Load)
        else:
            is_state = False
            is_set = isinstance(node, ast.keyword) and node.arg == "state"
        if is_state or is_set:
            lines.append(getattr(node, "lineno", 0))
    return lines


def test_every_module_is_in_a_room() -> None:
    at_root = {path.stem for path in ROOT.glob("*.py")}
    folders = {
        path.parent.name for path in ROOT.glob("*/*.py") if not path.parent.name.startswith(".")
    } - NOT_ROOMS
    assert folders == set(PACKAGES)
    assert at_root | folders == set(MAY_IMPORT), "give the new room a row in the table"


def test_a_room_imports_only_what_its_row_allows(name: str, tree: ast.Module) -> None:
    own = name.removesuffix(".py").split("/")[0]
    roots = {dotted.split(".")[0] for dotted in imported(tree)} & (set(MAY_IMPORT) - {own})
    assert roots <= MAY_IMPORT[own]


def test_each_fence_has_its_gates_only(name: str, tree: ast.Module) -> None:
    said = words(tree)
    assert [word for word, gates in FENCES.items() if word in said and name not in gates] == []


def test_only_the_unit_of_work_and_the_reaper_change_a_stored_files_state(
    name: str, tree: ast.Module
) -> None:
    if name not in STATE_WRITERS:
        assert state_writes(tree) == []


def test_the_state_fence_sees_each_way_to_write_one() -> None:
    for line in (
        "file.state = FileState.LIVE",
        "f.state, f.x = new, 1",
        "f(state=new)",
        "v[k] = FileState.DOOMED",
    ):
        assert state_writes(ast.parse(line)), line
    assert not state_writes(
        ast.parse("file.state == FileState.LIVE and where(StoredFile.state != FileState.DOOMED)")
    )
    assert state_writes(ast.parse((ROOT / "files/unit_of_work.py").read_text()))


def test_a_module_opens_with_at_most_four_sentences(name: str, tree: ast.Module) -> None:
    docstring = ast.get_docstring(tree)
    assert docstring, f"{name} does not say what it holds"
    assert len(re.findall(r"[.?!](?=\s|$)", docstring)) <= 4


def test_no_root_name_hides_a_library() -> None:
    taken = sys.stdlib_module_names | {"multipart"}
    assert {"queue", "secrets", "types", "signal", "logging"} <= taken
    assert [name for name in MAY_IMPORT if name in taken] == []
    assert not Path(ROOT, "alembic", "__init__.py").exists()
