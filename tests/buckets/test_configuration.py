"""Proves that the doctor reads a bucket's configuration as it is meant, whoever has written it.

And that what it prints mends what it found, and leaves what is of others.
"""

import datetime
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from buckets import BucketPlan, plan_bucket
from buckets.applying import apply_plan
from config import Settings
from doctor.case import Case
from doctor.configuration import examine_configuration
from doctor.findings import Finding, Outcome
from doctor.signals import Signals
from doctor.traces import Traces
from storage.s3 import S3Store
from tests.support.aws_commands import run_aws
from tests.support.backends import make_settings
from tests.support.policed_s3 import PolicedS3
from tests.support.services import Bucket

POLICY = "bucket policy"
BOXES = "block public access"
OWNERSHIP = "object ownership"
CORS = "CORS rules"
LIVE = "lifecycle of what is live"
INCOMING = "lifecycle of incoming/"
UNFINISHED = "lifecycle of unfinished uploads"
OLD_VERSIONS = "lifecycle of old versions"
STEPS = (POLICY, BOXES, OWNERSHIP, CORS, LIVE, INCOMING, UNFINISHED)
PASSED = dict.fromkeys(STEPS, Outcome.PASSED)


@dataclass
class Examined:
    """A bucket that is as it must be until a test changes it."""

    front: PolicedS3
    bucket: Bucket
    any_store: S3Store  # whose client is made once

    @property
    def client(self) -> Any:
        return self.bucket.client()

    @property
    def settings(self) -> Settings:
        pages = {"CORS_ORIGINS": "https://app.example.com"}
        return make_settings({**self.bucket.settings(), "S3_ENDPOINT_URL": self.front.url, **pages})

    @property
    def plan(self) -> BucketPlan:
        return replace(plan_bucket(self.settings), is_aws=True)

    def case(self, *, is_readable: bool = False) -> Case:
        settings = self.settings
        store = self.any_store.in_bucket(self.bucket.name)
        return Case(
            settings=settings,
            current=settings.stores()["s3"],
            plan=self.plan,
            store=store,
            signals=Signals(),
            traces=Traces(store),
            ends_at=time.monotonic() + 60,
            say=lambda _: None,
            is_readable=is_readable,
        )

    def examine(self, case: Case | None = None) -> dict[str, Finding]:
        findings = list(examine_configuration(case or self.case()))
        found = {finding.step: finding for finding in findings}
        assert len(found) == len(findings)
        return found

    def outcomes(self, case: Case | None = None) -> dict[str, Outcome]:
        return {step: finding.outcome for step, finding in self.examine(case).items()}


@pytest.fixture(scope="module")
def front(moto: str) -> Iterator[PolicedS3]:
    with PolicedS3(moto) as front:
        yield front


@pytest.fixture(scope="module")
def any_store(front: PolicedS3) -> S3Store:
    settings = Bucket(front.url, "any").settings()
    return S3Store(make_settings(settings).stores()["s3"])


@pytest.fixture
def examined(
    front: PolicedS3, moto: str, any_store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Examined]:
    examined = Examined(front, Bucket(moto, f"bucket-{uuid.uuid4().hex}"), any_store)
    through = Bucket(front.url, examined.bucket.name).client()
    monkeypatch.setattr("doctor.case.open_client", lambda store: through)
    list(apply_plan(examined.plan, examined.client, is_dry=False))
    yield examined
    front.policies = None


def test_a_bucket_that_is_as_planned_passes_each_look(examined: Examined) -> None:
    assert examined.outcomes() == PASSED
    # Nothing else tells that the bucket keeps versions.
    examined.client.put_bucket_versioning(
        Bucket=examined.bucket.name, VersioningConfiguration={"Status": "Enabled"}
    )
    assert examined.outcomes() == {**PASSED, OLD_VERSIONS: Outcome.PASSED}


def edit_policy(change: Callable[[dict[str, Any]], object]) -> Callable[[Any, str], object]:
    def seed(client: Any, name: str) -> None:
        policy = json.loads(client.get_bucket_policy(Bucket=name)["Policy"])
        change(policy["Statement"][0])
        client.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))

    return seed


def set_rules(*rules: dict[str, Any], keeps: bool = True) -> Callable[[Any, str], object]:
    def seed(client: Any, name: str) -> None:
        there = client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"] if keeps else []
        given = [{"Status": "Enabled", **rule} for rule in rules]
        client.put_bucket_lifecycle_configuration(
            Bucket=name, LifecycleConfiguration={"Rules": [*there, *given]}
        )

    return seed


def set_boxes(**boxes: bool) -> Callable[[Any, str], object]:
    def seed(client: Any, name: str) -> None:
        client.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=boxes)

    return seed


def set_cors(**rule: Any) -> Callable[[Any, str], object]:
    def seed(client: Any, name: str) -> None:
        client.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [rule]})

    return seed


SEEDS: dict[str, tuple[Callable[[Any, str], object], str, Outcome, str]] = {
    "no policy": (
        lambda client, name: client.delete_bucket_policy(Bucket=name),
        POLICY,
        Outcome.FAILED,
        "not everyone may read profile_pics/, photos/, thumbnails/",
    ),
    "a policy of another bucket": (
        edit_policy(lambda each: each.update(Resource="arn:aws:s3:::old-pictures/profile_pics/*")),
        POLICY,
        Outcome.FAILED,
        "names the bucket old-pictures, and this one is bucket-",
    ),
    "a policy without /*": (
        edit_policy(lambda each: each.update(Resource=each["Resource"][0].removesuffix("*"))),
        POLICY,
        Outcome.FAILED,
        "names no objects",
    ),
    "a policy of another part of AWS": (
        edit_policy(
            lambda each: each.update(
                Resource=[name.replace("arn:aws:", "arn:aws-cn:") for name in each["Resource"]]
            )
        ),
        POLICY,
        Outcome.FAILED,
        "ARNs begin with arn:aws:s3 here",
    ),
    "a policy that forgets a prefix": (
        edit_policy(lambda each: each["Resource"].pop()),
        POLICY,
        Outcome.FAILED,
        "not everyone may read thumbnails/",
    ),
    "a policy for some addresses only": (
        edit_policy(
            lambda each: each.update(
                Condition={"StringLike": {"aws:Referer": "https://app.example.com/*"}}
            )
        ),
        POLICY,
        Outcome.FAILED,
        "not everyone may read profile_pics/",
    ),
    "a policy that shows everything": (
        edit_policy(lambda each: each.update(Resource=each["Resource"][0].split("/")[0] + "/*")),
        POLICY,
        Outcome.FAILED,
        "everyone may read originals/, private_photos/, incoming/",
    ),
    "all boxes": (
        set_boxes(
            BlockPublicAcls=True,
            IgnorePublicAcls=True,
            BlockPublicPolicy=True,
            RestrictPublicBuckets=True,
        ),
        BOXES,
        Outcome.FAILED,
        "public policies are not heeded",
    ),
    "no box": (
        set_boxes(BlockPublicAcls=False, IgnorePublicAcls=False),
        BOXES,
        Outcome.ADVICE,
        "on: none; ACLs may make objects public",
    ),
    "ACLs count": (
        lambda client, name: client.put_bucket_ownership_controls(
            Bucket=name,
            OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]},
        ),
        OWNERSHIP,
        Outcome.ADVICE,
        "ACLs count",
    ),
    "no rule for pages": (
        lambda client, name: client.delete_bucket_cors(Bucket=name),
        CORS,
        Outcome.ADVICE,
        "there is none",
    ),
    "a rule for other pages": (
        set_cors(ID="x", AllowedOrigins=["https://other.example.com"], AllowedMethods=["GET"]),
        CORS,
        Outcome.ADVICE,
        "not those that CORS_ORIGINS needs",
    ),
    "no lifecycle": (
        lambda client, name: client.delete_bucket_lifecycle(Bucket=name),
        INCOMING,
        Outcome.ADVICE,
        "what browsers put and nobody took stays for ever below incoming/",
    ),
    "nothing ends what was begun": (
        set_rules(
            {"ID": "x", "Filter": {"Prefix": "incoming/"}, "Expiration": {"Days": 1}}, keeps=False
        ),
        UNFINISHED,
        Outcome.ADVICE,
        "may stay below originals/, incoming/",
    ),
    "a rule that is switched off": (
        set_rules(
            {
                "ID": "x",
                "Status": "Disabled",
                "Filter": {"Prefix": "incoming/"},
                "Expiration": {"Days": 1},
            },
            keeps=False,
        ),
        INCOMING,
        Outcome.ADVICE,
        "stays for ever",
    ),
    "everything expires": (
        set_rules({"ID": "tidy", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}),
        LIVE,
        Outcome.FAILED,
        "the rule tidy deletes after 30 days what is live below profile_pics/, photos/",
    ),
    "it expires on a day": (
        set_rules(
            {
                "ID": "end",
                "Filter": {"Prefix": "photos/"},
                "Expiration": {"Date": datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)},
            }
        ),
        LIVE,
        Outcome.FAILED,
        "the rule end deletes on 2030-01-01 what is live below photos/",
    ),
    "it goes where nobody can read it": (
        set_rules(
            {
                "ID": "cheap",
                "Filter": {"Prefix": "originals/"},
                "Transitions": [{"Days": 30, "StorageClass": "GLACIER"}],
            }
        ),
        LIVE,
        Outcome.FAILED,
        "the rule cheap moves to GLACIER, where nobody can read it, what is live below originals/",
    ),
}


@pytest.mark.parametrize("name", SEEDS)
def test_what_is_wrong_is_named_and_mended_by_what_is_printed(
    examined: Examined, name: str
) -> None:
    seed, step, outcome, what = SEEDS[name]
    seed(examined.client, examined.bucket.name)
    finding = examined.examine()[step]
    assert finding.outcome is outcome and what in finding.what, finding
    assert finding.cure is not None
    for paste in finding.cure.pastes:
        assert paste.kind == "shell"
        run_aws(paste.text, examined.bucket.endpoint)
    assert examined.outcomes() == PASSED


THEIRS = {"ID": "logs", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3}}


def test_a_cure_keeps_the_rules_and_statements_of_others(examined: Examined) -> None:
    client = examined.client
    name = examined.bucket.name
    set_rules({**THEIRS, "Status": "Enabled"}, keeps=False)(client, name)
    theirs: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": {"AWS": "123456789012"},
        "Action": "s3:ListBucket",
    }
    policy = {
        "Version": "2012-10-17",
        "Statement": [{**theirs, "Resource": f"arn:aws:s3:::{name}"}],
    }
    client.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
    found = examined.examine()
    for step in (POLICY, INCOMING):
        cure = found[step].cure
        assert cure is not None
        run_aws(cure.pastes[0].text, examined.bucket.endpoint)
    assert examined.outcomes() == PASSED
    rules = client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert "logs" in [rule["ID"] for rule in rules]
    statements = json.loads(client.get_bucket_policy(Bucket=name)["Policy"])["Statement"]
    assert policy["Statement"][0] in statements


@pytest.mark.parametrize(
    "rule",
    [
        {"ID": "all", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 1}},
        {
            "ID": "tagged",
            "Filter": {"Tag": {"Key": "a", "Value": "b"}},
            "Expiration": {"Days": 1},
        },
        {
            "ID": "cold",
            "Filter": {"Prefix": ""},
            "Transitions": [{"Days": 30, "StorageClass": "STANDARD_IA"}],
        },
    ],
)
def test_a_rule_that_is_about_nothing_of_ours_is_none_of_ours(
    examined: Examined, rule: dict[str, Any]
) -> None:
    set_rules(rule)(examined.client, examined.bucket.name)
    assert examined.outcomes() == PASSED


def test_other_rules_that_do_the_same_are_enough(examined: Examined) -> None:
    set_rules(
        {
            "ID": "of-a-console",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
        },
        {"ID": "in", "Filter": {"Prefix": "incoming/"}, "Expiration": {"Days": 2}},
        keeps=False,
    )(examined.client, examined.bucket.name)
    examined.client.put_bucket_versioning(
        Bucket=examined.bucket.name, VersioningConfiguration={"Status": "Enabled"}
    )
    assert examined.outcomes() == {**PASSED, OLD_VERSIONS: Outcome.PASSED}


def test_versions_that_stay_for_ever_are_told_where_the_bucket_keeps_them(
    examined: Examined,
) -> None:
    examined.client.delete_bucket_lifecycle(Bucket=examined.bucket.name)
    assert OLD_VERSIONS not in examined.outcomes()
    examined.client.put_bucket_versioning(
        Bucket=examined.bucket.name, VersioningConfiguration={"Status": "Suspended"}
    )
    finding = examined.examine()[OLD_VERSIONS]
    assert finding.outcome is Outcome.ADVICE and "what is deleted stays for ever" in finding.what


def test_what_can_be_read_all_the_same_is_no_failure(examined: Examined) -> None:
    """Something else may read for everyone, as a CDN does with keys of its own."""
    examined.client.delete_bucket_policy(Bucket=examined.bucket.name)
    set_boxes(BlockPublicPolicy=True, RestrictPublicBuckets=True)(
        examined.client, examined.bucket.name
    )
    found = examined.outcomes(examined.case(is_readable=True))
    assert {found[POLICY], found[BOXES]} == {Outcome.PASSED}


def test_what_hardly_any_other_service_knows_is_not_told_elsewhere(examined: Examined) -> None:
    examined.client.delete_bucket_ownership_controls(Bucket=examined.bucket.name)
    case = examined.case()
    case.plan = replace(case.plan, is_aws=False)
    assert OWNERSHIP not in examined.outcomes(case)
    assert examined.outcomes()[OWNERSHIP] is Outcome.ADVICE


def test_who_may_not_look_has_not_failed_and_others_may_look(examined: Examined) -> None:
    examined.front.policies = [examined.plan.iam_policies()["service-with-photos"]]
    case = examined.case()
    steps = {POLICY, BOXES, OWNERSHIP, CORS, LIVE}
    found = examined.examine(case)
    assert {step: finding.outcome for step, finding in found.items()} == dict.fromkeys(
        steps, Outcome.NOT_PERMITTED
    )
    cure = found[LIVE].cure
    assert cure is not None and "--admin-profile" in cure.sentence
    assert "s3:GetLifecycleConfiguration" in cure.sentence
    case.admin = examined.client
    assert examined.outcomes(case) == PASSED
    examined.front.policies = [json.loads(paste.text) for paste in cure.pastes]
    assert examined.outcomes() == PASSED
