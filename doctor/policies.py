"""The bucket's policy as it is, where it may be read: which statement of it refuses something."""

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from doctor import cures
from doctor.findings import Cure
from storage.s3_deadlines import limit_call

if TYPE_CHECKING:
    from doctor.case import Case


def read_policy(case: "Case") -> dict[str, Any] | None:
    """Read the bucket's policy, with other credentials if need be; None where it cannot be."""
    for client in filter(None, (case.client, case.admin)):
        try:
            with limit_call():
                text = client.get_bucket_policy(Bucket=case.bucket)["Policy"]
            policy = json.loads(text)
        except (ClientError, BotoCoreError, OSError, ValueError, KeyError):
            continue
        if isinstance(policy, dict):
            return policy
    return None


def explain_denial(case: "Case", action: str, resource: str) -> tuple[str, Cure] | None:
    """Tell which statement of the bucket's policy denies it; None where none is known to."""
    policy = read_policy(case)
    if policy is None:
        return None
    statements = list(_list_statements(policy))
    denying = [each for each in statements if _denies(each, action, resource)]
    if not denying:
        return None
    named = ", ".join(str(each.get("Sid") or json.dumps(each)) for each in denying)
    kept = [each for each in statements if each not in denying]
    sentence = f"Take the statement that denies it out of the bucket's policy: {named}."
    plan = case.plan
    if kept:
        document = {"Version": policy.get("Version", "2012-10-17"), "Statement": kept}
        command = cures.aws(plan, "put-bucket-policy", policy=json.dumps(document))
    else:
        command = cures.aws(plan, "delete-bucket-policy")
    return f"the bucket's policy denies it ({named})", cures.run(sentence, command)


def _list_statements(policy: dict[str, Any]) -> Iterator[dict[str, Any]]:
    given = policy.get("Statement", [])
    for statement in given if isinstance(given, list) else [given]:
        if isinstance(statement, dict):
            yield statement


def _denies(statement: dict[str, Any], action: str, resource: str) -> bool:
    if statement.get("Effect") != "Deny":
        return False
    actions = _as_list(statement.get("Action", []))
    resources = _as_list(statement.get("Resource", []))
    # Of many objects `resource` is a pattern itself; a statement about some of them is about it.
    begin = resource.removesuffix("*")
    return any(fnmatchcase(action.lower(), each.lower()) for each in actions) and any(
        fnmatchcase(resource, each) or each.startswith(begin) for each in resources
    )


def _as_list(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]
