"""The texts of cures, for this bucket and these settings; `buckets/` says what a bucket must be.

Each is pasted as it is: a line of settings, a command of the AWS CLI, a JSON document.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from buckets import BucketPlan
from doctor.findings import Cure, Paste

# What stands where only a person knows the word.
KEY_ID = "<the access key's id>"
SECRET = "<the secret access key>"


def set_lines(sentence: str, **values: str) -> Cure:
    """Set lines of the settings, by `.env` or where else they come from."""
    lines = "\n".join(f"{name}={value}" for name, value in values.items())
    return Cure(sentence, (Paste("env", lines),))


def run(sentence: str, *commands: str) -> Cure:
    """Run commands."""
    return Cure(sentence, tuple(Paste("shell", command) for command in commands))


def aws(plan: BucketPlan, operation: str, **options: Any) -> str:
    """Write a command of the AWS CLI about the bucket, as it is pasted into a shell."""
    words = ["aws", "s3api", operation, "--bucket", plan.bucket]
    for name, value in options.items():
        text = value if isinstance(value, str) else json.dumps(value)
        words += [f"--{name.replace('_', '-')}", text]
    return " ".join(shlex.quote(word) for word in [*words, *_where(plan)])


def _where(plan: BucketPlan) -> list[str]:
    where = ["--region", plan.region]
    return [*where, "--endpoint-url", plan.endpoint_url] if plan.endpoint_url else where


def allow(plan: BucketPlan, action: str, resource: str, *, is_for_service: bool = True) -> Cure:
    """Give the keys a right, by the whole policy that holds it."""
    name = "service-with-photos" if is_for_service else "operator"
    if not _holds(plan.iam_policies()[name], action):
        name = "erasure"
    return Cure(
        f"Allow the application {action} on {resource}: give the user or role of its keys this"
        f" policy ({name}).",
        (Paste("json", json.dumps(plan.iam_policies()[name], indent=2)),),
    )


def _holds(policy: Mapping[str, Any], action: str) -> bool:
    return any(action in statement["Action"] for statement in policy["Statement"])


def open_to_all(plan: BucketPlan, *, blocks: bool) -> Cure:
    """Let everyone read what is public, and nothing else; `blocks`: perhaps a box forbids that."""
    commands = []
    if blocks:
        boxes = plan.public_access_block()
        commands.append(
            aws(plan, "put-public-access-block", public_access_block_configuration=boxes)
        )
    commands.append(aws(plan, "put-bucket-policy", policy=json.dumps(plan.bucket_policy())))
    prefixes = ", ".join(plan.public_prefixes)
    sentence = (
        f"Allow everyone s3:GetObject below {prefixes} by the bucket's policy; this one replaces"
        " the one that is there."
    )
    if blocks:
        sentence += " The boxes of the whole account must not block it either."
    return run(sentence, *commands)


def show_only_public(plan: BucketPlan) -> Cure:
    """Let everyone read what is public alone."""
    prefixes = ", ".join(plan.public_prefixes)
    return run(
        f"Let the bucket's policy, and what stands in front of it, show {prefixes} only, and nobody"
        " list. This policy replaces the one that is there.",
        aws(plan, "put-bucket-policy", policy=json.dumps(plan.bucket_policy())),
    )


def use_own_encryption(plan: BucketPlan) -> Cure:
    """Let the bucket encrypt with S3's own key, which needs no right of who reads."""
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    return run(
        "Let the bucket encrypt with S3's own key: no stranger can read what a KMS key encrypts.",
        aws(plan, "put-bucket-encryption", server_side_encryption_configuration={"Rules": [rule]}),
    )


def make_bucket(plan: BucketPlan) -> Cure:
    """Create the bucket where the settings look for it."""
    options: dict[str, Any] = {}
    if plan.is_aws and plan.region != "us-east-1":
        options["create_bucket_configuration"] = {"LocationConstraint": plan.region}
    return run(
        "Create the bucket, or correct S3_BUCKET_NAME, S3_REGION or S3_ENDPOINT_URL.",
        aws(plan, "create-bucket", **options),
    )


def let_pages_ask(plan: BucketPlan) -> Cure:
    """Let the pages of CORS_ORIGINS read and upload."""
    return run(
        "Let the pages of CORS_ORIGINS ask the bucket. This replaces its rules for CORS.",
        aws(plan, "put-bucket-cors", cors_configuration=plan.cors()),
    )


def set_clock() -> Cure:
    """Set this machine's clock."""
    return run(
        "Set this machine's clock, and let it be kept by NTP.", "sudo timedatectl set-ntp true"
    )


def expire(plan: BucketPlan) -> Cure:
    """Let the bucket remove by itself what nobody will."""
    return run(
        "Give the bucket these rules. They replace its rules for the lifecycle of objects.",
        aws(plan, "put-bucket-lifecycle-configuration", lifecycle_configuration=plan.lifecycle()),
    )
