"""Folders below a root, entered one by one from the one above: a link on the way is never followed.

So nobody who can write into the folder of objects makes the store read, list or delete what lies
elsewhere. What is made is on the disk before it is used.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from errors import StoreUnavailable

FOLDER_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
NO_LINK = getattr(os, "O_NOFOLLOW", 0)


class Folders:
    """The folders below `root`, which itself may be a link. For any number of threads."""

    def __init__(self, root: Path, check: Callable[[int | None], None] = lambda _: None) -> None:
        """`check` is called with each descriptor of the root, before anything is done in it.

        It is called with None where there is no root.
        """
        self._root = root
        self._check = check
        # Those whose names this process has seen onto the disk.
        self._synced: set[tuple[str, ...]] = set()

    @contextmanager
    def open(self, *path: str, makes: bool = False, is_checked: bool = True) -> Iterator[int]:
        """Give a descriptor of the folder at this path, made on the way where that is wanted.

        The root is never made on the way: one that was there and is not is a disk that is not
        mounted.

        Raises FileNotFoundError, NotADirectoryError, other OSErrors, and StoreUnavailable where a
        link stands in the way: only an operator can tell what is behind it.
        """
        with ExitStack() as stack:
            descriptor = self._open_root(is_checked)
            stack.callback(os.close, descriptor)
            if is_checked:
                self._check(descriptor)
            for depth in range(1, len(path) + 1):
                if makes:
                    self._make(descriptor, path[:depth])
                descriptor = enter(path[depth - 1], descriptor)
                stack.callback(os.close, descriptor)
            yield descriptor

    def _open_root(self, is_checked: bool) -> int:
        try:
            return os.open(self._root, FOLDER_FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            if is_checked:
                self._check(None)
            raise

    def make_root(self) -> None:
        """Make the root, for a first start, and let its name be on the disk."""
        _make_above(self._root.parent)
        self._root.mkdir(exist_ok=True)
        # Also if it was there: whoever made it may not have come to this line.
        sync_folder(self._root.parent)

    def _make(self, parent: int, path: tuple[str, ...]) -> None:
        name = path[-1]
        if path in self._synced and _is_there(name, parent):
            return
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
        os.fsync(parent)
        self._synced.add(path)


def _make_above(folder: Path) -> None:
    if not folder.is_dir():
        _make_above(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def enter(name: str, parent: int) -> int:
    """Open a folder within another. Raises StoreUnavailable where the name is a link."""
    try:
        return os.open(name, FOLDER_FLAGS | NO_LINK, dir_fd=parent)
    except FileNotFoundError:
        raise
    except OSError as err:
        if _is_link(name, parent):
            raise StoreUnavailable from err
        raise


def sync_folder(folder: Path) -> None:
    """Let the names in it be on the disk when this returns."""
    descriptor = os.open(folder, FOLDER_FLAGS)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_there(name: str, parent: int) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError:
        return False
    return True


def _is_link(name: str, parent: int) -> bool:
    try:
        os.readlink(name, dir_fd=parent)
    except OSError:
        return False
    return True
