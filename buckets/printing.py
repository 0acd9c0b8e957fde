"""The plan of a bucket as text: JSON for consoles, AWS CLI commands, one CloudFormation template.

What is printed is pasted as it is; nothing has to be replaced in it by hand.
"""

import json
import shlex
from typing import Any

from buckets.plan import BucketPlan, Document

# The policies of processes, in the order in which they are told.
SERVICE = "service-with-photos"
# Of a user's name in IAM, in characters.
LONGEST_USER = 64
# A parameter of the template, and its two values.
PHOTOS = "Photos"


def make_documents(plan: BucketPlan) -> dict[str, Any]:
    """Make each document by its name, in the form that the consoles of AWS take."""
    documents: dict[str, Any] = {
        "bucket-policy": plan.bucket_policy(),
        # The console takes the rules alone.
        "cors": plan.cors()["CORSRules"],
        "lifecycle": plan.lifecycle(),
        "ownership": plan.ownership(),
        "public-access-block": plan.public_access_block(),
    }
    for name, policy in plan.iam_policies().items():
        documents[f"iam-{name}"] = policy
    return documents


def render_documents(plan: BucketPlan, only: str | None = None) -> str:
    """Render one of the documents, or all of them in one that names each. Raises ValueError."""
    documents = make_documents(plan)
    if only is None:
        return json.dumps({"bucket": plan.bucket, **documents}, indent=2)
    if only not in documents:
        raise ValueError(f"There is no document {only}; there are {', '.join(documents)}.")
    return json.dumps(documents[only], indent=2)


def make_commands(plan: BucketPlan, *, keeps_versions: bool = True) -> dict[str, str]:
    """Make the commands of the AWS CLI that make the bucket right, by what each of them sets.

    Each is one line for a shell. They go from an empty account to a bucket, in this order; in a
    bucket that is there, the first is left out. Each replaces what was set before.
    """
    commands = {
        "bucket": make_bucket_command(plan, "create-bucket", **_find_creation(plan)),
        "ownership": make_bucket_command(
            plan, "put-bucket-ownership-controls", ownership_controls=plan.ownership()
        ),
        "public-access-block": make_bucket_command(
            plan,
            "put-public-access-block",
            public_access_block_configuration=plan.public_access_block(),
        ),
        "bucket-policy": make_bucket_command(
            plan, "put-bucket-policy", policy=plan.bucket_policy()
        ),
    }
    if plan.origins:
        commands["cors"] = make_bucket_command(
            plan, "put-bucket-cors", cors_configuration=plan.cors()
        )
    commands["lifecycle"] = make_bucket_command(
        plan,
        "put-bucket-lifecycle-configuration",
        lifecycle_configuration=plan.lifecycle(keeps_versions=keeps_versions),
    )
    return commands


def make_user_commands(plan: BucketPlan, name: str = SERVICE) -> list[str]:
    """Make the commands that give a process a user with one of the policies, and its keys.

    The last one shows the secret, which is shown once only.
    """
    user = name_user(plan)
    create = [
        *("aws", "iam", "create-policy", "--policy-name", name_policy(plan, name)),
        *("--policy-document", _render(plan.iam_policies()[name])),
        *("--query", "Policy.Arn", "--output", "text"),
    ]
    attach = ["aws", "iam", "attach-user-policy", "--user-name", user]
    # Users belong to no region, but to a part of AWS, which the region names.
    where = ["--region", plan.region]
    return [
        shlex.join(["aws", "iam", "create-user", "--user-name", user, *where]),
        f'{shlex.join([*attach, *where])} --policy-arn "$({shlex.join([*create, *where])})"',
        shlex.join(["aws", "iam", "create-access-key", "--user-name", user, *where]),
    ]


def render_commands(plan: BucketPlan) -> str:
    """Render all commands, a line each; those of users only where they are made by AWS."""
    commands = list(make_commands(plan).values())
    if plan.is_aws:
        commands += make_user_commands(plan)
    return "\n".join(commands)


def name_user(plan: BucketPlan) -> str:
    """Name the user of the service."""
    return f"darkroom-{plan.bucket}"[:LONGEST_USER]


def name_policy(plan: BucketPlan, name: str) -> str:
    """Name one of the policies in the account, where other buckets have theirs."""
    return f"darkroom-{plan.bucket}-{name}"


def make_template(plan: BucketPlan) -> Document:
    """Make one template of CloudFormation: the bucket, its policy, a user, and all policies.

    The bucket stays where the stack is deleted. No access key is among it: its secret would stand
    in the outputs of the stack for ever.
    """
    user = [{"Ref": "User"}]
    no_value = {"Ref": "AWS::NoValue"}
    resources: dict[str, Any] = {
        "User": {"Type": "AWS::IAM::User"},
        "Bucket": {
            "Type": "AWS::S3::Bucket",
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": _make_properties(plan),
        },
        "BucketPolicy": {
            "Type": "AWS::S3::BucketPolicy",
            "Properties": {"Bucket": {"Ref": "Bucket"}, "PolicyDocument": plan.bucket_policy()},
        },
    }
    outputs: dict[str, Any] = {}
    whether = {"service": (no_value, user), SERVICE: (user, no_value)}
    for name, policy in plan.iam_policies().items():
        logical_id = _name_resource(name)
        properties = {
            "Description": f"Darkroom in the bucket {plan.bucket}: {name}",
            "PolicyDocument": policy,
        }
        if name in whether:
            properties["Users"] = {"Fn::If": ["HasPhotos", *whether[name]]}
        resources[logical_id] = {"Type": "AWS::IAM::ManagedPolicy", "Properties": properties}
        outputs[logical_id] = {"Value": {"Ref": logical_id}}
    outputs["UserName"] = {
        "Description": "Of the service; aws iam create-access-key --user-name makes its keys",
        "Value": {"Ref": "User"},
    }
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"The bucket {plan.bucket} of Darkroom",
        "Parameters": {
            PHOTOS: {
                "Type": "String",
                "AllowedValues": ["yes", "no"],
                "Default": "yes",
                "Description": "Whether the service takes photos, or profile pictures only",
            }
        },
        "Conditions": {"HasPhotos": {"Fn::Equals": [{"Ref": PHOTOS}, "yes"]}},
        "Resources": resources,
        "Outputs": outputs,
    }


def render_template(plan: BucketPlan) -> str:
    """Render the template, which is JSON."""
    return json.dumps(make_template(plan), indent=2)


def _name_resource(name: str) -> str:
    words = "".join(word.capitalize() for word in name.split("-"))
    return f"{words}Policy"


def _make_properties(plan: BucketPlan) -> Document:
    """Make the properties of the bucket, which CloudFormation spells in its own way."""
    properties: dict[str, Any] = {
        "BucketName": plan.bucket,
        "OwnershipControls": plan.ownership(),
        "PublicAccessBlockConfiguration": plan.public_access_block(),
        "LifecycleConfiguration": {
            "Rules": [_spell_lifecycle(rule) for rule in plan.lifecycle()["Rules"]]
        },
    }
    if plan.namespace is not None:
        properties["BucketNamespace"] = plan.namespace
    if plan.origins:
        rules = [_spell_cors(rule) for rule in plan.cors()["CORSRules"]]
        properties["CorsConfiguration"] = {"CorsRules": rules}
    return properties


def _spell_lifecycle(rule: Document) -> Document:
    spelt: dict[str, Any] = {
        "Id": rule["ID"],
        "Status": rule["Status"],
        "Prefix": rule["Filter"]["Prefix"],
    }
    expiration = rule.get("Expiration", {})
    if "Days" in expiration:
        spelt["ExpirationInDays"] = expiration["Days"]
    if "ExpiredObjectDeleteMarker" in expiration:
        spelt["ExpiredObjectDeleteMarker"] = expiration["ExpiredObjectDeleteMarker"]
    for name in ("AbortIncompleteMultipartUpload", "NoncurrentVersionExpiration"):
        if name in rule:
            spelt[name] = rule[name]
    return spelt


def _spell_cors(rule: Document) -> Document:
    return {
        "Id": rule["ID"],
        "AllowedOrigins": rule["AllowedOrigins"],
        "AllowedMethods": rule["AllowedMethods"],
        "AllowedHeaders": rule["AllowedHeaders"],
        "ExposedHeaders": rule["ExposeHeaders"],
        "MaxAge": rule["MaxAgeSeconds"],
    }


def _find_creation(plan: BucketPlan) -> dict[str, Any]:
    """Say where the bucket is made; the oldest region of AWS is the one that is not named."""
    options: dict[str, Any] = {}
    if plan.location is not None:
        options["create_bucket_configuration"] = {"LocationConstraint": plan.location}
    if plan.namespace is not None:
        options["bucket_namespace"] = plan.namespace
    return options


def make_bucket_command(plan: BucketPlan, verb: str, **options: Document | str) -> str:
    """Make one command about the bucket, by the verb and the options of `aws s3api`."""
    words = ["aws", "s3api", verb, "--bucket", plan.bucket]
    for name, value in options.items():
        words += [
            f"--{name.replace('_', '-')}",
            value if isinstance(value, str) else _render(value),
        ]
    words += ["--region", plan.region]
    if plan.endpoint_url is not None:
        words += ["--endpoint-url", plan.endpoint_url]
    return shlex.join(words)


def _render(document: Document) -> str:
    """Render it in one line, for a command."""
    return json.dumps(document, separators=(",", ":"))
