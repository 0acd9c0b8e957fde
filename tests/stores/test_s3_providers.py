"""Services that differ from AWS are served at once, without what they refuse, and told once."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import pytest
from pydantic import SecretStr

from errors import ObjectExists, StoreError, StoreRefused
from locations import StoreSettings
from storage.markers import BUCKET_KEY
from storage.s3 import S3Store
from storage.s3_powers import Power, Powers
from tests.support import providers
from tests.support.clinic import read_descriptions_once
from tests.support.providers import PROVIDERS, Front, Quirks, Refusal, name_operation
from tests.support.services import Bucket

CONTENT = b"picture"
PART = b"all of a file"
NO_PUT = Power.CREATE_ONLY_PUT
NO_UPLOAD = Power.CREATE_ONLY_UPLOAD
NO_SUMS = Power.CHECKSUMS
NO_MANY = Power.DELETE_MANY

# What each is found to lack by our own verbs. A wish that is taken and ignored cannot be seen
# here: the doctor tells it, who puts twice.
LACKS: dict[str, set[Power]] = {
    "aws": set(),
    "r2": set(),
    "old r2": {NO_SUMS},
    "b2": {NO_SUMS, NO_PUT, NO_UPLOAD},
    "gcs": {NO_MANY},
    "old gcs": {NO_SUMS, NO_MANY},
    "spaces": set(),
    "wasabi": set(),
    "minio": set(),
    "old minio": set(),
    "aliyun": {NO_PUT, NO_UPLOAD},
    "create-only unknown": {NO_PUT, NO_UPLOAD},
    "create-only invalid": {NO_PUT, NO_UPLOAD},
    "create-only not allowed": {NO_PUT, NO_UPLOAD},
    "create-only always fails": {NO_PUT, NO_UPLOAD},
    "create-only unsigned": {NO_PUT, NO_UPLOAD},
    "create-only of uploads unknown": {NO_UPLOAD},
    "checksums of parts unknown": {NO_SUMS},
    "bare etags": set(),
}


@pytest.fixture(autouse=True)
def made_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of these tests make a client, which reads botocore's descriptions of services."""
    read_descriptions_once(monkeypatch)


@pytest.fixture(scope="module")
def bucket(moto: str) -> Bucket:
    return Bucket.make(moto)


@dataclass
class Served:
    """A bucket behind a front, and a store that asks there."""

    front: Front
    bucket: Bucket
    store: S3Store

    def put(self, key: str, content: bytes = CONTENT) -> None:
        self.store.put(key, content, "image/jpeg", hashlib.sha256(content).hexdigest())

    def lacks(self) -> set[Power]:
        return {lack.power for lack in self.store.lacks}


Serve = Callable[[Quirks], Served]


@pytest.fixture
def serve(bucket: Bucket) -> Iterator[Serve]:
    fronts: list[Front] = []

    def start(quirks: Quirks) -> Served:
        front = Front(bucket.endpoint, quirks)
        fronts.append(front)
        return Served(front, bucket, make_store(front.url, bucket.name))

    yield start
    for front in fronts:
        front.close()


def make_store(endpoint: str, bucket: str) -> S3Store:
    test = SecretStr("test")
    return S3Store(
        StoreSettings(
            storage="s3",
            bucket_name=bucket,
            endpoint_url=endpoint,
            access_key_id=test,
            secret_access_key=test,
        )
    )


def name_key(request: pytest.FixtureRequest, name: str) -> str:
    word = hashlib.sha256(request.node.name.encode()).hexdigest()[:16]
    return f"originals/{word}-{name}"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_provider_is_served_at_once_by_doing_without_what_it_refuses(
    serve: Serve,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
    provider: str,
) -> None:
    served = serve(PROVIDERS[provider])
    store = served.store
    one, two, whole = (name_key(request, name) for name in ("one.jpg", "two.jpg", "whole.jpg"))
    with caplog.at_level(logging.WARNING, logger="storage"):
        for key in (one, two):
            served.put(key)
            with closing(store.open(key).stream) as stream:
                assert stream.read() == CONTENT
        upload_id = store.begin_upload(whole, "image/jpeg")
        receipt = store.put_part(whole, upload_id, 1, PART, hashlib.sha256(PART).hexdigest())
        assert upload_id in store.find_uploads(whole)
        store.complete_upload(whole, upload_id, [receipt])
        found = {found.key: found.size_bytes for found in store.find(name_key(request, ""))}
        assert found == {one: len(CONTENT), two: len(CONTENT), whole: len(PART)}
        assert store.delete_many([one, two, whole]) == {}
        assert list(store.find(name_key(request, ""))) == []
    assert served.lacks() == LACKS[provider]
    told = [line for line in caplog.messages if line.startswith("the store ")]
    assert len(told) == len(LACKS[provider]), told
    # What was refused once is not tried again.
    before = len(served.front.refused)
    served.put(one)
    store.delete(one)
    assert len(served.front.refused) == before


def test_a_service_that_refuses_everything_is_found_to_lack_nothing(serve: Serve) -> None:
    for refusal in (
        Refusal(403, "SignatureDoesNotMatch"),
        Refusal(400, "InvalidArgument", "x-amz-checksum-sha256 and If-None-Match"),
        Refusal(501, "NotImplemented"),
        Refusal(403, "AccessDenied"),
    ):
        served = serve(replace(providers.AWS, lacks={"PutObject": refusal}))
        with pytest.raises(StoreError):
            served.put("originals/a.jpg")
        assert served.lacks() == set()
        # Both wishes, each of them alone, neither: no more than that, and no end without one.
        assert len(served.front.sent("PutObject")) <= 4
        served.front.quirks = providers.AWS
        served.put(f"originals/{refusal.code}.jpg")
        headers = served.front.sent("PutObject")[-1].headers
        assert headers["if-none-match"] == "*" and "x-amz-checksum-sha256" in headers


def test_what_a_refusal_names_is_what_is_left_out(serve: Serve) -> None:
    served = serve(providers.OLD_R2)
    served.put("originals/named.jpg")
    wishes = [
        ("if-none-match" in seen.headers, "x-amz-checksum-sha256" in seen.headers)
        for seen in served.front.sent("PutObject")
    ]
    assert wishes == [(True, True), (True, False)]


def test_what_two_threads_find_out_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    powers = Powers("at home", sends_checksums=True)
    with caplog.at_level(logging.WARNING, logger="storage"):
        for _ in range(2):
            powers.note_lack(NO_MANY, None)
    assert [lack.power for lack in powers.lacks] == [NO_MANY]
    assert len(caplog.messages) == 1


def test_what_another_attempt_meets_is_said_as_it_is(serve: Serve) -> None:
    """A store that fails in between is away; nothing is concluded from it."""
    away = Refusal(503, "SlowDown")
    served = serve(
        Quirks(
            refused_headers={"if-none-match": Refusal(501, "NotImplemented")},
            lacks={},
        )
    )
    served.front.quirks = replace(
        served.front.quirks, refused_of={"PutObject": {"x-amz-checksum-sha256": away}}
    )
    with pytest.raises(StoreError) as caught:
        served.put("originals/between.jpg")
    assert "SlowDown" in str(caught.value.__cause__)
    assert served.lacks() == set()


def test_checksums_that_differ_are_no_lack_of_checksums(serve: Serve) -> None:
    for code in ("BadDigest", "XAmzContentChecksumMismatch", "InvalidDigest"):
        refusal = Refusal(400, code, "The provided 'x-amz-checksum' header does not match")
        served = serve(Quirks(refused_headers={"x-amz-checksum-sha256": refusal}))
        with pytest.raises(StoreError):
            served.put("originals/damaged.jpg")
        assert len(served.front.sent("PutObject")) == 1


def test_an_object_that_is_there_is_not_overwritten_and_the_wish_is_kept(serve: Serve) -> None:
    served = serve(providers.AWS)
    served.put("originals/there.jpg")
    for _ in range(3):
        with pytest.raises(ObjectExists):
            served.put("originals/there.jpg", b"another")
    assert served.lacks() == set()
    assert served.bucket.objects()["originals/there.jpg"] == CONTENT


def test_where_we_may_not_look_a_second_free_key_in_a_row_tells_that_every_put_is_refused(
    serve: Serve,
) -> None:
    blind = replace(
        providers.CREATE_ONLY_ALWAYS_FAILS, lacks={"HeadObject": Refusal(403, "AccessDenied")}
    )
    served = serve(blind)
    # A proxy may have sent our put twice; and the same key again tells nothing new.
    for _ in range(2):
        with pytest.raises(ObjectExists):
            served.put("originals/blind.jpg")
    served.put("originals/blind2.jpg")
    assert served.lacks() == {NO_PUT}


def test_where_we_may_not_look_two_meetings_that_a_success_parts_tell_nothing(
    serve: Serve,
) -> None:
    may_not_look = replace(providers.AWS, lacks={"HeadObject": Refusal(403, "AccessDenied")})
    served = serve(may_not_look)
    keys = ("originals/met1.jpg", "originals/met2.jpg")
    for number, key in enumerate(keys):
        served.put(key)
        with pytest.raises(ObjectExists):
            served.put(key, b"another")
        served.put(f"originals/between{number}.jpg")
    assert served.lacks() == set()
    assert [served.bucket.objects()[key] for key in keys] == [CONTENT, CONTENT]


def test_all_buckets_of_a_store_share_what_it_was_found_to_lack(serve: Serve, moto: str) -> None:
    served = serve(providers.CREATE_ONLY_UNKNOWN)
    other = Bucket.make(moto)
    store = served.store.in_bucket(other.name)
    store.put("originals/a.jpg", CONTENT, "image/jpeg", hashlib.sha256(CONTENT).hexdigest())
    served.put("originals/shared.jpg")
    assert len(served.front.refused) == 1
    assert served.lacks() == {lack.power for lack in store.lacks} == {NO_PUT}


def test_a_first_marker_is_made_where_create_only_is_unknown_and_replaces_none(
    serve: Serve, moto: str
) -> None:
    for quirks in (
        providers.CREATE_ONLY_UNKNOWN,
        providers.CREATE_ONLY_ALWAYS_FAILS,
        providers.B2,
        providers.CREATE_ONLY_UNSIGNED,
    ):
        bucket = Bucket.make(moto)
        store = serve(quirks).store.in_bucket(bucket.name)
        for _ in range(2):
            assert store.read_marker() is None
            store.write_marker(b"first", is_first=True)
            with pytest.raises(ObjectExists):
                store.write_marker(b"second", is_first=True)
            assert store.read_marker() == b"first"
            store.write_marker(b"renewed", is_first=False)
            assert store.read_marker() == b"renewed"
            bucket.client().delete_object(Bucket=bucket.name, Key=BUCKET_KEY)


@pytest.mark.parametrize(
    ("quirks", "line"),
    [
        (providers.AWS_ELSEWHERE, "S3_REGION=eu-west-1"),
        (providers.AWS_WRONG_SIGNATURE, "S3_REGION=eu-west-1"),
        (
            providers.WASABI_ELSEWHERE,
            "S3_ENDPOINT_URL=https://s3.eu-central-1.wasabisys.com",
        ),
    ],
)
def test_a_bucket_of_another_region_is_refused_and_told_once(
    serve: Serve, caplog: pytest.LogCaptureFixture, quirks: Quirks, line: str
) -> None:
    served = serve(quirks)
    with caplog.at_level(logging.ERROR, logger="storage"):
        for _ in range(2):
            with pytest.raises(StoreRefused):
                served.put("originals/elsewhere.jpg")
            with pytest.raises(StoreRefused):
                served.store.read_marker()
    [told] = [text for text in caplog.messages if "does not lie" in text]
    assert told.endswith(f"set {line}") and served.bucket.name in told
    # Nothing is sent on, and nobody is asked by another verb.
    assert {name_operation(seen) for seen in served.front.requests} == {"PutObject", "GetObject"}
    assert len(served.front.requests) == 4
