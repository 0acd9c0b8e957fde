"""Mutants made by a script: a statement deleted, two swapped, a condition turned.

`python -m tests.crash.generated --count 40 --seed 1` applies each to a copy and makes the short run
until something is found; first of all on the code as it is, where nothing may be found. A mutant
counts if the copy imports and the run reaches the place. The exit status is 0 only if there is a
reason on record why each that survives is right to.
"""

import argparse
import ast
import contextlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from tests.crash import runner, trials, waiting
from tests.crash.survivors import REASONS
from tests.support.services import ROOT

SOURCES = (
    *(f"files/{name}.py" for name in ("change", "deletions", "profile_pictures", "puts", "reaper")),
    *(f"files/{name}.py" for name in ("reservations", "streams")),
    *("photos/gallery.py", "photos/intake.py"),
    "storage/async_store.py",
    "connections/driver.py",
    "connections/engines.py",
    "database.py",
    "routers/users.py",
)
STORE_SOURCES = {
    "local": ("storage/local.py", "storage/drafts.py"),
    "s3": ("storage/s3.py", "storage/s3_answers.py", "storage/s3_uploads.py"),
}
# What stands alone on its lines and may be missing: no `return`, whose absence says nothing.
SIMPLE = (ast.Expr, ast.Assign, ast.AugAssign, ast.Raise)
# Nothing is promised about a line of the log, and the fault points are the runner's own.
WITHOUT_EFFECT = ("logger.", "faults.")
# The copy works in a folder beside it, where each mutant leaves word that it was reached.
REACHED = "reached"

Sort = Literal["deleted", "swapped", "turned"]
Outcome = Literal["noticed", "survived", "not reached", "does not import"]


@dataclass(frozen=True)
class Generated:
    """One edit of a source: lines from `first` to `last` become `text`."""

    file: str
    sort: Sort
    first: int
    last: int
    text: str
    function: str = field(compare=False)
    what: str  # the code that it is about, in one line

    @property
    def name(self) -> str:
        return f"{self.sort}: {self.file}, {self.function}: {self.what}"

    def apply(self, folder: Path, marker: Path) -> None:
        """Write it into the copy in this folder; when it is reached it makes the marker."""
        path = folder / self.file
        lines = path.read_text().splitlines()
        touch = f'__import__("pathlib").Path({str(marker)!r}).touch()'
        lines[self.first - 1 : self.last] = self.text.replace(_TOUCH, touch).splitlines()
        path.write_text("\n".join(lines) + "\n")


_TOUCH = "__touch__()"


def generate(file: str) -> Iterator[Generated]:
    """Make every mutant of one source."""
    source = (ROOT / file).read_text()
    lines = source.splitlines()
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            for block in (getattr(node, name, []) for name in ("body", "orelse", "finalbody")):
                if isinstance(block, list):
                    yield from _change_block(file, function.name, lines, block)
            if isinstance(node, ast.If | ast.While):
                yield from _turn(file, function.name, lines, node)


def _change_block(
    file: str, function: str, lines: list[str], block: list[ast.stmt]
) -> Iterator[Generated]:
    simple = [statement for statement in block if _is_simple(statement)]
    for statement in simple:
        indent = " " * statement.col_offset
        first, last = _span(statement)
        what = _shorten(ast.unparse(statement))
        yield Generated(file, "deleted", first, last, indent + _TOUCH, function, what)
    for one, other in pairwise(block):
        if not (_is_simple(one) and _is_simple(other)):
            continue
        indent = " " * one.col_offset
        swapped = [_cut(lines, other), _cut(lines, one)]
        text = "\n".join([indent + _TOUCH, *swapped])
        what = _shorten(f"{ast.unparse(one)} | {ast.unparse(other)}")
        yield Generated(file, "swapped", one.lineno, _span(other)[1], text, function, what)


def _turn(
    file: str, function: str, lines: list[str], node: ast.If | ast.While
) -> Iterator[Generated]:
    word = "while" if isinstance(node, ast.While) else "if"
    if lines[node.lineno - 1].lstrip().startswith("elif"):
        word = "elif"
    if any(isinstance(part, ast.NamedExpr) for part in ast.walk(node.test)):
        return
    last = node.body[0].lineno - 1  # a condition may stand on several lines, and a comment after it
    test = ast.unparse(node.test)
    text = f"{' ' * node.col_offset}{word} {_TOUCH} or not ({test}):"
    yield Generated(file, "turned", node.lineno, last, text, function, _shorten(test))


def _is_simple(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        is_docstring = isinstance(statement.value, ast.Constant)
        return not is_docstring and not ast.unparse(statement).startswith(WITHOUT_EFFECT)
    return isinstance(statement, SIMPLE)


def _span(statement: ast.stmt) -> tuple[int, int]:
    return statement.lineno, statement.end_lineno or statement.lineno


def _cut(lines: list[str], statement: ast.stmt) -> str:
    first, last = _span(statement)
    return "\n".join(lines[first - 1 : last])


def _shorten(code: str) -> str:
    return re.sub(r"\s+", " ", code)[:120]


def choose(count: int, seed: str, store: str) -> list[Generated]:
    """Choose so many, by chance, in the order in which they are tried."""
    sources = (*SOURCES, *STORE_SOURCES[store])
    every = list(dict.fromkeys(mutant for file in sources for mutant in generate(file)))
    random.Random(seed).shuffle(every)
    return every[:count]


def attempt(mutant: Generated | None, store: str) -> tuple[Outcome, str]:
    """Make the short run on a copy, with the mutant if there is one.

    Return what came of it, and of which sort.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        copy = folder / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "docs", "static"))
        (copy / "static").symlink_to(ROOT / "static")
        if mutant is not None:
            mutant.apply(copy, folder / REACHED)
        imported = subprocess.run([sys.executable, "-c", "import main"], cwd=copy, check=False)
        if imported.returncode:
            return "does not import", ""
        database = stack.enter_context(runner.run_server(folder / "server"))
        (folder / "lane").mkdir()
        kills = len(trials.trials(store)) + len(trials.SERVER_KILLS)
        plan = runner.dealt(kills, len(trials.DROPS) * waiting.DROPS_A_TRIAL, "generated", store)
        random.Random(0).shuffle(plan)
        try:
            report = runner.run_lane(
                folder / "lane",
                database,
                store,
                plan,
                end=folder / "found",
                code=copy,
                server_dir=folder / "server",
            )
            found = sorted({finding.kind for finding in report.total.findings})
            sorts = ", ".join(found) or ("a fault was missed" if report.total.missed else "")
        except Exception as err:  # the service does not start, or nobody can register
            sorts = f"it does not work: {err!r}"[:80]
        if sorts:
            return "noticed", sorts
        return ("survived" if (folder / REACHED).exists() else "not reached"), ""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.generated", description=__doc__)
    parser.add_argument("--count", type=int, default=40, help="how many are to count")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--store", choices=["local", "s3"], default="local")
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="print them and try none")
    given = parser.parse_args(arguments)
    # Some do not import or are not reached: three times as many are enough.
    chosen = choose(3 * given.count, given.seed, given.store)
    if given.list:
        print("\n".join(mutant.name for mutant in chosen))
        return 0
    outcome, sorts = attempt(None, given.store)
    if outcome == "noticed":
        print(f"Without a mutant something was found, so nothing can be told from it: {sorts}")
        return 1
    counted = 0
    unexplained = 0
    with ProcessPoolExecutor(given.lanes, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(attempt, mutant, given.store) for mutant in chosen]
        for mutant, done in zip(chosen, running, strict=True):
            outcome, sorts = done.result()
            counted += outcome in ("noticed", "survived")
            reason = REASONS.get(mutant.name, "NO REASON IS KNOWN") if outcome == "survived" else ""
            unexplained += reason == "NO REASON IS KNOWN"
            print(f"{outcome:15} {mutant.name}\n{'':15} {sorts or reason}", flush=True)
            if counted == given.count:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    print(f"{counted} count, {unexplained} survive without a reason")
    return 0 if counted == given.count and not unexplained else 1


if __name__ == "__main__":
    sys.exit(main())
