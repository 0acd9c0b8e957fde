"""The rooms of the tests: a test module is imported by nobody, and support knows no room."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.services import ROOT

TESTS = ROOT / "tests"
MODULES = [path.relative_to(ROOT).as_posix() for path in sorted(TESTS.rglob("*.py"))]


def find_imports(path: Path, code: str) -> Iterator[str]:
    """Every name that a module imports, in full: `from a import b` as `a.b`."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def find_forbidden(path: Path, code: str) -> list[str]:
    """What the module imports and must not."""
    is_support = TESTS / "support" in path.parents and not path.name.startswith("test_")
    forbidden = []
    for name in find_imports(path, code):
        parts = name.split(".")
        if parts[0] != "tests":
            continue
        # What comes after room and module is a name in the module, and may begin with anything.
        is_test = any(part.startswith("test_") or part == "conftest" for part in parts[1:3])
        is_outside = is_support and parts[1:2] != ["support"]
        if is_test or is_outside:
            forbidden.append(name)
    return forbidden


@pytest.mark.parametrize("name", MODULES)
def test_nobody_imports_a_test_and_support_imports_no_room(name: str) -> None:
    path = ROOT / name
    assert find_forbidden(path, path.read_text()) == []


@pytest.mark.parametrize(
    ("name", "code", "forbidden"),
    [
        ("unit/test_a.py", "from tests.service.test_b import C", ["tests.service.test_b.C"]),
        ("unit/test_a.py", "from tests.service import test_b", ["tests.service.test_b"]),
        ("unit/test_a.py", "from . import test_b", ["tests.unit.test_b"]),
        ("unit/test_a.py", "def f():\n    import tests.unit.test_b", ["tests.unit.test_b"]),
        ("unit/test_a.py", "from tests.conftest import c", ["tests.conftest.c"]),
        ("support/a.py", "from tests.crash.storm import c", ["tests.crash.storm.c"]),
        ("support/a.py", "from tests import crash", ["tests.crash"]),
        ("support/test_a.py", "from tests.crash.storm import c", []),
        ("support/a.py", "from tests.support import warm\nimport httpx, database", []),
        ("unit/test_a.py", "from tests.crash.mutants import test_all", []),
    ],
)
def test_the_lint_sees_what_it_is_for(name: str, code: str, forbidden: list[str]) -> None:
    assert find_forbidden(TESTS / name, code) == forbidden
