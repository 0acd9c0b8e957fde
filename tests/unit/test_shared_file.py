"""Proves that a decoder sees its file in shared memory, and nothing of the one before."""

import io
import mmap
import os
import sys

import pytest

from pictures.parsers import FileView
from pictures.shared_file import (
    SHARED_BYTES,
    SharedFile,
    fits_shared_file,
    make_shared_file,
    map_shared_file,
)


def test_a_file_is_seen_by_whoever_mapped_the_memory_before() -> None:
    shared = SharedFile()
    view = map_shared_file(shared.open_for_reading())
    shared.fill(b"a picture")
    assert bytes(view[:9]) == b"a picture"
    shared.close()
    assert bytes(view[:9]) == b"a picture", "the mapping outlives the service's side"


def test_nothing_is_left_of_a_longer_file() -> None:
    shared = SharedFile()
    view = map_shared_file(shared.open_for_reading())
    for content in (b"x" * 100_000, b"a picture", b"y" * 50_000, b""):
        shared.fill(content)
        assert bytes(view[: len(content)]) == content
        assert bytes(view[len(content) :]).count(0) == SHARED_BYTES - len(content)
    shared.close()


def test_nothing_is_left_of_a_file_that_broke_off(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = SharedFile()
    view = map_shared_file(shared.open_for_reading())
    real = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda fd, content, at: real(fd, content[:60_000], at))
        with pytest.raises(OSError, match="no memory"):
            shared.fill(b"x" * 100_000)
    shared.fill(b"a picture")
    assert bytes(view).rstrip(b"\0") == b"a picture"
    shared.close()


def test_a_decoder_can_neither_write_nor_change_the_size() -> None:
    shared = SharedFile()
    descriptor = shared.open_for_reading()
    for attempt in (
        lambda: os.write(descriptor, b"x"),
        lambda: os.ftruncate(descriptor, 0),
        lambda: mmap.mmap(descriptor, SHARED_BYTES),
    ):
        with pytest.raises(OSError):
            attempt()
    assert map_shared_file(descriptor).readonly
    shared.close()


def test_where_a_system_has_no_such_memory_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert make_shared_file() is None
    assert fits_shared_file(SHARED_BYTES)
    assert not fits_shared_file(SHARED_BYTES + 1)


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
    assert view.readable()
    assert view.seekable()
