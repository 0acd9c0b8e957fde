"""The S3 store names public URLs right, asks once, and says every failure in our words."""

import base64
import contextlib
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError
from pydantic import SecretStr

from errors import (
    DarkroomError,
    ObjectExists,
    ObjectNotFound,
    StartupError,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from files import puts, statements
from locations import StoreSettings
from storage import Store, s3_client
from storage.async_store import STORE_DEADLINE_SECONDS
from storage.s3 import S3Store
from tests.support.pictures import jpeg
from tests.support.s3 import FakeS3, Fault
from tests.support.s3_messages import HEADERS, Answer
from tests.support.services import Account, Bucket, Service, free_port

KEY = "profile_pics/x.jpg"
CONTENT = b"picture"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
# Far longer than what is limited takes.
PATIENCE_SECONDS = 10.0


@pytest.fixture(scope="module")
def recording() -> Iterator[FakeS3]:
    with FakeS3() as server:
        yield server


@pytest.fixture
def recorder(recording: FakeS3) -> FakeS3:
    """A server as new: it was asked nothing, and answers every request with an empty success."""
    recording.clear()
    recording.say(Answer())
    return recording


@pytest.fixture(scope="module")
def store(recording: FakeS3) -> S3Store:
    """A store at the recorder, shared because making a client takes a while."""
    return make_store(recording.url)


def make_store(endpoint: str | None, bucket: str = "pictures", **more: Any) -> S3Store:
    keys = {"access_key_id": SecretStr("our-key"), "secret_access_key": SecretStr("our-secret")}
    return S3Store(
        StoreSettings(storage="s3", bucket_name=bucket, endpoint_url=endpoint, **{**keys, **more})
    )


def put(store: Store) -> None:
    store.put(KEY, CONTENT, "image/jpeg", SHA256)


def list_all(store: Store) -> None:
    list(store.find("profile_pics/"))


VERBS: dict[str, Callable[[Store], object]] = {
    "put": put,
    "open": lambda store: store.open(KEY),
    "exists": lambda store: store.exists(KEY),
    "delete": lambda store: store.delete(KEY),
    "find": list_all,
}


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "https://pictures.s3.us-east-1.amazonaws.com/profile_pics/x.jpg"),
        (
            {"region": "eu-central-1"},
            "https://pictures.s3.eu-central-1.amazonaws.com/profile_pics/x.jpg",
        ),
        (
            {"region": "cn-north-1"},
            "https://pictures.s3.cn-north-1.amazonaws.com.cn/profile_pics/x.jpg",
        ),
        (
            {"bucket": "pictures.example.com", "region": "eu-central-1"},
            "https://s3.eu-central-1.amazonaws.com/pictures.example.com/profile_pics/x.jpg",
        ),
        (
            {"addressing_style": "path"},
            "https://s3.us-east-1.amazonaws.com/pictures/profile_pics/x.jpg",
        ),
        (
            {"endpoint": "http://127.0.0.1:9000"},
            "http://127.0.0.1:9000/pictures/profile_pics/x.jpg",
        ),
        (
            {"endpoint": "https://host.example/s3"},
            "https://host.example/s3/pictures/profile_pics/x.jpg",
        ),
        (
            {"endpoint": "https://fra1.example.com", "addressing_style": "virtual"},
            "https://pictures.fra1.example.com/profile_pics/x.jpg",
        ),
        (
            {"endpoint": "http://localhost:9000", "addressing_style": "virtual"},
            "http://pictures.localhost:9000/profile_pics/x.jpg",
        ),
        (
            {"public_base_url": "https://cdn.example.com"},
            "https://cdn.example.com/profile_pics/x.jpg",
        ),
        (
            {"public_base_url": "https://cdn.example.com/p"},
            "https://cdn.example.com/p/profile_pics/x.jpg",
        ),
        (
            {"endpoint": "http://127.0.0.1:9000", "public_base_url": "https://cdn.example.com"},
            "https://cdn.example.com/profile_pics/x.jpg",
        ),
    ],
)
def test_the_public_url_is_the_one_that_the_service_answers_at(
    settings: dict[str, str], url: str
) -> None:
    assert make_store(settings.pop("endpoint", None), **settings).url(KEY) == url


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        (
            {"region": "eu-central-1"},
            "https://pictures.s3.eu-central-1.amazonaws.com/profile_pics/x.jpg",
        ),
        (
            {"bucket": "pictures.example.com", "region": "eu-central-1"},
            "https://s3.eu-central-1.amazonaws.com/pictures.example.com/profile_pics/x.jpg",
        ),
        (
            {"endpoint": "https://fra1.example.com", "addressing_style": "virtual"},
            "https://pictures.fra1.example.com/profile_pics/x.jpg",
        ),
        # A CDN does not know our keys; who checks the signature is the service behind it.
        (
            {"endpoint": "http://127.0.0.1:9000", "public_base_url": "https://cdn.example.com"},
            "http://127.0.0.1:9000/pictures/profile_pics/x.jpg",
        ),
    ],
)
@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
def test_a_signed_url_leads_to_the_service_that_checks_the_signature(
    settings: dict[str, str], address: str, checksums: str
) -> None:
    given = {**settings, "checksums": checksums}
    url = urlsplit(make_store(given.pop("endpoint", None), **given).signed_url(KEY, 90))
    asked = dict(parse_qsl(url.query))
    assert f"{url.scheme}://{url.netloc}{url.path}" == address
    assert (asked["X-Amz-Algorithm"], asked["X-Amz-Expires"]) == ("AWS4-HMAC-SHA256", "90")
    # What else is signed, a browser would have to send.
    assert asked["X-Amz-SignedHeaders"] == "host"


def test_a_signed_url_of_an_older_bucket_is_the_older_buckets() -> None:
    older = make_store("http://127.0.0.1:9000").in_bucket("older")
    assert older.signed_url(KEY, 60).startswith(f"http://127.0.0.1:9000/older/{KEY}?")


def test_without_keys_no_url_is_signed(no_credentials: pytest.MonkeyPatch) -> None:
    store = make_store("http://127.0.0.1:9", access_key_id=None, secret_access_key=None)
    with pytest.raises(StoreRefused):
        store.signed_url(KEY, 60)


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoint_url": "http://under_score:9000"},
        {"endpoint_url": "http://minio:9000", "region": "eu-"},
    ],
    ids=str,
)
def test_settings_that_botocore_refuses_stop_the_start_with_a_sentence(
    wrong: dict[str, str],
) -> None:
    with pytest.raises(StartupError, match="S3 settings"):
        S3Store(StoreSettings(storage="s3", bucket_name="pictures", **wrong))


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "https://older.s3.us-east-1.amazonaws.com/profile_pics/x.jpg"),
        ({"endpoint": "http://127.0.0.1:9000"}, "http://127.0.0.1:9000/older/profile_pics/x.jpg"),
        # The public address belongs to the bucket of today; the older one has but its own.
        (
            {"public_base_url": "https://cdn.example.com"},
            "https://older.s3.us-east-1.amazonaws.com/profile_pics/x.jpg",
        ),
    ],
)
def test_a_picture_of_an_older_bucket_has_the_older_buckets_url(
    settings: dict[str, str], url: str
) -> None:
    store = make_store(settings.pop("endpoint", None), **settings)
    mine = store.url(KEY)
    assert store.in_bucket("older").url(KEY) == url
    assert store.url(KEY) == mine


def test_a_bucket_with_a_dot_is_addressed_by_path_whichever_bucket_is_the_current_one() -> None:
    # No certificate of *.s3.amazonaws.com covers a name with a dot.
    older = make_store(None, "plain").in_bucket("pictures.example.com")
    assert (
        older.url(KEY)
        == "https://s3.us-east-1.amazonaws.com/pictures.example.com/profile_pics/x.jpg"
    )
    older = make_store(None, "pictures.example.com").in_bucket("plain")
    assert older.url(KEY) == "https://plain.s3.us-east-1.amazonaws.com/profile_pics/x.jpg"


def test_an_older_bucket_is_asked_by_its_own_name(recorder: FakeS3) -> None:
    store = make_store(recorder.url)
    store.in_bucket("older").delete(KEY)
    store.delete(KEY)
    assert [seen.path for seen in recorder.requests] == [f"/older/{KEY}", f"/pictures/{KEY}"]


def test_a_virtual_host_is_asked_where_the_public_url_points(
    recorder: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _, *rest, **more: look_up("127.0.0.1", *rest, **more)
    )
    port = recorder.url.rpartition(":")[2]
    store = make_store(f"http://s3.example.test:{port}", addressing_style="virtual")
    put(store)
    [seen] = recorder.requests
    assert f"http://{seen.headers['host']}{seen.path}" == store.url(KEY)
    assert seen.headers["host"] == f"pictures.s3.example.test:{port}"


def test_a_put_carries_type_caching_checksum_and_the_wish_not_to_overwrite(
    recorder: FakeS3, store: S3Store
) -> None:
    put(store)
    [seen] = recorder.requests
    assert (seen.method, seen.path, seen.body) == ("PUT", f"/pictures/{KEY}", CONTENT)
    expected = {
        "content-type": "image/jpeg",
        "cache-control": "public, max-age=31536000, immutable",
        "if-none-match": "*",
        "x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(CONTENT).digest()).decode(),
    }
    assert {name: seen.headers.get(name) for name in expected} == expected
    # With access lists switched off, as a bucket should be, a put that names one is refused.
    assert "x-amz-acl" not in seen.headers


def test_the_service_is_given_the_checksum_of_what_was_meant_not_of_what_is_sent(
    recorder: FakeS3, store: S3Store
) -> None:
    meant = hashlib.sha256(b"meant")
    store.put(KEY, b"sent", "image/jpeg", meant.hexdigest())
    assert (
        recorder.requests[0].headers["x-amz-checksum-sha256"]
        == base64.b64encode(meant.digest()).decode()
    )


def test_no_checksum_is_sent_to_a_service_that_knows_none(recorder: FakeS3) -> None:
    put(make_store(recorder.url, checksums="when_required"))
    [seen] = recorder.requests
    assert seen.body == CONTENT
    assert [name for name in seen.headers if "checksum" in name or name == "x-amz-trailer"] == []
    assert seen.headers["if-none-match"] == "*"


ONE_ATTEMPT: dict[str, Answer | Fault] = {
    "500": Answer(500, "InternalError"),
    "502": Answer(502, body=b"<html>bad gateway</html>", headers={"Content-Type": "text/html"}),
    "503": Answer(503, "SlowDown"),
    "429": Answer(429, "TooManyRequests"),
    "hang": "hang",
    "reset": "reset",
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("failure", ONE_ATTEMPT)
def test_a_failure_is_said_after_one_attempt(
    recorder: FakeS3, store: S3Store, monkeypatch: pytest.MonkeyPatch, verb: str, failure: str
) -> None:
    if failure == "hang":
        monkeypatch.setattr(s3_client, "READ_TIMEOUT_SECONDS", 0.2)
        store = make_store(recorder.url)
    recorder.say(ONE_ATTEMPT[failure])
    with pytest.raises(StoreUnavailable):
        VERBS[verb](store)
    assert len(recorder.requests) == 1


@contextlib.contextmanager
def ended_sometime(end: Callable[[], object]) -> Iterator[None]:
    """End what a call waits for after a while, so that a call without a limit ends otherwise."""
    timer = threading.Timer(PATIENCE_SECONDS, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def test_a_store_that_never_answers_is_given_up(
    recorder: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_client, "READ_TIMEOUT_SECONDS", 0.2)
    recorder.say("hang")
    with ended_sometime(recorder.gate.set), pytest.raises(StoreUnavailable) as refused:
        put(make_store(recorder.url))
    assert isinstance(refused.value.__cause__, ReadTimeoutError)


def test_a_store_that_takes_no_connection_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "CONNECT_TIMEOUT_SECONDS", 0.2)
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):  # more than the kernel keeps for a listener that accepts nothing
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(address)
        with ended_sometime(listener.close), pytest.raises(StoreUnavailable) as refused:
            put(make_store(f"http://127.0.0.1:{address[1]}"))
    assert isinstance(refused.value.__cause__, ConnectTimeoutError)


def test_the_limits_of_a_call_fit_into_each_other() -> None:
    longest = max(s3_client.CONNECT_TIMEOUT_SECONDS, s3_client.READ_TIMEOUT_SECONDS)
    assert puts.PUT_ATTEMPTS * longest < puts.PUT_BUDGET_SECONDS
    assert (
        s3_client.CONNECT_TIMEOUT_SECONDS + s3_client.READ_TIMEOUT_SECONDS < STORE_DEADLINE_SECONDS
    )
    assert timedelta(seconds=STORE_DEADLINE_SECONDS) < statements.LEASE


def test_boto3s_own_settings_bring_no_retries_back(
    recorder: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "5")
    monkeypatch.setenv("AWS_RETRY_MODE", "adaptive")
    recorder.say(Answer(503, "SlowDown"))
    with pytest.raises(StoreUnavailable):
        put(make_store(recorder.url))
    assert len(recorder.requests) == 1


def test_a_service_without_create_only_puts_is_asked_again_without_and_from_then_on(
    recorder: FakeS3,
) -> None:
    recorder.say(Answer(501, "NotImplemented"), Answer())
    store = make_store(recorder.url)
    put(store)
    put(store)
    assert [seen.headers.get("if-none-match") for seen in recorder.requests] == ["*", None, None]
    assert [seen.body for seen in recorder.requests] == [CONTENT] * 3
    first = recorder.requests[0].headers
    second = recorder.requests[1].headers
    kept = ["content-type", "cache-control", "x-amz-checksum-sha256"]
    assert [second[name] for name in kept] == [first[name] for name in kept]


def test_a_service_that_refuses_the_put_for_another_reason_keeps_create_only_puts(
    recorder: FakeS3,
) -> None:
    recorder.say(Answer(501, "NotImplemented"))
    store = make_store(recorder.url)
    with pytest.raises(StoreUnavailable):
        put(store)
    recorder.say(Answer())
    put(store)
    wishes = [seen.headers.get("if-none-match") for seen in recorder.requests]
    # The create-only header, the checksum, and both of them could have been it.
    assert wishes == ["*", None, "*", None, "*"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "EntityTooLarge"),
        (403, "AccessDenied"),
        (409, "ConditionalRequestConflict"),
        (412, "PreconditionFailed"),
        (500, "InternalError"),
        (503, "SlowDown"),
    ],
)
def test_nothing_else_makes_a_put_overwrite(
    recorder: FakeS3, store: S3Store, status: int, code: str
) -> None:
    recorder.say(Answer(status, code))
    for _ in range(2):
        with pytest.raises(StoreError):
            put(store)
    puts = [seen for seen in recorder.requests if seen.method == "PUT"]
    assert [seen.headers.get("if-none-match") for seen in puts] == ["*", "*"]


HTML = {"Content-Type": "text/html"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(400, "InvalidRequest"), StoreRefused),
        (Answer(400, "BadDigest"), StoreUnavailable),
        (Answer(400, "IncompleteBody"), StoreUnavailable),
        (Answer(400, "XAmzContentSHA256Mismatch"), StoreUnavailable),
        (Answer(401, "Unauthorized"), StoreRefused),
        (Answer(403, "AccessDenied"), StoreRefused),
        (Answer(403, "InvalidAccessKeyId"), StoreRefused),
        (Answer(403, "SignatureDoesNotMatch"), StoreRefused),
        (Answer(403, "RequestTimeTooSkewed"), StoreUnavailable),
        (Answer(403, body=b""), StoreRefused),
        (Answer(404, "NoSuchBucket"), StoreRefused),
        # Whoever says so to a put is no S3 service, or not ours:
        # no reason to tell a sender that something is missing.
        (Answer(404, "NoSuchKey"), StoreError),
        (Answer(404, body=b"<html>not here</html>", headers=HTML), StoreError),
        (Answer(405, "MethodNotAllowed"), StoreRefused),
        (Answer(409, "ConditionalRequestConflict"), ObjectExists),
        (Answer(412, "PreconditionFailed"), ObjectExists),
        (Answer(413, "EntityTooLarge"), StoreRefused),
        (Answer(429, "SlowDown"), StoreUnavailable),
        (Answer(500, "InternalError"), StoreUnavailable),
        (Answer(500, body=b"\x00\xff garbage <"), StoreUnavailable),
        (Answer(502, body=b"<html><br></html>", headers=HTML), StoreUnavailable),
        (Answer(503, "ServiceUnavailable"), StoreUnavailable),
        (Answer(507, "InsufficientStorage"), StoreUnavailable),
    ],
    ids=lambda value: f"{value.status} {value.code}" if isinstance(value, Answer) else None,
)
def test_every_answer_to_a_put_becomes_an_error_of_ours(
    recorder: FakeS3, store: S3Store, answer: Answer, expected: type[StoreError]
) -> None:
    recorder.say(answer)
    with pytest.raises(StoreError) as caught:
        put(store)
    assert isinstance(caught.value, expected)
    # The cause is for the log; the sentence for the client has nothing of the service's own words.
    assert caught.value.__cause__ is not None
    assert caught.value.detail == StoreError.sentence


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(404, "NoSuchKey"), ObjectNotFound),
        (Answer(404, "NoSuchBucket"), StoreRefused),
        (Answer(403, "AccessDenied"), StoreRefused),
        (Answer(429, "SlowDown"), StoreUnavailable),
        (Answer(500, "InternalError"), StoreUnavailable),
        (Answer(503, body=b"not <xml"), StoreUnavailable),
        (
            Answer(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-1"}),
            StoreRefused,
        ),
    ],
    ids=lambda value: f"{value.status} {value.code}" if isinstance(value, Answer) else None,
)
def test_every_answer_to_an_open_becomes_an_error_of_ours(
    recorder: FakeS3, store: S3Store, answer: Answer, expected: type[DarkroomError]
) -> None:
    recorder.say(answer)
    with pytest.raises(DarkroomError) as caught:
        store.open(KEY)
    assert caught.type is expected


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("status", [301, 307])
def test_an_endpoint_that_only_redirects_is_refused_and_not_asked_for_ever(
    recorder: FakeS3, store: S3Store, verb: str, status: int
) -> None:
    recorder.say(Answer(status, body=b"", headers={"Location": "https://s3.example.test/"}))
    with pytest.raises(StoreError):
        VERBS[verb](store)
    assert len(recorder.requests) <= 3


@pytest.mark.parametrize(
    ("answer", "is_gone"),
    [
        (Answer(204), True),
        (Answer(200), True),
        (Answer(404, "NoSuchKey"), True),
        (Answer(404, "NoSuchBucket"), False),
        (Answer(403, "AccessDenied"), False),
        (Answer(409, "OperationAborted"), False),
        (Answer(500, "InternalError"), False),
        (Answer(503, "SlowDown"), False),
        # Some other web server at a mistyped address: the object may lie untouched where it was.
        (Answer(404, body=b"<html>not here</html>", headers=HTML), False),
    ],
    ids=lambda value: f"{value.status} {value.code}" if isinstance(value, Answer) else None,
)
def test_an_object_counts_as_deleted_only_when_the_service_says_so(
    recorder: FakeS3, store: S3Store, answer: Answer, is_gone: bool
) -> None:
    recorder.say(answer)
    if is_gone:
        store.delete(KEY)
    else:
        with pytest.raises(StoreError):
            store.delete(KEY)


def test_a_missing_object_does_not_exist_and_a_forbidden_one_is_unknown(
    recorder: FakeS3, store: S3Store
) -> None:
    recorder.say(Answer(404))
    assert store.exists(KEY) is False
    recorder.say(Answer(200))
    assert store.exists(KEY) is True
    for status, expected in [(403, StoreRefused), (500, StoreUnavailable)]:
        recorder.say(Answer(status))
        with pytest.raises(expected):
            store.exists(KEY)


@pytest.mark.parametrize(
    "body", [b"this is not XML", b"<ListBucketResult><Contents>", b"\x00\xff\xfe", b"{}"]
)
def test_a_listing_that_is_garbage_is_a_store_that_fails(
    recorder: FakeS3, store: S3Store, body: bytes
) -> None:
    recorder.say(Answer(200, body=body))
    with pytest.raises(StoreError):
        list_all(store)


@pytest.mark.parametrize("verb", VERBS)
def test_an_endpoint_where_nobody_listens_is_a_store_that_is_away(verb: str) -> None:
    with pytest.raises(StoreUnavailable):
        VERBS[verb](make_store(f"http://127.0.0.1:{free_port()}"))


@pytest.mark.parametrize("verb", VERBS)
def test_a_name_that_cannot_be_resolved_is_a_store_that_is_away(
    monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(StoreUnavailable):
        VERBS[verb](make_store("http://s3.example.test:9000"))


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_no_http_at_all_is_a_store_that_fails(recorder: FakeS3, verb: str) -> None:
    recorder.say(Answer(raw=b"220 mail.example.com ESMTP\r\n"))
    with pytest.raises(StoreUnavailable):
        VERBS[verb](make_store(recorder.url))


JPEG_HEADERS = {**HEADERS, "Content-Type": "image/jpeg"}


def test_a_body_that_ends_too_early_is_an_error_and_not_a_short_picture(recorder: FakeS3) -> None:
    recorder.say(Answer(200, body=b"half", headers=JPEG_HEADERS, length=8))
    found = make_store(recorder.url).open(KEY)
    assert found.size_bytes == 8
    with pytest.raises(StoreUnavailable):
        found.stream.read()
    found.stream.close()


def test_a_body_that_ends_too_early_is_an_error_in_pieces_too(recorder: FakeS3) -> None:
    recorder.say(Answer(200, body=b"half", headers=JPEG_HEADERS, length=8))
    stream = make_store(recorder.url).open(KEY).stream
    with pytest.raises(StoreUnavailable):
        while stream.read(3):
            pass
    stream.close()


def test_a_body_that_stalls_is_an_error(recorder: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "READ_TIMEOUT_SECONDS", 0.2)
    recorder.say(Answer(200, body=b"half", headers=JPEG_HEADERS, length=8, stalls=True))
    found = make_store(recorder.url).open(KEY)
    with pytest.raises(StoreUnavailable):
        found.stream.read()
    found.stream.close()


def test_a_body_that_does_not_fit_its_checksum_is_an_error(recorder: FakeS3) -> None:
    wrong = base64.b64encode(hashlib.sha256(b"another").digest()).decode()
    recorder.say(
        Answer(200, body=CONTENT, headers={**JPEG_HEADERS, "x-amz-checksum-sha256": wrong})
    )
    found = make_store(recorder.url).open(KEY)
    with pytest.raises(StoreUnavailable):
        found.stream.read()
    found.stream.close()


def test_an_object_without_a_type_is_bytes(recorder: FakeS3) -> None:
    recorder.say(Answer(200, body=CONTENT, headers={"x-amz-request-id": "planned"}))
    found = make_store(recorder.url).open(KEY)
    assert (found.content_type, found.size_bytes, found.stream.read()) == (
        "application/octet-stream",
        len(CONTENT),
        CONTENT,
    )
    found.stream.close()


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine on which boto3 finds nothing, and asks no cloud."""
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    return monkeypatch


def test_the_keys_of_the_settings_sign_the_request(recorder: FakeS3) -> None:
    put(make_store(recorder.url, region="eu-central-1"))
    signature = recorder.requests[0].headers["authorization"]
    assert signature.startswith("AWS4-HMAC-SHA256 Credential=our-key/")
    assert "/eu-central-1/s3/aws4_request" in signature


def test_without_keys_boto3s_own_chain_finds_them(
    recorder: FakeS3, no_credentials: pytest.MonkeyPatch
) -> None:
    no_credentials.setenv("AWS_ACCESS_KEY_ID", "key-of-the-environment")
    no_credentials.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    no_credentials.setenv("AWS_SESSION_TOKEN", "session-of-a-role")
    put(make_store(recorder.url, access_key_id=None, secret_access_key=None))
    headers = recorder.requests[0].headers
    assert headers["authorization"].startswith(
        "AWS4-HMAC-SHA256 Credential=key-of-the-environment/"
    )
    assert headers["x-amz-security-token"] == "session-of-a-role"


def test_the_keys_of_the_settings_go_before_those_of_the_environment(
    recorder: FakeS3, no_credentials: pytest.MonkeyPatch
) -> None:
    no_credentials.setenv("AWS_ACCESS_KEY_ID", "key-of-the-environment")
    no_credentials.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    no_credentials.setenv("AWS_SESSION_TOKEN", "session-of-a-role")
    put(make_store(recorder.url))
    headers = recorder.requests[0].headers
    assert "Credential=our-key/" in headers["authorization"]
    assert "x-amz-security-token" not in headers


@pytest.mark.parametrize("verb", VERBS)
def test_no_keys_at_all_are_a_matter_for_the_operator(
    recorder: FakeS3, no_credentials: pytest.MonkeyPatch, verb: str
) -> None:
    store = make_store(recorder.url, access_key_id=None, secret_access_key=None)
    with pytest.raises(StoreRefused):
        VERBS[verb](store)
    assert recorder.requests == []


@dataclass
class Changing:
    """A service started again and again on one database and account, with other settings."""

    start: Callable[..., Service]
    fixed: dict[str, str]
    service: Service | None = None
    account: Account | None = None
    path: str = ""

    def run(self, **settings: str) -> Service:
        """Start with these settings and none from before; the account is made by the first one."""
        if self.service is not None:
            self.service.stop()
        cleared = {
            "S3_BUCKET_NAME": "",
            "S3_ENDPOINT_URL": "",
            "S3_ACCESS_KEY_ID": "",
            "S3_SECRET_ACCESS_KEY": "",
        }
        given = {**cleared, **self.fixed, **settings}
        self.service = self.start(**{name.lower(): value for name, value in given.items()})
        self.account = self.account or self.service.register()
        return self.service

    def upload(self) -> str:
        assert self.service and self.account
        answer = self.service.patch_picture(self.account, jpeg())
        assert answer.status_code == 200, answer.text
        self.path = answer.json()["image_path"]
        assert self.service.get_picture(self.path).status_code == 200
        return self.path

    def replace(self, old_objects: Callable[[], list[str]]) -> str:
        """The old picture is where it was, under its old path; replacing it deletes it there.

        Returns the new path.
        """
        assert self.service and self.account
        old = self.path
        with self.service.client(self.account) as client:
            assert client.get("/users/me").json()["image_path"] == old
        served = self.service.get_picture(old)
        assert (served.status_code, served.headers["content-type"]) == (200, "image/jpeg")
        assert len(old_objects()) == 1
        new = self.upload()
        # Within two seconds of the answer, or behind it by the reaper.
        deadline = time.monotonic() + 60
        while old_objects() or len(self.service.sql("SELECT 1 FROM stored_files")) != 1:
            assert time.monotonic() < deadline, old_objects()
            time.sleep(0.05)
        assert self.service.get_picture(old).status_code in (403, 404)
        return new


@pytest.fixture
def changing(
    start_service: Callable[..., Service], new_database: Callable[[], str], tmp_path: Path
) -> Changing:
    fixed = {
        "DATABASE_URL": new_database(),
        "DATA_DIR": str(tmp_path / "data"),
        "SECRET_KEY": "0123456789abcdef" * 2,
    }
    return Changing(start_service, fixed)


def files(folder: Path) -> list[str]:
    return [path.name for path in (folder / "profile_pics").iterdir()]


def test_pictures_outlive_a_move_from_disk_to_s3_to_another_bucket_and_to_another_service(
    changing: Changing, moto: str, ministack: str, tmp_path: Path
) -> None:
    first = Bucket.make(moto)
    second = Bucket.make(moto)
    third = Bucket.make(ministack)
    changing.run(STORAGE="local")
    assert changing.upload().startswith("/media/profile_pics/")
    changing.run(**first.settings())
    assert changing.replace(lambda: files(tmp_path / "data" / "media")).startswith(
        f"{moto}/{first.name}/profile_pics/"
    )
    changing.run(**second.settings())
    assert changing.replace(lambda: list(first.objects())).startswith(
        f"{moto}/{second.name}/profile_pics/"
    )
    previous = {
        "storage": "s3",
        "bucket_name": second.name,
        "endpoint_url": moto,
        "access_key_id": "test",
        "secret_access_key": "test",
    }
    service = changing.run(
        **third.settings(), STORAGE_NAME="new", PREVIOUS_STORES=json.dumps({"s3": previous})
    )
    assert changing.replace(lambda: list(second.objects())).startswith(
        f"{ministack}/{third.name}/profile_pics/"
    )
    places = [tuple(row) for row in service.sql("SELECT storage, bucket FROM stored_files")]
    assert places == [("new", third.name)]


def test_pictures_of_one_folder_outlive_a_move_to_another(
    changing: Changing, tmp_path: Path
) -> None:
    changing.run(STORAGE="local", STORAGE_NAME="first")
    changing.upload()
    before = tmp_path / "data" / "media"
    changing.fixed["DATA_DIR"] = str(tmp_path / "bigger-disk")
    previous = {"first": {"storage": "local", "directory": str(before)}}
    changing.run(STORAGE="local", STORAGE_NAME="second", PREVIOUS_STORES=json.dumps(previous))
    changing.replace(lambda: files(before))
    assert len(files(tmp_path / "bigger-disk" / "media")) == 1
