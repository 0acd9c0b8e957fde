"""A store on the local disk that keeps the promises of an object store.

An object is written to a draft, synced, linked to its final name (which never replaces) and the
folder synced: after a crash or a power cut it is there whole or not at all. Drafts lie in one
folder beside the objects, on the same file system, so that what a crash left is found without
walking a million pictures.
"""

import errno
import mimetypes
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import faults
from errors import (
    DarkroomError,
    ObjectExists,
    ObjectNotFound,
    StartupError,
    StoreUnavailable,
)
from storage.contract import FoundObject, OpenObject, check_key

DRAFTS = ".drafts"


class LocalStore:
    """Objects below `root`, served by this service at /media."""

    bucket = ""

    def __init__(self, root: Path, public_url: str = "") -> None:
        """Keep objects below `root`; `public_url` comes before the paths of this service."""
        self._root = root
        self._public_url = public_url
        self._synced: set[Path] = set()  # folders whose names this process has seen onto the disk

    def put(self, key: str, content: bytes, content_type: str, sha256: str) -> None:
        path = self._path(key)
        with _translate_errors(missing=StoreUnavailable):  # a folder that went away under us
            self._make_folder(path.parent)
            self._make_folder(self._root / DRAFTS)
            draft = self._root / DRAFTS / uuid.uuid4().hex
            try:
                _write_draft(draft, content)
                faults.reached("during_put")
                os.link(draft, path)
                faults.reached("after_link")
            finally:
                draft.unlink(missing_ok=True)
            _sync_folder(path.parent)

    def open(self, key: str) -> OpenObject:
        with _translate_errors():
            path = self._path(key)
            if path.is_dir():
                raise ObjectNotFound
            stream = open(path, "rb")  # noqa: SIM115 (the caller closes it)
            content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            return OpenObject(stream, os.fstat(stream.fileno()).st_size, content_type)

    def exists(self, key: str) -> bool:
        with _translate_errors():
            return self._path(key).is_file()

    def delete(self, key: str) -> None:
        with _translate_errors():
            path = self._path(key)
            if not self._root.is_dir():
                raise StoreUnavailable  # a disk that is not mounted: what it holds is not gone
            with suppress(FileNotFoundError, NotADirectoryError):
                if not path.is_dir():
                    path.unlink(missing_ok=True)
                    faults.reached("after_unlink")
                # Also when the file is gone: an earlier unlink may not be on disk yet.
                _sync_folder(path.parent)

    def url(self, key: str) -> str:
        return f"{self._public_url}/media/{key}"

    def find(self, prefix: str) -> Iterator[FoundObject]:
        with _translate_errors():
            yield from self._walk(self._root, "", prefix)

    def remove_leftovers(self, older_than_seconds: float) -> None:
        with _translate_errors():
            drafts = self._root / DRAFTS
            if not drafts.exists():
                return
            for draft in drafts.iterdir():
                with suppress(FileNotFoundError):  # its put has just finished
                    if time.time() - draft.stat().st_mtime > older_than_seconds:
                        draft.unlink()

    def in_bucket(self, bucket: str) -> "LocalStore":
        return self

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir() and (folder in self._synced or not folder.is_relative_to(self._root)):
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        # Also if it was there: whoever made it may not have come to this line.
        _sync_folder(folder.parent)
        self._synced.add(folder)

    def _walk(self, folder: Path, path: str, prefix: str) -> Iterator[FoundObject]:
        try:
            entries = os.scandir(folder)
        except FileNotFoundError:
            return
        with entries:
            for entry in entries:
                key = path + entry.name
                if entry.is_dir():
                    inside = key + "/"
                    if entry.name != DRAFTS and (
                        inside.startswith(prefix) or prefix.startswith(inside)
                    ):
                        yield from self._walk(Path(entry.path), inside, prefix)
                elif key.startswith(prefix):
                    with suppress(FileNotFoundError):  # deleted since it was listed
                        stat = entry.stat()
                        yield FoundObject(
                            key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC)
                        )


def prove_volume(root: Path) -> None:
    """Do once, below this folder, what every put rests on; make the folder where it is missing.

    Raises StartupError where its volume cannot do that: some that come over a network or from other
    systems give a file no second name, or cannot tell when a folder is on the disk.
    """
    draft = root / DRAFTS / uuid.uuid4().hex
    linked = root / f".{draft.name}"  # in another folder, as all objects are
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_draft(draft, b"")
            os.link(draft, linked)
            _sync_folder(root)
        finally:
            linked.unlink(missing_ok=True)
            draft.unlink(missing_ok=True)
    except OSError as err:
        raise StartupError(
            f"The folder {root} cannot keep pictures safe: {err.strerror}."
            " Let DATA_DIR be on a disk of this machine, or set STORAGE to s3."
        ) from err


@contextmanager
def _translate_errors(missing: type[DarkroomError] = ObjectNotFound) -> Iterator[None]:
    try:
        yield
    except FileExistsError as err:
        raise ObjectExists from err
    except FileNotFoundError as err:
        raise missing from err
    except OSError as err:
        if err.errno in (errno.ENAMETOOLONG, errno.ENOTDIR):
            raise missing from err
        raise StoreUnavailable from err


def _write_draft(draft: Path, content: bytes) -> None:
    with open(draft, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
