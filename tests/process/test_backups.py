"""Proves that what docs/postgres.md says of backups can be done: its blocks are run as they stand.

An embedded database and its store are saved beside the service, which goes on, and restored into
another PostgreSQL.
"""

import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from ops.postgres_cluster import SUPERUSER, find_programs
from tests.support.databases import database_url
from tests.support.pictures import jpeg
from tests.support.services import ROOT, Service

PAGE = (ROOT / "docs" / "postgres.md").read_text()
NAME = "darkroom_restored"
# In the place of the one that brings its own Python.
RUN = f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/$@"\n'


def find_blocks(heading: str) -> list[str]:
    """The blocks of shell below a heading."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def run(block: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, **environment}
    return subprocess.run(
        ["bash", "-eu", "-c", block],
        cwd=folder,
        env=given,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_backup_is_restored_with_its_pictures(postgres: str, tmp_path: Path) -> None:
    data = tmp_path / ".data"
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "run").write_text(RUN)
    (tmp_path / "scripts" / "run").chmod(0o755)
    name = f"restored_{uuid.uuid4().hex}"
    own = {"DATA_DIR": str(data), "STORAGE": "local", "OLD_PICTURE_GRACE_SECONDS": "3600"}
    admin = make_url(database_url(postgres, "postgres")).set(username=SUPERUSER)
    restored_url = database_url(postgres, name)
    environment = {
        **own,
        "PATH": f"{find_programs()}:{os.environ['PATH']}",
        "DATABASE_URL": f"postgresql://darkroom@/darkroom?host={data}/postgres",
        "ADMIN_URL": str(admin).replace("+asyncpg", ""),
        "RESTORED_URL": restored_url.replace("+asyncpg", ""),
    }

    service = Service(own, [sys.executable, str(ROOT / "main.py")])
    service.start()
    try:
        alice = service.register("alice")
        bob = service.register("bob")
        old = service.patch_picture(alice, jpeg(color="red")).json()["image_path"]
        lost = service.patch_picture(bob, jpeg(color="green")).json()["image_path"]
        for block in find_blocks("Backup"):
            done = run(block, tmp_path, environment)
            assert done.returncode == 0, done.stderr
        young = service.patch_picture(alice, jpeg(color="blue")).json()["image_path"]
        carol = service.patch_picture(service.register("carol"), jpeg()).json()["image_path"]
    finally:
        service.stop()
    key_of = {path: path.rpartition("media/")[2] for path in (old, lost, young, carol)}
    # As if it had been removed, and its grace were over.
    (data / "media" / key_of[lost]).unlink()

    restore, check = find_blocks("Restore")
    restore = restore.replace(NAME, name)
    made, _, extracted = restore.strip().rpartition("\n")
    done = run(made, tmp_path, environment)
    assert done.returncode == 0, done.stderr
    environment["DATABASE_URL"] = restored_url
    found = json.loads(run(check, tmp_path, environment).stdout)
    assert found["missing"] == [key_of[lost]]
    assert set(found["unexplained"]) == {key_of[young], key_of[carol]}
    done = run(extracted, tmp_path, environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(run(check, tmp_path, environment).stdout)
    assert (found["missing"], found["wrong"]) == ([], [])
    assert set(found["unexplained"]) == {key_of[young], key_of[carol]}

    service = Service({**own, "DATABASE_URL": restored_url})
    service.start()
    try:
        # Its token is still good: the secret was not touched.
        with service.client(alice) as client:
            assert client.get("/users/me").json()["image_path"] == old
        assert [service.get_picture(path).status_code for path in (old, lost)] == [200, 200]
        service.patch_picture(alice, jpeg(color="black"))
    finally:
        service.stop()
    # What the backup does not know is left alone.
    assert all((data / "media" / key_of[path]).exists() for path in (young, carol))


@pytest.mark.parametrize("heading", ["Backup", "Restore"])
def test_each_block_of_a_backup_is_one_that_is_run_here(heading: str) -> None:
    assert len(find_blocks(heading)) == {"Backup": 3, "Restore": 2}[heading]
