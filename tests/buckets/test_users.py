"""Proves that `bucket apply --users` makes the policies and a user of an account, and no keys."""

import dataclasses
import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError

from buckets import BucketPlan, commands, plan_bucket
from buckets.applying_users import MOST_VERSIONS, Account, apply_users
from tests.support.aws_commands import make_client
from tests.support.backends import make_settings

NAMES = ("iam-service", "iam-service-with-photos", "iam-operator", "iam-erasure", "iam-apply")


@pytest.fixture
def iam(moto: str) -> Any:
    return make_client("iam", moto, "us-east-1", "test", "test")


@pytest.fixture
def account(moto: str, monkeypatch: pytest.MonkeyPatch) -> Account:
    """The account of moto, which is asked as AWS is."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return Account(make_plan())


def make_plan() -> BucketPlan:
    return plan_bucket(make_settings({"S3_BUCKET_NAME": f"pictures-{uuid.uuid4().hex[:8]}"}))


def marks(plan: BucketPlan, account: Account, *, is_dry: bool = False) -> dict[str, str]:
    return {each.part: each.outcome.value for each in apply_users(plan, account, is_dry=is_dry)}


def all_marked(mark: str) -> dict[str, str]:
    return dict.fromkeys((*NAMES, "user"), mark)


def read_documents(iam: Any, plan: BucketPlan) -> dict[str, Any]:
    documents = {}
    for policy in iam.list_policies(Scope="Local", MaxItems=1000)["Policies"]:
        beginning = f"darkroom-{plan.bucket}-"
        if policy["PolicyName"].startswith(beginning):
            version = iam.get_policy_version(
                PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"]
            )
            name = policy["PolicyName"].removeprefix(beginning)
            documents[name] = version["PolicyVersion"]["Document"]
    return documents


def test_policies_and_a_user_are_made_once_and_no_key(iam: Any, account: Account) -> None:
    plan = make_plan()
    user = f"darkroom-{plan.bucket}"
    assert marks(plan, account, is_dry=True) == all_marked("~")
    assert read_documents(iam, plan) == {}
    assert marks(plan, account) == all_marked("+")
    assert read_documents(iam, plan) == plan.iam_policies()
    [attached] = iam.list_attached_user_policies(UserName=user)["AttachedPolicies"]
    assert attached["PolicyName"] == f"darkroom-{plan.bucket}-service-with-photos"
    assert iam.list_access_keys(UserName=user)["AccessKeyMetadata"] == []
    assert marks(plan, account) == all_marked("✓")


def test_a_policy_that_is_another_now_gets_a_new_version(iam: Any, account: Account) -> None:
    plan = make_plan()
    marks(plan, account)
    other = dataclasses.replace(plan, partition="aws", is_aws=False)
    changed = dict.fromkeys(NAMES[:3], "+")
    for turn in range(MOST_VERSIONS + 1):
        wanted = plan if turn % 2 else other
        assert marks(wanted, account) == all_marked("✓") | changed
        assert read_documents(iam, plan) == wanted.iam_policies()


def test_a_user_keeps_the_one_of_our_policies_that_somebody_chose(
    iam: Any, account: Account
) -> None:
    plan = make_plan()
    marks(plan, account)
    user = f"darkroom-{plan.bucket}"
    [attached] = iam.list_attached_user_policies(UserName=user)["AttachedPolicies"]
    arn = attached["PolicyArn"]
    smaller = arn.removesuffix("-with-photos")
    iam.detach_user_policy(UserName=user, PolicyArn=arn)
    iam.attach_user_policy(UserName=user, PolicyArn=smaller)
    assert marks(plan, account) == all_marked("✓")
    iam.detach_user_policy(UserName=user, PolicyArn=smaller)
    assert marks(plan, account, is_dry=True)["user"] == "~"
    assert marks(plan, account)["user"] == "+"


def test_what_the_account_does_not_permit_is_named(account: Account) -> None:
    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "CreatePolicy")

    account.iam.meta.events.register("before-parameter-build.iam.CreatePolicy", refuse)
    found = {each.part: each for each in apply_users(make_plan(), account, is_dry=False)}
    assert found["iam-service"].outcome.value == "✗"
    assert found["iam-service"].sentence.startswith("not permitted: allow iam:CreatePolicy")
    # There is no policy that it could have.
    assert found["user"].outcome.value == "✗"


def test_elsewhere_nobody_makes_users(capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(
        {"S3_BUCKET_NAME": "my-pictures", "S3_ENDPOINT_URL": "http://127.0.0.1:1"}
    )
    options = {"profile": None, "is_dry": True, "with_users": True}
    assert commands.run(settings, commands.apply_bucket, **options) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("Only AWS has users and policies")
