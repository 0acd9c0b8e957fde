"""Drafts of the local store: files on their way to a final name, written at once or in parts.

They lie in one folder, which is given as an open descriptor; each is named by chance, and a link in
its place is not followed. A draft is on the disk before it gets its final name.
"""

import hashlib
import os
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import faults
from errors import StoreUnavailable
from storage.contract import PART_BYTES
from storage.folders import NO_LINK

DRAFTS = ".drafts"
_NAME = re.compile(r"[0-9a-f]{32}")
# Of a part that is hashed: many uploads may be completed at once.
_READ_BYTES = 256 * 1024


def name_draft() -> str:
    """Make a name that no other draft has."""
    return uuid.uuid4().hex


def write_draft(name: str, drafts: int, content: bytes) -> None:
    """Make a draft with all its bytes, on the disk."""
    with open(name, "xb", opener=partial(os.open, mode=0o666, dir_fd=drafts)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_part(name: str, drafts: int, number: int, content: bytes) -> None:
    """Write a part, numbered from 1, into a draft that is there. Raises FileNotFoundError."""
    with _open_draft(name, drafts, os.O_WRONLY) as draft:
        rest = memoryview(content)
        offset = (number - 1) * PART_BYTES
        while rest:
            written = os.pwrite(draft, rest, offset)
            offset += written
            rest = rest[written:]
        # Part by part, so that completing a long upload does not wait for all of it at once.
        os.fsync(draft)


def check_parts(name: str, drafts: int, sha256s: Sequence[str]) -> None:
    """Read a draft again, which must have exactly the parts of these hashes, in hexadecimal.

    Raises StoreUnavailable where one never came: it is missing, or a hole, which reads as zeros.
    Raises FileNotFoundError.
    """
    with _open_draft(name, drafts, os.O_RDONLY) as draft:
        if os.fstat(draft).st_size > len(sha256s) * PART_BYTES:
            raise StoreUnavailable
        for number, sha256 in enumerate(sha256s):
            if _hash_part(draft, number * PART_BYTES) != sha256:
                raise StoreUnavailable


def link_draft(name: str, drafts: int, final_name: str, folder: int) -> None:
    """Give a draft its final name as well. Raises FileExistsError rather than replace."""
    faults.reached("during_put")
    # Said, because with a descriptor Python would follow a link in the draft's place.
    os.link(name, final_name, src_dir_fd=drafts, dst_dir_fd=folder, follow_symlinks=False)
    faults.reached("after_link")


def remove_draft(name: str, drafts: int) -> None:
    """Take a draft's name; what is not there, or is no draft, is fine."""
    if _NAME.fullmatch(name):
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=drafts)


def remove_old_drafts(drafts: int, older_than_seconds: float) -> None:
    """Remove the drafts into which nothing has been written for so long.

    That is longer than the slowest client takes for the next part, not than for a whole upload.
    """
    with os.scandir(drafts) as entries:
        for draft in entries:
            with suppress(FileNotFoundError):  # its put has just finished
                age_seconds = time.time() - draft.stat(follow_symlinks=False).st_mtime
                if age_seconds > older_than_seconds:
                    os.unlink(draft.name, dir_fd=drafts)


@contextmanager
def _open_draft(name: str, drafts: int, access: int) -> Iterator[int]:
    """Give a descriptor of a draft. Raises FileNotFoundError, also where the name is none.

    What is no file fails where it is read or written at a position, and is not waited for.
    """
    if not _NAME.fullmatch(name):
        raise FileNotFoundError(name)
    draft = os.open(name, access | NO_LINK | os.O_NONBLOCK, dir_fd=drafts)
    try:
        yield draft
    finally:
        os.close(draft)


def _hash_part(draft: int, start: int) -> str:
    """Return the SHA-256 of up to PART_BYTES from there, in hexadecimal."""
    hashed = hashlib.sha256()
    for offset in range(start, start + PART_BYTES, _READ_BYTES):
        hashed.update(os.pread(draft, _READ_BYTES, offset))
    return hashed.hexdigest()
