"""Proves what scripts/audit, scripts/sbom and scripts/find_uv say of the libraries they look at."""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.support.locked import read_serving_packages
from tests.support.services import ROOT

# uv says its verdict on standard error.
CLEAN = "echo Found no known vulnerabilities and no adverse project statuses in {} packages >&2"
KNOWN = (
    "echo Found 1 known vulnerability and no adverse project statuses in {} packages >&2; exit 1"
)
ADVISORY = {"id": "PYSEC-2026-1", "modified": "2026-01-01T00:00:00Z", "summary": "A defect."}
FAILED = "echo error: Request failed after 3 retries >&2; exit {}"


def run_script(
    name: str, *words: str, folder: Path = ROOT, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [folder / "scripts" / name, *words],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts alone, in a folder of their own."""
    shutil.copytree(ROOT / "scripts", tmp_path / "checkout" / "scripts")
    return tmp_path / "checkout"


PINNED = re.findall(r"^uv==([\d.]+)", (ROOT / "scripts" / "uv.txt").read_text(), re.MULTILINE)[0]


def put_uv(folder: Path, body: str, version: str = PINNED) -> str:
    """Write a uv of this version; the PATH on which it comes first."""
    told = f'if [ "$1" = --version ]; then echo "uv {version} (somewhere)"; exit; fi'
    return put_program(folder, "uv", f"{told}\n{body}")


def put_program(folder: Path, name: str, body: str) -> str:
    """Write a program of the shell; the PATH on which it comes first."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("of_the_probe", "of_the_lock", "status"),
    [
        (KNOWN.format(1), CLEAN.format(141), 0),
        (KNOWN.format(1), KNOWN.format(141), 1),
        # The source knows nothing, or cannot be asked.
        (CLEAN.format(1), CLEAN.format(141), 2),
        (FAILED.format(2), CLEAN.format(141), 2),
        # It goes away in between, uv fails with the status of a finding, or nothing was looked at.
        (KNOWN.format(1), FAILED.format(2), 2),
        (KNOWN.format(1), FAILED.format(1), 2),
        (KNOWN.format(1), CLEAN.format(0), 2),
        (KNOWN.format(1), "exit 0", 2),
    ],
)
def test_an_audit_passes_only_what_was_audited(
    checkout: Path, tmp_path: Path, of_the_probe: str, of_the_lock: str, status: int
) -> None:
    body = f'case "$*" in *--script*) {of_the_probe} ;; *) {of_the_lock} ;; esac'
    path = put_uv(tmp_path / "bin", body)
    done = run_script("audit", folder=checkout, PATH=path)
    assert done.returncode == status, done.stderr
    is_audited = status != 2
    assert ("Found" in done.stdout) is is_audited
    assert ("NOT AUDITED" in done.stderr) is not is_audited


class Advisories(BaseHTTPRequestHandler):
    """A source of advisories in the protocol of OSV, which knows what `known` names."""

    known: ClassVar[set[str]] = set()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        found = [{"vulns": [ADVISORY]} if self.knows(query) else {} for query in asked]
        self.answer({"results": found})

    def do_GET(self) -> None:
        self.answer(ADVISORY)

    def knows(self, query: dict[str, Any]) -> bool:
        return f"{query['package']['name']}=={query['version']}" in self.known

    def answer(self, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def source() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Advisories) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()
    Advisories.known = set()


def test_the_real_uv_is_understood(source: str) -> None:
    ours = f"pillow=={read_serving_packages()['pillow']}"
    Advisories.known = {"idna==3.6"}
    done = run_script("audit", "--service-url", source)
    if "Failed to fetch" in done.stderr:
        pytest.skip(f"the package index cannot be reached: {done.stderr[-300:]}")
    assert (done.returncode, "Found no known" in done.stdout) == (0, True), done.stderr
    Advisories.known = {"idna==3.6", ours}
    done = run_script("audit", "--service-url", source)
    assert (done.returncode, ADVISORY["id"] in done.stdout) == (1, True), done.stderr
    Advisories.known = {ours}
    done = run_script("audit", "--service-url", source)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr


def test_where_no_source_of_advisories_answers_nothing_was_audited() -> None:
    done = run_script("audit", "--service-url", "http://127.0.0.1:1/", UV_HTTP_RETRIES="0")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "NOT AUDITED" in done.stderr.splitlines()[-1]


def test_the_bill_of_materials_lists_what_serving_installs() -> None:
    done = run_script("sbom")
    assert done.returncode == 0, done.stderr
    bill: dict[str, Any] = json.loads(done.stdout)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    components = {component["name"]: component for component in bill["components"]}
    versions = {name: component["version"] for name, component in components.items()}
    assert versions == read_serving_packages()
    for name, component in components.items():
        assert component["purl"].startswith(f"pkg:pypi/{name}@{versions[name]}")
        for file in component["externalReferences"]:
            (hashed,) = file["hashes"]
            assert hashed["alg"] == "SHA-256" and re.fullmatch("[0-9a-f]{64}", hashed["content"])
    described = {component["bom-ref"] for component in bill["components"]}
    described.add(bill["metadata"]["component"]["bom-ref"])
    assert {dependency["ref"] for dependency in bill["dependencies"]} == described
    for dependency in bill["dependencies"]:
        assert set(dependency.get("dependsOn", [])) <= described


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """A PATH with hardly anything on it."""
    for name in ("sh", "dirname", "mkdir", "cp", "chmod"):
        program = shutil.which(name)
        assert program is not None
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to(program)
    return str(tmp_path / "bin")


def test_uv_is_pinned_by_version_and_hashes(checkout: Path, tmp_path: Path, bare: str) -> None:
    pins = (ROOT / "scripts" / "uv.txt").read_text()
    assert len(re.findall(r"^uv==[\d.]+ \\$", pins, re.MULTILINE)) == 1
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", pins)) > 1
    told = tmp_path / "told"
    put_program(tmp_path / "bin", "python3", f'echo "$@" >>"{told}"; exit 1')
    done = run_script("sbom", folder=checkout, PATH=bare)
    assert done.returncode == 1
    assert "--require-hashes -r scripts/uv.txt" in told.read_text().splitlines()[0]


def test_another_file_in_place_of_uv_is_refused(checkout: Path, tmp_path: Path, bare: str) -> None:
    refusal = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."
    put_program(tmp_path / "bin", "python3", f'echo "{refusal}" >&2; exit 1')
    done = run_script("sbom", folder=checkout, PATH=bare)
    assert (done.returncode, done.stdout) == (1, "")
    assert "none of the files that scripts/uv.txt lists" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("on_the_path", "in_the_checkout", "taken"),
    [
        (PINNED, None, "path"),
        ("1000.0.0", None, "path"),
        ("0.0.1", None, "pip"),
        ("nonsense", None, "pip"),
        (None, PINNED, "checkout"),
        (None, "0.0.1", "pip"),
        (None, "1000.0.0", "pip"),  # a pin that went back is one as well
        ("0.0.1", PINNED, "checkout"),
    ],
)
def test_only_a_uv_that_is_new_enough_is_taken(
    checkout: Path,
    tmp_path: Path,
    bare: str,
    on_the_path: str | None,
    in_the_checkout: str | None,
    taken: str,
) -> None:
    if on_the_path is not None:
        put_uv(tmp_path / "bin", "echo path", on_the_path)
    if in_the_checkout is not None:
        (checkout / ".uv").mkdir()
        put_uv(checkout / ".uv" / "bin", "echo checkout", in_the_checkout)
    put_uv(tmp_path / "brought", "echo pip")
    bring = f'mkdir -p .uv/bin; cp "{tmp_path}/brought/uv" .uv/bin/uv'
    put_program(tmp_path / "bin", "python3", f'case "$*" in *--upgrade*) {bring} ;; esac')
    done = run_script("sbom", folder=checkout, PATH=bare)
    assert (done.returncode, done.stdout) == (0, f"{taken}\n"), done.stderr
    assert (f"bringing {PINNED}" in done.stderr) is (taken == "pip")
