"""The bucket's documents as they are, where they may be read, and as they must be instead.

What others have put there stays, save the very statement that is in the way. Where we may not look,
what is to be pasted replaces all, and says so.
"""

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from buckets.parts import BOXES, POLICY, Part, look_at
from buckets.plan import Document

if TYPE_CHECKING:
    from doctor.case import Case

KEPT = "What others have put there stays."
REPLACED = "It replaces the one that is there, at which our keys may not look."


def look(case: "Case", part: Part) -> tuple[Document | None, bool]:
    """Look at a document of the bucket, with other credentials if need be.

    Returns it, None where there is none, and whether anybody could look.
    """
    for client in case.lookers:
        try:
            return look_at(client, case.bucket, part), True
        except (ClientError, BotoCoreError, OSError, ValueError, KeyError):
            continue
    return None, False


def blocks_acls(case: "Case") -> bool:
    """Tell whether the bucket refuses public ACLs, as far as anybody may look."""
    boxes, _ = look(case, BOXES)
    return bool((boxes or {}).get("BlockPublicAcls"))


def join(case: "Case", part: Part) -> tuple[Document, str]:
    """Join what is there with what must be; return it with a sentence on what becomes of the rest.

    The sentence is empty where there is nothing else.
    """
    there, is_seen = look(case, part)
    planned = part.plan(case.plan)
    if not is_seen:
        return planned, REPLACED
    return part.merge(there, planned).document, KEPT if there else ""


def close(case: "Case") -> tuple[Document, str]:
    """Make a policy by which strangers read what is public, and nothing else of ours."""
    there, is_seen = look(case, POLICY)
    planned = case.plan.bucket_policy()
    if not is_seen:
        return planned, REPLACED
    hidden = [case.arn(f"{prefix}*") for prefix in case.plan.private_prefixes]
    exposing = [
        each
        for each in list_statements(there)
        if each.get("Effect") == "Allow"
        and _is_everyone(each.get("Principal"))
        and (
            any(concerns(each, "s3:GetObject", resource) for resource in hidden)
            or concerns(each, "s3:ListBucket", case.arn())
        )
    ]
    kept = [each for each in list_statements(there) if each not in exposing]
    document = POLICY.merge({**(there or {}), "Statement": kept}, planned).document
    return document, KEPT if kept else ""


def find_denial(case: "Case", action: str, resource: str) -> tuple[str, Document] | None:
    """Find what in the bucket's policy denies it, and make the policy without; None if nothing.

    The policy has no statement where nothing else is left of it.
    """
    there, _ = look(case, POLICY)
    denying = [
        each
        for each in list_statements(there)
        if each.get("Effect") == "Deny" and concerns(each, action, resource)
    ]
    if not denying:
        return None
    kept = [each for each in list_statements(there) if each not in denying]
    named = ", ".join(str(each.get("Sid") or json.dumps(each)) for each in denying)
    return named, {**(there or {}), "Statement": kept}


def list_statements(policy: Document | None) -> Iterator[Document]:
    """List the statements of a policy; a single one needs no list."""
    given = (policy or {}).get("Statement", [])
    for statement in given if isinstance(given, list) else [given]:
        if isinstance(statement, dict):
            yield statement


def concerns(statement: Document, action: str, resource: str) -> bool:
    """Whether a statement is about this action on this resource, or on a part of it."""
    actions = _as_list(statement.get("Action", []))
    resources = _as_list(statement.get("Resource", []))
    # Of many objects `resource` is a pattern itself; a statement about some of them is about it.
    begin = resource.removesuffix("*")
    is_pattern = begin != resource
    return any(fnmatchcase(action.lower(), each.lower()) for each in actions) and any(
        fnmatchcase(resource, each) or (is_pattern and each.startswith(begin)) for each in resources
    )


def _is_everyone(principal: Any) -> bool:
    if isinstance(principal, dict):
        principal = principal.get("AWS")
    return "*" in _as_list(principal)


def _as_list(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]
