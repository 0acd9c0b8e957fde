"""A large photo is streamed where nothing can be written: no disk, no temporary folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from benchmarks.memory import measure_memory
from config import MIB
from files.streams import STREAM_BYTES
from tests.support.hashes import hash_file
from tests.support.pictures import jpeg
from tests.support.postgres import PostgresProxy
from tests.support.services import ROOT, Bucket, Service

# docs/acceptance.md has the long run of 300; what this shows does not depend on it.
SIZE_BYTES = int(os.environ.get("READ_ONLY_TEST_MIB", "40")) * MIB
# The whole file system is read-only, and there is nothing where temporary files would go.
LIBRARIES = str(Path(sys.prefix).resolve())
SANDBOX = (
    *("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--remount-ro", "/dev", "--proc", "/proc"),
    *("--tmpfs", "/tmp", "--tmpfs", "/var/tmp"),
    # Should the checkout or its libraries lie there.
    *("--ro-bind", str(ROOT), str(ROOT), "--ro-bind", LIBRARIES, LIBRARIES),
    *("--remount-ro", "/tmp", "--remount-ro", "/var/tmp", "--unshare-pid", "--die-with-parent"),
)
PLACES = ("/tmp/x", "/var/tmp/x", "/dev/shm/x", "/x")
# Beside what a stream may hold: the decoder, and the libraries that the first photo loads.
OVERHEAD_BYTES = 60 * MIB
SAMPLE_SECONDS = 0.05


def can_sandbox() -> bool:
    return (
        shutil.which("bwrap") is not None
        and subprocess.run([*SANDBOX, "true"], capture_output=True).returncode == 0
    )


def send_padded(size_bytes: int) -> Iterator[bytes]:
    """A JPEG and zeros behind it, as many bytes as asked for."""
    content = jpeg()
    yield content
    left_bytes = size_bytes - len(content)
    while left_bytes > 0:
        piece = bytes(min(left_bytes, MIB))
        yield piece
        left_bytes -= len(piece)


@pytest.mark.skipif(
    not can_sandbox(), reason="bwrap is not installed, or may not make namespaces here"
)
def test_a_large_photo_is_streamed_where_nothing_can_be_written(
    new_database: Callable[[], str], moto: str, tmp_path: Path
) -> None:
    for place in PLACES:
        written = subprocess.run([*SANDBOX, "touch", place], capture_output=True)
        assert written.returncode != 0, f"the sandbox lets {place} be written"
    bucket = Bucket.make(moto)
    # The database's own socket is a file in /tmp.
    database = PostgresProxy(new_database())
    settings = {
        "DATABASE_URL": database.url,
        "DATA_DIR": str(tmp_path),  # of the test's own: the log, which is opened outside
        "SECRET_KEY": os.urandom(32).hex(),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MAX_PHOTO_SIZE_BYTES": str(SIZE_BYTES),
        **bucket.settings(),
    }
    service = Service(settings)
    service.command = [
        *(*SANDBOX, "--chdir", "/", "env", "--unset=DATA_DIR"),
        *(sys.executable, "-m", "uvicorn", "main:app", "--app-dir", str(ROOT)),
        *("--host", service.host, "--port", str(service.port)),
    ]
    is_over = Event()
    samples: list[int] = []

    def watch(pid: int) -> None:
        while not is_over.wait(SAMPLE_SECONDS):
            samples.append(measure_memory(pid).rss_bytes)

    try:
        service.start()
        assert service.process is not None
        watcher = Thread(target=watch, args=(service.process.pid,))
        alice = service.register()
        idle_bytes = measure_memory(service.process.pid).rss_bytes
        watcher.start()
        with service.client(alice) as client:
            answer = client.post(
                "/photos",
                content=send_padded(SIZE_BYTES),
                headers={"Content-Type": "image/jpeg", "Content-Length": str(SIZE_BYTES)},
                timeout=600,
            )
        is_over.set()
        watcher.join()
        assert answer.status_code == 201, answer.text
        assert answer.json()["size_bytes"] == SIZE_BYTES
        (row,) = service.sql(
            "SELECT key, size_bytes, sha256 FROM stored_files WHERE purpose = $1", "photo_original"
        )
        stored = bucket.client().get_object(Bucket=bucket.name, Key=row["key"])
        content = stored["Body"].read()
        assert (len(content), hash_file(content)) == (SIZE_BYTES, row["sha256"])
    finally:
        is_over.set()
        if service.process is not None:
            service.stop()
        database.close()
    assert max(samples) - idle_bytes < STREAM_BYTES + OVERHEAD_BYTES
    assert [path.name for path in tmp_path.iterdir()] == ["service.log"]
