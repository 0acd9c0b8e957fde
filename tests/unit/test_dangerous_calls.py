"""What the application never calls: whatever would run text as code, a command or a query."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OUTSIDE = {"tests", "benchmarks", "scripts"}
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.py"), *ROOT.glob("[a-z]*/**/*.py")]
    if path.relative_to(ROOT).parts[0] not in OUTSIDE
)
# They make objects of what they read, follow what it names, or run it.
IMPORTS = {
    *("pickle", "marshal", "shelve", "dbm", "yaml", "xml", "lxml", "xmlrpc"),
    *("jinja2", "mako", "ldap3", "code", "codeop", "runpy", "telnetlib", "ftplib"),
}
BUILTINS = {"eval", "exec", "compile", "__import__"}
METHODS = {"system", "popen", "mktemp"}
# Where they protect nothing, but are what a service asks for, they say so.
BROKEN_HASHES = {"md5", "sha1"}


def find_dangers(code: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(code)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        found += [name for name in names if name.split(".")[0] in IMPORTS]
        if isinstance(node, ast.Call):
            found += find_dangerous_call(node)
    return found


def find_dangerous_call(call: ast.Call) -> list[str]:
    found = []
    called = call.func
    if isinstance(called, ast.Name) and called.id in BUILTINS:
        found.append(called.id)
    if isinstance(called, ast.Attribute) and called.attr in METHODS:
        found.append(called.attr)
    says_what_for = "usedforsecurity" in {keyword.arg for keyword in call.keywords}
    if isinstance(called, ast.Attribute) and called.attr in BROKEN_HASHES and not says_what_for:
        found.append(called.attr)
    for keyword in call.keywords:
        is_false = isinstance(keyword.value, ast.Constant) and not keyword.value.value
        if keyword.arg == "shell" and not is_false:
            found.append("shell")
    # A statement that is put together is one that a value could become a part of.
    name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
    is_put_together = bool(call.args) and isinstance(call.args[0], ast.JoinedStr | ast.BinOp)
    if name in {"text", "literal_column"} and is_put_together:
        found.append(name)
    return found


def test_no_module_runs_text() -> None:
    found = {module: find_dangers((ROOT / module).read_text()) for module in MODULES}
    assert len(found) > 100
    assert {module: dangers for module, dangers in found.items() if dangers} == {}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import pickle", ["pickle"]),
        ("from xml.etree import ElementTree", ["xml.etree"]),
        ("eval('1')", ["eval"]),
        ("os.system('ls')", ["system"]),
        ("hashlib.md5(b'')", ["md5"]),
        ("hashlib.md5(b'', usedforsecurity=False)", []),
        ("subprocess.run('ls', shell=True)", ["shell"]),
        ("subprocess.run(['ls'], shell=False)", []),
        ("text(f'SELECT {name}')", ["text"]),
        ("sqlalchemy.text('SELECT ' + name)", ["text"]),
        ("text('SELECT :name')", []),
        ("re.compile('a')", []),
    ],
)
def test_the_lint_sees_what_it_is_for(code: str, found: list[str]) -> None:
    assert find_dangers(code) == found
