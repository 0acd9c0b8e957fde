"""The policies of IAM made in the account, and a user of the service that has one of them.

Only AWS has them as they are planned. No keys are made: their secret is for a person's eyes.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from buckets.applying import (
    ATTEMPTS,
    CONNECT_TIMEOUT_SECONDS,
    NOT_PERMITTED,
    READ_TIMEOUT_SECONDS,
    Applied,
    Outcome,
    describe,
    read_code,
)
from buckets.plan import BucketPlan, Document
from buckets.printing import SERVICE, name_policy, name_user
from errors import StartupError

# AWS keeps no more of a policy.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
MOST_VERSIONS = 5


class Account:
    """The account of some credentials, as far as users and policies go. Raises StartupError."""

    def __init__(self, plan: BucketPlan, profile: str | None = None) -> None:
        if not plan.is_aws:
            raise StartupError(
                "Only AWS has users and policies as they are planned: give the keys of the service"
                " the rights that `cli.py bucket print --only iam-service-with-photos` names, in"
                " the way of your provider."
            )
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            retries={"total_max_attempts": ATTEMPTS},
        )
        try:
            session = cast(Any, boto3.session.Session(profile_name=profile))
            self.iam = session.client("iam", region_name=plan.region, config=config)
            self._sts = session.client("sts", region_name=plan.region, config=config)
        except (BotoCoreError, ValueError) as err:
            raise StartupError(f"IAM cannot be asked: {str(err).rstrip('.')}.") from err

    def find_id(self) -> str:
        """Find the number of the account. Raises what botocore raises."""
        return str(self._sts.get_caller_identity()["Account"])


def apply_users(plan: BucketPlan, account: Account, *, is_dry: bool) -> Iterator[Applied]:
    """Make the policies and the user as they are planned, and tell each as it is done."""
    try:
        beginning = f"arn:{plan.partition}:iam::{account.find_id()}:policy"
    except (ClientError, BotoCoreError) as err:
        yield Applied("account", Outcome.FAILED, describe(err))
        return
    for name, document in plan.iam_policies().items():
        arn = f"{beginning}/{name_policy(plan, name)}"
        yield _try(f"iam-{name}", partial(_make_policy, account.iam, arn, document, is_dry))
    attached = f"{beginning}/{name_policy(plan, SERVICE)}"
    yield _try("user", partial(_make_user, account.iam, name_user(plan), attached, is_dry))


def _try(part: str, do: Callable[[], tuple[Outcome, str]]) -> Applied:
    try:
        outcome, sentence = do()
    except ClientError as err:
        said = describe(err)
        if read_code(err) in NOT_PERMITTED:
            said = f"not permitted: allow iam:{err.operation_name} ({said})"
        return Applied(part, Outcome.FAILED, said)
    except BotoCoreError as err:
        return Applied(part, Outcome.FAILED, describe(err))
    return Applied(part, outcome, sentence)


def _make_policy(iam: Any, arn: str, document: Document, is_dry: bool) -> tuple[Outcome, str]:
    name = arn.rpartition("/")[2]
    there = _find(lambda: iam.get_policy(PolicyArn=arn)["Policy"])
    if there is None:
        if is_dry:
            return Outcome.WOULD_CHANGE, f"{name} would be made"
        iam.create_policy(PolicyName=name, PolicyDocument=json.dumps(document))
        return Outcome.CHANGED, f"{name} was made"
    version_id = there["DefaultVersionId"]
    version = iam.get_policy_version(PolicyArn=arn, VersionId=version_id)["PolicyVersion"]
    if version["Document"] == document:
        return Outcome.AS_PLANNED, f"{name} is as planned"
    if is_dry:
        return Outcome.WOULD_CHANGE, f"{name} would get a new version"
    versions = iam.list_policy_versions(PolicyArn=arn)["Versions"]
    old = [each for each in versions if not each["IsDefaultVersion"]]
    if len(versions) >= MOST_VERSIONS:
        oldest = min(old, key=lambda each: each["CreateDate"])
        iam.delete_policy_version(PolicyArn=arn, VersionId=oldest["VersionId"])
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(document), SetAsDefault=True)
    return Outcome.CHANGED, f"{name} has a new version"


def _make_user(iam: Any, user: str, policy_arn: str, is_dry: bool) -> tuple[Outcome, str]:
    """Make the user, who gets the policy unless there is one of ours already.

    Somebody may have taken away what this service does not need.
    """
    ours = policy_arn.removesuffix(SERVICE)
    keys = f"its keys: aws iam create-access-key --user-name {user}"
    if _find(lambda: iam.get_user(UserName=user)) is not None:
        attached = iam.list_attached_user_policies(UserName=user)["AttachedPolicies"]
        names = [each["PolicyName"] for each in attached if each["PolicyArn"].startswith(ours)]
        if names:
            return Outcome.AS_PLANNED, f"{user} has {', '.join(names)}"
        if is_dry:
            return Outcome.WOULD_CHANGE, f"{user} would get {policy_arn}"
        iam.attach_user_policy(UserName=user, PolicyArn=policy_arn)
        return Outcome.CHANGED, f"{user} has {policy_arn} now"
    if is_dry:
        return Outcome.WOULD_CHANGE, f"{user} would be made, with {policy_arn}"
    iam.create_user(UserName=user)
    iam.attach_user_policy(UserName=user, PolicyArn=policy_arn)
    return Outcome.CHANGED, f"{user} was made, with {policy_arn}; {keys}"


def _find(ask: Callable[[], Any]) -> Any:
    """Return what is there; None where nothing is."""
    try:
        return ask()
    except ClientError as err:
        if read_code(err) == "NoSuchEntity":
            return None
        raise
