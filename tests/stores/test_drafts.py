"""Uploads in parts to the local disk: nothing is an object until all of it is there for good."""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import faults
from errors import ObjectExists, ObjectNotFound, StoreError, StoreUnavailable
from faults import FaultInjected
from storage import LinkSigner
from storage.contract import PART_BYTES
from storage.drafts import DRAFTS
from storage.local import LocalStore

KEY = "originals/first.jpg"
PARTS = [b"1" * PART_BYTES, b"the end"]
RECEIPTS = [hashlib.sha256(part).hexdigest() for part in PARTS]


@pytest.fixture
def media(tmp_path: Path) -> Path:
    return tmp_path / "media"


@pytest.fixture
def store(media: Path) -> LocalStore:
    made = LocalStore(media, LinkSigner(str))
    made.prepare()
    return made


def put_part(store: LocalStore, upload_id: str, number: int) -> str:
    return store.put_part(KEY, upload_id, number, PARTS[number - 1], RECEIPTS[number - 1])


def upload(store: LocalStore) -> str:
    """Upload all parts, and complete nothing yet."""
    upload_id = store.begin_upload(KEY, "image/jpeg")
    for number in (2, 1):
        put_part(store, upload_id, number)
    return upload_id


def complete(store: LocalStore, upload_id: str) -> None:
    store.complete_upload(KEY, upload_id, RECEIPTS)


def drafts(media: Path) -> list[Path]:
    return list((media / DRAFTS).iterdir())


def test_each_part_is_on_the_disk_when_its_put_returns_and_the_name_when_completing_does(
    store: LocalStore, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete(store, upload(store))
    store.delete(KEY)  # so that the folders exist
    upload_id = store.begin_upload(KEY, "image/jpeg")
    steps: list[tuple[str, bool, bytes]] = []
    fsync = os.fsync
    link = os.link

    def record_fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        content = b"" if is_folder else (media / DRAFTS / upload_id).read_bytes()
        kind = "fsync folder" if is_folder else "fsync file"
        steps.append((kind, (media / KEY).exists(), content.strip(b"\0")))
        fsync(descriptor)

    def record_link(*names: Any, **more: Any) -> None:
        steps.append(("link", (media / KEY).exists(), b""))
        link(*names, **more)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "link", record_link)
    put_part(store, upload_id, 2)
    assert steps == [("fsync file", False, PARTS[1])]
    put_part(store, upload_id, 1)
    assert steps[1:] == [("fsync file", False, b"".join(PARTS))]
    complete(store, upload_id)
    assert steps[2:] == [("link", False, b""), ("fsync folder", True, b"")]
    assert drafts(media) == []


def test_a_write_that_the_disk_takes_in_pieces_is_whole(
    store: LocalStore, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, rest, at: pwrite(file, rest[:1_000_003], at))
    complete(store, upload(store))
    assert (media / KEY).read_bytes() == b"".join(PARTS)


def test_more_than_was_meant_becomes_no_object(store: LocalStore) -> None:
    upload_id = upload(store)
    with pytest.raises(StoreUnavailable):
        store.complete_upload(KEY, upload_id, RECEIPTS[:1])
    assert not store.exists(KEY)


def test_an_upload_that_was_refused_is_kept_until_it_is_aborted(
    store: LocalStore, media: Path
) -> None:
    upload_id = upload(store)
    store.put(KEY, b"first", "image/jpeg", "")
    with pytest.raises(ObjectExists):
        complete(store, upload_id)
    assert [draft.name for draft in drafts(media)] == [upload_id]
    store.abort_upload(KEY, upload_id)
    assert drafts(media) == [] and (media / KEY).read_bytes() == b"first"


@pytest.mark.parametrize(("point", "is_there"), [("during_put", False), ("after_link", True)])
def test_an_upload_that_is_cut_off_leaves_a_whole_object_or_none(
    store: LocalStore, media: Path, point: str, is_there: bool
) -> None:
    upload_id = upload(store)
    faults.arm(f"{point}:raise")
    try:
        with pytest.raises(FaultInjected):
            complete(store, upload_id)
    finally:
        faults.arm("")
    assert store.exists(KEY) is is_there
    store.abort_upload(KEY, upload_id)
    assert drafts(media) == []
    if is_there:
        assert (media / KEY).read_bytes() == b"".join(PARTS)


def age(draft: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(draft, (then, then))


def test_a_draft_is_young_again_with_each_part(store: LocalStore, media: Path) -> None:
    upload_id = store.begin_upload(KEY, "image/jpeg")
    [draft] = drafts(media)
    age(draft, 7200)
    put_part(store, upload_id, 1)
    store.remove_leftovers(3600)
    put_part(store, upload_id, 2)
    complete(store, upload_id)
    assert (media / KEY).read_bytes() == b"".join(PARTS)


def test_a_draft_that_nobody_writes_to_any_more_expires(store: LocalStore, media: Path) -> None:
    upload_id = upload(store)
    [draft] = drafts(media)
    age(draft, 7200)
    store.remove_leftovers(3600)
    assert drafts(media) == []
    with pytest.raises(StoreUnavailable):
        complete(store, upload_id)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside the store."""
    path = tmp_path / "secret"
    path.write_bytes(b"secret")
    return path


def attempt_all(store: LocalStore, upload_id: str) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: put_part(store, upload_id, 2),
        lambda: store.complete_upload(KEY, upload_id, [hashlib.sha256(b"secret").hexdigest()]),
    ]
    for attempt in attempts:
        with pytest.raises(StoreUnavailable):
            attempt()
    store.abort_upload(KEY, upload_id)


def test_a_link_in_the_place_of_a_draft_is_neither_written_nor_read(
    store: LocalStore, media: Path, secret: Path
) -> None:
    upload_id = store.begin_upload(KEY, "image/jpeg")
    [draft] = drafts(media)
    draft.unlink()
    draft.symlink_to(secret)
    attempt_all(store, upload_id)
    assert secret.read_bytes() == b"secret" and not store.exists(KEY)
    assert drafts(media) == []


def test_an_id_that_is_no_name_of_a_draft_reaches_nothing(
    store: LocalStore, media: Path, secret: Path
) -> None:
    upload(store)
    for upload_id in ["../../secret", str(secret), "..", "", f"{'0' * 32}\n"]:
        attempt_all(store, upload_id)
    assert secret.read_bytes() == b"secret" and len(drafts(media)) == 1


def test_a_pipe_in_the_place_of_a_draft_is_not_waited_for(store: LocalStore, media: Path) -> None:
    upload_id = store.begin_upload(KEY, "image/jpeg")
    [draft] = drafts(media)
    draft.unlink()
    os.mkfifo(draft)
    attempt_all(store, upload_id)
    with pytest.raises(ObjectNotFound):
        store.open(KEY)


@pytest.mark.parametrize("name", ["ENOSPC", "EIO", "EDQUOT", "EROFS", "ENOENT"])
@pytest.mark.parametrize("call", ["open", "pwrite", "fsync", "link", "pread"])
def test_a_disk_that_fails_is_a_store_that_is_unavailable(
    store: LocalStore, media: Path, monkeypatch: pytest.MonkeyPatch, call: str, name: str
) -> None:
    number = getattr(errno, name)
    upload_id = upload(store)

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(StoreError) as caught:
            put_part(store, upload_id, 1)
            complete(store, upload_id)
    assert caught.type is StoreUnavailable
    assert not store.exists(KEY)
    complete(store, upload_id)
    assert (media / KEY).read_bytes() == b"".join(PARTS)
