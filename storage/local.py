"""A store on the local disk that keeps the promises of an object store.

An object is written to a draft, synced, linked to its final name (which never replaces) and the
folder synced: after a crash or a power cut it is there whole or not at all. Drafts lie in one
folder beside the objects, on the same file system, so that what a crash left is found without
walking a million pictures. Below its root it follows no link and knows regular files only.
"""

import errno
import os
import stat
import time
from collections.abc import Iterator, Sequence
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
    WrongStore,
)
from storage.content_types import find_type
from storage.contract import DELETED_AT_ONCE, FoundObject, OpenObject, check_key
from storage.drafts import (
    DRAFTS,
    check_parts,
    link_draft,
    name_draft,
    remove_draft,
    remove_old_drafts,
    write_draft,
    write_part,
)
from storage.folders import NO_LINK, Folders, enter
from storage.local_marker import LocalMarker, read_marker, write_marker
from storage.markers import LOCAL_KEY
from storage.signing import LinkSigner


class LocalStore:
    """Objects below `root`, served by this service at /media."""

    bucket = ""
    keeps_versions = False
    looks_itself = True

    def __init__(self, root: Path, signer: LinkSigner, public_url: str = "") -> None:
        """Keep objects below `root`; `public_url` comes before the paths of this service."""
        self._signer = signer
        self._root = root
        self.place = str(root)
        self._marker = LocalMarker()
        self._folders = Folders(root, self._marker.check)
        self._public_url = public_url

    def put(self, key: str, content: bytes, content_type: str, sha256: str) -> None:
        path, name = _split(key)
        with (
            _translate_errors(missing=StoreUnavailable),  # a folder that went away under us
            self._folders.open(*path, makes=True) as folder,
            self._folders.open(DRAFTS, makes=True) as drafts,
        ):
            draft = name_draft()
            try:
                write_draft(draft, drafts, content)
                link_draft(draft, drafts, name, folder)
            finally:
                remove_draft(draft, drafts)
            os.fsync(folder)

    def open(self, key: str) -> OpenObject:
        try:
            return self._open(key)
        except ObjectNotFound:
            # What is here is what was meant, wherever this is; what is not may be elsewhere.
            self._check_place()
            raise

    def _check_place(self) -> None:
        with _translate_errors(), self._folders.open():
            pass

    def _open(self, key: str) -> OpenObject:
        path, name = _split(key)
        with _translate_errors(), self._folders.open(*path, is_checked=False) as folder:
            # Whatever it is, it is not waited for: a pipe has no other end here.
            descriptor = os.open(name, os.O_RDONLY | NO_LINK | os.O_NONBLOCK, dir_fd=folder)
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                os.close(descriptor)
                raise ObjectNotFound
            return OpenObject(os.fdopen(descriptor, "rb"), found.st_size, find_type(name))

    def exists(self, key: str) -> bool:
        path, name = _split(key)
        try:
            with _translate_errors(), self._folders.open(*path) as folder:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except ObjectNotFound:
            return False
        return stat.S_ISREG(found.st_mode)

    def delete(self, key: str, erases: bool = False) -> None:
        errors = self.delete_many([key])
        if errors:
            raise errors[key]

    def delete_many(self, keys: Sequence[str], erases: bool = False) -> dict[str, DarkroomError]:
        # A disk that is not mounted: what it holds is not gone.
        with _translate_errors(missing=StoreUnavailable), self._folders.open():
            pass
        errors: dict[str, DarkroomError] = {}
        folders: dict[tuple[str, ...], list[str]] = {}
        for key in keys:
            try:
                path, _ = _split(key)
                folders.setdefault(tuple(path), []).append(key)
            except ObjectNotFound as err:
                errors[key] = err
        for found in folders.values():
            try:
                with _translate_errors():
                    errors |= self._delete_in_one_folder(found)
            except DarkroomError as err:
                errors |= dict.fromkeys(found, err)
        return errors

    def batch_size(self, erases: bool = False) -> int:
        return DELETED_AT_ONCE

    def _delete_in_one_folder(self, keys: Sequence[str]) -> dict[str, DarkroomError]:
        errors: dict[str, DarkroomError] = {}
        path, _ = _split(keys[0])
        with suppress(FileNotFoundError, NotADirectoryError), self._folders.open(*path) as folder:
            for key in keys:
                _, name = _split(key)
                try:
                    with _translate_errors():
                        _unlink_file(name, folder)
                except DarkroomError as err:
                    errors[key] = err
            faults.reached("after_unlink")
            # Also when no file was there: an earlier unlink may not be on disk yet.
            os.fsync(folder)
        return errors

    def url(self, key: str) -> str:
        return f"{self._public_url}/media/{key}"

    def signed_url(self, key: str, seconds: int) -> str:
        expires_at = int(time.time()) + seconds
        return f"{self.url(key)}?expires={expires_at}&sig={self._signer.sign(key, expires_at)}"

    def find(self, prefix: str) -> Iterator[FoundObject]:
        with _translate_errors(), suppress(FileNotFoundError), self._folders.open() as root:
            yield from _walk(root, "", prefix)

    def begin_upload(self, key: str, content_type: str) -> str:
        check_key(key)
        draft = name_draft()
        with (
            _translate_errors(missing=StoreUnavailable),
            self._folders.open(DRAFTS, makes=True) as drafts,
        ):
            write_draft(draft, drafts, b"")
        return draft

    def put_part(self, key: str, upload_id: str, number: int, content: bytes, sha256: str) -> str:
        with (
            _translate_errors(missing=StoreUnavailable),
            self._folders.open(DRAFTS) as drafts,
        ):
            write_part(upload_id, drafts, number, content)
        return sha256

    def complete_upload(self, key: str, upload_id: str, receipts: Sequence[str]) -> None:
        path, name = _split(key)
        with (
            _translate_errors(missing=StoreUnavailable),
            self._folders.open(*path, makes=True) as folder,
            self._folders.open(DRAFTS) as drafts,
        ):
            check_parts(upload_id, drafts, receipts)  # each has been synced by its put_part
            link_draft(upload_id, drafts, name, folder)
            remove_draft(upload_id, drafts)
            os.fsync(folder)

    def abort_upload(self, key: str, upload_id: str) -> None:
        with (
            _translate_errors(missing=StoreUnavailable),
            suppress(FileNotFoundError),
            self._folders.open(DRAFTS) as drafts,
        ):
            remove_draft(upload_id, drafts)

    def find_uploads(self, key: str) -> list[str]:
        check_key(key)
        return []

    def remove_leftovers(self, older_than_seconds: float) -> None:
        with (
            _translate_errors(),
            suppress(FileNotFoundError),
            # Wherever this is, nobody has written to what is so old.
            self._folders.open(DRAFTS, is_checked=False) as drafts,
        ):
            remove_old_drafts(drafts, older_than_seconds)

    def prepare(self) -> None:
        try:
            self._folders.make_root()
        except OSError as err:
            raise _explain_refusal(self._root, err) from err
        self.prove()

    def prove(self) -> None:
        prove_volume(self._root)

    def expect(self, store_id: str) -> None:
        self._marker.expect(store_id)

    def read_marker(self) -> bytes | None:
        with (
            _translate_errors(missing=StoreUnavailable),
            suppress(FileNotFoundError, NotADirectoryError),
            self._folders.open(is_checked=False) as root,
        ):
            return read_marker(root)
        return None

    def write_marker(self, content: bytes, *, is_first: bool) -> None:
        with (
            _translate_errors(missing=WrongStore),
            self._folders.open() as root,
            self._folders.open(DRAFTS, makes=True) as drafts,
        ):
            write_marker(root, drafts, content, is_first=is_first)

    def in_bucket(self, bucket: str) -> "LocalStore":
        return self


def _split(key: str) -> tuple[list[str], str]:
    """Split a key into the names of its folders and that of the file. Raises ObjectNotFound."""
    *path, name = check_key(key).split("/")
    return path, name


def _unlink_file(name: str, folder: int) -> None:
    """Take the name of a file, or of a link; a folder of that name is no object of ours."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def _walk(folder: int, path: str, prefix: str) -> Iterator[FoundObject]:
    """Find regular files below an open folder whose keys begin like this; links are passed over."""
    with os.scandir(folder) as entries:
        for entry in entries:
            key = path + entry.name
            if key == LOCAL_KEY:
                continue
            inside = key + "/"
            if entry.is_dir(follow_symlinks=False):
                is_wanted = inside.startswith(prefix) or prefix.startswith(inside)
                if entry.name != DRAFTS and is_wanted:
                    yield from _walk_into(entry.name, folder, inside, prefix)
            elif key.startswith(prefix) and entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):  # deleted since it was listed
                    found = entry.stat(follow_symlinks=False)
                    modified_at = datetime.fromtimestamp(found.st_mtime, UTC)
                    yield FoundObject(key, found.st_size, modified_at)


def _walk_into(name: str, parent: int, path: str, prefix: str) -> Iterator[FoundObject]:
    try:
        folder = enter(name, parent)
    except FileNotFoundError:  # deleted since it was listed
        return
    try:
        yield from _walk(folder, path, prefix)
    finally:
        os.close(folder)


def prove_volume(root: Path) -> None:
    """Do once, below this folder, what every put rests on.

    Raises StartupError where a link stands in it, which no verb would follow, or where its volume
    cannot do that: some that come over a network or from other systems give a file no second name,
    or cannot tell when a folder is on the disk.
    """
    folders = Folders(root)
    try:
        with folders.open() as folder:
            _refuse_links(root, folder)
            with folders.open(DRAFTS, makes=True) as drafts:
                _link_empty_file(drafts, folder)
            os.fsync(folder)
    except OSError as err:
        raise _explain_refusal(root, err) from err


def _explain_refusal(root: Path, err: OSError) -> StartupError:
    if err.errno in (errno.EACCES, errno.EROFS):
        cure = "Give it to the user as whom Darkroom runs, or correct DATA_DIR."
    else:
        cure = "Let DATA_DIR be on a disk of this machine, or set STORAGE to s3."
    return StartupError(f"The folder {root} cannot keep pictures safe: {err.strerror}. {cure}")


def _refuse_links(root: Path, folder: int) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                raise StartupError(
                    f"{root / entry.name} is a link, and pictures behind links are not found. Put"
                    " the folder itself there, mount its disk there, or remove the link."
                )


def _link_empty_file(drafts: int, folder: int) -> None:
    draft = name_draft()
    linked = f".{draft}"  # in another folder, as all objects are
    try:
        write_draft(draft, drafts, b"")
        os.link(draft, linked, src_dir_fd=drafts, dst_dir_fd=folder, follow_symlinks=False)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(linked, dir_fd=folder)
        remove_draft(draft, drafts)


@contextmanager
def _translate_errors(missing: type[DarkroomError] = ObjectNotFound) -> Iterator[None]:
    try:
        yield
    except FileExistsError as err:
        raise ObjectExists from err
    except FileNotFoundError as err:
        raise missing from err
    except OSError as err:
        if err.errno in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            raise missing from err
        raise StoreUnavailable from err
