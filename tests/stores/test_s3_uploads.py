"""Uploads in parts to S3: each request as it should be, each answer believed with its proof."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from xml.etree import ElementTree

import pytest
from pydantic import SecretStr

from errors import ObjectExists, StoreError, StoreRefused, StoreUnavailable
from locations import StoreSettings
from storage.s3 import S3Store
from tests.support.s3 import FakeS3, Fault
from tests.support.s3_messages import HEADERS, Answer, Request

KEY = "originals/x.jpg"
UPLOAD_ID = "an/id+of=the service"
CONTENT = b"part"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CHECKSUM = base64.b64encode(bytes.fromhex(SHA256)).decode()
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"

BEGUN = Answer(
    body=b"<InitiateMultipartUploadResult><UploadId>an-id</UploadId>"
    b"</InitiateMultipartUploadResult>"
)
STORED = Answer(headers={**HEADERS, "ETag": '"e1"'})
COMPLETED = Answer(
    body=b"<CompleteMultipartUploadResult><ETag>&quot;e-1&quot;</ETag>"
    b"</CompleteMultipartUploadResult>"
)
ABORTED = Answer(204)
FOUND = Answer(body=b"<ListMultipartUploadsResult></ListMultipartUploadsResult>")


@pytest.fixture(scope="module")
def recording() -> Iterator[FakeS3]:
    with FakeS3() as server:
        yield server


@pytest.fixture
def recorder(recording: FakeS3) -> FakeS3:
    recording.clear()
    return recording


@pytest.fixture(scope="module")
def shared_store(recording: FakeS3) -> S3Store:
    return make_store(recording.url)


def make_store(endpoint: str, **more: object) -> S3Store:
    keys = {"access_key_id": SecretStr("key"), "secret_access_key": SecretStr("secret")}
    given = {"storage": "s3", "bucket_name": "pictures", "endpoint_url": endpoint}
    return S3Store(StoreSettings.model_validate({**given, **keys, **more}))


def make_receipt(etag: str) -> str:
    return json.dumps({"ETag": etag, "ChecksumSHA256": CHECKSUM})


def begin(store: S3Store) -> str:
    return store.begin_upload(KEY, "image/jpeg")


def put_part(store: S3Store) -> str:
    return store.put_part(KEY, UPLOAD_ID, 2, CONTENT, SHA256)


def complete(store: S3Store) -> None:
    store.complete_upload(KEY, UPLOAD_ID, [make_receipt('"e1"'), make_receipt('"e2"')])


def abort(store: S3Store) -> None:
    store.abort_upload(KEY, UPLOAD_ID)


def find(store: S3Store) -> list[str]:
    return store.find_uploads(KEY)


# How each answers when all is well.
VERBS: dict[Callable[[S3Store], object], Answer] = {
    begin: BEGUN,
    put_part: STORED,
    complete: COMPLETED,
    abort: ABORTED,
    find: FOUND,
}


def read_parts(request: Request) -> list[dict[str, str | None]]:
    parts = ElementTree.fromstring(request.body).iter(f"{NAMESPACE}Part")
    return [{field.tag.removeprefix(NAMESPACE): field.text for field in part} for part in parts]


def test_an_upload_begins_with_its_type_its_caching_and_the_checksum_to_come(
    recorder: FakeS3, shared_store: S3Store
) -> None:
    recorder.say(BEGUN)
    assert begin(shared_store) == "an-id"
    [seen] = recorder.requests
    assert (seen.method, seen.path) == ("POST", f"/pictures/{KEY}?uploads")
    expected = {
        "content-type": "image/jpeg",
        "cache-control": "public, max-age=31536000, immutable",
        "x-amz-checksum-algorithm": "SHA256",
    }
    assert {name: seen.headers.get(name) for name in expected} == expected
    assert "x-amz-acl" not in seen.headers


def test_a_part_carries_its_number_and_its_checksum(
    recorder: FakeS3, shared_store: S3Store
) -> None:
    recorder.say(STORED)
    assert put_part(shared_store) == make_receipt('"e1"')
    [seen] = recorder.requests
    assert (seen.method, seen.body) == ("PUT", CONTENT)
    assert "partNumber=2" in seen.path
    assert "uploadId=an%2Fid%2Bof%3Dthe%20service" in seen.path
    assert seen.headers["x-amz-checksum-sha256"] == CHECKSUM
    assert seen.headers["x-amz-content-sha256"] == SHA256


def test_completing_names_all_parts_and_wishes_not_to_overwrite(
    recorder: FakeS3, shared_store: S3Store
) -> None:
    recorder.say(COMPLETED)
    complete(shared_store)
    [seen] = recorder.requests
    assert (seen.method, seen.headers["if-none-match"]) == ("POST", "*")
    assert read_parts(seen) == [
        {"PartNumber": "1", "ETag": '"e1"', "ChecksumSHA256": CHECKSUM},
        {"PartNumber": "2", "ETag": '"e2"', "ChecksumSHA256": CHECKSUM},
    ]


def test_no_checksum_is_sent_to_a_service_that_knows_none(recorder: FakeS3) -> None:
    recorder.say(BEGUN, STORED, COMPLETED)
    store = make_store(recorder.url, checksums="when_required")
    begin(store)
    receipt = put_part(store)
    store.complete_upload(KEY, UPLOAD_ID, [receipt, receipt])
    assert recorder.requests[1].headers["x-amz-content-sha256"] == SHA256
    headers = [name for seen in recorder.requests for name in seen.headers]
    assert [name for name in headers if "checksum" in name or name == "x-amz-trailer"] == []
    assert [sorted(part) for part in read_parts(recorder.requests[2])] == [
        ["ETag", "PartNumber"],
        ["ETag", "PartNumber"],
    ]


def test_an_end_is_believed_that_names_the_key_and_no_etag(
    recorder: FakeS3, shared_store: S3Store
) -> None:
    recorder.say(
        Answer(
            body=f"<CompleteMultipartUploadResult><Key>{KEY}</Key><ETag></ETag>"
            "</CompleteMultipartUploadResult>".encode()
        )
    )
    complete(shared_store)


def test_an_older_bucket_keeps_its_own_uploads(recorder: FakeS3, shared_store: S3Store) -> None:
    recorder.say(ABORTED)
    abort(shared_store.in_bucket("older"))
    abort(shared_store)
    paths = [seen.path.partition("?")[0] for seen in recorder.requests]
    assert paths == [f"/older/{KEY}", f"/pictures/{KEY}"]


# Those of pages that are no store's are in test_s3_proofs.py.
@pytest.mark.parametrize(
    ("verb", "body"),
    [
        (begin, b"<InitiateMultipartUploadResult></InitiateMultipartUploadResult>"),
        (complete, b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"),
    ],
)
def test_a_success_without_a_receipt_is_not_believed(
    recorder: FakeS3, shared_store: S3Store, verb: Callable[[S3Store], object], body: bytes
) -> None:
    recorder.say(Answer(body=body))
    with pytest.raises(StoreUnavailable):
        verb(shared_store)
    assert len(recorder.requests) == 1


def test_an_error_behind_a_status_of_200_is_an_error(
    recorder: FakeS3, shared_store: S3Store
) -> None:
    # S3 begins to answer before it has put the parts together.
    recorder.say(Answer(200, "InternalError"))
    with pytest.raises(StoreUnavailable):
        complete(shared_store)
    assert len(recorder.requests) == 1


FAILURES: dict[str, Answer | Fault] = {
    "500": Answer(500, "InternalError"),
    "503": Answer(503, "SlowDown"),
    "429": Answer(429, "TooManyRequests"),
    "reset": "reset",
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_said_after_one_attempt(
    recorder: FakeS3, shared_store: S3Store, verb: Callable[[S3Store], object], failure: str
) -> None:
    recorder.say(FAILURES[failure])
    with pytest.raises(StoreUnavailable):
        verb(shared_store)
    assert len(recorder.requests) == 1


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(403, "AccessDenied"), StoreRefused),
        (Answer(404, "NoSuchBucket"), StoreRefused),
        (Answer(404, body=b"<html>not here</html>"), StoreRefused),
        (Answer(400, "BadDigest"), StoreUnavailable),
        (Answer(400, "InvalidPart"), StoreUnavailable),
    ],
    ids=lambda value: f"{value.status} {value.code}" if isinstance(value, Answer) else None,
)
def test_every_refusal_becomes_an_error_of_ours(
    recorder: FakeS3,
    shared_store: S3Store,
    verb: Callable[[S3Store], object],
    answer: Answer,
    expected: type[StoreError],
) -> None:
    recorder.say(answer)
    with pytest.raises(StoreError) as caught:
        verb(shared_store)
    assert caught.type is expected
    assert caught.value.__cause__ is not None


def test_an_upload_that_is_gone_is_aborted_and_otherwise_a_store_that_fails(
    recorder: FakeS3, shared_store: S3Store
) -> None:
    recorder.say(Answer(404, "NoSuchUpload"))
    abort(shared_store)
    for verb in (put_part, complete):
        with pytest.raises(StoreUnavailable):
            verb(shared_store)


@pytest.mark.parametrize("status", [409, 412])
def test_completing_says_that_the_key_is_taken(
    recorder: FakeS3, shared_store: S3Store, status: int
) -> None:
    recorder.say(Answer(status, "PreconditionFailed"))
    with pytest.raises(ObjectExists):
        complete(shared_store)
    methods = [seen.method for seen in recorder.requests if seen.method != "HEAD"]
    assert methods == ["POST"], "the upload is the caller's"


def wishes(recorder: FakeS3) -> list[str | None]:
    return [seen.headers.get("if-none-match") for seen in recorder.requests]


def test_a_service_without_create_only_uploads_is_asked_again_without_and_from_then_on(
    recorder: FakeS3,
) -> None:
    recorder.say(Answer(501, "NotImplemented"), COMPLETED)
    store = make_store(recorder.url)
    complete(store)
    complete(store)
    assert wishes(recorder) == ["*", None, None]
    first = recorder.requests[0]
    assert [(seen.path, seen.body) for seen in recorder.requests] == [(first.path, first.body)] * 3
    # Its puts are another matter.
    recorder.say(STORED)
    store.put(KEY, CONTENT, "image/jpeg", SHA256)
    assert wishes(recorder)[-1] == "*"


def test_a_service_that_refuses_for_another_reason_keeps_create_only_uploads(
    recorder: FakeS3,
) -> None:
    recorder.say(Answer(501, "NotImplemented"))
    store = make_store(recorder.url)
    with pytest.raises(StoreUnavailable):
        complete(store)
    recorder.say(COMPLETED)
    complete(store)
    # The create-only header, the checksums, and both of them could have been it.
    assert wishes(recorder) == ["*", None, "*", None, "*"]


def test_uploads_are_looked_for_page_by_page(recorder: FakeS3, shared_store: S3Store) -> None:
    def page(key: str, upload_id: str, more: str) -> Answer:
        upload = f"<Upload><Key>{key}</Key><UploadId>{upload_id}</UploadId></Upload>"
        listing = f"<ListMultipartUploadsResult>{upload}{more}</ListMultipartUploadsResult>"
        return Answer(body=listing.encode())

    marker = "<NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>"
    recorder.say(
        page(f"{KEY}2", "another's", f"<IsTruncated>true</IsTruncated>{marker}"),
        page(KEY, "mine", "<IsTruncated>false</IsTruncated>"),
    )
    assert find(shared_store) == ["mine"]
    assert all("prefix=originals%2Fx.jpg" in seen.path for seen in recorder.requests)
