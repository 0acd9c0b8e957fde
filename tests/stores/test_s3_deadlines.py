"""A call to S3 ends in its thread at its deadline, however slowly bytes come and go meanwhile."""

import asyncio
import contextlib
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest
from pydantic import SecretStr

from concurrency import ThreadSlots
from errors import StoreUnavailable
from locations import StoreSettings
from storage import AsyncStore, Store, s3_client, s3_deadlines
from storage.async_store import STORE_DEADLINE_SECONDS
from storage.contract import PART_BYTES, STORE_THREADS
from storage.s3 import S3Store
from tests.support.certificates import make_authority, make_certificate
from tests.support.s3_messages import HEADERS, render

KEY = "originals/x.jpg"
# More than one call to a server that answers at once takes on a busy machine, and less than a
# server dribbles that nobody leaves.
CALL_SECONDS = 0.6
PAUSE_SECONDS = 0.1
DRIBBLED_BYTES = 200
SLOW_READ_BYTES = 1024
STORED = render(200, list(HEADERS.items()), b"")
OBJECT = render(200, list(HEADERS.items()), b"x" * DRIBBLED_BYTES)


@dataclass
class Dribbler:
    """A server that takes a request or gives an answer bit by bit, until its client has gone."""

    answer: bytes = STORED
    at_once: int = 0  # bytes of the answer that come at once
    reads_slowly: bool = False
    tls: ssl.SSLContext | None = None
    left: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._listener.close()

    @property
    def url(self) -> str:
        scheme = "https" if self.tls else "http"
        return f"{scheme}://localhost:{self._listener.getsockname()[1]}"

    def has_been_left(self, calls: int = 1) -> bool:
        """Whether so many clients have gone before they had everything."""
        return all(self.left.acquire(timeout=10) for _ in range(calls))

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with self._wrap(client) as connection:
                self._talk(connection)
        except OSError:
            self.left.release()

    def _wrap(self, client: socket.socket) -> socket.socket:
        return self.tls.wrap_socket(client, server_side=True) if self.tls else client

    def _talk(self, connection: socket.socket) -> None:
        while self.reads_slowly:
            if not connection.recv(SLOW_READ_BYTES):
                raise ConnectionResetError
            self.ended.wait(PAUSE_SECONDS)
        request = b""
        while b"\r\n\r\n" not in request:
            received = connection.recv(65536)
            if not received:  # it gave up before it had asked
                raise ConnectionResetError
            request += received
        connection.sendall(self.answer[: self.at_once])
        for number in range(self.at_once, len(self.answer)):
            connection.sendall(self.answer[number : number + 1])
            if self.ended.wait(PAUSE_SECONDS):
                return


@pytest.fixture(autouse=True)
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_deadlines, "CALL_SECONDS", CALL_SECONDS)


def make_store(url: str) -> S3Store:
    keys = {"access_key_id": SecretStr("key"), "secret_access_key": SecretStr("secret")}
    return S3Store(StoreSettings(storage="s3", bucket_name="pictures", endpoint_url=url, **keys))


def put(store: Store, content: bytes = b"") -> None:
    store.put(KEY, content, "image/jpeg", hashlib.sha256(content).hexdigest())


VERBS: dict[str, Callable[[Store], object]] = {
    "put": put,
    "open": lambda store: store.open(KEY),
    "delete_many": lambda store: store.delete_many([KEY]),
    "find": lambda store: list(store.find("originals/")),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_head_that_dribbles_ends_the_call(verb: str) -> None:
    with Dribbler() as server:
        with pytest.raises(StoreUnavailable):
            VERBS[verb](make_store(server.url))
        assert server.has_been_left()


@pytest.mark.parametrize("verb", ["delete_many", "find"])
def test_a_body_that_dribbles_ends_the_call(verb: str) -> None:
    with Dribbler(OBJECT, at_once=len(OBJECT) - DRIBBLED_BYTES) as server:
        with pytest.raises(StoreUnavailable):
            VERBS[verb](make_store(server.url))
        assert server.has_been_left()


def test_a_request_that_is_read_slowly_ends_the_call() -> None:
    with Dribbler(reads_slowly=True) as server:
        with pytest.raises(StoreUnavailable):
            put(make_store(server.url), bytes(PART_BYTES))
        assert server.has_been_left()


def test_the_same_holds_for_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = make_authority(tmp_path, "authority")
    certificate = make_certificate(tmp_path, "localhost", authority)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate.file, certificate.key_file)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.file))
    with Dribbler(tls=tls) as server:
        with pytest.raises(StoreUnavailable):
            put(make_store(server.url))
        assert server.has_been_left()


def test_each_read_of_an_open_object_has_a_deadline_of_its_own() -> None:
    # What comes before each read is there at once; all of it takes longer than one call may.
    begin = len(OBJECT) - DRIBBLED_BYTES
    with Dribbler(OBJECT, at_once=begin) as server:
        stream = make_store(server.url).open(KEY).stream
        assert [stream.read(2) for _ in range(8)] == [b"xx"] * 8
        with pytest.raises(StoreUnavailable):
            stream.read(DRIBBLED_BYTES)
        stream.close()
        assert server.has_been_left()


def test_a_slow_line_that_moves_has_the_time_of_the_whole_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No single time-out is over for a part that takes longer than each of them."""
    monkeypatch.setattr(s3_deadlines, "CALL_SECONDS", 10.0)
    monkeypatch.setattr(s3_client, "CONNECT_TIMEOUT_SECONDS", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        taken = threading.Thread(target=take_slowly, args=(listener,), daemon=True)
        taken.start()
        put(make_store(f"http://127.0.0.1:{listener.getsockname()[1]}"), bytes(PART_BYTES))
        taken.join()


def take_slowly(listener: socket.socket) -> None:
    """Read a put in a dozen steps with pauses, which together outlast its time-out."""
    connection, _ = listener.accept()
    with connection:
        request = bytearray()
        next_pause = 0
        while len(request) < PART_BYTES + request.find(b"\r\n\r\n") + 4:
            if len(request) >= next_pause:
                threading.Event().wait(PAUSE_SECONDS)
                next_pause += PART_BYTES // 12
            request += connection.recv(65536)
        connection.sendall(STORED)


def test_every_thread_comes_back_from_a_store_that_dribbles() -> None:
    async def use(server: Dribbler) -> None:
        threads = ThreadSlots(STORE_THREADS)
        face = AsyncStore("tested", make_store(server.url), threads)
        calls = [face.delete(KEY) for _ in range(STORE_THREADS)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        assert not threads.are_taken

    with Dribbler() as server:
        asyncio.run(use(server))
        assert server.has_been_left(STORE_THREADS)


def test_a_name_with_many_dead_addresses_has_the_time_of_one_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with full_listener() as port:
        dead = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))

        def look_up(host: str, *_: object, **__: object) -> list[object]:
            return [dead] * (1 if host == "127.0.0.1" else 100)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        monkeypatch.setattr(s3_client, "CONNECT_TIMEOUT_SECONDS", PAUSE_SECONDS)
        asked: list[object] = []
        connect = socket.socket.connect

        def note(self: socket.socket, address: object) -> None:
            asked.append(address)
            connect(self, address)  # type: ignore[arg-type]

        monkeypatch.setattr(socket.socket, "connect", note)
        with pytest.raises(StoreUnavailable):
            put(make_store(f"http://s3.example.test:{port}"))
        assert 1 < len(asked) < 100


@contextlib.contextmanager
def full_listener() -> Iterator[int]:
    """A port at which connections are neither taken nor refused."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # more than the kernel keeps for a listener that accepts nothing
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_a_call_has_less_time_than_whoever_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert s3_deadlines.CALL_SECONDS < STORE_DEADLINE_SECONDS
