"""Proves that memory for uploads is reserved in order, for a bounded time, and given back."""

import contextlib
import http.client
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from config import MIB
from tests.support.pictures import corners, jpeg
from tests.support.services import ROOT, Account, Bucket, Service

PATIENCE_SECONDS = 30.0
# Nothing can be written: neither below /tmp nor in a shared memory file.
SANDBOX = (
    *("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--remount-ro", "/dev", "--proc", "/proc"),
    *("--unshare-pid", "--die-with-parent"),
)


@contextlib.contextmanager
def stalled_upload(
    service: Service, account: Account, sent_bytes: int, *, is_announced: bool = True
) -> Iterator[None]:
    """An upload of the largest size that sends so much, and no more until the context ends."""
    connection = http.client.HTTPConnection(service.host, service.port)
    connection.putrequest("PATCH", f"/users/{account.id}/picture")
    connection.putheader("Authorization", account.headers["Authorization"])
    connection.putheader("Content-Type", "multipart/form-data; boundary=b")
    begin = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
    begin += bytes(sent_bytes)
    if is_announced:
        connection.putheader("Content-Length", str(5 * MIB))
    else:
        connection.putheader("Transfer-Encoding", "chunked")
        begin = f"{len(begin):x}\r\n".encode() + begin + b"\r\n"
    connection.endheaders(begin)
    try:
        yield
    finally:
        connection.close()


def padded(size_bytes: int) -> bytes:
    """A good JPEG of exactly this many bytes: what follows its end is not looked at."""
    content = jpeg()
    return content + bytes(size_bytes - len(content))


def in_chunks(service: Service, account: Account, content: bytes) -> httpx.Response:
    """Send the picture without announcing a length."""
    form = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
        + content
        + b"\r\n--b--\r\n"
    )
    with service.client(account) as client:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        return client.patch(f"/users/{account.id}/picture", content=iter([form]), headers=headers)


@pytest.fixture(scope="module")
def narrow_settings() -> dict[str, str]:
    """Room for one upload of the largest size and a little more; nobody waits long.

    Stalling is no crime here.
    """
    return {
        "UPLOAD_BUDGET_BYTES": str(6 * MIB),
        "UPLOAD_WAIT_SECONDS": "0.5",
        "UPLOAD_STALL_SECONDS": "60",
    }


def test_a_stalled_upload_holds_only_its_own_memory_and_frees_it_when_it_goes_away(
    start_service: Callable[..., Service], narrow_settings: dict[str, str]
) -> None:
    service = start_service(**narrow_settings)
    alice = service.register("alice")
    bob = service.register("bob")
    assert service.patch_picture(bob, padded(5 * MIB)).status_code == 200
    shown = service.patch_picture(bob, jpeg()).json()["image_file"]
    for is_announced in (True, False):
        with stalled_upload(service, alice, 100, is_announced=is_announced):
            assert service.patch_picture(bob, padded(MIB // 2)).status_code == 200, (
                "what is announced costs nothing"
            )
        with stalled_upload(service, alice, 2 * MIB, is_announced=is_announced):
            answer = first_refusal(lambda: service.patch_picture(bob, padded(5 * MIB)))
            assert answer.json()["code"] == "busy" and int(answer.headers["retry-after"]) >= 1
            assert in_chunks(service, bob, padded(5 * MIB)).json()["code"] == "busy"
            with service.client(bob) as client:
                assert client.get("/users/me").status_code == 200
            assert service.patch_picture(bob, jpeg()).status_code == 200, "what still fits is taken"
        assert service.patch_picture(bob, padded(5 * MIB)).status_code == 200, (
            "its memory is free again"
        )
        assert in_chunks(service, bob, jpeg()).status_code == 200
    with service.client(bob) as client:
        assert client.get("/users/me").json()["image_file"] not in (None, shown)
    assert len(service.objects()) == 1
    assert "Traceback" not in service.log()


def first_refusal(send: Callable[[], httpx.Response]) -> httpx.Response:
    """The first answer that is not 200.

    The stalled upload counts from when the service has read its head.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (answer := send()).status_code == 200:
        assert time.monotonic() < deadline, "the stalled upload holds no memory"
    assert answer.status_code == 503, answer.text
    return answer


def test_an_upload_that_announces_too_much_is_refused_though_the_budget_is_in_use(
    shared_service: Service, account: Account
) -> None:
    with shared_service.client(account) as client:
        answer = client.patch(
            f"/users/{account.id}/picture", files={"file": ("a.jpg", bytes(6 * MIB))}
        )
    assert (answer.status_code, answer.json()["code"]) == (413, "file_too_large")


def can_sandbox() -> bool:
    return (
        shutil.which("bwrap") is not None
        and subprocess.run([*SANDBOX, "true"], capture_output=True).returncode == 0
    )


@pytest.mark.skipif(
    not can_sandbox(), reason="bwrap is not installed, or may not make namespaces here"
)
def test_a_large_upload_works_where_nothing_can_be_written(
    new_database: Callable[[], str], moto: str, tmp_path: Path
) -> None:
    written = subprocess.run(
        [*SANDBOX, "touch", str(tmp_path / "x"), "/dev/shm/x"], capture_output=True
    )
    assert written.returncode != 0 and not (tmp_path / "x").exists(), (
        "the sandbox lets something be written"
    )
    settings = {
        "DATABASE_URL": new_database(),
        "DATA_DIR": str(tmp_path),
        "SECRET_KEY": os.urandom(32).hex(),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": "/nonexistent",
        **Bucket.make(moto).settings(),
    }
    service = Service(settings)
    service.command = [
        *(*SANDBOX, sys.executable, "-m", "uvicorn", "main:app", "--app-dir", str(ROOT)),
        *("--host", service.host, "--port", str(service.port)),
    ]
    service.start()
    try:
        alice = service.register()
        answer = service.patch_picture(alice, padded(5 * MIB))
        assert answer.status_code == 200, answer.text
        (served,) = service.objects().values()
        assert corners(served) == ["red", "green", "blue", "white"]
        assert in_chunks(service, alice, padded(5 * MIB)).status_code == 200
        assert len(service.objects()) == 1
    finally:
        service.stop()
    assert [path.name for path in tmp_path.iterdir()] == ["service.log"]
