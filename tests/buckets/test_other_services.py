"""Proves what `bucket apply` does where a service, or an account, does not take what is planned."""

import dataclasses
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from buckets import BucketPlan, plan_bucket
from buckets.applying import Applied, Outcome, apply_plan, open_client
from buckets.plan import find_store
from tests.support.backends import make_settings
from tests.support.policed_s3 import PolicedS3
from tests.support.s3_messages import Request, render, render_error
from tests.support.services import Bucket


class PickyS3(PolicedS3):
    """It refuses puts whose query and body have these words."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.refused: dict[tuple[str, bytes], tuple[int, str, str]] = {}
        self.puts: list[Request] = []
        self.most_refusals = 1000

    def pass_on(self, request: Request) -> bytes:
        if request.method == "PUT":
            self.puts.append(request)
            for (query, word), (status, code, message) in self.refused.items():
                if query in request.path and word in request.body and self.most_refusals > 0:
                    self.most_refusals -= 1
                    body = render_error(code).replace(b"planned", message.encode())
                    return render(status, [("x-amz-request-id", "picky")], body)
        return super().pass_on(request)


@pytest.fixture
def picky(moto: str) -> Iterator[PickyS3]:
    with PickyS3(moto) as picky:
        yield picky


@pytest.fixture
def bucket(picky: PickyS3) -> Bucket:
    bucket = Bucket(picky.url, f"bucket-{uuid.uuid4().hex}")
    bucket.client().create_bucket(Bucket=bucket.name)
    return bucket


def plan(bucket: Bucket, *, is_aws: bool = False) -> BucketPlan:
    settings = {**bucket.settings(), "CORS_ORIGINS": "https://app.example.com"}
    return dataclasses.replace(plan_bucket(make_settings(settings)), is_aws=is_aws)


def apply(bucket: Bucket, *, is_aws: bool = False) -> dict[str, Applied]:
    applied = apply_plan(plan(bucket, is_aws=is_aws), bucket.client(), is_dry=False)
    return {each.part: each for each in applied}


def read_rules(bucket: Bucket) -> list[dict[str, Any]]:
    found = bucket.client().get_bucket_lifecycle_configuration(Bucket=bucket.name)
    rules: list[dict[str, Any]] = found["Rules"]
    return rules


def test_a_service_without_versions_gets_the_other_rules(picky: PickyS3, bucket: Bucket) -> None:
    refusal = (501, "NotImplemented", "no versions here")
    picky.refused = {("lifecycle", b"NoncurrentVersionExpiration"): refusal}
    lifecycle = apply(bucket)["lifecycle"]
    assert lifecycle.outcome is Outcome.CHANGED
    assert "without what is said of old versions" in lifecycle.sentence
    assert [rule["Filter"]["Prefix"] for rule in read_rules(bucket)] == ["originals/", "incoming/"]
    assert apply(bucket)["lifecycle"].outcome is Outcome.AS_PLANNED


def test_a_service_without_lifecycle_is_told(picky: PickyS3, bucket: Bucket) -> None:
    picky.refused = {("lifecycle", b""): (501, "NotImplemented", "no lifecycle here")}
    lifecycle = apply(bucket)["lifecycle"]
    assert lifecycle.outcome is Outcome.FAILED and "no lifecycle here" in lifecycle.sentence
    with pytest.raises(ClientError, match="NoSuchLifecycle"):
        read_rules(bucket)


def test_what_only_aws_has_is_missed_nowhere_else(picky: PickyS3, bucket: Bucket) -> None:
    picky.refused = {("ownershipControls", b""): (501, "NotImplemented", "none here")}
    elsewhere = apply(bucket)["ownership"]
    assert elsewhere.outcome is Outcome.UNKNOWN_HERE and "knows none" in elsewhere.sentence
    assert apply(bucket, is_aws=True)["ownership"].outcome is Outcome.FAILED


# As AWS says it, since 2024.
BLOCKED = (
    "User: arn:aws:iam::123456789012:user/a is not authorized to perform: s3:PutBucketPolicy"
    " because public policies are prevented by the BlockPublicPolicy setting in S3 Block Public"
    " Access."
)


@pytest.mark.parametrize(
    ("part", "query", "refusal"),
    [
        ("bucket-policy", "policy", (403, "AccessDenied", BLOCKED)),
        ("cors", "cors", (409, "OperationAborted", "a conflicting operation")),
        ("lifecycle", "lifecycle", (404, "NoSuchBucket", "no such bucket")),
    ],
)
def test_what_was_changed_a_moment_ago_is_given_time(
    picky: PickyS3,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    query: str,
    refusal: tuple[int, str, str],
) -> None:
    monkeypatch.setattr("buckets.applying.PAUSE_SECONDS", 0)
    picky.refused = {(query, b""): refusal}
    picky.most_refusals = 3
    assert apply(bucket, is_aws=True)[part].outcome is Outcome.CHANGED
    assert picky.most_refusals == 0


def test_a_refusal_that_is_not_about_time_is_believed_at_once(
    picky: PickyS3, bucket: Bucket
) -> None:
    picky.refused = {("cors", b""): (400, "InvalidRequest", "not like this")}
    assert apply(bucket)["cors"].outcome is Outcome.FAILED
    assert picky.most_refusals == 999


def test_an_account_that_blocks_public_policies_is_named(
    picky: PickyS3, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buckets.applying.SETTLE_SECONDS", 0)
    picky.refused = {("policy", b""): (403, "AccessDenied", BLOCKED)}
    policy = apply(bucket, is_aws=True)["bucket-policy"]
    assert policy.outcome is Outcome.FAILED
    assert "The account blocks public policies for all of its buckets" in policy.sentence


def test_what_aws_takes_for_granted_of_transitions_stays_as_it_was(
    picky: PickyS3, bucket: Bucket
) -> None:
    apply(bucket)
    [put] = [each for each in picky.puts if "lifecycle" in each.path]
    assert put.headers.get("x-amz-transition-default-minimum-object-size") is None
    rule = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "a/"}}
    bucket.client().put_bucket_lifecycle_configuration(
        Bucket=bucket.name,
        LifecycleConfiguration={"Rules": [{**rule, "Expiration": {"Days": 9}}]},
        TransitionDefaultMinimumObjectSize="varies_by_storage_class",
    )
    picky.puts.clear()
    apply(bucket)
    [put] = [each for each in picky.puts if "lifecycle" in each.path]
    # moto always answers this one.
    told = put.headers["x-amz-transition-default-minimum-object-size"]
    assert told == "all_storage_classes_128K"


def test_a_service_of_one_place_makes_the_bucket_there(picky: PickyS3) -> None:
    """As Ceph's gateway does, which answers so to every region that it does not call its own."""
    new = Bucket(picky.url, f"bucket-{uuid.uuid4().hex}")
    refusal = (400, "InvalidLocationConstraint", "no such place")
    picky.refused = {(new.name, b"LocationConstraint"): refusal}
    elsewhere = dataclasses.replace(plan(new), region="eu-central-1")
    first, *_ = apply_plan(elsewhere, new.client(), is_dry=False)
    assert first.outcome is Outcome.CHANGED
    aws = Bucket(picky.url, f"bucket-{uuid.uuid4().hex}")
    picky.refused = {(aws.name, b"LocationConstraint"): refusal}
    in_aws = dataclasses.replace(plan(aws, is_aws=True), region="eu-central-1")
    [told] = apply_plan(in_aws, aws.client(), is_dry=False)
    assert told.outcome is Outcome.FAILED and "no such place" in told.sentence


def test_without_credentials_a_profile_is_asked_for(
    moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    given = {"S3_BUCKET_NAME": "my-pictures", "S3_ENDPOINT_URL": moto}
    settings = make_settings(given)
    client = open_client(find_store(settings))
    [told] = apply_plan(plan_bucket(settings), client, is_dry=True)
    assert told.outcome is Outcome.FAILED and "--profile" in told.sentence


def test_a_bucket_of_another_region_is_named(bucket: Bucket) -> None:
    there = dataclasses.replace(plan(bucket, is_aws=True), region="eu-west-1")
    [told] = apply_plan(there, bucket.client(), is_dry=False)
    assert told.outcome is Outcome.FAILED and told.sentence.endswith("set S3_REGION=us-east-1")
