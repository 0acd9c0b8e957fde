"""The marker of a store on disk: read, written, and looked at by every verb of the store.

A folder that was renamed, emptied or not mounted is told from the right one by a single look at one
file's status, in the very descriptor in which the verb then works.
"""

import os
import stat
from contextlib import suppress

from errors import WrongStore
from storage.drafts import name_draft, remove_draft, write_draft
from storage.folders import NO_LINK, enter
from storage.markers import LOCAL_KEY, MOST_BYTES, Marker

FOLDER, NAME = LOCAL_KEY.split("/")


class LocalMarker:
    """The marker below one root, and what it must say once it is known. For any thread."""

    def __init__(self) -> None:
        self._expected_id: str | None = None
        self._seen: tuple[int, ...] | None = None  # the status of the file that said so

    def expect(self, store_id: str) -> None:
        """Let every later look refuse what is not this store."""
        self._expected_id = store_id
        self._seen = None

    def check(self, root: int | None) -> None:
        """Raise WrongStore unless the marker in this open root is the expected one."""
        if self._expected_id is None:
            return
        if root is None:
            raise WrongStore
        try:
            found = os.stat(LOCAL_KEY, dir_fd=root, follow_symlinks=False)
            status = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
            if status == self._seen:
                return
            content = read_marker(root)
        except (FileNotFoundError, NotADirectoryError) as err:
            raise WrongStore from err
        if content is None or Marker.decode(content).store != self._expected_id:
            raise WrongStore
        self._seen = status


def read_marker(root: int) -> bytes | None:
    """Read the marker in an open root; None where there is none. Raises OSError."""
    try:
        folder = enter(FOLDER, root)
    except FileNotFoundError:
        return None
    try:
        marker = os.open(NAME, os.O_RDONLY | NO_LINK | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        return None
    finally:
        os.close(folder)
    try:
        is_file = stat.S_ISREG(os.fstat(marker).st_mode)
        return os.read(marker, MOST_BYTES) if is_file else b""
    finally:
        os.close(marker)


def write_marker(root: int, drafts: int, content: bytes, *, is_first: bool) -> None:
    """Let the marker say this, durably; a first one replaces none. Raises FileExistsError."""
    with suppress(FileExistsError):
        os.mkdir(FOLDER, dir_fd=root)
    os.fsync(root)
    folder = enter(FOLDER, root)
    draft = name_draft()
    try:
        write_draft(draft, drafts, content)
        if is_first:
            os.link(draft, NAME, src_dir_fd=drafts, dst_dir_fd=folder, follow_symlinks=False)
        else:
            os.rename(draft, NAME, src_dir_fd=drafts, dst_dir_fd=folder)
        os.fsync(folder)
    finally:
        remove_draft(draft, drafts)
        os.close(folder)
