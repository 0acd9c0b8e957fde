"""What the embedded Postgres says: a file that only its owner can read, which stays small.

It outlives accounts, so that nothing of them may stand in it: Postgres is told to leave out what
rows and statements hold.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from config import KIB, MIB

OWNERS_ONLY = 0o600
# A server that is well writes a few lines for each start and each checkpoint.
LONGEST_LOG_BYTES = MIB
KEPT_BYTES = 512 * KIB
# Without DETAIL, where the row is, and without the statement and its parameters; in UTC.
TERSE = (
    *("-c", "log_error_verbosity=terse", "-c", "log_min_error_statement=panic"),
    *("-c", "log_parameter_max_length=0", "-c", "log_parameter_max_length_on_error=0"),
    *("-c", "log_timezone=UTC"),
)


def open_log(path: Path) -> BinaryIO:
    """Open the log to append to it, which the caller closes.

    One that others may read is of an earlier version, which wrote more into it: it is emptied.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, OWNERS_ONLY)
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != OWNERS_ONLY:
        os.ftruncate(descriptor, 0)
        os.fchmod(descriptor, OWNERS_ONLY)
    return os.fdopen(descriptor, "ab")


def shorten_log(path: Path) -> None:
    """Keep only the end of a log that has become long, while Postgres appends to it."""
    if path.stat().st_size <= LONGEST_LOG_BYTES:
        return
    with open(path, "rb") as file:
        file.seek(-KEPT_BYTES, os.SEEK_END)
        file.readline()
        kept = file.read()
    os.truncate(path, 0)
    with open(path, "ab") as file:
        file.write(kept)
