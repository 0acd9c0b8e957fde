"""Pages of documentation as their reader has them: their blocks, and shells to paste them into.

A block is fenced as `sh` if it is to be typed, beside a running service unless a comment before it
says that it is what serves, a step of a way that is gone in order, or not for here.
"""

import contextlib
import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import warm
from tests.support.pictures import phone_photo
from tests.support.services import ROOT
from tests.support.web import WebPage, serve_pages

README = ROOT / "README.md"
PAGES = [README, *sorted(ROOT.glob("docs/**/*.md"))]
FENCE = re.compile(
    r"^(?:<!-- (serves|step|not pasted) -->\n)?```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
MARKS = {"sh", "sh serves", "sh step", "sh not pasted"}
# Long enough for a slow machine, and shorter than a test may take.
SHELL_SECONDS = 200

# As somebody types, so without the options that scripts set, and with no prompts. Every command
# that fails is reported, and those too whose failure a pipe would hide.
SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i", "-s"],
    "zsh": ["zsh", "-f", "-i", "-s"],
}
REPORT_FAILURES = {
    "bash": "PS1= PS2=\nset -o pipefail\ntrap 'echo FAILED with $?' ERR\n",
    "zsh": "PS1= PS2=\nset -o pipefail\nTRAPZERR() { echo FAILED with $? }\n",
}
# What a shell says of what it could not even run, but not of there being no terminal.
COMPLAINT = re.compile(r"\b(?:bash|zsh): (?!cannot set terminal|no job control)|FAILED with \d")

# In place of uv, so that a test neither reaches an index nor changes the environment that it is
# run in; tests/process/test_commands.py has the real one.
INSTALLED_UV = """#!/bin/sh
case "$*" in
    --version) echo "uv 1000.0.0"; exit ;;
    "python find" | "run --locked --no-dev sh -c :" | "run --locked sh -c :") exit ;;
    "run --no-sync "*) shift 2 ;;
    *) echo "uv has not been told so before: $*" >&2; exit 1 ;;
esac
"""
RUN_PROGRAM = f"""case "$1" in *.py) exec "{sys.executable}" "$@" ;; esac
PATH="{Path(sys.executable).parent}:$PATH" exec "$@"
"""
# Forked from the warm process, which answers for it: six starts would take longer than all else.
ASK_FOR_PYTHON = """IFS=/
exec curl --fail-with-body -sS "{url}/$*"
"""

needs_zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
shells = pytest.mark.parametrize("shell", ["bash", pytest.param("zsh", marks=needs_zsh)])


@dataclass(frozen=True)
class Block:
    """A fenced block, where it stands, and the heading that it stands below."""

    page: Path
    line: int
    heading: str
    mark: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def with_exchanged(self, exchanged: Mapping[str, str]) -> str:
        """Its text, with other words in the place of these."""
        text = self.text
        for shown, used in exchanged.items():
            text = text.replace(shown, used)
        return text


@functools.cache
def find_blocks(page: Path) -> list[Block]:
    """All blocks of a page, in their order."""
    text = page.read_text()
    blocks = []
    for found in FENCE.finditer(text):
        before = text[: found.start()]
        headings = re.findall(r"^## (.+)$", before, re.MULTILINE)
        heading = headings[-1] if headings else ""
        line = before.count("\n") + 1
        mark = " ".join([found[2].strip(), *filter(None, [found[1]])])
        blocks.append(Block(page, line, heading, mark, found[3]))
    return blocks


def paste(
    shell: str,
    blocks: Sequence[Block],
    folder: Path,
    environment: Mapping[str, str],
    exchanged: Mapping[str, str] | None = None,
) -> str:
    """Give the blocks to an interactive shell as a person would, and see that nothing fails.

    What is exchanged are addresses, for a page names ports that may be taken. Returns what was
    printed.
    """
    typed = [REPORT_FAILURES[shell]]
    for block in blocks:
        typed += [f"echo '-- {block.name}'\n", block.with_exchanged(exchanged or {})]
    done = subprocess.run(
        SHELLS[shell],
        input="".join(typed),
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SHELL_SECONDS,
        check=False,
        start_new_session=True,  # with no terminal, which an interactive shell would take
    )
    complaint = COMPLAINT.search(done.stdout)
    said = done.stdout[-3000:]
    assert complaint is None, f"{shell} complained of a block that it was given:\n{said}"
    assert done.stdout.count("\n-- ") + done.stdout.startswith("-- ") == len(blocks), said
    return done.stdout


def put_uv(folder: Path, run: str) -> str:
    """Put a uv there that has everything installed; return a PATH that begins with it."""
    folder.mkdir()
    (folder / "uv").write_text(INSTALLED_UV + run)
    (folder / "uv").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def copy_checkout(folder: Path) -> Path:
    """Make a checkout there, as README has it, with a photo in it."""
    made = folder / "checkout"
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().split()}
    ignored -= {"__pycache__"}  # else all is compiled again
    shutil.copytree(ROOT, made, ignore=shutil.ignore_patterns(".git", *ignored))
    (made / "photo.jpg").write_bytes(phone_photo(1200, 900))
    return made


@contextlib.contextmanager
def warm_python(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Run each of our commands in the folder by forking the warm process.

    Yields what a uv does for that; the environment is this one, whatever a shell has exported.
    """

    def run_as_typed(path: str) -> WebPage:
        done = run_warm(folder, path.strip("/").split("/"), environment)
        if done.returncode:
            return WebPage(500, f"{done.stdout}{done.stderr}".encode(), "text/plain")
        return WebPage(200, done.stdout.encode(), "text/plain")

    with serve_pages(run_as_typed) as url:
        yield ASK_FOR_PYTHON.format(url=url)


def run_warm(
    folder: Path, words: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run one of our commands, as it is in this checkout, from its folder."""
    name, *options = words
    return warm.run(folder / name, *options, env=environment, cwd=folder)
