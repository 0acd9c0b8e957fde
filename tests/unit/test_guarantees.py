"""Every promise of docs/guarantees.md names a test, and every crash point what it leaves."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import faults
from tests.crash.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
PROMISED = [f"G{number}" for number in (*range(1, 11), 13, 14, *range(16, 23))]
SECTIONS = {
    heading.split(".")[0]: text
    for heading, text in re.findall(
        r"^## (G\d+\..*?)\n(.*?)(?=^## )", PAGE, re.DOTALL | re.MULTILINE
    )
}


@cache
def names_in(path: str) -> set[str]:
    """The tests that a file defines, classes of tests among them."""
    tree = ast.parse((ROOT / path).read_text())
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assigned = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return {name for name in functions | assigned if name.lower().startswith("test")}


def test_every_promise_has_its_section() -> None:
    assert list(SECTIONS) == PROMISED


@pytest.mark.parametrize("promise", PROMISED)
def test_a_promise_has_tests_that_exist(promise: str) -> None:
    _, found, proof = SECTIONS[promise].partition("\nProof: ")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", proof)
    assert found and named, f"{promise} has no test"
    missing = [f"{path}::{name}" for path, name in named if name not in names_in(path)]
    assert missing == []


def test_the_mutants_that_are_named_are_those_that_are_applied() -> None:
    named = set()
    for sentence in re.findall(r"mutants? ((?:`\w+`,? ?\n?)+)", PAGE):
        named |= set(re.findall(r"`(\w+)`", sentence))
    assert named == {mutant.name for mutant in MUTANTS}


def test_every_crash_point_says_what_it_leaves() -> None:
    table = PAGE.split("## What remains after a crash", 1)[1]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(faults.POINTS)
    for row in re.findall(r"^\|.*\|$", table, re.MULTILINE):
        assert len([cell for cell in row.split("|") if cell.strip()]) == 3, row
