"""Proves that the template is one of CloudFormation, and says what the plan says."""

import json
from typing import Any

import pytest
from cfnlint.api import lint
from cfnlint.config import ManualArgs

from buckets import BucketPlan, plan_bucket, printing
from tests.support.backends import make_settings


def plan(region: str, name: str = "my-pictures", **more: str) -> BucketPlan:
    return plan_bucket(make_settings({"S3_BUCKET_NAME": name, "S3_REGION": region, **more}))


def find_faults(template: dict[str, Any], region: str) -> list[str]:
    """What the linter says of it, mere advice included."""
    arguments = ManualArgs(regions=[region], include_checks=["I"])
    return [f"{found.rule.id}: {found.message}" for found in lint(json.dumps(template), arguments)]


@pytest.mark.parametrize(
    ("region", "name"),
    [("eu-central-1", "my-pictures-111122223333-eu-central-1-an"), ("cn-north-1", "my.pictures")],
)
def test_the_linter_finds_no_fault(region: str, name: str) -> None:
    planned = plan(region, name, CORS_ORIGINS="https://app.example.com")
    assert find_faults(printing.make_template(planned), region) == []


def test_the_linter_finds_faults() -> None:
    template = printing.make_template(plan("us-east-1"))
    resources = template["Resources"]
    resources["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"][0]["Day"] = 1
    [statement] = resources["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    statement["Resorce"] = statement.pop("Resource")
    assert len(find_faults(template, "us-east-1")) >= 2


def test_what_the_template_sets_is_what_is_planned() -> None:
    planned = plan("eu-central-1", CORS_ORIGINS="https://app.example.com")
    resources = printing.make_template(planned)["Resources"]
    bucket = resources["Bucket"]["Properties"]
    assert bucket["PublicAccessBlockConfiguration"] == planned.public_access_block()
    assert bucket["OwnershipControls"] == planned.ownership()
    assert resources["BucketPolicy"]["Properties"]["PolicyDocument"] == planned.bucket_policy()
    policies = {
        name: resource["Properties"]["PolicyDocument"]
        for name, resource in resources.items()
        if resource["Type"] == "AWS::IAM::ManagedPolicy"
    }
    assert list(policies.values()) == list(planned.iam_policies().values())
    assert [rule["Id"] for rule in bucket["CorsConfiguration"]["CorsRules"]] == ["darkroom-pages"]
    by_prefix = {rule["Prefix"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}
    assert len(by_prefix) == len(planned.lifecycle()["Rules"])
    assert by_prefix["incoming/"]["ExpirationInDays"] == 1
    assert by_prefix["photos/"]["ExpiredObjectDeleteMarker"] is True
    assert by_prefix["originals/"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 3}
    # What is in the bucket outlives the stack.
    assert {resources["Bucket"][name] for name in ("DeletionPolicy", "UpdateReplacePolicy")} == {
        "Retain"
    }
