"""The house style that a formatter does not know: code that nobody has to read twice."""

import ast
from collections.abc import Iterator

import pytest

from tests.support.services import ROOT

FOLDERS = {"alembic", "benchmarks", "scripts", "tests"}
SOURCES = sorted(
    path
    for path in ROOT.rglob("*.py")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
NAMES = [path.relative_to(ROOT).as_posix() for path in SOURCES]
LONGEST_LINE = 100
LONGEST_MODULE = 400


@pytest.fixture(params=NAMES)
def source(request: pytest.FixtureRequest) -> str:
    return (ROOT / str(request.param)).read_text()


def find_parallel_assignments(tree: ast.AST) -> Iterator[int]:
    """The lines of `a, b = x, y`, save swaps, whose two sides name the same things."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            values = sorted(ast.unparse(value) for value in node.value.elts)
            for target in node.targets:
                if isinstance(target, ast.Tuple | ast.List):
                    names = sorted(ast.unparse(name) for name in target.elts)
                    if names != values:
                        yield node.lineno


def find_crowded_lines(tree: ast.AST) -> Iterator[int]:
    """The lines on which a second statement begins."""
    for node in ast.walk(tree):
        for block in ("body", "orelse", "finalbody"):
            statements = getattr(node, block, None)
            if not isinstance(statements, list):
                continue
            seen = {getattr(node, "lineno", 0)}
            for statement in statements:
                if statement.lineno in seen and not isinstance(node, ast.Module):
                    yield statement.lineno
                seen.add(statement.lineno)


def find_hidden_walruses(tree: ast.AST) -> Iterator[int]:
    """The lines of `:=` anywhere but in the condition of an `if`, a `while` or a comprehension."""
    allowed: set[ast.AST] = set()
    for node in ast.walk(tree):
        conditions: list[ast.expr] = []
        if isinstance(node, ast.If | ast.While | ast.IfExp):
            conditions = [node.test]
        elif isinstance(node, ast.comprehension):
            conditions = node.ifs
        for condition in conditions:
            allowed |= {inner for inner in ast.walk(condition) if isinstance(inner, ast.NamedExpr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.NamedExpr) and node not in allowed:
            yield node.lineno


def find_cut_summaries(tree: ast.Module) -> Iterator[int]:
    """Line 1, unless the module's docstring begins with a line that is a whole sentence.

    Whoever looks for a thing reads `head -1` of each module.
    """
    summary, *rest = (ast.get_docstring(tree) or "").split("\n")
    if not summary.endswith((".", "?", "!", ":")) or (rest and rest[0]):
        yield 1


FINDERS = [find_parallel_assignments, find_crowded_lines, find_hidden_walruses]


def test_each_statement_says_one_thing(source: str) -> None:
    tree = ast.parse(source)
    found = {find.__name__: list(find(tree)) for find in FINDERS}
    assert not any(found.values()), found


def test_the_first_line_of_a_module_is_a_whole_sentence(source: str) -> None:
    assert list(find_cut_summaries(ast.parse(source))) == []


def test_lines_are_short(source: str) -> None:
    lines = enumerate(source.splitlines(), 1)
    assert [number for number, line in lines if len(line) > LONGEST_LINE] == []


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name.split("/")[0] not in FOLDERS - {"benchmarks"}]
)
def test_a_module_holds_one_noun(name: str) -> None:
    assert len((ROOT / name).read_text().splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize(
    ("find", "wrong", "right"),
    [
        (find_parallel_assignments, "a, b = 1, 2", "a, b = b, a\na, b = f()\na = 1, 2"),
        (find_parallel_assignments, "a.x, a.y = x, y", "a.x, a.y = a.y, a.x"),
        (find_crowded_lines, "if a: b()", "if a:\n    b()"),
        (find_crowded_lines, "def f():\n    a(); b()", "def f():\n    a()\n    b()"),
        (find_cut_summaries, "a = 1", '"""What."""'),
        (find_cut_summaries, '"""What that\n\nis."""', '"""What?\n\nThat\nis"""'),
        (find_cut_summaries, '"""What, that.\nis."""', '"""What that is:\n\n    a"""'),
        (find_hidden_walruses, "f(a := 1)", "if a := f():\n    g()\nwhile b := f():\n    g()"),
    ],
)
def test_the_lint_sees_what_it_is_for(find: object, wrong: str, right: str) -> None:
    assert callable(find)
    assert list(find(ast.parse(wrong)))
    assert not list(find(ast.parse(right)))
