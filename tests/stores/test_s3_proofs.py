"""A success is believed only of a store: no page that says 200 to everything stores or deletes."""

import hashlib
import json
from collections.abc import Callable, Iterator

import pytest
from botocore.exceptions import ClientError
from pydantic import SecretStr

from errors import DarkroomError, StoreError, StoreRefused, StoreUnavailable
from locations import StoreSettings
from storage import Store
from storage.s3 import S3Store
from storage.s3_proofs import NoStoreAnswered
from tests.support.s3 import FakeS3
from tests.support.s3_messages import HEADERS, Answer
from tests.support.services import Bucket

KEY = "originals/x.jpg"
CONTENT = b"picture"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
HTML = b"<!DOCTYPE html><html><body>We are back soon</body></html>"
SERVER = {"Server": "nginx/1.24.0", "Content-Type": "text/html"}

VERBS: dict[str, Callable[[Store], object]] = {
    "put": lambda store: store.put(KEY, CONTENT, "image/jpeg", SHA256),
    "open": lambda store: store.open(KEY),
    "exists": lambda store: store.exists(KEY),
    "delete": lambda store: store.delete(KEY),
    "delete_many": lambda store: store.delete_many([KEY, "originals/y.jpg"]),
    "find": lambda store: list(store.find("originals/")),
    "begin_upload": lambda store: store.begin_upload(KEY, "image/jpeg"),
    "put_part": lambda store: store.put_part(KEY, "an-id", 1, CONTENT, SHA256),
    "complete_upload": lambda store: store.complete_upload(
        KEY, "an-id", [json.dumps({"ETag": '"e1"'})]
    ),
    "abort_upload": lambda store: store.abort_upload(KEY, "an-id"),
    "find_uploads": lambda store: store.find_uploads(KEY),
}
# What stands in the place of a store that is away, or that was never there.
STRANGERS: dict[str, Answer] = {
    "a page": Answer(body=HTML, headers=SERVER),
    # As nginx gives to every file, and an error_page is one.
    "a file of nginx": Answer(
        body=HTML,
        headers={
            **SERVER,
            "ETag": '"6523f1a0-39"',
            "Last-Modified": "Mon, 09 Oct 2023 12:25:04 GMT",
            "Accept-Ranges": "bytes",
        },
    ),
    "a page of an application": Answer(body=HTML, headers={**SERVER, "ETag": f'W/"{MD5}"'}),
    "a page behind CloudFront": Answer(
        body=HTML, headers={**SERVER, "x-amz-cf-id": "abc", "x-amz-cf-pop": "FRA60-P4"}
    ),
    "XHTML": Answer(
        body=b"<?xml version='1.0'?><!-- back soon -->\n<html xmlns='x'><body/></html>",
        headers={"Content-Type": "application/xhtml+xml"},
    ),
    "HTML": Answer(body=b"<html><br>back soon</html>", headers=SERVER),
    "JSON": Answer(body=b'{"ok": true}', headers={"Content-Type": "application/json"}),
    "nothing": Answer(body=b"", headers={}),
    "a login": Answer(302, body=b"", headers={"Location": "https://login.example.test/"}),
}


@pytest.fixture(scope="module")
def recording() -> Iterator[FakeS3]:
    with FakeS3() as server:
        yield server


@pytest.fixture
def recorder(recording: FakeS3) -> FakeS3:
    recording.clear()
    return recording


@pytest.fixture(scope="module")
def store(recording: FakeS3) -> S3Store:
    return make_store(recording.url, "pictures")


def make_store(endpoint: str, bucket: str) -> S3Store:
    keys = {"access_key_id": SecretStr("test"), "secret_access_key": SecretStr("test")}
    given = {"storage": "s3", "bucket_name": bucket, "endpoint_url": endpoint}
    return S3Store(StoreSettings.model_validate({**given, **keys}))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("stranger", STRANGERS)
def test_what_is_no_store_has_done_nothing(
    recorder: FakeS3, store: S3Store, verb: str, stranger: str
) -> None:
    recorder.say(STRANGERS[stranger])
    with pytest.raises(DarkroomError) as caught:
        VERBS[verb](store)
    assert caught.type is StoreRefused
    assert caught.value.detail == StoreError.sentence
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "exists"])
def test_the_refusal_names_what_answered(recorder: FakeS3, store: S3Store, verb: str) -> None:
    recorder.say(STRANGERS["a page"])
    with pytest.raises(StoreRefused) as caught:
        VERBS[verb](store)
    cause = caught.value.__cause__
    assert isinstance(cause, NoStoreAnswered)
    for word in ("200", "nginx/1.24.0", "text/html", "We are back soon"):
        assert word in str(cause)


@pytest.mark.parametrize("verb", ["delete", "abort_upload"])
def test_a_deletion_is_done_with_a_204_or_with_a_header_of_a_store(
    recorder: FakeS3, store: S3Store, verb: str
) -> None:
    for answer in (Answer(204, headers={}), Answer(200, headers={"x-amz-id-2": "a"})):
        recorder.say(answer)
        VERBS[verb](store)
    recorder.say(Answer(200, headers={"ETag": f'"{MD5}"'}))
    with pytest.raises(StoreRefused):
        VERBS[verb](store)


@pytest.mark.parametrize("verb", ["put", "put_part"])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"ETag": f'"{MD5}"'}, None),
        ({"ETag": MD5.upper()}, None),
        ({"ETag": '"of its own"', "x-amz-request-id": "a"}, None),
        ({"ETag": '"of its own"', "x-goog-hash": "a"}, None),
        ({"ETag": f'"{"0" * 32}"'}, StoreRefused),
        ({"x-amz-request-id": "a"}, StoreRefused),
        # The checksum of other bytes: they were changed on their way.
        ({"ETag": f'"{MD5}"', "x-amz-checksum-sha256": "AAAA"}, StoreUnavailable),
    ],
)
def test_a_put_is_done_with_an_etag_and_something_that_only_a_store_knows(
    recorder: FakeS3,
    store: S3Store,
    verb: str,
    headers: dict[str, str],
    expected: type[StoreError] | None,
) -> None:
    recorder.say(Answer(200, headers=headers))
    if expected is None:
        VERBS[verb](store)
    else:
        with pytest.raises(StoreError) as caught:
            VERBS[verb](store)
        assert caught.type is expected


@pytest.mark.parametrize("headers", [{"ETag": f'"{MD5}"'}, {"ETag": f'"{MD5}-3"'}, HEADERS])
def test_an_object_has_its_etag_or_a_header_of_a_store(
    recorder: FakeS3, store: S3Store, headers: dict[str, str]
) -> None:
    recorder.say(Answer(200, body=CONTENT, headers=headers))
    assert store.exists(KEY)
    stream = store.open(KEY).stream
    assert stream.read() == CONTENT
    stream.close()


def test_a_missing_page_is_no_missing_object(recorder: FakeS3, store: S3Store) -> None:
    recorder.say(Answer(404, body=HTML, headers=SERVER))
    with pytest.raises(StoreRefused) as caught:
        store.open(KEY)
    assert isinstance(caught.value.__cause__, ClientError)


@pytest.mark.parametrize("kind", ["moto", "ministack"])
def test_each_answer_of_a_store_is_believed(kind: str, request: pytest.FixtureRequest) -> None:
    bucket = Bucket.make(request.getfixturevalue(kind))
    store = make_store(bucket.endpoint, bucket.name)
    VERBS["put"](store)
    store.open(KEY).stream.close()
    assert store.exists(KEY)
    assert [found.key for found in store.find("originals/")] == [KEY]
    store.delete(KEY)
    upload_id = store.begin_upload(KEY, "image/jpeg")
    receipt = store.put_part(KEY, upload_id, 1, CONTENT, SHA256)
    assert store.find_uploads(KEY) == [upload_id]
    store.complete_upload(KEY, upload_id, [receipt])
    assert store.delete_many([KEY]) == {}
    store.abort_upload(KEY, store.begin_upload(KEY, "image/jpeg"))
    assert list(store.find("")) == []
