"""Each store keeps its contract: memory, disk, and S3 over HTTP on two servers."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import SecretStr

from config import MIB
from errors import DarkroomError, ObjectExists, ObjectNotFound, StoreError
from locations import StoreSettings
from storage import LinkSigner, OpenObject, Store
from storage.contract import DELETED_AT_ONCE, PART_BYTES
from storage.local import LocalStore
from storage.memory import MemoryStore
from storage.s3 import S3Store
from tests.support.services import Bucket, get

KEY = "profile_pics/first.jpg"
PAGE_OBJECTS = 10
KINDS = [
    "memory",
    "local",
    "moto",
    "ministack",
    pytest.param("radosgw", marks=pytest.mark.radosgw),
]
Checksums = Literal["when_supported", "when_required"]


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    return make_store(request.param, request, tmp_path)


def make_store(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if kind == "memory":
        return MemoryStore()
    if kind == "local":
        (tmp_path / "media").mkdir(exist_ok=True)  # as the configured stores do at start
        return LocalStore(tmp_path / "media", LinkSigner(str))
    return s3_store(Bucket.make(request.getfixturevalue(kind)))


def s3_store(bucket: Bucket, checksums: Checksums = "when_supported") -> S3Store:
    test = SecretStr("test")
    return S3Store(
        StoreSettings(
            storage="s3",
            bucket_name=bucket.name,
            endpoint_url=bucket.endpoint,
            access_key_id=test,
            secret_access_key=test,
            checksums=checksums,
        )
    )


def put(
    store: Store, key: str, content: bytes = b"picture", content_type: str = "image/jpeg"
) -> None:
    store.put(key, content, content_type, hashlib.sha256(content).hexdigest())


def read(store: Store, key: str) -> bytes:
    return read_all(store.open(key))


def read_all(found: OpenObject) -> bytes:
    try:
        return found.stream.read()
    finally:
        found.stream.close()


def keys(store: Store, prefix: str) -> list[str]:
    return sorted(found.key for found in store.find(prefix))


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00", bytes(range(256)) * (MIB // 256)],
    ids=["no byte", "one byte", "1 MiB"],
)
def test_what_was_put_is_opened_with_its_bytes_size_and_type(store: Store, content: bytes) -> None:
    put(store, KEY, content)
    found = store.open(KEY)
    assert (found.size_bytes, found.content_type) == (len(content), "image/jpeg")
    assert read_all(found) == content


def test_the_content_type_is_that_of_the_put(store: Store) -> None:
    put(store, "profile_pics/picture.png", content_type="image/png")
    found = store.open("profile_pics/picture.png")
    found.stream.close()
    assert found.content_type == "image/png"


def test_an_open_object_is_read_in_pieces_from_its_first_byte(store: Store) -> None:
    put(store, KEY, b"0123456789")
    stream = store.open(KEY).stream
    pieces = [stream.read(4), stream.read(4), stream.read(4), stream.read(4)]
    stream.close()
    assert pieces == [b"0123", b"4567", b"89", b""]


def test_a_second_put_is_refused_and_leaves_the_first_object_alone(store: Store) -> None:
    put(store, KEY, b"first")
    with pytest.raises(ObjectExists):
        put(store, KEY, b"second")
    assert read(store, KEY) == b"first"
    assert keys(store, "") == [KEY]


def test_of_many_puts_at_once_on_one_key_exactly_one_wins(store: Store) -> None:
    contents = [bytes([number]) * 1000 for number in range(8)]
    together = threading.Barrier(len(contents))

    def attempt(content: bytes) -> bytes | None:
        together.wait()
        try:
            put(store, KEY, content)
        except ObjectExists:
            return None
        return content

    with ThreadPoolExecutor(len(contents)) as threads:
        won = [content for content in threads.map(attempt, contents) if content is not None]
    assert len(won) == 1
    assert read(store, KEY) == won[0]


def test_a_deleted_key_can_be_put_again(store: Store) -> None:
    put(store, KEY, b"first")
    store.delete(KEY)
    put(store, KEY, b"second")
    assert read(store, KEY) == b"second"


# The local disk has no wire on which bytes could change, and moto stores whatever it is sent.
@pytest.mark.parametrize("store", ["memory", "ministack"], indirect=True)
def test_bytes_that_do_not_fit_their_checksum_are_refused(store: Store) -> None:
    with pytest.raises(StoreError):
        store.put(KEY, b"sent", "image/jpeg", hashlib.sha256(b"meant").hexdigest())
    assert not store.exists(KEY)


def test_there_is_an_object_only_under_the_very_key(store: Store) -> None:
    put(store, "profile_pics/deep/one.jpg")
    assert store.exists("profile_pics/deep/one.jpg")
    others = [
        "profile_pics/deep/one.jp",
        "profile_pics/deep/one.jpg2",
        "profile_pics/deep",
        "profile_pics/two.jpg",
    ]
    assert [key for key in [*others, "profile_pics2/deep/one.jpg"] if store.exists(key)] == []


def test_a_folder_is_not_an_object(store: Store) -> None:
    put(store, "profile_pics/deep/one.jpg")
    with pytest.raises(ObjectNotFound):
        store.open("profile_pics/deep")
    store.delete("profile_pics/deep")  # there is no such object, which is fine
    assert keys(store, "") == ["profile_pics/deep/one.jpg"]


def test_what_lies_below_an_object_is_not_there_either(store: Store) -> None:
    put(store, KEY)
    assert not store.exists(f"{KEY}/below")
    with pytest.raises(ObjectNotFound):
        store.open(f"{KEY}/below")
    store.delete(f"{KEY}/below")
    assert read(store, KEY) == b"picture"


def test_opening_what_is_missing_says_so(store: Store) -> None:
    put(store, KEY)
    with pytest.raises(ObjectNotFound):
        store.open("profile_pics/second.jpg")
    store.delete(KEY)
    with pytest.raises(ObjectNotFound):
        store.open(KEY)
    assert not store.exists(KEY)


def test_deleting_twice_and_deleting_what_never_was_are_fine(store: Store) -> None:
    store.delete("profile_pics/never.jpg")
    put(store, KEY)
    put(store, "profile_pics/kept.jpg")
    store.delete(KEY)
    store.delete(KEY)
    assert keys(store, "") == ["profile_pics/kept.jpg"]


def test_many_are_deleted_together_and_all_others_stay(store: Store) -> None:
    deleted = [f"profile_pics/{number}.jpg" for number in range(5)] + ["originals/deep/1.jpg"]
    kept = ["profile_pics/1.jpg2", "profile_pics/kept.jpg"]
    for key in [*deleted, *kept]:
        put(store, key)
    missing = ["profile_pics/never.jpg", "no_folder/never.jpg"]
    assert store.delete_many([*deleted, *missing, deleted[0]]) == {}
    assert keys(store, "") == kept
    assert store.delete_many(deleted) == {}
    assert store.delete_many([]) == {}
    assert keys(store, "") == kept


def test_a_thousand_are_deleted_together(store: Store) -> None:
    put(store, "many/last.jpg")
    several = [f"many/{number}.jpg" for number in range(DELETED_AT_ONCE - 1)]
    assert store.batch_size() == DELETED_AT_ONCE
    assert store.delete_many([*several, "many/last.jpg"]) == {}
    assert keys(store, "") == []


def test_of_many_keys_only_those_that_are_not_ours_are_refused(store: Store) -> None:
    put(store, KEY)
    errors = store.delete_many(["../secret", KEY, "profile_pics/.hidden"])
    assert {key: type(error) for key, error in errors.items()} == {
        "../secret": ObjectNotFound,
        "profile_pics/.hidden": ObjectNotFound,
    }
    assert not store.exists(KEY)


def test_erasing_deletes_too(store: Store) -> None:
    for key in (KEY, "profile_pics/second.jpg", "profile_pics/third.jpg"):
        put(store, key)
    store.delete(KEY, erases=True)
    assert store.delete_many(["profile_pics/second.jpg", KEY], erases=True) == {}
    assert keys(store, "") == ["profile_pics/third.jpg"]
    assert not store.keeps_versions


def test_a_listing_holds_exactly_the_keys_that_start_with_the_prefix(store: Store) -> None:
    for key in [
        "profile_pics/a.jpg",
        "profile_pics/ab.jpg",
        "profile_pics/b/a.jpg",
        "profile_pics2/a.jpg",
        "x/a.jpg",
    ]:
        put(store, key)
    assert keys(store, "profile_pics/") == [
        "profile_pics/a.jpg",
        "profile_pics/ab.jpg",
        "profile_pics/b/a.jpg",
    ]
    assert keys(store, "profile_pics/a") == ["profile_pics/a.jpg", "profile_pics/ab.jpg"]
    assert keys(store, "profile_pics/a.") == ["profile_pics/a.jpg"]
    assert keys(store, "profile_pics/b/") == ["profile_pics/b/a.jpg"]
    assert keys(store, "profile_pics/b") == ["profile_pics/b/a.jpg"]
    assert keys(store, "profile_pics2/") == ["profile_pics2/a.jpg"]
    assert len(keys(store, "profile_pics")) == 4
    assert len(keys(store, "")) == 5
    assert len(keys(store, "p")) == 4
    for unknown in [
        "profile_pics/c",
        "profile_pics3",
        "a.jpg",
        "/profile_pics/",
        "../",
        "profile_pics/a.jpg/",
    ]:
        assert keys(store, unknown) == []


def test_a_listing_of_an_empty_store_is_empty(store: Store) -> None:
    assert keys(store, "") == []
    assert keys(store, "profile_pics/") == []


def test_a_listing_shows_sizes_and_times(store: Store) -> None:
    put(store, KEY, b"12345")
    [found] = store.find("profile_pics/")
    assert (found.key, found.size_bytes) == (KEY, 5)
    # A wrong zone would be hours off; the clocks of one machine are not.
    assert abs(datetime.now(UTC) - found.modified_at) < timedelta(minutes=30)


def test_a_listing_is_whole_beyond_one_page(store: Store) -> None:
    """A service's page has a thousand objects; of this size it is asked for smaller ones."""
    if isinstance(store, S3Store):
        events: Any = store._client.meta.events
        events.register("provide-client-params.s3.ListObjectsV2", ask_for_small_page)
    expected = [f"many/{number:04}.jpg" for number in range(2 * PAGE_OBJECTS + 1)]
    for key in expected:
        put(store, key, b"x")
    assert keys(store, "many/") == expected


def ask_for_small_page(params: dict[str, Any], **_: object) -> dict[str, Any]:
    return {**params, "MaxKeys": PAGE_OBJECTS}


def test_a_listing_goes_on_while_objects_are_deleted(store: Store) -> None:
    written = [f"profile_pics/{number}.jpg" for number in range(20)]
    for key in written:
        put(store, key)
    listing = store.find("profile_pics/")
    seen = {next(listing).key}
    for key in written:
        store.delete(key)
    seen.update(found.key for found in listing)
    assert seen <= set(written)


BAD_KEYS = {
    "empty": "",
    "no folder": "picture.jpg",
    "only a folder": "profile_pics/",
    "parent": "../picture.jpg",
    "parent inside": "profile_pics/../../picture.jpg",
    "dot": "profile_pics/./picture.jpg",
    "absolute": "/profile_pics/picture.jpg",
    "two slashes": "profile_pics//picture.jpg",
    "hidden": "profile_pics/.picture.jpg",
    "hidden folder": ".drafts/picture.jpg",
    "backslash": "profile_pics\\..\\picture.jpg",
    "NUL": "profile_pics/picture\0.jpg",
    "newline": "profile_pics/picture.jpg\n",
    "not ASCII": "profile_pics/bücher.jpg",
    "half a character": "profile_pics/\ud800.jpg",
    "long": f"profile_pics/{'a' * 3000}.jpg",
}


def test_a_key_that_is_not_ours_never_succeeds_and_fails_only_in_our_words(
    store: Store, tmp_path: Path
) -> None:
    taken = []
    for name, key in BAD_KEYS.items():
        verbs: dict[str, Callable[[str], object]] = {
            "put": lambda key: stored(store, key),
            "open": store.open,
            "exists": store.exists,
            "delete": store.delete,
        }
        taken += [f"{verb} of {name}" for verb, call in verbs.items() if outcome(call, key)]
    assert taken == []
    assert keys(store, "") == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("key", ["../secret", "profile_pics/../../secret", "/secret"])
@pytest.mark.parametrize("store", ["local"], indirect=True)
def test_a_file_outside_the_folder_can_be_neither_read_nor_deleted(
    store: Store, key: str, tmp_path: Path
) -> None:
    put(store, KEY)  # so that the folders exist
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    if key == "/secret":
        key = str(secret)
    with pytest.raises(DarkroomError):
        store.open(key)
    assert not outcome(store.exists, key)
    outcome(store.delete, key)
    assert secret.read_bytes() == b"secret"


def stored(store: Store, key: str) -> str:
    put(store, key)
    return "stored"


def outcome(verb: Callable[[str], object], key: str) -> object:
    """What the verb returns for the key, or None if it refuses in our words."""
    try:
        return verb(key)
    except DarkroomError:
        return None


def test_removing_leftovers_leaves_finished_objects_alone(store: Store) -> None:
    put(store, KEY)
    put(store, "profile_pics/second.jpg")
    store.remove_leftovers(0)
    store.remove_leftovers(-1)  # older than the future: whatever is a leftover goes
    assert read(store, KEY) == b"picture"
    assert keys(store, "") == [KEY, "profile_pics/second.jpg"]


def test_removing_leftovers_of_an_empty_store_is_fine(store: Store) -> None:
    store.remove_leftovers(0)
    assert keys(store, "") == []


def test_the_same_bucket_holds_the_same_objects(store: Store) -> None:
    put(store, KEY)
    same = store.in_bucket(store.bucket)
    assert same.bucket == store.bucket
    assert read(same, KEY) == b"picture"
    assert same.url(KEY) == store.url(KEY)
    same.delete(KEY)
    assert not store.exists(KEY)


@pytest.mark.parametrize("kind", ["memory", "moto", "ministack"])
def test_another_bucket_of_the_same_service_is_another_store(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store = make_store(kind, request, tmp_path)
    other_name = "other" if kind == "memory" else Bucket.make(request.getfixturevalue(kind)).name
    put(store, KEY, b"here")
    other = store.in_bucket(other_name)
    assert other.bucket == other_name
    assert not other.exists(KEY)
    put(other, KEY, b"there")
    assert (read(store, KEY), read(other, KEY)) == (b"here", b"there")
    assert store.url(KEY) != other.url(KEY)
    other.delete(KEY)
    assert keys(other, "") == []
    assert read(store, KEY) == b"here"
    assert read(store.in_bucket(other_name).in_bucket(store.bucket), KEY) == b"here"


@pytest.mark.parametrize("kind", KINDS)
def test_the_url_is_named_without_asking_anybody(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(kind, request, tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked somebody")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("os.stat", refuse)
    url = store.url("profile_pics/never-stored.jpg")
    monkeypatch.undo()
    assert isinstance(url, str)
    assert url.endswith("/profile_pics/never-stored.jpg")


# Told apart by their bytes, and the last one shorter, as in every upload.
PARTS = [bytes([number]) * PART_BYTES for number in (1, 2)] + [b"the end"]
HASHES = [hashlib.sha256(part).hexdigest() for part in PARTS]
WHOLE = b"".join(PARTS)


def put_part(store: Store, upload_id: str, number: int, key: str = KEY) -> str:
    return store.put_part(key, upload_id, number, PARTS[number - 1], HASHES[number - 1])


def upload_first_part(store: Store, key: str = KEY) -> tuple[str, list[str]]:
    """Begin an upload and put one part, which may be its last; return its id and receipts."""
    upload_id = store.begin_upload(key, "image/jpeg")
    return upload_id, [put_part(store, upload_id, 1, key)]


def expected_uploads(store: Store, *upload_ids: str) -> list[str]:
    """What a store finds of these: the disk lists none, for its drafts expire by themselves."""
    return [] if isinstance(store, LocalStore) else sorted(upload_ids)


def upload_side_by_side(store: Store) -> None:
    """Upload the parts from the last to the first, two at a time."""
    upload_id = store.begin_upload(KEY, "image/jpeg")
    with ThreadPoolExecutor(2) as threads:
        stored = threads.map(lambda number: put_part(store, upload_id, number), [3, 2, 1])
        receipts = list(stored)[::-1]
    assert not store.exists(KEY) and keys(store, "") == []
    store.complete_upload(KEY, upload_id, receipts)


def test_parts_in_any_order_and_side_by_side_become_one_object(store: Store) -> None:
    upload_side_by_side(store)
    found = store.open(KEY)
    assert (found.size_bytes, found.content_type) == (len(WHOLE), "image/jpeg")
    assert read_all(found) == WHOLE
    assert keys(store, "") == [KEY]
    assert store.find_uploads(KEY) == []


@pytest.mark.parametrize("kind", ["moto", "ministack"])
def test_parts_become_an_object_without_checksums_too(
    kind: str, request: pytest.FixtureRequest
) -> None:
    store = s3_store(Bucket.make(request.getfixturevalue(kind)), "when_required")
    upload_side_by_side(store)
    assert read(store, KEY) == WHOLE


@pytest.mark.parametrize("store", ["memory", "local", "moto", "ministack"], indirect=True)
def test_completing_an_upload_never_overwrites(store: Store) -> None:
    upload_id, receipts = upload_first_part(store)
    put(store, KEY, b"first")
    with pytest.raises(ObjectExists):
        store.complete_upload(KEY, upload_id, receipts)
    assert read(store, KEY) == b"first"
    store.abort_upload(KEY, upload_id)
    assert store.find_uploads(KEY) == []
    assert read(store, KEY) == b"first"


@pytest.mark.radosgw
@pytest.mark.parametrize("store", ["radosgw"], indirect=True)
def test_cephs_gateway_overwrites_when_it_completes_an_upload(store: Store) -> None:
    """What docs/s3.md says of its version 16.2; a put under the key of another it refuses."""
    upload_id, receipts = upload_first_part(store)
    put(store, KEY, b"first")
    with pytest.raises(ObjectExists):
        put(store, KEY, b"second")
    store.complete_upload(KEY, upload_id, receipts)
    assert read(store, KEY) != b"first"


# moto looks whether the key is free, and then stores: not as one step.
@pytest.mark.parametrize("store", ["memory", "local", "ministack"], indirect=True)
def test_of_many_uploads_to_one_key_exactly_one_wins(store: Store) -> None:
    begun = [upload_first_part(store) for _ in range(3)]
    together = threading.Barrier(len(begun))

    def complete(upload: tuple[str, list[str]]) -> bool:
        together.wait()
        try:
            store.complete_upload(KEY, *upload)
        except ObjectExists:
            return False
        return True

    with ThreadPoolExecutor(len(begun)) as threads:
        assert sorted(threads.map(complete, begun)) == [False, False, True]
    assert read(store, KEY) == PARTS[0]


def test_aborting_twice_and_aborting_what_never_was_are_fine(store: Store) -> None:
    upload_id, _ = upload_first_part(store)
    store.abort_upload(KEY, upload_id)
    store.abort_upload(KEY, upload_id)
    for unknown in ["0" * 32, "never begun"]:
        store.abort_upload(KEY, unknown)
    assert store.find_uploads(KEY) == [] and keys(store, "") == []


def test_an_aborted_upload_takes_no_part_and_becomes_no_object(store: Store) -> None:
    upload_id, receipts = upload_first_part(store)
    store.abort_upload(KEY, upload_id)
    with pytest.raises(StoreError):
        put_part(store, upload_id, 2)
    with pytest.raises(StoreError):
        store.complete_upload(KEY, upload_id, receipts)
    assert not store.exists(KEY)


def test_aborting_one_upload_leaves_objects_and_other_uploads_alone(store: Store) -> None:
    put(store, "profile_pics/kept.jpg")
    dropped, _ = upload_first_part(store)
    kept, receipts = upload_first_part(store)
    store.abort_upload(KEY, dropped)
    store.complete_upload(KEY, kept, receipts)
    store.abort_upload(KEY, kept)  # which is no more than an object now
    assert keys(store, "") == [KEY, "profile_pics/kept.jpg"]


def test_only_the_uploads_of_this_very_key_are_found(store: Store) -> None:
    mine = [store.begin_upload(KEY, "image/jpeg") for _ in range(2)]
    others = [f"{KEY}2", f"{KEY}/below", KEY[:-1], "originals/first.jpg"]
    for key in others:
        store.begin_upload(key, "image/jpeg")
    assert sorted(store.find_uploads(KEY)) == expected_uploads(store, *mine)
    store.abort_upload(KEY, mine[0])
    assert store.find_uploads(KEY) == expected_uploads(store, mine[1])


def test_an_upload_without_one_of_its_parts_becomes_no_object(store: Store) -> None:
    for missing in (1, 2, 3):
        upload_id = store.begin_upload(KEY, "image/jpeg")
        came = [number for number in (1, 2, 3) if number != missing]
        receipts = {number: put_part(store, upload_id, number) for number in came}
        receipts[missing] = put_part(store, store.begin_upload(KEY, "image/jpeg"), missing)
        told = [receipts[number] for number in (1, 2, 3)]
        with pytest.raises(StoreError):
            store.complete_upload(KEY, upload_id, told)
        assert not store.exists(KEY), missing


def test_a_part_that_is_not_the_one_of_its_receipt_becomes_no_object(store: Store) -> None:
    upload_id, receipts = upload_first_part(store)
    store.put_part(KEY, upload_id, 1, PARTS[1], HASHES[1])
    with pytest.raises(StoreError):
        store.complete_upload(KEY, upload_id, receipts)
    assert not store.exists(KEY)
    assert put_part(store, upload_id, 1) == receipts[0]
    store.complete_upload(KEY, upload_id, receipts)
    assert read(store, KEY) == PARTS[0]


# On disk it is noticed at the end; moto stores whatever it is sent.
@pytest.mark.parametrize("store", ["memory", "local", "ministack"], indirect=True)
def test_a_part_that_does_not_fit_its_checksum_becomes_no_object(store: Store) -> None:
    upload_id = store.begin_upload(KEY, "image/jpeg")
    with pytest.raises(StoreError):
        receipt = store.put_part(KEY, upload_id, 1, PARTS[1], HASHES[0])
        store.complete_upload(KEY, upload_id, [receipt])
    assert not store.exists(KEY)


def test_a_key_that_is_not_ours_takes_no_upload(store: Store, tmp_path: Path) -> None:
    taken = []
    for name, key in BAD_KEYS.items():
        verbs: dict[str, Callable[[str], object]] = {
            "begin": lambda key: store.begin_upload(key, "image/jpeg"),
            "put": lambda key: store.put_part(key, "0" * 32, 1, PARTS[2], HASHES[2]),
            "find": store.find_uploads,
        }
        taken += [f"{verb} of {name}" for verb, call in verbs.items() if outcome(call, key)]
    assert taken == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("store", ["moto", "ministack"], indirect=True)
def test_a_signed_url_of_a_bucket_is_read_by_whoever_has_it_and_cached_by_nobody_else(
    store: Store,
) -> None:
    put(store, "originals/first.jpg")
    answer = get(store.signed_url("originals/first.jpg", 60))
    assert (answer.status_code, answer.content) == (200, b"picture")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "private, max-age=60"


def test_a_signed_url_is_named_without_asking_anybody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked somebody")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    url = store.signed_url("originals/never-stored.jpg", 60)
    monkeypatch.undo()
    assert url.partition("?")[0].endswith("/originals/never-stored.jpg")
    assert url.partition("?")[2], "it says until when"


@pytest.mark.parametrize("store", ["moto", "ministack"], indirect=True)
def test_a_bucket_that_is_not_there_is_a_refusal_and_not_an_empty_store(store: Store) -> None:
    missing = store.in_bucket("bucket-that-nobody-made")
    _, receipts = upload_first_part(store)
    attempts: list[Callable[[], object]] = [
        lambda: put(missing, KEY),
        lambda: missing.open(KEY),
        lambda: missing.delete(KEY),
        lambda: missing.delete_many([KEY]),
        lambda: keys(missing, ""),
        lambda: missing.begin_upload(KEY, "image/jpeg"),
        lambda: put_part(missing, "an-id", 1),
        lambda: missing.complete_upload(KEY, "an-id", receipts),
        lambda: missing.abort_upload(KEY, "an-id"),
        lambda: missing.find_uploads(KEY),
    ]
    for attempt in attempts:
        with pytest.raises(StoreError):
            attempt()
