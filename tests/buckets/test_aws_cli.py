"""Runs the commands of `bucket print --as aws-cli` as they are written, by the AWS CLI in a shell.

It is too large for every checkout: `scripts/aws_commands` brings it before it runs these tests.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import boto3
import pytest

from buckets import plan_bucket, printing
from buckets.applying import Outcome, apply_plan
from tests.support.backends import make_settings
from tests.support.services import Bucket

PROGRAMS = Path(sys.executable).parent

pytestmark = pytest.mark.skipif(
    "CLI_OF_AWS" not in os.environ, reason="a long run: scripts/aws_commands"
)


def paste(shell: str, typed: str, **more: str) -> str:
    """Paste it into a shell; what it printed. Fails at the first command that fails."""
    given = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        **more,
    }
    done = subprocess.run(
        [shell, "-e"], input=typed, env={**os.environ, **given}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_on_aws_they_make_a_bucket_a_user_and_keys(moto: str) -> None:
    name = f"pictures-{uuid.uuid4().hex[:8]}"
    settings = {"S3_BUCKET_NAME": name, "S3_REGION": "eu-central-1"}
    plan = plan_bucket(make_settings({**settings, "CORS_ORIGINS": "https://app.example.com"}))
    printed = paste("bash", printing.render_commands(plan), AWS_ENDPOINT_URL=moto)
    key = json.loads(printed[printed.index('{\n    "AccessKey"') :])["AccessKey"]
    user = f"darkroom-{name}"
    assert key["UserName"] == user and key["SecretAccessKey"]
    applied = apply_plan(plan, Bucket(moto, name).client(), is_dry=True)
    assert {
        each.part: each.outcome for each in applied if each.outcome is not Outcome.AS_PLANNED
    } == {}
    iam = boto3.client(
        "iam",
        endpoint_url=moto,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    [attached] = iam.list_attached_user_policies(UserName=user)["AttachedPolicies"]
    version = iam.get_policy_version(PolicyArn=attached["PolicyArn"], VersionId="v1")
    assert version["PolicyVersion"]["Document"] == plan.iam_policies()["service-with-photos"]


def test_elsewhere_they_name_the_endpoint(moto: str) -> None:
    bucket = Bucket(moto, f"pictures-{uuid.uuid4().hex[:8]}")
    plan = plan_bucket(make_settings({**bucket.settings(), "CORS_ORIGINS": "*"}))
    shell = "zsh" if shutil.which("zsh") else "bash"
    paste(shell, printing.render_commands(plan), AWS_ENDPOINT_URL="http://127.0.0.1:1")
    applied = apply_plan(plan, bucket.client(), is_dry=True)
    assert {each.outcome for each in applied} == {Outcome.AS_PLANNED}
    again = apply_plan(dataclasses.replace(plan, origins=()), bucket.client(), is_dry=True)
    assert [each.part for each in again if each.outcome is Outcome.WOULD_CHANGE] == ["cors"]
