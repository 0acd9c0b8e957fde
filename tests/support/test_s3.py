"""The tests' S3 server does to its objects, and to its client, what each of its faults says.

Most of it is tried through one that passes on to another, so that both ends can be looked at.
"""

import contextlib
import functools
import http.client
import io
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError, ReadTimeoutError

from tests.support.s3 import BUCKET, RANDOM_FAULTS, FakeS3, Fault
from tests.support.s3_messages import Answer
from tests.support.services import START_SECONDS, Bucket, wait_until

CONTENT = b"0123456789" * 20_000
Connect = Callable[[FakeS3], http.client.HTTPConnection]


@pytest.fixture(scope="module")
def store() -> Iterator[FakeS3]:
    with FakeS3() as server:
        yield server


@pytest.fixture(scope="module")
def running(store: FakeS3) -> Iterator[FakeS3]:
    with FakeS3(store.url) as proxy:
        yield proxy


@pytest.fixture
def proxy(running: FakeS3, store: FakeS3) -> FakeS3:
    """A proxy before an empty store, forgetful of the test before."""
    store.clear()
    running.clear()
    running.away = False
    return running


@functools.cache
def client_of(url: str) -> Any:
    """A client that tries once and waits a second; making one costs more than its requests."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(read_timeout=1, retries={"total_max_attempts": 1}, max_pool_connections=32),
    )


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes connections that end with the test."""
    with contextlib.ExitStack() as stack:

        def make(server: FakeS3) -> http.client.HTTPConnection:
            connection = http.client.HTTPConnection(
                urlsplit(server.url).netloc, timeout=START_SECONDS
            )
            return stack.enter_context(contextlib.closing(connection))

        yield make


def connected(proxy: FakeS3) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(proxy.url).port or 0), START_SECONDS)


def put(proxy: FakeS3) -> Exception | None:
    return error_of(lambda: client_of(proxy.url).put_object(Bucket=BUCKET, Key="a/b", Body=CONTENT))


def delete(proxy: FakeS3) -> Exception | None:
    return error_of(lambda: client_of(proxy.url).delete_object(Bucket=BUCKET, Key="a/b"))


def error_of(call: Callable[[], object]) -> Exception | None:
    try:
        call()
    except (BotoCoreError, ClientError) as err:
        return err
    return None


# What the client meets, and whether the store did what was asked.
FAULTS: dict[Fault, tuple[type[Exception] | int | None, bool]] = {
    "ok": (None, True),
    "500": (500, False),
    "503": (503, False),
    "403": (403, False),
    "lost": (ConnectionClosedError, True),
    "cut_answer": (ConnectionClosedError, True),
    "timeout": (ReadTimeoutError, True),
    "reset": (ConnectionClosedError, False),
}
CODES = {500: "InternalError", 503: "SlowDown", 403: "AccessDenied"}


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("is_behind", [False, True], ids=["keeps", "passes on"])
def test_each_fault_does_to_the_client_and_the_store_what_it_says(
    proxy: FakeS3, store: FakeS3, is_behind: bool, fault: Fault, method: str
) -> None:
    asked = proxy if is_behind else store
    met, is_done = FAULTS[fault]
    before = {} if method == "PUT" else {"a/b": CONTENT}
    after = {"a/b": CONTENT} if method == "PUT" else {}
    store.objects = dict(before)
    seen: list[dict[str, bytes]] = []
    done = asked.plan(method, fault, then=lambda: seen.append(dict(store.objects)))
    error = put(asked) if method == "PUT" else delete(asked)
    if isinstance(error, ClientError):
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == met
        assert (
            error.response["Error"]["Code"]
            == CODES[error.response["ResponseMetadata"]["HTTPStatusCode"]]
        )
    else:
        assert type(error) is (met or type(None)), error
    assert done.wait(START_SECONDS)
    assert store.objects == (after if is_done else before)
    assert seen == [store.objects], "what is called in between did not come after the store's part"
    assert len(store.requests) == (is_done if is_behind else 1)
    assert asked.faults == {fault: 1}
    assert (put(asked), store.objects["a/b"]) == (None, CONTENT), "the next request is whole"


def test_what_hangs_is_done_once_the_gate_is_open(
    store: FakeS3, proxy: FakeS3, connect: Connect
) -> None:
    done = store.plan("PUT", "hang")
    connection = connect(store)
    connection.request("PUT", f"/{BUCKET}/a", b"a")
    wait_until(lambda: store.hanging == {"a"}, "the request hangs")
    assert store.objects == {} and not done.is_set()
    store.gate.set()
    assert connection.getresponse().status == 200
    assert (store.objects, store.hanging) == ({"a": b"a"}, set())
    assert done.wait(START_SECONDS)


def test_what_hangs_is_not_done_for_a_client_that_gives_up(
    store: FakeS3, proxy: FakeS3, connect: Connect
) -> None:
    done = store.plan("DELETE", "hang")
    store.objects["a"] = b"a"
    connection = connect(store)
    connection.request("DELETE", f"/{BUCKET}/a")
    wait_until(lambda: store.hanging == {"a"}, "the request hangs")
    connection.close()
    assert done.wait(START_SECONDS)
    store.gate.set()
    assert (store.objects, store.hanging, store.keys("DELETE")) == ({"a": b"a"}, set(), ["a"])


def test_what_is_always_so_comes_after_what_is_planned(store: FakeS3, proxy: FakeS3) -> None:
    store.always["PUT"] = "500"
    store.plan("PUT", "ok")
    assert put(store) is None
    assert [type(put(store)), type(put(store)), delete(store)] == [ClientError, ClientError, None]
    store.always["PUT"] = "ok"
    assert put(store) is None


def test_a_script_is_said_whatever_is_asked_and_its_end_for_ever(
    store: FakeS3, proxy: FakeS3, connect: Connect
) -> None:
    gone = Answer(404, "NoSuchKey", headers={"X-Word": "a"})
    store.say(Answer(200, body=b"<a/>"), "reset", gone)
    connection = connect(store)
    connection.request("GET", "/any?list-type=2", headers={"X-Asked": "b"})
    first = connection.getresponse()
    assert (first.status, first.read()) == (200, b"<a/>")
    connection.request("PUT", "/any/key", b"body")
    with pytest.raises(ConnectionError):
        connection.getresponse()
    for method in ("HEAD", "GET", "DELETE"):
        connection = connect(store)
        connection.request(method, "/any/key")
        answer = connection.getresponse()
        content = answer.read()
        assert (answer.status, answer.headers["X-Word"]) == (404, "a")
        assert (b"<Code>NoSuchKey</Code>" in content) == (method != "HEAD")
    listing, stored, *_ = store.requests
    assert (listing.path, listing.key, listing.headers["x-asked"]) == ("/any?list-type=2", "", "b")
    assert stored.method == "PUT" and store.keys("DELETE") == ["key"]
    assert store.objects == {}


@pytest.mark.parametrize("stalls", [False, True])
def test_a_script_can_say_less_than_it_announces(
    store: FakeS3, proxy: FakeS3, stalls: bool
) -> None:
    store.say(Answer(200, body=b"half", length=8, stalls=stalls))
    with connected(store) as client:
        client.sendall(b"GET /a/b HTTP/1.1\r\nHost: x\r\n\r\n")
        said = b""
        while not said.endswith(b"half"):
            said += client.recv(1000)
        client.settimeout(0.2)
        if stalls:
            with pytest.raises(TimeoutError):
                client.recv(1)
        else:
            assert client.recv(1) == b""


def test_a_script_can_say_what_is_no_http(store: FakeS3, proxy: FakeS3) -> None:
    store.say(Answer(raw=b"220 mail.example.com ESMTP\r\n"))
    with connected(store) as client:
        client.sendall(b"GET /a/b HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.makefile("rb").read() == b"220 mail.example.com ESMTP\r\n"


def test_what_is_called_in_between_comes_before_the_client_learns(proxy: FakeS3) -> None:
    asked = threading.Event()
    go_on = threading.Event()

    def then() -> None:
        asked.set()
        assert go_on.wait(START_SECONDS)

    for fault in ("ok", "lost", "reset"):
        asked.clear()
        go_on.clear()
        done = proxy.plan("PUT", fault, then=then)
        with ThreadPoolExecutor(1) as pool:
            putting = pool.submit(put, proxy)
            assert asked.wait(START_SECONDS)
            assert not putting.done() and not done.is_set()
            go_on.set()
        assert done.wait(START_SECONDS)


def test_half_of_a_body_is_enough_to_be_cut_off(proxy: FakeS3, store: FakeS3) -> None:
    done = proxy.plan("PUT", "reset")
    with connected(proxy) as client:
        client.sendall(
            f"PUT /{BUCKET}/half HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n1234".encode()
        )
        assert not done.wait(0.1), "only four of ten bytes are there"
        client.sendall(b"5")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert done.wait(START_SECONDS)
    assert store.requests == []


def test_a_plan_counts_the_requests_for_objects_by_its_method(
    proxy: FakeS3, connect: Connect
) -> None:
    second = proxy.plan("PUT", "500", nth=2)
    third = proxy.plan("PUT", "503", nth=3)
    connection = connect(proxy)
    for path in ("/a-bucket", "/a-bucket/", "/a-bucket?list-type=2"):
        connection.request("PUT", path, b"")
        assert connection.getresponse().read() == b""
    errors = [put(proxy), delete(proxy), put(proxy), put(proxy), put(proxy)]
    codes = [
        err.response["Error"]["Code"] if isinstance(err, ClientError) else err for err in errors
    ]
    assert codes == [None, None, "InternalError", "SlowDown", None]
    assert second.is_set() and third.is_set()


def test_a_deletion_of_many_is_a_deletion_of_each(store: FakeS3) -> None:
    store.clear()
    client = boto3.client(
        "s3",
        endpoint_url=store.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )
    several: Any = {"Objects": [{"Key": "a/1.jpg"}, {"Key": "a/2.jpg"}]}
    store.objects.update({"a/1.jpg": b"1", "a/2.jpg": b"2", "a/3.jpg": b"3"})
    store.plan("DELETE", "503")
    with pytest.raises(ClientError):
        client.delete_objects(Bucket=BUCKET, Delete=several)
    assert len(store.objects) == 3
    answer = client.delete_objects(Bucket=BUCKET, Delete=several)
    assert [found["Key"] for found in answer["Deleted"]] == ["a/1.jpg", "a/2.jpg"]
    assert list(store.objects) == ["a/3.jpg"]
    assert store.keys("DELETE") == ["a/1.jpg", "a/2.jpg"] * 2


def test_bodies_of_every_kind_pass_whole_on_one_connection(
    proxy: FakeS3, store: FakeS3, connect: Connect
) -> None:
    connection = connect(proxy)

    def assert_stored(content: bytes) -> None:
        answer = connection.getresponse()
        assert (answer.status, answer.read(), store.objects.pop("chunked")) == (200, b"", content)

    connection.connect()
    opened = connection.sock
    for chunks in ([b"one", b"two" * 10_000], []):
        connection.request("PUT", f"/{BUCKET}/chunked", iter(chunks), encode_chunked=True)
        assert_stored(b"".join(chunks))
    connection.putrequest("PUT", f"/{BUCKET}/chunked")
    connection.putheader("Expect", "100-continue")
    connection.putheader("Content-Length", "5")
    connection.endheaders()
    interim = opened.recv(1000)
    assert interim.startswith(b"HTTP/1.1 100 ") and interim.endswith(b"\r\n\r\n")
    opened.sendall(b"hello")
    assert_stored(b"hello")
    assert connection.sock is opened, "the connection was not kept"

    proxy.plan("PUT", "reset")
    with pytest.raises(ConnectionError):
        connection.request("PUT", f"/{BUCKET}/chunked", iter([b"one", b"two"]), encode_chunked=True)
        connection.getresponse()
    assert store.objects == {}


@pytest.mark.parametrize(
    "head", [b"Content-Length: 10\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"]
)
def test_what_a_client_did_not_send_to_its_end_is_not_stored(
    proxy: FakeS3, store: FakeS3, head: bytes
) -> None:
    with connected(proxy) as client:
        client.sendall(f"PUT /{BUCKET}/half HTTP/1.1\r\nHost: x\r\n".encode() + head)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""
    assert store.requests == []


def test_a_store_that_is_away_resets_old_and_new_connections(
    proxy: FakeS3, store: FakeS3, connect: Connect
) -> None:
    kept = connect(proxy)
    kept.request("PUT", f"/{BUCKET}/a", b"a")
    kept.getresponse().read()
    proxy.away = True
    assert isinstance(put(proxy), BotoCoreError)
    with pytest.raises(ConnectionError):
        kept.request("PUT", f"/{BUCKET}/b", b"b")
        kept.getresponse()
    with pytest.raises(ConnectionError), connected(proxy) as silent:
        silent.recv(1)
    assert store.keys("PUT") == ["a"]
    proxy.away = False
    assert put(proxy) is None


def test_going_away_ends_the_silence_and_withholds_an_answer(
    proxy: FakeS3, store: FakeS3, connect: Connect
) -> None:
    silent = proxy.plan("PUT", "timeout")
    connection = connect(proxy)
    connection.request("PUT", f"/{BUCKET}/a", b"a")
    assert silent.wait(START_SECONDS)
    proxy.away = True
    with pytest.raises(ConnectionResetError):
        connection.getresponse()
    proxy.away = False
    proxy.plan("PUT", "ok", then=lambda: setattr(proxy, "away", True))
    assert isinstance(put(proxy), ConnectionClosedError)
    assert store.objects == {"a": b"a", "a/b": CONTENT}


def test_random_faults_come_at_their_rate_and_again_with_the_same_seed(store: FakeS3) -> None:
    def met(seed: int) -> list[str]:
        with FakeS3(store.url, rate=0.2, seed=seed) as proxy:
            for method, key in (("GET", "key"), ("HEAD", "key"), ("PUT", "")):
                assert {proxy.take_order(method, key).fault for _ in range(100)} == {"ok"}
            found = [
                proxy.take_order("PUT" if number % 2 else "DELETE", "a/key").fault
                for number in range(5_000)
            ]
        assert proxy.faults == Counter(fault for fault in found if fault != "ok")
        return found

    faults = met(1)
    assert faults == met(1) != met(2)
    counts = Counter(faults)
    assert set(counts) == {"ok", *RANDOM_FAULTS}
    assert 800 < 5_000 - counts["ok"] < 1_200
    assert 50 < counts["timeout"] < 150, "a timeout is one in ten faults"


def test_at_a_full_rate_no_object_is_changed_without_a_fault_but_all_can_be_read(moto: str) -> None:
    direct = Bucket.make(moto)
    direct.client().put_object(Bucket=direct.name, Key="a", Body=b"a")
    with FakeS3(moto, rate=1.0, seed=9) as proxy:
        behind = Bucket.make(proxy.url)  # makes a bucket and its policy
        through = Bucket(proxy.url, direct.name)
        assert through.objects() == {"a": b"a"} and behind.objects() == {}
        assert proxy.faults.total() == 0
        with pytest.raises((ClientError, BotoCoreError)):
            client_of(proxy.url).put_object(Bucket=direct.name, Key="b", Body=b"b")
        assert proxy.faults.total() == 1


@pytest.mark.parametrize("kind", ["moto", "ministack"])
def test_real_s3_servers_see_no_difference(kind: str, request: pytest.FixtureRequest) -> None:
    direct = Bucket.make(request.getfixturevalue(kind))
    with FakeS3(direct.endpoint) as proxy:
        client = client_of(proxy.url)
        sha256 = {"ChecksumSHA256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}  # of nothing
        client.put_object(Bucket=direct.name, Key="empty", Body=b"", IfNoneMatch="*", **sha256)
        with pytest.raises(ClientError) as refused:
            client.put_object(Bucket=direct.name, Key="empty", Body=b"", IfNoneMatch="*")
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
        client.put_object(Bucket=direct.name, Key="a/ü +%", Body=CONTENT, ContentType="image/jpeg")
        client.put_object(Bucket=direct.name, Key="streamed", Body=io.BytesIO(CONTENT))
        contents = {"empty": b"", "a/ü +%": CONTENT, "streamed": CONTENT}
        assert Bucket(proxy.url, direct.name).objects() == direct.objects() == contents
        head = client.head_object(Bucket=direct.name, Key="a/ü +%")
        assert (head["ContentLength"], head["ContentType"]) == (len(CONTENT), "image/jpeg")
        client.delete_object(Bucket=direct.name, Key="empty")
        with pytest.raises(ClientError, match="404"):
            client.head_object(Bucket=direct.name, Key="empty")
        proxy.plan("PUT", "lost")
        with pytest.raises(ConnectionClosedError):
            client.put_object(Bucket=direct.name, Key="lost", Body=CONTENT)
        assert direct.objects() == {"a/ü +%": CONTENT, "streamed": CONTENT, "lost": CONTENT}


def test_many_at_once_and_none_is_mixed_up(proxy: FakeS3, store: FakeS3) -> None:
    client = client_of(proxy.url)

    def send(number: int) -> None:
        client.put_object(Bucket=BUCKET, Key=f"{number}", Body=f"{number}".encode() * 1_000)

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(send, range(200)))
    assert store.objects == {f"{number}": f"{number}".encode() * 1_000 for number in range(200)}


def test_a_store_that_is_not_there_is_a_reset() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with FakeS3(f"http://127.0.0.1:{taken.getsockname()[1]}") as proxy:
            assert isinstance(put(proxy), ConnectionClosedError)
