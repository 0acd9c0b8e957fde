"""Every module stands in a room that imports only what its row of the table allows.

Each fence has its gates, and no modules import each other in a circle.
"""

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.services import ROOT

# Who may import whom, as docs/architecture.md draws it. What is alone in its file at the root is a
# room too, and a room may always import itself.
BASE = {
    *("config", "concurrency", "errors", "faults", "locations", "logs", "postgres", "production"),
    "s3",
}
DATA = {"database", "models"}
ROOMS = {"pictures", "storage", "files", "accounts", "photos", "jobs", "web", "credentials"}
MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(BASE, BASE),
    "pictures": {"errors"},
    "image_utils": {"pictures", "errors"},
    "storage": BASE,
    "connections": BASE,
    "database": BASE | {"connections"},
    "models": BASE | {"database", "storage"},
    "credentials": {"models"},
    "schemas": {"models", "pictures", "credentials"},
    "files": BASE | DATA | {"storage", "pictures"},
    "accounts": BASE | DATA | {"files", "schemas", "credentials"},
    "jobs": BASE | {"database"},
    "photos": BASE | DATA | {"files", "jobs", "storage", "pictures"},
    "web": BASE | {"pictures"},
    "routers": BASE | DATA | ROOMS | {"schemas"},
    "ops": BASE | DATA | ROOMS | {"schemas"},
    "buckets": BASE | {"files", "storage"},
    "doctor": BASE | {"files", "storage", "buckets"},
    "main": BASE | DATA | ROOMS | {"schemas", "routers", "ops"},
    **dict.fromkeys(
        ("cli", "check_s3"),
        BASE | DATA | ROOMS | {"schemas", "routers", "ops", "buckets", "doctor"},
    ),
}
# A few modules may import more than their room.
ALSO: dict[str, set[str]] = {
    "pictures/decoder.py": BASE | {"image_utils"},
    "pictures/pool.py": BASE,
    "pictures/process.py": BASE,
    "pictures/slots.py": BASE,
    "pictures/decoding.py": BASE,
}
# What may not be reached through a room that may be imported.
EXCEPT: dict[str, set[str]] = {
    "image_utils.py": {
        f"pictures.{name}" for name in ("decoder", "decoding", "pool", "process", "slots")
    },
}
PACKAGES = (
    *("accounts", "buckets", "connections", "credentials", "doctor", "errors", "files", "jobs"),
    *("ops", "photos", "pictures", "postgres", "routers", "s3", "storage", "web"),
)
NOT_ROOMS = {"alembic", "benchmarks", "docs", "scripts", "static", "tests"}
MOST_MODULES_AT_THE_ROOT = 14

PILLOW = {
    "image_utils.py",
    "pictures/avif_picture.py",
    "pictures/colour.py",
    "pictures/encoding.py",
    "pictures/gif_picture.py",
    "pictures/heif_picture.py",
    "pictures/interlace.py",
    "pictures/jpeg_picture.py",
    "pictures/lost.py",
    "pictures/metadata.py",
    "pictures/parsers.py",
    "pictures/pillow.py",
    "pictures/placeholder.py",
    "pictures/png_picture.py",
    "pictures/scaling.py",
    "pictures/tone_mapping.py",
}
CONNECTIONS = ("driver", "opening", "outages", "watch")
DOCTORS = (
    *("addresses", "alternatives", "case", "causes", "configuration", "connection"),
    *("objects", "origins", "outages", "policies", "presigned", "promises", "public_reads"),
    "tidying",
)
# Word -> the only files that may say it: an import, a name or an attribute.
FENCES: dict[str, set[str]] = {
    "boto3": {
        "storage/s3_client.py",
        "buckets/applying.py",
        "buckets/applying_users.py",
        "doctor/alternatives.py",
    },
    "botocore": {
        "storage/s3.py",
        "storage/s3_addresses.py",
        "storage/s3_answers.py",
        "storage/s3_checksums.py",
        "storage/s3_client.py",
        "storage/s3_deadlines.py",
        "storage/s3_deletions.py",
        "storage/s3_marker.py",
        "storage/s3_powers.py",
        "storage/s3_proofs.py",
        "storage/s3_uploads.py",
        "buckets/applying.py",
        "buckets/applying_users.py",
        "buckets/parts.py",
        *(f"doctor/{name}.py" for name in DOCTORS),
    },
    "mypy_boto3_s3": {
        "storage/s3.py",
        "storage/s3_addresses.py",
        "storage/s3_checksums.py",
        "storage/s3_client.py",
        "storage/s3_deadlines.py",
        "storage/s3_deletions.py",
        "storage/s3_marker.py",
        "storage/s3_proofs.py",
        "storage/s3_regions.py",
        "storage/s3_uploads.py",
        "buckets/applying.py",
        "buckets/parts.py",
        "doctor/case.py",
        "doctor/configuration.py",
    },
    "PIL": PILLOW,
    "pillow_heif": PILLOW,
    "pgqueuer": {f"jobs/{name}.py" for name in ("driver", "performer", "repository", "worker")},
    "httptools": {"web/connections.py"},
    "pwdlib": {"accounts/passwords.py"},
    "regex": {"credentials/names.py"},
    "HTTPException": {"errors/base.py", "web/problems.py"},
    "run_in_threadpool": {"concurrency.py"},
    "to_thread": {"main.py"},  # for the size of the pool, not to run anything
    "asyncpg": {
        "database.py",
        "postgres/tls.py",
        *(f"connections/{name}.py" for name in CONNECTIONS),
    },
    "run_sync": {"database.py"},  # SQLAlchemy's, which needs no thread
    "run_in_executor": set(),
    "iterate_in_threadpool": set(),
}
STATE_WRITERS = {"files/statements.py", "ops/sweep.py"}

PATHS = sorted(
    [*ROOT.glob("*.py"), *(path for room in PACKAGES for path in (ROOT / room).rglob("*.py"))]
)
NAMES = [path.relative_to(ROOT).as_posix() for path in PATHS]
MODULES = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in NAMES}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tree(name: str) -> ast.Module:
    return parse(name)


def parse(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text())


def find_imports(tree: ast.AST) -> Iterator[str]:
    """The dotted names that a file imports, wherever in it; no import of ours is relative."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "write the whole name of the module"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def find_imported_modules(tree: ast.AST) -> set[str]:
    """Those of our modules that a file imports, or imports something from."""
    found = set()
    for dotted in find_imports(tree):
        module, _, _ = dotted.rpartition(".")
        found |= {dotted if dotted in MODULES else module}
    return found & MODULES


def find_words(tree: ast.AST) -> set[str]:
    """Every identifier that a file uses or imports."""
    words = {part for dotted in find_imports(tree) for part in dotted.split(".")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            words.add(node.id)
        elif isinstance(node, ast.Attribute):
            words.add(node.attr)
    return words


def find_state_writes(tree: ast.AST) -> list[int]:
    """The lines that set a `state`, or use a FileState other than to compare with it."""
    compared = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for inner in ast.walk(node)
    }
    lines = []
    for node in ast.walk(tree):
        is_state = False
        is_set = False
        if isinstance(node, ast.Attribute):
            names_one = isinstance(node.value, ast.Name) and node.value.id == "FileState"
            is_state = names_one and id(node) not in compared
            is_set = node.attr == "state" and not isinstance(node.ctx, ast.Load)
        elif isinstance(node, ast.keyword):
            is_set = node.arg == "state"
        if is_state or is_set:
            lines.append(getattr(node, "lineno", 0))
    return lines


def test_every_module_is_in_a_room() -> None:
    at_root = {path.stem for path in ROOT.glob("*.py")}
    folders = {path.parent.name for path in ROOT.glob("*/*.py")}
    rooms = {folder for folder in folders if not folder.startswith(".")} - NOT_ROOMS
    assert rooms == set(PACKAGES)
    assert at_root | rooms == set(MAY_IMPORT), "give the new room a row in the table"
    assert len(at_root) <= MOST_MODULES_AT_THE_ROOT


def test_a_room_imports_only_what_its_row_allows(name: str, tree: ast.Module) -> None:
    own = name.removesuffix(".py").split("/")[0]
    imported = find_imported_modules(tree)
    rooms = {module.split(".")[0] for module in imported} - {own}
    assert rooms <= MAY_IMPORT[own] | ALSO.get(name, set())
    assert not imported & EXCEPT.get(name, set())


def test_no_modules_import_each_other_in_a_circle() -> None:
    imports = {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): find_imported_modules(
            parse(name)
        )
        for name in NAMES
    }
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as err:
        pytest.fail(" <- ".join(err.args[1]))


def test_each_fence_has_its_gates_only(name: str, tree: ast.Module) -> None:
    words = find_words(tree)
    assert [word for word, gates in FENCES.items() if word in words and name not in gates] == []


def test_each_gate_is_used() -> None:
    words = {name: find_words(parse(name)) for name in NAMES}
    for word, gates in FENCES.items():
        for gate in gates:
            if word not in ("boto3", "mypy_boto3_s3", "pillow_heif", "PIL"):
                assert word in words[gate], f"{gate} does not need {word}"


def test_only_the_statements_of_the_heart_set_a_stored_files_state(
    name: str, tree: ast.Module
) -> None:
    if name not in STATE_WRITERS:
        assert find_state_writes(tree) == []


def test_the_state_fence_sees_each_way_to_write_one() -> None:
    for line in (
        "file.state = FileState.LIVE",
        "f.state, f.x = new, 1",
        "f(state=new)",
        "v[k] = FileState.DOOMED",
    ):
        assert find_state_writes(ast.parse(line)), line
    compared = "file.state == FileState.LIVE and where(StoredFile.state != FileState.DOOMED)"
    assert not find_state_writes(ast.parse(compared))
    assert find_state_writes(parse("files/statements.py"))


def test_nothing_but_the_table_of_kinds_knows_a_prefix(name: str, tree: ast.Module) -> None:
    # The default picture is a static file, and a store's marker is none of ours.
    if name in ("files/kinds.py", "models.py", "storage/markers.py"):
        return
    texts = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    documentation = {
        ast.get_docstring(node, clean=False)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not [text for text in texts - documentation if "profile_pics/" in text]


def test_a_module_opens_with_at_most_four_sentences(name: str, tree: ast.Module) -> None:
    docstring = ast.get_docstring(tree)
    assert docstring, f"{name} does not say what it holds"
    assert len(re.findall(r"[.?!](?=\s|$)", docstring)) <= 4


def test_no_root_name_hides_a_library() -> None:
    taken = sys.stdlib_module_names | {"multipart"}
    assert {"queue", "secrets", "types", "signal", "logging"} <= taken
    assert [name for name in MAY_IMPORT if name in taken] == []
    assert not Path(ROOT, "alembic", "__init__.py").exists()
