"""The texts of cures, for this bucket and these settings; `buckets/` says what a bucket must be.

Each is pasted as it is: a line of settings, a command of the AWS CLI, a JSON document.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from buckets.parts import BOXES, CORS, LIFECYCLE, POLICY, Part
from buckets.plan import BucketPlan, Document
from buckets.printing import make_bucket_command, make_commands
from doctor import policies
from doctor.findings import Cure, Paste

if TYPE_CHECKING:
    from doctor.case import Case

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


def aws(plan: BucketPlan, verb: str, **options: Document | str) -> str:
    """Write a command of the AWS CLI about the bucket."""
    return make_bucket_command(plan, verb, **options)


def allow(plan: BucketPlan, action: str, resource: str) -> Cure:
    """Give the keys a right, by the whole policy that holds it."""
    named = plan.iam_policies()
    order = ("service-with-photos", "erasure", "operator")
    name = next((each for each in order if _holds(named[each], action)), order[0])
    return Cure(
        f"Allow the application {action} on {resource}: give the user or role of its keys this"
        f" policy ({name}), in the place of an older one.",
        (Paste("json", json.dumps(named[name], indent=2)),),
    )


def _holds(policy: Mapping[str, Any], action: str) -> bool:
    return any(action in statement["Action"] for statement in policy["Statement"])


def open_to_all(case: "Case", *, is_blocked: bool) -> Cure:
    """Let everyone read what is public, and nothing else; a box may forbid that now."""
    prefixes = ", ".join(case.plan.public_prefixes)
    sentence = f"Allow everyone s3:GetObject below {prefixes}, by the bucket's policy."
    commands = []
    if is_blocked:
        sentence += " The boxes of the whole account must not block it either."
        commands.append(_set_boxes(case.plan))
    document, rest = policies.join(case, POLICY)
    commands.append(aws(case.plan, "put-bucket-policy", policy=document))
    return run(f"{sentence} {rest}".strip(), *commands)


def unblock(case: "Case") -> Cure:
    """Take off the boxes that must be off."""
    return run("Take off the boxes of block public access.", _set_boxes(case.plan))


def _set_boxes(plan: BucketPlan) -> str:
    boxes = BOXES.plan(plan)
    return aws(plan, "put-public-access-block", public_access_block_configuration=boxes)


def show_only_public(case: "Case") -> Cure:
    """Let everyone read what is public alone."""
    prefixes = ", ".join(case.plan.public_prefixes)
    document, rest = policies.close(case)
    sentence = (
        f"Let the bucket's policy, and what stands in front of it, show {prefixes} only, and nobody"
        f" list. {rest}"
    )
    return run(sentence.strip(), aws(case.plan, "put-bucket-policy", policy=document))


def drop_denial(case: "Case", named: str, rest: Document) -> Cure:
    """Take a statement out of the bucket's policy."""
    sentence = f"Take the statement that denies it out of the bucket's policy: {named}."
    if rest["Statement"]:
        return run(sentence, aws(case.plan, "put-bucket-policy", policy=rest))
    return run(sentence, aws(case.plan, "delete-bucket-policy"))


def use_own_encryption(case: "Case") -> Cure:
    """Let the bucket encrypt with S3's own key, which needs no right of who reads."""
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    return run(
        "Let the bucket encrypt with S3's own key: no stranger can read what a KMS key encrypts.",
        aws(
            case.plan,
            "put-bucket-encryption",
            server_side_encryption_configuration={"Rules": [rule]},
        ),
    )


def make_bucket(case: "Case") -> Cure:
    """Create the bucket where the settings look for it."""
    return run(
        "Create the bucket, or correct S3_BUCKET_NAME, S3_REGION or S3_ENDPOINT_URL.",
        make_commands(case.plan)["bucket"],
    )


def let_pages_ask(case: "Case") -> Cure:
    """Let the pages of CORS_ORIGINS read and upload."""
    sentence = "Let the pages of CORS_ORIGINS ask the bucket."
    return _set(case, CORS, sentence, "put-bucket-cors", "cors_configuration")


def expire(case: "Case") -> Cure:
    """Let the bucket remove by itself what nobody will."""
    verb = "put-bucket-lifecycle-configuration"
    return _set(case, LIFECYCLE, "Give the bucket these rules.", verb, "lifecycle_configuration")


def set_clock() -> Cure:
    """Set this machine's clock."""
    return run(
        "Set this machine's clock, and let it be kept by NTP.", "sudo timedatectl set-ntp true"
    )


def _set(case: "Case", part: Part, sentence: str, verb: str, option: str) -> Cure:
    document, rest = policies.join(case, part)
    return run(f"{sentence} {rest}".strip(), aws(case.plan, verb, **{option: document}))
