"""The local store loses nothing in a crash, says so when the disk fails, and serves /media."""

import errno
import hashlib
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import faults
from errors import ObjectExists, ObjectNotFound, StartupError, StoreError, StoreUnavailable
from storage import LinkSigner
from storage.drafts import DRAFTS
from storage.local import LocalStore, prove_volume
from tests.support.pictures import jpeg
from tests.support.services import ROOT, Service

KEY = "profile_pics/first.jpg"
CONTENT = b"picture" * 1000


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    made = LocalStore(tmp_path / "data" / "media", LinkSigner(str))
    made.prepare()
    return made


@pytest.fixture
def media(tmp_path: Path) -> Path:
    return tmp_path / "data" / "media"


def put(store: LocalStore, key: str = KEY, content: bytes = CONTENT) -> None:
    store.put(key, content, "image/jpeg", hashlib.sha256(content).hexdigest())


def read(store: LocalStore, key: str = KEY) -> bytes:
    with store.open(key).stream as stream:
        return stream.read()


def drafts(media: Path) -> list[Path]:
    return list((media / DRAFTS).glob("*"))


@dataclass(frozen=True)
class Step:
    """A call that changes or syncs the disk, as the kernel sees it."""

    call: str
    inode: int
    size_bytes: int = 0
    was_visible: bool = False


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, media: Path) -> list[Step]:
    """Every mkdir, fsync, link and unlink from now on, in order.

    A new folder is told by its parent's inode.
    """
    seen: list[Step] = []
    mkdir = os.mkdir
    fsync = os.fsync
    link = os.link
    unlink = os.unlink

    def record_mkdir(path: Any, *rest: Any, **more: Any) -> None:
        mkdir(path, *rest, **more)
        parent = os.fstat(more["dir_fd"]) if "dir_fd" in more else os.stat(Path(path).parent)
        seen.append(Step("mkdir in", parent.st_ino))

    def record_fsync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        kind = "fsync folder" if stat.S_ISDIR(found.st_mode) else "fsync file"
        seen.append(
            Step(
                kind,
                found.st_ino,
                0 if kind == "fsync folder" else found.st_size,
                (media / KEY).exists(),
            )
        )
        fsync(descriptor)

    def record_link(source: Any, target: Any, **more: Any) -> None:
        found = os.stat(source, dir_fd=more["src_dir_fd"])
        seen.append(Step("link", found.st_ino, found.st_size, (media / KEY).exists()))
        link(source, target, **more)

    def record_unlink(path: Any, *rest: Any, **more: Any) -> None:
        inode = os.stat(path, dir_fd=more["dir_fd"]).st_ino
        unlink(path, *rest, **more)
        seen.append(Step("unlink", inode))

    monkeypatch.setattr(os, "mkdir", record_mkdir)
    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "link", record_link)
    monkeypatch.setattr(os, "unlink", record_unlink)
    return seen


def test_the_whole_file_is_synced_before_its_name_and_the_name_before_the_put_returns(
    store: LocalStore, media: Path, steps: list[Step]
) -> None:
    put(store, "profile_pics/earlier.jpg")  # so that the folders exist
    steps.clear()
    put(store)
    folder = (media / "profile_pics").stat().st_ino
    file = (media / KEY).stat().st_ino
    assert [step for step in steps if step.call != "unlink"] == [
        Step("fsync file", file, len(CONTENT), was_visible=False),
        Step("link", file, len(CONTENT), was_visible=False),
        Step("fsync folder", folder, was_visible=True),
    ]
    assert drafts(media) == []


def test_every_new_folder_is_synced_in_its_parent_before_the_object_gets_its_name(
    store: LocalStore, media: Path, steps: list[Step]
) -> None:
    shutil.rmtree(media.parent)
    store.prepare()
    steps_before = [step for step in steps if step.call != "link"]  # it proves what links do
    steps[:] = steps_before
    put(store, "profile_pics/deep/er/first.jpg")
    linked = [step.call for step in steps].index("link")
    made = [(place, step.inode) for place, step in enumerate(steps) if step.call == "mkdir in"]
    # data, media, profile_pics, deep, er, and the folder of drafts
    assert len(made) == 6
    for place, parent in made:
        synced = [
            after
            for after, step in enumerate(steps)
            if (step.call, step.inode) == ("fsync folder", parent)
        ]
        assert any(place < after < linked for after in synced)


def test_a_folder_that_another_process_has_just_made_is_synced_too(
    store: LocalStore, media: Path, steps: list[Step]
) -> None:
    # By one that was killed, or has not come to its fsync:
    # what exists is not yet what outlasts a power cut.
    (media / "profile_pics").mkdir()
    steps.clear()
    put(store)
    assert media.stat().st_ino in [step.inode for step in steps if step.call == "fsync folder"]


def test_a_deletion_is_on_disk_when_it_returns_even_if_an_earlier_one_was_cut_off(
    store: LocalStore, media: Path, steps: list[Step]
) -> None:
    put(store)
    file = (media / KEY).stat().st_ino
    folder = (media / "profile_pics").stat().st_ino
    steps.clear()
    store.delete(KEY)
    assert steps == [Step("unlink", file), Step("fsync folder", folder)]
    steps.clear()
    store.delete(KEY)
    assert Step("fsync folder", folder) in steps


def test_a_folder_is_synced_once_for_all_that_is_deleted_in_it(
    store: LocalStore, media: Path, steps: list[Step]
) -> None:
    together = [KEY, "profile_pics/second.jpg", "originals/third.jpg"]
    for key in together:
        put(store, key)
    files = [(media / key).stat().st_ino for key in together]
    folders = [(media / name).stat().st_ino for name in ("profile_pics", "originals")]
    steps.clear()
    assert store.delete_many(together) == {}
    assert steps == [
        Step("unlink", files[0]),
        Step("unlink", files[1]),
        Step("fsync folder", folders[0]),
        Step("unlink", files[2]),
        Step("fsync folder", folders[1]),
    ]


def test_what_cannot_be_deleted_holds_up_nothing_else(
    store: LocalStore, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store)
    put(store, "profile_pics/second.jpg")
    put(store, "originals/third.jpg")
    unlink = os.unlink
    fsync = os.fsync

    def fail_for_second(name: str, **more: int) -> None:
        if name == "second.jpg":
            raise OSError(errno.EPERM, "immutable")
        unlink(name, **more)

    def fail_for_originals(descriptor: int) -> None:
        if os.fstat(descriptor).st_ino == (media / "originals").stat().st_ino:
            raise OSError(errno.EIO, "broken")
        fsync(descriptor)

    monkeypatch.setattr(os, "unlink", fail_for_second)
    monkeypatch.setattr(os, "fsync", fail_for_originals)
    errors = store.delete_many([KEY, "profile_pics/second.jpg", "originals/third.jpg"])
    assert {key: type(error) for key, error in errors.items()} == {
        "profile_pics/second.jpg": StoreUnavailable,
        "originals/third.jpg": StoreUnavailable,
    }
    assert not (media / KEY).exists()


def test_a_deletion_while_the_folder_is_missing_is_not_done(store: LocalStore, media: Path) -> None:
    """As when its disk is not mounted for a while: what lies there would become an orphan."""
    put(store)
    media.rename(media.with_name("elsewhere"))
    with pytest.raises(StoreUnavailable):
        store.delete(KEY)
    with pytest.raises(StoreUnavailable):
        store.delete_many([KEY])
    media.with_name("elsewhere").rename(media)
    store.delete(KEY)
    assert not (media / KEY).exists()


def test_a_put_that_finds_its_key_taken_leaves_no_draft(store: LocalStore, media: Path) -> None:
    put(store)
    with pytest.raises(ObjectExists):
        put(store, content=b"second")
    assert drafts(media) == []
    assert read(store) == CONTENT


def killed_at(call: str, media: Path) -> None:
    """Put in a process of its own that is killed as it comes to this call for the file."""
    program = (
        "import os, pathlib, signal, stat, sys\n"
        "from storage.local import LocalStore\n"
        f"real = os.{call}\n"
        "def die(first, *rest, **more):\n"
        "    if isinstance(first, int) and stat.S_ISDIR(os.fstat(first).st_mode):\n"
        "        return real(first)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"os.{call} = die\n"
        "store = LocalStore(pathlib.Path(sys.argv[1]), None)\n"
        f"store.put({KEY!r}, b'picture' * 1000, 'image/jpeg', '')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(media)],
        cwd=media.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_put_that_dies_before_its_link_leaves_no_object(
    store: LocalStore, media: Path, call: str
) -> None:
    put(store, "profile_pics/earlier.jpg")
    killed_at(call, media)
    assert len(drafts(media)) == 1
    assert not store.exists(KEY)
    assert [found.key for found in store.find("")] == ["profile_pics/earlier.jpg"]
    put(store)
    assert read(store) == CONTENT


def test_a_put_that_dies_after_its_link_leaves_a_whole_object(
    store: LocalStore, media: Path
) -> None:
    put(store, "profile_pics/earlier.jpg")
    killed_at("unlink", media)
    assert read(store) == CONTENT
    assert len(drafts(media)) == 1
    store.remove_leftovers(-1)
    assert drafts(media) == []
    assert read(store) == CONTENT


def test_leftovers_are_removed_only_past_their_age(store: LocalStore, media: Path) -> None:
    put(store, "profile_pics/earlier.jpg")
    killed_at("link", media)
    [left] = drafts(media)
    store.remove_leftovers(3600)
    assert left.exists()  # it may belong to a put that goes on
    two_hours_ago = time.time() - 7200
    os.utime(left, (two_hours_ago, two_hours_ago))
    store.remove_leftovers(3 * 3600)
    assert left.exists()
    store.remove_leftovers(3600)
    assert drafts(media) == []
    assert [found.key for found in store.find("")] == ["profile_pics/earlier.jpg"]


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    "name", ["ENOSPC", "EDQUOT", "EACCES", "EROFS", "EIO", "EMFILE", "ENOENT", "ENOTDIR"]
)
@pytest.mark.parametrize("call", ["mkdir", "fsync", "link"])
def test_a_disk_that_fails_a_put_is_a_store_that_is_unavailable(
    store: LocalStore, media: Path, monkeypatch: pytest.MonkeyPatch, call: str, name: str
) -> None:
    if call != "mkdir":
        put(store, "profile_pics/earlier.jpg")
    with monkeypatch.context() as patched:
        patched.setattr(os, call, failing(getattr(errno, name)))
        with pytest.raises(StoreError) as caught:
            put(store)
    assert caught.type is StoreUnavailable
    assert not store.exists(KEY)
    assert not media.exists() or drafts(media) == []


def test_a_write_that_the_kernel_cuts_off_leaves_nothing(store: LocalStore, media: Path) -> None:
    put(store, "profile_pics/earlier.jpg")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, hard))
    try:
        with pytest.raises(StoreUnavailable):
            put(store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not store.exists(KEY)
    assert drafts(media) == []


def test_a_folder_whose_sync_fails_fails_the_put(
    store: LocalStore, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "profile_pics/earlier.jpg")
    fsync = os.fsync

    def fail_for_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "broken")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_for_folders)
    with pytest.raises(StoreUnavailable):
        put(store)
    with pytest.raises(StoreUnavailable):
        store.delete("profile_pics/earlier.jpg")


@pytest.mark.parametrize("name", ["EACCES", "EIO", "EROFS"])
def test_a_disk_that_fails_the_other_verbs_is_a_store_that_is_unavailable(
    store: LocalStore, media: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    put(store)
    (media / DRAFTS / "left").write_bytes(b"left")
    fail = failing(getattr(errno, name))
    verbs: list[tuple[object, str, Callable[[], object]]] = [
        (os, "open", lambda: store.open(KEY)),
        (os, "unlink", lambda: store.delete(KEY)),
        (os, "scandir", lambda: list(store.find(""))),
        (os, "unlink", lambda: store.remove_leftovers(-1)),
    ]
    for module, call, verb in verbs:
        with monkeypatch.context() as patched:
            patched.setattr(module, call, fail, raising=False)
            with pytest.raises(StoreUnavailable):
                verb()
    assert read(store) == CONTENT


@dataclass(frozen=True)
class Served:
    """A picture of the shared service and what is stored of it."""

    service: Service
    path: str
    content: bytes

    @property
    def filename(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def etag(self) -> str:
        return f'"{self.filename}"'

    def get(self, method: str = "GET", path: str | None = None, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with self.service.client() as client:
            return client.request(method, path or self.path, headers=named)


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest) -> Served:
    if request.config.getoption("--store") == "s3":
        pytest.skip("/media serves the pictures of the local store: run with --store local")
    service: Service = request.getfixturevalue("shared_service")
    answer = service.patch_picture(service.register(f"served-{uuid.uuid4().hex[:12]}"), jpeg())
    assert answer.status_code == 200, answer.text
    media = Path(service.settings["DATA_DIR"]) / "media"
    content = (media / "profile_pics" / answer.json()["image_file"]).read_bytes()
    return Served(service, answer.json()["image_path"], content)


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    )
    body = answer.json()
    assert (body["status"], body["code"], body["type"]) == (
        status,
        code,
        f"urn:darkroom:error:{code}",
    )
    assert body["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "immutable" not in answer.headers.get("cache-control", "")


def assert_cacheable(answer: httpx.Response, served: Served) -> None:
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["etag"] == served.etag
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_picture_is_served_typed_whole_and_for_ever(served: Served) -> None:
    assert served.path == f"/media/profile_pics/{served.filename}"
    answer = served.get()
    assert (answer.status_code, answer.content) == (200, served.content)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["content-length"] == str(len(served.content))
    assert answer.headers["accept-ranges"] == "bytes"
    assert "content-range" not in answer.headers
    assert_cacheable(answer, served)


def test_head_says_what_get_would_without_a_byte(served: Served) -> None:
    got = served.get()
    asked = served.get("HEAD")
    assert (asked.status_code, asked.content) == (200, b"")
    differing = {"date", "x-request-id"}
    assert {k: v for k, v in asked.headers.items() if k not in differing} == {
        k: v for k, v in got.headers.items() if k not in differing
    }


def test_head_knows_no_ranges(served: Served) -> None:
    # RFC 9110, 14.2: a server must ignore Range for a
    # method that does not define it, and only GET does.
    answer = served.get("HEAD", Range="bytes=0-9")
    assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(served.content)))
    assert "content-range" not in answer.headers


@pytest.mark.parametrize(
    "condition", ["{etag}", "W/{etag}", '"another", {etag}', '"another",W/{etag} , "third"', "*"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_the_browser_has_is_not_sent_again(
    served: Served, method: str, condition: str
) -> None:
    answer = served.get(method, If_None_Match=condition.format(etag=served.etag))
    assert (answer.status_code, answer.content) == (304, b"")
    assert_cacheable(answer, served)


@pytest.mark.parametrize("condition", ['"another"', 'W/"another"', "", "garbage"])
def test_what_the_browser_has_not_is_sent(served: Served, condition: str) -> None:
    answer = served.get(If_None_Match=condition)
    assert (answer.status_code, answer.content) == (200, served.content)


def test_the_browsers_copy_counts_before_a_range(served: Served) -> None:
    assert served.get(If_None_Match=served.etag, Range="bytes=0-9").status_code == 304
    assert served.get(If_None_Match='"another"', Range="bytes=0-9").status_code == 206


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=100-199", 100, 200),
        ("bytes=100-", 100, None),
        ("bytes=0-", 0, None),
        ("bytes=-1", -1, None),
        ("bytes=-100", -100, None),
        ("bytes=-999999999", 0, None),
        ("bytes=100-999999999", 100, None),
    ],
)
def test_a_range_is_sent_as_asked(served: Served, asked: str, start: int, end: int | None) -> None:
    size = len(served.content)
    first, last = slice(start, end).indices(size)[:2]
    answer = served.get(Range=asked)
    assert (answer.status_code, answer.content) == (206, served.content[first:last])
    assert answer.headers["content-range"] == f"bytes {first}-{last - 1}/{size}"
    assert answer.headers["content-length"] == str(last - first)
    assert answer.headers["content-type"] == "image/jpeg"
    assert_cacheable(answer, served)


def test_the_last_byte_is_there_and_the_one_behind_it_is_not(served: Served) -> None:
    size = len(served.content)
    assert served.get(Range=f"bytes={size - 1}-").content == served.content[-1:]
    for asked in [
        f"bytes={size}-",
        f"bytes={size}-{size + 5}",
        "bytes=999999999999999999-",
        "bytes=-0",
    ]:
        answer = served.get(Range=asked)
        assert answer.headers["content-range"] == f"bytes */{size}"
        assert_problem(answer, 416, answer.json()["code"])
        assert answer.json()["code"].endswith("range_not_satisfiable")


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=0x1-2",
        "bytes=1.5-2",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=0-9 10",
        "lines=0-9",
        "0-9",
        "bytes:0-9",
        "bytes=0-99999999999999999999999999999999",
        "bytes=0-0,5-9",
        "bytes=0-,0-,0-",
    ],
)
def test_a_range_that_is_garbage_or_more_than_one_is_ignored(served: Served, asked: str) -> None:
    answer = served.get(Range=asked)
    assert (answer.status_code, answer.content) == (200, served.content)
    assert "content-range" not in answer.headers


def test_a_range_holds_only_for_the_picture_it_was_begun_with(served: Served) -> None:
    assert served.get(Range="bytes=0-9", If_Range=served.etag).content == served.content[:10]
    for other in ['"another"', f"W/{served.etag}", "Wed, 21 Oct 2015 07:28:00 GMT", "garbage"]:
        answer = served.get(Range="bytes=0-9", If_Range=other)
        assert (answer.status_code, answer.content) == (200, served.content)
    # Without a match the range does not count, so it cannot be wrong either.
    assert served.get(Range="bytes=999999999-", If_Range='"another"').status_code == 200


def test_a_picture_that_is_not_there_is_a_problem(served: Served) -> None:
    assert_problem(served.get(path="/media/profile_pics/nobody.jpg"), 404, "object_not_found")
    assert served.get("HEAD", path="/media/profile_pics/nobody.jpg").status_code == 404
    # Nothing to compare with, and nothing to cut a range from.
    assert_problem(
        served.get(path="/media/profile_pics/nobody.jpg", If_None_Match="*"),
        404,
        "object_not_found",
    )
    assert_problem(
        served.get(path="/media/profile_pics/nobody.jpg", Range="bytes=0-"), 404, "object_not_found"
    )


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_picture_is_only_read_here(served: Served, method: str) -> None:
    answer = served.get(method)
    assert_problem(answer, 405, "method_not_allowed")
    assert {name.strip() for name in answer.headers["allow"].split(",")} == {"GET", "HEAD"}
    assert served.get().content == served.content


def raw_get(service: Service, target: str) -> tuple[int, str, bytes]:
    """Ask for exactly these characters, which no client library would send."""
    connection = http.client.HTTPConnection(service.host, service.port, timeout=30)
    try:
        connection.putrequest("GET", target)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.headers["content-type"] or "", answer.read()
    finally:
        connection.close()


def test_a_key_ends_where_the_address_does(served: Served) -> None:
    assert raw_get(served.service, served.path)[0] == 200
    for more in ("%0a", "%0d%0a", "%00", "%20"):
        status, content_type, _ = raw_get(served.service, served.path + more)
        assert (status, content_type) == (404, "application/problem+json"), more


@pytest.fixture(scope="module")
def bait(served: Served) -> Iterator[bytes]:
    """Files that nobody may read, where each attempt of the next test would find one."""
    data = Path(served.service.settings["DATA_DIR"])
    word = b"nobody may read this"
    places = [
        data / "media" / DRAFTS / "bait",
        data / "media" / "profile_pics" / ".bait",
        data / "media" / "bait",
        data / "bait",
    ]
    for place in places:
        place.write_bytes(word)
    yield word
    for place in places:
        place.unlink()


@pytest.mark.parametrize(
    "target",
    [
        "/media/../secret_key",
        "/media/../bait",
        "/media/profile_pics/../../secret_key",
        "/media/profile_pics/../../bait",
        "/media/%2e%2e/secret_key",
        "/media/%2e%2e%2fsecret_key",
        "/media/..%2fsecret_key",
        "/media/profile_pics%2f..%2f..%2fsecret_key",
        "/media/..%5csecret_key",
        "/media/%252e%252e/secret_key",
        "/media/....//secret_key",
        "/media//etc/passwd",
        "/media/%2fetc/passwd",
        "/media/./bait",
        "/media/bait",
        "/media/bait%00.jpg",
        "/media/profile_pics/%00",
        "/media/profile_pics/.bait",
        "/media/profile_pics//.bait",
        "/media/.drafts/bait",
        "/media/.drafts",
        "/media/%2edrafts/bait",
        "/media/profile_pics/../.drafts/bait",
        "/media/profile_pics",
        "/media/profile_pics/",
        "/media/",
        "/media/profile_pics/%ff.jpg",
        "/media/profile_pics/%0a",
        f"/media/profile_pics/{'a' * 5000}.jpg",
        f"/media/{'a/' * 5000}a.jpg",
        "/secret_key",
        "//secret_key",
        "/../secret_key",
    ],
)
def test_nothing_but_a_picture_can_be_reached(served: Served, bait: bytes, target: str) -> None:
    secret = (Path(served.service.settings["DATA_DIR"]) / "secret_key").read_bytes()
    status, content_type, body = raw_get(served.service, target)
    assert (status, content_type) == (404, "application/problem+json")
    assert json.loads(body)["code"] in ("object_not_found", "not_found")
    assert secret not in body and bait not in body and b"root:" not in body


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside the store, which somebody linked into it."""
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "secret.jpg"
    path.write_text("the signing key")
    return path


def test_a_linked_file_is_no_object(store: LocalStore, media: Path, secret: Path) -> None:
    put(store, "profile_pics/earlier.jpg")
    (media / KEY).symlink_to(secret)
    with pytest.raises(ObjectNotFound):
        store.open(KEY)
    assert not store.exists(KEY)
    assert [found.key for found in store.find("")] == ["profile_pics/earlier.jpg"]
    with pytest.raises(ObjectExists):
        put(store)
    store.delete(KEY)
    assert not (media / KEY).is_symlink() and secret.exists()


@pytest.mark.parametrize("key", ["profile_pics/secret.jpg", "profile_pics/deep/secret.jpg"])
def test_a_linked_folder_is_never_entered(
    store: LocalStore, media: Path, secret: Path, key: str
) -> None:
    linked = (media / key).parent
    linked.parent.mkdir(exist_ok=True)
    linked.symlink_to(secret.parent)
    with pytest.raises(StoreUnavailable):
        store.open(key)
    with pytest.raises(StoreUnavailable):
        store.delete(key)
    with pytest.raises(StoreUnavailable):
        put(store, str(Path(key).with_name("new.jpg")))
    assert list(store.find("")) == []
    assert [each.name for each in secret.parent.iterdir()] == [secret.name]


def test_a_linked_folder_of_drafts_is_never_entered(
    store: LocalStore, media: Path, secret: Path
) -> None:
    (media / DRAFTS).rmdir()
    (media / DRAFTS).symlink_to(secret.parent)
    with pytest.raises(StoreUnavailable):
        put(store)
    with pytest.raises(StoreUnavailable):
        store.remove_leftovers(-1)
    assert secret.exists()


def test_what_is_no_regular_file_is_no_object(store: LocalStore, media: Path) -> None:
    (media / KEY).parent.mkdir(parents=True)
    os.mkfifo(media / KEY)
    with pytest.raises(ObjectNotFound):
        store.open(KEY)
    assert not store.exists(KEY) and list(store.find("")) == []


def test_the_folder_of_all_may_be_a_link(tmp_path: Path) -> None:
    """As operators move it to another disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "media").symlink_to(tmp_path / "disk")
    linked = LocalStore(tmp_path / "media", LinkSigner(str))
    put(linked)
    assert read(linked) == CONTENT


@pytest.mark.parametrize("name", [DRAFTS, "profile_pics"])
def test_a_link_in_the_folder_of_all_is_refused_at_start(
    media: Path, secret: Path, name: str
) -> None:
    media.mkdir(parents=True)
    before = sorted(os.listdir(secret.parent))
    (media / name).symlink_to(secret.parent)
    with pytest.raises(StartupError, match=f"{name} is a link"):
        prove_volume(media)
    assert sorted(os.listdir(secret.parent)) == before


def test_a_volume_that_can_do_what_a_put_rests_on_is_proved_and_nothing_is_left(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media.mkdir(parents=True)
    prove_volume(media)
    assert [path for path in media.rglob("*") if path.is_file()] == []

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    for call in ("link", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse)
            with pytest.raises(StartupError, match="cannot keep pictures safe: Operation not"):
                prove_volume(media)
        assert [path for path in media.rglob("*") if path.is_file()] == []


def test_a_link_in_the_place_of_a_draft_is_not_followed(
    store: LocalStore, media: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swap(point: str) -> None:
        if point == "during_put":
            (draft,) = (media / DRAFTS).iterdir()
            draft.unlink()
            draft.symlink_to(secret)

    monkeypatch.setattr(faults, "reached", swap)
    put(store)
    assert (media / KEY).is_symlink(), "and so no object"
    with pytest.raises(ObjectNotFound):
        store.open(KEY)


def test_a_socket_is_no_object(store: LocalStore, media: Path) -> None:
    put(store, "profile_pics/earlier.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(media / KEY))
        with pytest.raises(ObjectNotFound):
            store.open(KEY)
