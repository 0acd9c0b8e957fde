"""Proves that a bucket is planned from the table of kinds and the settings alone."""

import json
from importlib import resources
from typing import Any

import pytest

from buckets import BucketPlan, plan_bucket
from buckets.plan import AWS_HOSTS, find_partition
from errors import StartupError
from files import kinds
from storage.markers import BUCKET_KEY
from tests.support.backends import make_settings

BUCKET = {"S3_BUCKET_NAME": "my-pictures", "S3_REGION": "eu-central-1"}
# Of a managed policy, in characters without white space.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
LONGEST_POLICY = 6144
PREFIXES = [kind.prefix for kind in kinds.KINDS]


def plan(**settings: str) -> BucketPlan:
    return plan_bucket(make_settings({**BUCKET, **settings}))


def statements(policy: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {statement["Sid"]: statement for statement in policy["Statement"]}


def read_partitions() -> list[dict[str, Any]]:
    """What botocore knows of the parts of AWS."""
    text = (resources.files("botocore") / "data" / "partitions.json").read_text()
    found: list[dict[str, Any]] = json.loads(text)["partitions"]
    return found


def test_everyone_may_read_what_is_public_and_nothing_else() -> None:
    [statement] = plan().bucket_policy()["Statement"]
    assert (statement["Principal"], statement["Action"]) == ("*", "s3:GetObject")
    public = [kind.prefix for kind in kinds.KINDS if kind.is_public]
    assert statement["Resource"] == [f"arn:aws:s3:::my-pictures/{prefix}*" for prefix in public]


def test_the_prefixes_are_those_of_the_kinds_and_what_comes_in_is_private() -> None:
    found = plan()
    assert sorted([*found.public_prefixes, *found.private_prefixes]) == sorted(
        [*PREFIXES, kinds.INCOMING_PREFIX]
    )
    assert kinds.INCOMING_PREFIX in found.private_prefixes
    assert not kinds.is_public(f"{kinds.INCOMING_PREFIX}a.jpg")


def test_regions_and_hosts_are_those_that_botocore_knows() -> None:
    for partition in read_partitions():
        regions = [name for name in partition["regions"] if not name.endswith("-global")]
        assert {find_partition(region) for region in regions} <= {partition["id"]}
        for suffix in ("dnsSuffix", "dualStackDnsSuffix"):
            assert f".{partition['outputs'][suffix]}" in AWS_HOSTS


def test_arns_name_the_part_of_aws_in_which_the_bucket_lies() -> None:
    for region, beginning in (
        ("us-east-1", "arn:aws:s3:::my-pictures"),
        ("cn-north-1", "arn:aws-cn:s3:::my-pictures"),
        ("us-gov-west-1", "arn:aws-us-gov:s3:::my-pictures"),
    ):
        found = plan(S3_REGION=region)
        documents = json.dumps([found.bucket_policy(), found.iam_policies()])
        assert documents.count('"arn:') == documents.count(f'"{beginning}') > 20
    # Other services know the one beginning only.
    elsewhere = plan(S3_REGION="cn-north-1", S3_ENDPOINT_URL="https://s3.example.com")
    assert elsewhere.arn == "arn:aws:s3:::my-pictures"


@pytest.mark.parametrize(
    ("endpoint", "is_aws"),
    [
        (None, True),
        ("https://s3.dualstack.eu-central-1.amazonaws.com", True),
        ("https://bucket.vpce-1a2b-5e6f.s3.eu-central-1.vpce.amazonaws.com", True),
        ("https://s3.example.com", False),
        ("https://amazonaws.com.example.com", False),
        ("http://127.0.0.1:9000", False),
    ],
)
def test_only_aws_is_asked_to_demand_creation(endpoint: str | None, is_aws: bool) -> None:
    found = plan(**({"S3_ENDPOINT_URL": endpoint} if endpoint else {}))
    assert found.is_aws is is_aws
    assert ("s3:if-none-match" in json.dumps(found.iam_policies())) is is_aws
    assert "Condition" not in json.dumps(found.bucket_policy())


def test_the_marker_is_exempt_and_so_is_what_comes_in() -> None:
    for name in ("service", "service-with-photos", "operator"):
        found = statements(plan().iam_policies()[name])
        assert found["Create"]["Condition"] == {"Null": {"s3:if-none-match": "false"}}
        marker = found["Marker"]
        assert marker["Resource"] == [f"arn:aws:s3:::my-pictures/{BUCKET_KEY}"]
        assert "Condition" not in marker and "s3:PutObject" in marker["Action"]
    assert "Condition" not in found["Incoming"]


@pytest.mark.parametrize("region", ["eu-central-1", "us-gov-west-1"])
def test_the_policy_of_a_bucket_with_the_longest_name_is_short_enough(region: str) -> None:
    for document in plan(S3_BUCKET_NAME="a" * 63, S3_REGION=region).iam_policies().values():
        assert len("".join(json.dumps(document).split())) <= LONGEST_POLICY


def test_nothing_but_what_has_a_prefix_of_ours_ever_expires() -> None:
    rules = plan().lifecycle()["Rules"]
    found = {rule["Filter"]["Prefix"]: rule for rule in rules}
    assert sorted(found) == sorted([*PREFIXES, kinds.INCOMING_PREFIX])
    assert len({rule["ID"] for rule in rules}) == len(rules)
    for prefix, rule in found.items():
        days = rule["Expiration"].get("Days")
        assert days == (1 if prefix == kinds.INCOMING_PREFIX else None)
        assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert found["originals/"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 3}


def test_a_service_without_versions_is_told_nothing_of_them() -> None:
    rules = plan().lifecycle(keeps_versions=False)["Rules"]
    assert [rule["Filter"]["Prefix"] for rule in rules] == ["originals/", "incoming/"]
    assert "Noncurrent" not in json.dumps(rules) and "Marker" not in json.dumps(rules)


@pytest.mark.parametrize(
    ("settings", "origins"),
    [
        ({}, None),
        ({"CORS_ORIGINS": "https://a.example.com"}, ["https://a.example.com"]),
        # To the bucket, the service's own pages are another origin's.
        (
            {"CORS_ORIGINS": "https://a.example.com", "PUBLIC_URL": "https://b.example.com:443/x"},
            ["https://a.example.com", "https://b.example.com"],
        ),
        ({"CORS_ORIGINS": "*,https://a.example.com", "PUBLIC_URL": "https://b.example.com"}, ["*"]),
    ],
)
def test_the_pages_that_may_ask_are_those_of_the_settings(
    settings: dict[str, str], origins: list[str] | None
) -> None:
    rules = plan(**settings).cors()["CORSRules"]
    assert [rule["AllowedOrigins"] for rule in rules] == ([] if origins is None else [origins])
    for rule in rules:
        assert {"GET", "PUT", "POST"} <= set(rule["AllowedMethods"])
        assert "Content-Type" in rule["AllowedHeaders"] and "ETag" in rule["ExposeHeaders"]


def test_a_page_may_send_what_the_settings_add() -> None:
    [rule] = plan(CORS_ORIGINS="*", CORS_HEADERS="X-My-Header").cors()["CORSRules"]
    assert "X-My-Header" in rule["AllowedHeaders"]


def test_public_policies_are_not_blocked_and_public_acls_are() -> None:
    boxes = plan().public_access_block()
    assert {name for name, is_on in boxes.items() if is_on} == {
        "BlockPublicAcls",
        "IgnorePublicAcls",
    }
    assert len(boxes) == 4
    # Ceph's gateway refuses every put while it is told to refuse public ACLs.
    elsewhere = plan(S3_ENDPOINT_URL="https://s3.example.com").public_access_block()
    assert elsewhere == dict.fromkeys(boxes, False)
    assert plan().ownership() == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}


def test_a_bucket_is_planned_before_it_is_used() -> None:
    assert plan(STORAGE="local").bucket == "my-pictures"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "set S3_BUCKET_NAME"),
        (
            {"S3_BUCKET_NAME": "arn:aws:s3:eu-central-1:123456789012:accesspoint/pictures"},
            "an access point.*own name",
        ),
    ],
)
def test_what_cannot_be_planned_is_said(settings: dict[str, str], sentence: str) -> None:
    with pytest.raises(StartupError, match=sentence):
        plan_bucket(make_settings(settings))
