"""Deletions of many objects in a bucket: one request, and gone is only what is named as gone."""

import base64
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from pydantic import SecretStr

from errors import DarkroomError, StoreError, StoreRefused, StoreUnavailable
from locations import StoreSettings
from storage.contract import DELETED_AT_ONCE
from storage.s3 import S3Store
from storage.s3_deletions import DELETED_SINGLY_AT_ONCE
from tests.support.s3 import FakeS3
from tests.support.s3_messages import Answer, render_deleted
from tests.support.services import Bucket

KEYS = [f"profile_pics/{number}.jpg" for number in range(3)]


@pytest.fixture(scope="module")
def recording() -> Iterator[FakeS3]:
    with FakeS3() as server:
        yield server


@pytest.fixture
def recorder(recording: FakeS3) -> FakeS3:
    recording.clear()
    return recording


@pytest.fixture
def store(recorder: FakeS3) -> S3Store:
    return make_store(recorder.url)


def make_store(endpoint: str, **more: object) -> S3Store:
    keys = {"access_key_id": SecretStr("key"), "secret_access_key": SecretStr("secret")}
    given = {"storage": "s3", "bucket_name": "pictures", "endpoint_url": endpoint}
    return S3Store(StoreSettings.model_validate({**given, **keys, **more}))


def say_errors(*codes: str) -> Answer:
    """The answer to a deletion of KEYS: these codes to the first of them, the others are gone."""
    errors = "".join(
        f"<Error><Key>{key}</Key><Code>{code}</Code><Message>planned</Message></Error>"
        for key, code in zip(KEYS, codes, strict=False)
    )
    body = render_deleted(KEYS[len(codes) :])
    return Answer(body=body.replace(b"</DeleteResult>", f"{errors}</DeleteResult>".encode()))


def kinds(errors: dict[str, DarkroomError]) -> dict[str, type[DarkroomError]]:
    return {key: type(error) for key, error in errors.items()}


@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
def test_many_are_one_request_with_the_checksum_that_every_service_knows(
    recorder: FakeS3, checksums: str
) -> None:
    assert make_store(recorder.url, checksums=checksums).delete_many(KEYS) == {}
    [seen] = recorder.requests
    assert (seen.method, seen.path, seen.keys) == ("POST", "/pictures?delete", KEYS)
    digest = hashlib.md5(seen.body, usedforsecurity=False).digest()
    assert seen.headers["content-md5"] == base64.b64encode(digest).decode()
    assert [name for name in seen.headers if "checksum" in name or name == "x-amz-trailer"] == []


def test_gone_is_what_is_named_as_gone_or_as_never_there(recorder: FakeS3, store: S3Store) -> None:
    recorder.say(say_errors("AccessDenied", "NoSuchKey"))
    errors = store.delete_many(KEYS)
    assert kinds(errors) == {KEYS[0]: StoreRefused}
    assert "AccessDenied" in str(errors[KEYS[0]].__cause__)
    recorder.say(say_errors("InternalError"))
    assert kinds(store.delete_many(KEYS)) == {KEYS[0]: StoreUnavailable}
    recorder.say(Answer(body=render_deleted([KEYS[1], "profile_pics/another.jpg"])))
    assert kinds(store.delete_many(KEYS)) == {
        KEYS[0]: StoreUnavailable,
        KEYS[2]: StoreUnavailable,
    }
    assert len(recorder.requests) == 3


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(403, "InvalidAccessKeyId"), StoreRefused),
        (Answer(404, "NoSuchBucket"), StoreRefused),
        (Answer(404, body=b"<html>not here</html>"), StoreRefused),
        (Answer(400, "BadDigest"), StoreUnavailable),
        (Answer(500, "InternalError"), StoreUnavailable),
        (Answer(503, "SlowDown"), StoreUnavailable),
        (Answer(501, "NotImplemented"), StoreUnavailable),
    ],
    ids=lambda value: f"{value.status} {value.code}" if isinstance(value, Answer) else None,
)
def test_a_store_that_fails_as_a_whole_says_so_and_is_asked_for_many_again(
    recorder: FakeS3, store: S3Store, answer: Answer, expected: type[StoreError]
) -> None:
    recorder.say(answer)
    with pytest.raises(StoreError) as caught:
        store.delete_many(KEYS)
    assert caught.type is expected
    assert caught.value.__cause__ is not None
    assert len(recorder.requests) <= 2  # also by itself, to see whether only the call is lacking
    recorder.say(say_errors())
    assert store.delete_many(KEYS) == {}
    assert store.batch_size() == DELETED_AT_ONCE


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (501, "NotImplemented"),
        (405, "MethodNotAllowed"),
        (400, "InvalidArgument"),
        (400, "MissingContentMD5"),
        (403, "AccessDenied"),
        (404, ""),
    ],
)
def test_where_the_service_has_no_such_call_each_is_deleted_by_itself_and_from_then_on(
    recorder: FakeS3,
    store: S3Store,
    caplog: pytest.LogCaptureFixture,
    status: int,
    code: str,
) -> None:
    recorder.say(Answer(status, code), Answer(204))
    with caplog.at_level(logging.WARNING):
        assert store.delete_many(KEYS) == {}
        assert store.delete_many(KEYS[:2]) == {}
    assert [seen.method for seen in recorder.requests] == ["POST"] + ["DELETE"] * 6
    assert len([line for line in caplog.messages if "by itself" in line]) == 1
    assert store.batch_size() == DELETED_SINGLY_AT_ONCE


def test_deleted_by_themselves_they_fail_by_themselves(recorder: FakeS3, store: S3Store) -> None:
    lacking = Answer(501, "NotImplemented")
    recorder.say(lacking, Answer(204), Answer(204), Answer(403, "AccessDenied"), Answer(204))
    several = KEYS + [f"many/{number}.jpg" for number in range(DELETED_SINGLY_AT_ONCE)]
    errors = store.delete_many(several)
    # What had no time comes again; from now on nobody asks for so many.
    late = dict.fromkeys(several[DELETED_SINGLY_AT_ONCE:], StoreUnavailable)
    assert kinds(errors) == {KEYS[1]: StoreRefused, **late}


@dataclass
class Versioned:
    """A bucket that keeps versions, and the store in it."""

    bucket: Bucket
    store: S3Store

    def put(self, *keys: str) -> None:
        for key in keys:
            self.store.put(key, b"x", "image/jpeg", hashlib.sha256(b"x").hexdigest())

    def kept(self) -> list[tuple[str, str]]:
        """All versions and markers that the bucket has, by key."""
        listed = self.bucket.client().list_object_versions(Bucket=self.bucket.name)
        versions = [(found["Key"], "version") for found in listed.get("Versions", [])]
        markers = [(found["Key"], "marker") for found in listed.get("DeleteMarkers", [])]
        return sorted(versions + markers)


def enable_versions(bucket: Bucket) -> None:
    bucket.client().put_bucket_versioning(
        Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
    )


@pytest.fixture(params=["moto", "ministack"])
def versioned(request: pytest.FixtureRequest) -> Versioned:
    bucket = Bucket.make(request.getfixturevalue(request.param))
    enable_versions(bucket)
    return Versioned(bucket, make_store(bucket.endpoint, bucket_name=bucket.name))


def lines_of(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return len([line for line in caplog.messages if words in line])


@pytest.mark.parametrize("is_of_many", [False, True])
def test_a_bucket_that_keeps_what_is_deleted_is_noticed_and_told_once(
    versioned: Versioned, caplog: pytest.LogCaptureFixture, is_of_many: bool
) -> None:
    store = versioned.store
    versioned.put(*KEYS)
    assert not store.keeps_versions
    with caplog.at_level(logging.WARNING):
        if is_of_many:
            assert store.delete_many(KEYS) == {}
        else:
            for key in KEYS:
                store.delete(key)
    assert store.keeps_versions
    assert lines_of(caplog, "keeps versions") == 1
    assert not any(store.exists(key) for key in KEYS)
    assert versioned.kept() == sorted((key, kind) for key in KEYS for kind in ("marker", "version"))
    assert store.batch_size() == DELETED_AT_ONCE


@pytest.mark.parametrize("is_of_many", [False, True])
def test_erasing_removes_each_version_of_these_very_keys(
    versioned: Versioned, is_of_many: bool
) -> None:
    store = versioned.store
    longer = f"{KEYS[0]}2"
    versioned.put(*KEYS, longer)
    store.delete(KEYS[0])  # as a deletion that was cut off before it erased
    if is_of_many:
        assert store.delete_many(KEYS[:2], erases=True) == {}
    else:
        for key in KEYS[:2]:
            store.delete(key, erases=True)
    assert versioned.kept() == [(longer, "version"), (KEYS[2], "version")]
    assert store.batch_size(erases=True) == DELETED_SINGLY_AT_ONCE


def test_each_bucket_is_noticed_by_itself(versioned: Versioned) -> None:
    plain = Bucket.make(versioned.bucket.endpoint)
    versioned.put(KEYS[0])
    versioned.store.delete(KEYS[0])
    other = versioned.store.in_bucket(plain.name)
    other.delete(KEYS[0])
    assert (versioned.store.keeps_versions, other.keeps_versions) == (True, False)


def test_where_versions_may_not_be_erased_the_object_is_deleted_and_the_rights_are_named_once(
    recorder: FakeS3, store: S3Store, caplog: pytest.LogCaptureFixture
) -> None:
    marked = Answer(204, headers={"x-amz-delete-marker": "true", "x-amz-version-id": "v2"})
    denied = Answer(403, "AccessDenied")
    recorder.say(marked, denied, marked, denied)
    with caplog.at_level(logging.WARNING):
        for key in KEYS[:2]:
            store.delete(key, erases=True)
    assert lines_of(caplog, "s3:ListBucketVersions and s3:DeleteObjectVersion") == 1
    assert [seen.method for seen in recorder.requests] == ["DELETE", "GET"] * 2
    recorder.say(marked, Answer(503, "SlowDown"))
    with pytest.raises(StoreUnavailable):
        store.delete(KEYS[2], erases=True)


def test_the_id_of_a_version_is_no_version_that_is_kept(recorder: FakeS3, store: S3Store) -> None:
    recorder.say(Answer(204, headers={"x-amz-version-id": "v1", "x-amz-request-id": "a"}))
    store.delete(KEYS[0], erases=True)
    assert not store.keeps_versions
    assert len(recorder.requests) == 1


def test_of_many_those_whose_versions_were_not_erased_come_again(
    recorder: FakeS3, store: S3Store
) -> None:
    markers = "".join(
        f"<Deleted><Key>{key}</Key><DeleteMarker>true</DeleteMarker></Deleted>" for key in KEYS
    )
    listed = Answer(body=b"<ListVersionsResult></ListVersionsResult>")
    recorder.say(
        Answer(body=f"<DeleteResult>{markers}</DeleteResult>".encode()),
        listed,
        Answer(503, "SlowDown"),
        listed,
    )
    assert kinds(store.delete_many(KEYS, erases=True)) == {KEYS[1]: StoreUnavailable}
