"""What Postgres' programs say when they fail: the one cause among its consequences."""

import errno
import os
import re
from pathlib import Path

_ERROR = re.compile(r"\b(?:PANIC|FATAL|ERROR|error):\s+(?P<cause>\S.*)")
_FULL = {os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)}


def find_cause(said: str, folder: Path) -> str:
    """Find why it failed to work in this folder.

    The first error is the cause. What comes after it are hints, what was cleaned up, and who else
    failed because of it.
    """
    if any(text in said for text in _FULL):
        return f"the disk of {folder} is full; make room there, or name another DATA_DIR"
    lines = said.strip().splitlines()
    causes = [found["cause"] for line in lines if (found := _ERROR.search(line))]
    return (causes or lines[-1:] or ["it left no message"])[0].rstrip(".")
