"""Proves that README and docs/ can be followed: each block is run as pasted, again and again.

What is to be pasted in order, on a machine of its own, has a test beside this one.
"""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from buckets import plan_bucket
from tests.support.backends import make_settings
from tests.support.documents import (
    MARKS,
    PAGES,
    README,
    RUN_PROGRAM,
    SHELLS,
    Block,
    copy_checkout,
    find_blocks,
    needs_zsh,
    paste,
    put_uv,
    shells,
    warm_python,
)
from tests.support.guarded_s3 import guarded_s3
from tests.support.pictures import phone_photo
from tests.support.services import ROOT, Bucket, Service

PRODUCTION = "In production"
OUR_ADDRESS = "http://127.0.0.1:8000"
# Of README's example of production.
BUCKET_NAME = "my-pictures"


def find_typed(page: Path) -> list[Block]:
    """The blocks that are to be typed beside a running service, but those for production."""
    blocks = find_blocks(page)
    return [each for each in blocks if each.mark == "sh" and each.heading != PRODUCTION]


def find_for_production(mark: str) -> list[Block]:
    blocks = find_blocks(README)
    return [each for each in blocks if each.mark == mark and each.heading == PRODUCTION]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of its own, as README has it, with a photo in it."""
    return copy_checkout(tmp_path_factory.mktemp("documents"))


@pytest.fixture(scope="module")
def served(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that is started as README tells.

    Everything is as it comes: the embedded database, the local store, the folder of the data.
    """
    folder = tmp_path_factory.mktemp("served")
    path = put_uv(folder / "programs", RUN_PROGRAM)
    [block] = [each for each in find_blocks(README) if each.mark == "sh serves"]
    service = Service({"DATA_DIR": str(folder), "PATH": path})
    service.command = ["env", "-u", "DATA_DIR", "-C", str(checkout), *shlex.split(block.text)]
    service.start()
    yield service
    service.stop()


def test_every_block_says_whether_it_is_to_be_run() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        blocks = find_blocks(page)
        assert page.read_text().count("```") == 2 * len(blocks), page
        for block in blocks:
            is_shell = block.mark.split()[:1] in (["sh"], ["bash"], ["zsh"], ["shell"])
            assert block.mark in MARKS if is_shell else block.mark, block.name
            assert not is_shell or not re.search(r"(^|\s)#", block.text), (
                f"{block.name} has a comment, which zsh takes for a command's words"
            )


@pytest.mark.timeout(500)
@shells
def test_what_the_pages_show_can_be_pasted_twice(
    shell: str, served: Service, checkout: Path
) -> None:
    environment = {**os.environ, "PATH": served.settings["PATH"], "HOME": str(checkout)}
    exchanged = {OUR_ADDRESS: served.url}
    assert len(find_typed(README)) >= 6
    # Whoever stops before the last block begins again all the same.
    paste(shell, find_typed(README)[:-1], checkout, environment, exchanged)
    for page in PAGES:
        for _ in range(2):
            (checkout / "picture.jpg").unlink(missing_ok=True)
            paste(shell, find_typed(page), checkout, environment, exchanged)
            if any("picture.jpg" in block.text for block in find_typed(page)):
                assert (checkout / "picture.jpg").read_bytes().startswith(b"\xff\xd8")


@pytest.mark.parametrize(
    ("typed", "is_well"),
    [
        ("echo well", True),
        ("false | cat", False),
        ("printf '{no end of a line}' && false", False),
        ("TOKEN=$(false | cat)", False),
        ("no-such-command", False),
        ("echo 'not finished", False),
        pytest.param("true # a comment\nls # another", False, marks=needs_zsh),
        pytest.param("# a comment", False, marks=needs_zsh),
        pytest.param("echo http://host/?w=1", False, marks=needs_zsh),
    ],
)
def test_a_block_that_fails_is_noticed(typed: str, is_well: bool, tmp_path: Path) -> None:
    block = Block(README, 1, "", "sh", f"{typed}\n")
    verdicts = []
    for shell in [each for each in SHELLS if shutil.which(each)]:
        try:
            paste(shell, [block, block], tmp_path, {**os.environ, "HOME": str(tmp_path)})
            verdicts.append(True)
        except AssertionError:
            verdicts.append(False)
    assert all(verdicts) == is_well


# Production.


def plan_policies(bucket: Bucket) -> dict[str, list[dict[str, Any]]]:
    """The statements of each policy that `cli.py bucket print` prints for this bucket."""
    policies = plan_bucket(make_settings(bucket.settings())).iam_policies()
    return {name: policy["Statement"] for name, policy in policies.items()}


@pytest.fixture
def production(new_database: Callable[[], str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """A service as README has it, with its file of settings, on loopback, and a picture in it.

    It has the rights of its policy. Yields the environment of its operator, who has theirs.
    """
    with guarded_s3() as guarded:
        bucket = guarded.bucket()
        policies = plan_policies(bucket)
        with guarded.serving(bucket) as url:
            keys = guarded.user_with(policies["service"])
            file = tmp_path / ".env"
            own = {"DATABASE_URL": new_database(), "S3_BUCKET_NAME": bucket.name, **keys}
            more = {"S3_ENDPOINT_URL": bucket.endpoint, "S3_PUBLIC_BASE_URL": url}
            file.write_text(fill_in_settings(own, more))
            given = {"DATA_DIR": str(tmp_path / "data"), "DARKROOM_ENV_FILE": str(file)}
            service = Service(given, command=[sys.executable, str(ROOT / "main.py")])
            service.start()
            try:
                assert "  for       production\n" in service.log()
                alice = service.register()
                answer = service.patch_picture(alice, phone_photo(400, 300))
                assert answer.status_code == 200, answer.text
                answer = service.patch_picture(alice, phone_photo(300, 400))
                assert answer.status_code == 200, answer.text
                assert len(guarded.keys(bucket)) == 1, "what it replaced was not deleted"

                keys = guarded.user_with(policies["operator"])
                # In production the doctor does not accept that browsers elsewhere reach no picture,
                # as here they do not.
                yield {**service.environment, **keys, "ENVIRONMENT": "development"}
            finally:
                service.stop()


def fill_in_settings(own: dict[str, str], more: dict[str, str]) -> str:
    """README's file of settings with these in it, and what README says to add where it applies."""
    [block] = find_for_production("ini")
    lines = block.text.splitlines()
    for name, value in own.items():
        [index] = [index for index, line in enumerate(lines) if line.startswith(f"{name}=")]
        lines[index] = f"{name}={value}"
    lines += [f"{name}={value}" for name, value in more.items()]
    return "\n".join(lines)


@pytest.mark.timeout(500)
def test_the_policies_permit_what_the_blocks_after_them_need(
    production: dict[str, str], tmp_path: Path
) -> None:
    blocks = find_for_production("sh")
    assert len(blocks) >= 3
    with warm_python(ROOT, production) as run:
        path = put_uv(tmp_path / "programs", run)
        environment = {**os.environ, "PATH": path, "HOME": str(tmp_path)}
        for shell in [each for each in SHELLS if shutil.which(each)]:
            paste(shell, [*blocks, *blocks], ROOT, environment)


def test_the_policy_of_the_bucket_is_the_one_that_tests_have() -> None:
    bucket = Bucket(endpoint="http://127.0.0.1:9", name=BUCKET_NAME)
    [planned] = plan_bucket(make_settings(bucket.settings())).bucket_policy()["Statement"]
    del planned["Sid"]
    assert [planned] == bucket.policy["Statement"]
