"""Each store keeps its contract: memory, disk, and S3 over HTTP on two servers."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from config import MIB
from errors import DarkroomError, ObjectExists, ObjectNotFound, StoreError
from locations import StoreSettings
from storage import OpenObject, Store
from storage.local import LocalStore
from storage.memory import MemoryStore
from storage.s3 import S3Store
from tests.support.services import Bucket

KEY = "profile_pics/first.jpg"
KINDS = ["memory", "local", "moto", "ministack"]


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    return make_store(request.param, request, tmp_path)


def make_store(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if kind == "memory":
        return MemoryStore()
    if kind == "local":
        (tmp_path / "media").mkdir(exist_ok=True)  # as the configured stores do at start
        return LocalStore(tmp_path / "media")
    return s3_store(Bucket.make(request.getfixturevalue(kind)))


def s3_store(bucket: Bucket) -> S3Store:
    test = SecretStr("test")
    return S3Store(
        StoreSettings(
            storage="s3",
            bucket_name=bucket.name,
            endpoint_url=bucket.endpoint,
            access_key_id=test,
            secret_access_key=test,
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


def test_a_listing_is_whole_beyond_a_thousand_objects(store: Store) -> None:
    expected = [f"many/{number:04}.jpg" for number in range(1001)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda key: put(store, key, b"x"), expected))
    assert keys(store, "many/") == expected


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


@pytest.mark.parametrize("store", ["moto", "ministack"], indirect=True)
def test_a_bucket_that_is_not_there_is_a_refusal_and_not_an_empty_store(store: Store) -> None:
    missing = store.in_bucket("bucket-that-nobody-made")
    attempts: list[Callable[[], object]] = [
        lambda: put(missing, KEY),
        lambda: missing.open(KEY),
        lambda: missing.delete(KEY),
        lambda: keys(missing, ""),
    ]
    for attempt in attempts:
        with pytest.raises(StoreError):
            attempt()
