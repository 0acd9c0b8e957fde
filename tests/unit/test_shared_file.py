"""Proves that a decoder sees its file in shared memory, and nothing of the one before."""

import io
import mmap
import os

import pytest

from image_utils import process_profile_image
from pictures.file_view import FileView
from pictures.shared_file import (
    KEPT_BYTES,
    SHARED_BYTES,
    SharedFile,
    make_shared_file,
    map_shared_file,
)
from tests.support.pictures import jpeg


def test_a_file_is_seen_by_whoever_mapped_the_memory_before() -> None:
    shared = SharedFile()
    view = map_shared_file(os.dup(shared.descriptor))
    assert shared.fill(b"a picture")
    assert bytes(view[:9]) == b"a picture"
    shared.close()
    assert bytes(view[:9]) == b"a picture", "the mapping outlives the service's side"


def test_nothing_is_left_of_an_earlier_file() -> None:
    shared = SharedFile()
    view = map_shared_file(os.dup(shared.descriptor))
    longest = KEPT_BYTES + 70_000
    for length in (100_000, 9, 70_000, 0, 5, longest, 1):
        content = os.urandom(length)
        assert shared.fill(content)
        assert bytes(view[:longest]) == content + bytes(longest - length)
    shared.close()


def held_bytes(shared: SharedFile) -> int:
    """What the system holds of memory for it."""
    return 512 * os.fstat(shared.descriptor).st_blocks


def test_what_a_long_file_took_is_given_back_and_the_mapping_stays() -> None:
    shared = SharedFile()
    view = map_shared_file(os.dup(shared.descriptor))
    content = os.urandom(KEPT_BYTES + 100_000)
    assert shared.fill(content)
    shared.give_back()
    assert held_bytes(shared) <= KEPT_BYTES
    assert bytes(view[:KEPT_BYTES]) == content[:KEPT_BYTES]
    assert bytes(view[KEPT_BYTES : len(content)]) == bytes(100_000), "reading brings pages back"
    assert held_bytes(shared) > KEPT_BYTES
    assert shared.fill(b"another")
    assert bytes(view[: len(content)]).rstrip(b"\0") == b"another"
    shared.give_back()
    assert held_bytes(shared) <= KEPT_BYTES
    long = os.urandom(KEPT_BYTES + 5)
    assert shared.fill(long)
    assert bytes(view[: len(long) + 1]) == long + b"\0"
    shared.close()


def test_a_file_that_is_too_long_is_not_there_and_neither_is_the_one_before() -> None:
    shared = SharedFile()
    view = map_shared_file(os.dup(shared.descriptor))
    assert shared.fill(b"a picture")
    assert not shared.fill(bytes(SHARED_BYTES) + b"x")
    assert bytes(view[:9]) == bytes(9)
    assert shared.fill(bytes(SHARED_BYTES))
    shared.close()


@pytest.mark.parametrize("written_bytes", [0, 60_000])
def test_without_memory_a_file_is_not_there_and_nothing_of_it_later(
    written_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = SharedFile()
    view = map_shared_file(os.dup(shared.descriptor))
    write = os.pwrite

    def write_a_part(descriptor: int, content: bytes, position: int) -> int:
        if not written_bytes:
            raise OSError("no space is left")
        return write(descriptor, content[:written_bytes], position)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", write_a_part)
        assert not shared.fill(b"x" * 100_000)
    assert shared.fill(b"a picture")
    assert bytes(view[:100_000]).rstrip(b"\0") == b"a picture"
    shared.close()


def test_a_decoder_can_neither_write_nor_change_the_size() -> None:
    shared = SharedFile()
    for attempt in (
        lambda: os.write(shared.descriptor, b"x"),
        lambda: os.ftruncate(shared.descriptor, 0),
        lambda: mmap.mmap(shared.descriptor, SHARED_BYTES),
    ):
        with pytest.raises(OSError):
            attempt()
    assert map_shared_file(os.dup(shared.descriptor)).readonly
    shared.close()


@pytest.mark.parametrize("missing", ["os.memfd_create", "os.ftruncate", "os.open"])
def test_where_a_system_has_no_such_memory_there_is_none(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(os.listdir("/proc/self/fd"))

    def refuse(*_: object, **__: object) -> None:
        raise OSError("not here")

    monkeypatch.setattr(missing, refuse)
    assert make_shared_file() is None
    assert set(os.listdir("/proc/self/fd")) == before
    monkeypatch.delattr(os, "memfd_create")
    assert make_shared_file() is None


def test_a_view_is_read_as_a_file_is() -> None:
    content = bytes(range(256)) * 4
    view = FileView(memoryview(content))
    file = io.BytesIO(content)
    for size in (10, 0, 500, -1, 7, None):
        assert view.read(size) == file.read(size)
    for offset, whence in ((5, io.SEEK_SET), (3, io.SEEK_CUR), (-4, io.SEEK_END), (2000, 0)):
        assert view.seek(offset, whence) == file.seek(offset, whence)
        assert view.tell() == file.tell()
        assert view.read(3) == file.read(3)
    with pytest.raises(ValueError, match="before the beginning"):
        view.seek(-1)
    buffered = io.BufferedReader(FileView(memoryview(content)))
    assert buffered.read(10) + buffered.read() == content
    assert view.readable()
    assert view.seekable()


def test_what_stands_between_the_segments_of_a_jpeg_is_not_read_byte_by_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = jpeg(64, 48)
    content = memoryview(plain[:2] + (b"\xff\xfe\0\2" + bytes(60_000)) * 5 + plain[2:])
    reads = 0
    read = FileView.readinto

    def count(self: FileView, buffer: bytearray) -> int:
        nonlocal reads
        reads += 1
        return read(self, buffer)

    monkeypatch.setattr(FileView, "readinto", count)
    assert process_profile_image(content).content == process_profile_image(plain).content
    assert 0 < reads < 200
