"""Proves what `cli.py bucket` prints and does, against an S3 server over HTTP."""

import dataclasses
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from buckets import BucketPlan, commands, plan_bucket, printing
from buckets.applying import apply_plan, open_client
from buckets.plan import find_store
from files import kinds
from tests.support import warm
from tests.support.aws_commands import make_client, run_aws
from tests.support.backends import make_settings
from tests.support.policed_s3 import PolicedS3
from tests.support.services import ROOT, Bucket

PARTS = ("ownership", "public-access-block", "bucket-policy", "cors", "lifecycle")
ORIGINS = {"CORS_ORIGINS": "https://app.example.com"}
# As somebody else may have it there.
THEIR_STATEMENT = {
    "Sid": "Backups",
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
    "Action": "s3:ListBucket",
}
THEIR_CORS: dict[str, Any] = {
    "ID": "theirs",
    "AllowedOrigins": ["https://other.example.com"],
    "AllowedMethods": ["GET"],
}
THEIR_RULE: dict[str, Any] = {
    "ID": "logs",
    "Status": "Enabled",
    "Filter": {"Prefix": "logs/"},
    "Expiration": {"Days": 30},
}


class Asked:
    """A bucket of the settings, and the commands about it."""

    def __init__(self, endpoint: str, **more: str) -> None:
        self.bucket = Bucket(endpoint, f"bucket-{uuid.uuid4().hex}")
        self.settings = {**self.bucket.settings(), **ORIGINS, **more}

    @property
    def client(self) -> Any:
        return self.bucket.client()

    @property
    def plan(self) -> BucketPlan:
        return plan_bucket(make_settings(self.settings))

    def apply(self, client: Any = None, *, is_dry: bool = False) -> dict[str, tuple[str, str]]:
        """Each part with its mark and what is said of it."""
        applied = apply_plan(self.plan, client or self.client, is_dry=is_dry)
        return {each.part: (each.outcome.value, each.sentence) for each in applied}

    def marks(self, client: Any = None, *, is_dry: bool = False) -> dict[str, str]:
        return {part: mark for part, (mark, _) in self.apply(client, is_dry=is_dry).items()}


@pytest.fixture
def asked(moto: str) -> Asked:
    return Asked(moto)


ALL_AS_PLANNED = dict.fromkeys(["bucket", *PARTS], "✓")
# Of a service that is not AWS, whose boxes are off as they are where nobody sets them.
ALL_SET = {**dict.fromkeys(["bucket", *PARTS], "+"), "public-access-block": "✓"}


def test_from_no_bucket_to_one_that_is_right_and_then_nothing_is_left_to_do(asked: Asked) -> None:
    assert asked.marks(is_dry=True) == {"bucket": "~"}
    with pytest.raises(ClientError):
        asked.client.head_bucket(Bucket=asked.bucket.name)
    assert asked.marks() == ALL_SET
    policy = json.loads(asked.client.get_bucket_policy(Bucket=asked.bucket.name)["Policy"])
    assert policy == asked.plan.bucket_policy()
    cors = asked.client.get_bucket_cors(Bucket=asked.bucket.name)["CORSRules"]
    assert cors == asked.plan.cors()["CORSRules"]
    assert asked.marks() == ALL_AS_PLANNED


def test_a_dry_run_tells_what_it_would_do_and_does_nothing(asked: Asked) -> None:
    asked.client.create_bucket(Bucket=asked.bucket.name)
    expected = {part: mark.replace("+", "~") for part, mark in ALL_SET.items()} | {"bucket": "✓"}
    assert asked.marks(is_dry=True) == expected
    assert asked.marks(is_dry=True) == expected


def test_what_others_have_there_stays_and_is_told(asked: Asked) -> None:
    client = asked.client
    name = asked.bucket.name
    client.create_bucket(Bucket=name)
    theirs = {**THEIR_STATEMENT, "Resource": f"arn:aws:s3:::{name}"}
    policy = {"Version": "2012-10-17", "Statement": [theirs]}
    client.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
    client.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [THEIR_CORS]})
    client.put_bucket_lifecycle_configuration(
        Bucket=name, LifecycleConfiguration={"Rules": [THEIR_RULE]}
    )
    applied = asked.apply()
    for part, their_name in (
        ("bucket-policy", "Backups"),
        ("cors", "theirs"),
        ("lifecycle", "logs"),
    ):
        assert applied[part][0] == "+" and f"of others kept: {their_name}" in applied[part][1]
    statements = json.loads(client.get_bucket_policy(Bucket=name)["Policy"])["Statement"]
    assert statements == [theirs, *asked.plan.bucket_policy()["Statement"]]
    # The first rule that fits is heeded.
    cors = client.get_bucket_cors(Bucket=name)["CORSRules"]
    assert [rule["ID"] for rule in cors] == ["darkroom-pages", "theirs"]
    rules = client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert rules[0]["ID"] == "logs" and len(rules) == 1 + len(kinds.KINDS) + 1
    assert asked.marks() == ALL_AS_PLANNED


def test_what_was_ours_before_is_replaced(asked: Asked) -> None:
    asked.apply()
    # As README once showed it, and as a console may show it again.
    policy = asked.plan.bucket_policy()
    del policy["Statement"][0]["Sid"]
    policy["Statement"][0]["Principal"] = {"AWS": "*"}
    asked.client.put_bucket_policy(Bucket=asked.bucket.name, Policy=json.dumps(policy))
    asked.settings["CORS_ORIGINS"] = "https://new.example.com"
    assert asked.marks() == {**ALL_AS_PLANNED, "cors": "+"}
    [rule] = asked.client.get_bucket_cors(Bucket=asked.bucket.name)["CORSRules"]
    assert rule["AllowedOrigins"] == ["https://new.example.com"]
    del asked.settings["CORS_ORIGINS"]
    assert asked.marks()["cors"] == "+"
    with pytest.raises(ClientError, match="NoSuchCORSConfiguration"):
        asked.client.get_bucket_cors(Bucket=asked.bucket.name)
    assert asked.marks() == ALL_AS_PLANNED


def test_boxes_that_block_are_told_by_their_names(asked: Asked) -> None:
    asked.apply()
    everything = dict.fromkeys(asked.plan.public_access_block(), True)
    asked.client.put_public_access_block(
        Bucket=asked.bucket.name, PublicAccessBlockConfiguration=everything
    )
    of_policies = "BlockPublicPolicy is off now; RestrictPublicBuckets is off now"
    in_aws = dataclasses.replace(asked.plan, is_aws=True)
    applied = {each.part: each for each in apply_plan(in_aws, asked.client, is_dry=True)}
    assert applied["public-access-block"].sentence == f"would be set; {of_policies}"
    mark, said = asked.apply()["public-access-block"]
    of_acls = "BlockPublicAcls is off now; IgnorePublicAcls is off now"
    assert (mark, said) == ("+", f"set; {of_acls}; {of_policies}")


def test_each_region_is_named_as_its_bucket_is_made(moto: str) -> None:
    for region in ("us-east-1", "eu-central-1"):
        asked = Asked(moto, S3_REGION=region)
        client = open_client(find_store(make_settings(asked.settings)))
        assert asked.marks(client)["bucket"] == "+"
        found = client.get_bucket_location(Bucket=asked.bucket.name)["LocationConstraint"]
        assert (found or "us-east-1") == region


def test_the_command_says_a_line_of_each_part_with_the_keys_of_a_profile(
    asked: Asked,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "credentials"
    file.write_text("[owner]\naws_access_key_id = owner\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def apply(**more: str | None) -> tuple[int, list[str]]:
        settings = make_settings({**asked.settings, "S3_ACCESS_KEY_ID": "service"})
        options = {"profile": "owner", "is_dry": False, **more}
        status = commands.run(settings, commands.apply_bucket, **options)
        said = capsys.readouterr()
        return status, (said.out + said.err).splitlines()

    with PolicedS3(asked.bucket.endpoint) as front:
        asked.settings["S3_ENDPOINT_URL"] = front.url
        status, lines = apply()
    assert status == 0 and [line.split(":")[0] for line in lines] == [
        f"{ALL_SET[part]} {part}" for part in ("bucket", *PARTS)
    ]
    assert {each.key_id for each in front.asked} == {"owner"}
    status, lines = apply(profile="nobody")
    assert status == 1 and len(lines) == 1 and "profile (nobody)" in lines[0]
    asked.settings["S3_ENDPOINT_URL"] = "http://127.0.0.1:1"
    status, [line] = apply(profile=None)
    assert status == 1 and line.startswith("✗ bucket: Could not connect")


def test_the_commands_that_are_printed_make_the_same_bucket(asked: Asked) -> None:
    printed = printing.render_commands(asked.plan).splitlines()
    for command in printed:
        run_aws(command, asked.bucket.endpoint)
    assert len(printed) == 6
    assert asked.marks(is_dry=True) == ALL_AS_PLANNED


def test_in_aws_they_make_a_user_with_a_policy_and_keys(asked: Asked) -> None:
    in_aws = dataclasses.replace(asked.plan, is_aws=True, endpoint_url=None)
    *_, keys = [
        run_aws(command, asked.bucket.endpoint)
        for command in printing.render_commands(in_aws).splitlines()
    ]
    user = keys["AccessKey"]["UserName"]
    iam = make_client("iam", asked.bucket.endpoint, "us-east-1", "test", "test")
    [attached] = iam.list_attached_user_policies(UserName=user)["AttachedPolicies"]
    found = iam.get_policy_version(PolicyArn=attached["PolicyArn"], VersionId="v1")
    planned = in_aws.iam_policies()["service-with-photos"]
    assert found["PolicyVersion"]["Document"] == planned


def test_the_documents_are_those_of_the_plan(asked: Asked, capsys: Any) -> None:
    settings = make_settings(asked.settings)
    run = commands.run

    def print_as(form: str, only: str | None = None) -> Any:
        assert run(settings, commands.print_bucket, form=form, only=only) == 0
        return json.loads(capsys.readouterr().out)

    documents = print_as("json")
    assert (
        documents["bucket-policy"]
        == asked.plan.bucket_policy()
        == print_as("json", "bucket-policy")
    )
    # The console of AWS takes the rules alone.
    assert documents["cors"] == asked.plan.cors()["CORSRules"]
    assert documents["iam-service"] == asked.plan.iam_policies()["service"]
    for only, form in (("nothing", "json"), ("cors", "aws-cli")):
        assert run(settings, commands.print_bucket, form=form, only=only) == 1
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1


def test_the_command_line_needs_no_database_and_no_running_store(tmp_path: Path) -> None:
    environment = {"DARKROOM_ENV_FILE": "", "PATH": "/bin", "DATA_DIR": str(tmp_path / "data")}
    unreachable = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    named = {**environment, **unreachable, "S3_BUCKET_NAME": "my-pictures"}
    done = warm.run(ROOT / "cli.py", "bucket", "print", "--as", "aws-cli", cwd=tmp_path, env=named)
    assert done.returncode == 0 and done.stdout.startswith("aws s3api create-bucket --bucket my-")
    assert "replaces" in done.stderr
    unnamed = warm.run(ROOT / "cli.py", "bucket", "print", cwd=tmp_path, env=environment)
    assert (unnamed.returncode, unnamed.stdout) == (1, "")
    assert unnamed.stderr == "No bucket is named: set S3_BUCKET_NAME.\n"
    assert list(tmp_path.iterdir()) == []
