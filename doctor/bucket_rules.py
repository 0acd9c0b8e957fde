"""What a bucket's policy and lifecycle rules mean for our prefixes, whoever has written them.

Nothing is asked here: documents come in, and sentences about what is wrong with them go out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from buckets import BucketPlan
from files.kinds import INCOMING_PREFIX

Document = Mapping[str, Any]

# Of storage classes from which an object has to be brought back first, for hours.
_ARCHIVES = {"GLACIER", "DEEP_ARCHIVE"}
_EVERYONE: tuple[object, ...] = ("*", {"AWS": "*"}, {"AWS": ["*"]})


@dataclass(frozen=True)
class Opened:
    """What a policy lets everyone read, as far as it says so without conditions."""

    missing: tuple[str, ...]  # public prefixes that are not open
    private: tuple[str, ...]  # private prefixes that are
    faults: tuple[str, ...]  # what somebody has mistyped, in sentences


def judge_policy(plan: BucketPlan, policy: Document | None) -> Opened:
    """Tell what everyone may read by this policy, and what its writer may have meant."""
    resources = list(_list_opened(policy or {}))

    def is_open(prefix: str) -> bool:
        return any(fnmatchcase(f"{plan.arn}/{prefix}a.jpg", each) for each in resources)

    return Opened(
        missing=tuple(prefix for prefix in plan.public_prefixes if not is_open(prefix)),
        private=tuple(prefix for prefix in plan.private_prefixes if is_open(prefix)),
        faults=tuple(dict.fromkeys(_find_faults(plan, resources))),
    )


def _list_opened(policy: Document) -> Iterator[str]:
    for statement in as_list(policy.get("Statement")):
        if not isinstance(statement, Mapping) or statement.get("Effect") != "Allow":
            continue
        reads = any(
            fnmatchcase("s3:getobject", str(action).lower())
            for action in as_list(statement.get("Action"))
        )
        if reads and statement.get("Principal") in _EVERYONE and not statement.get("Condition"):
            yield from (str(each) for each in as_list(statement.get("Resource")))


def _find_faults(plan: BucketPlan, resources: Sequence[str]) -> Iterator[str]:
    for resource in resources:
        beginning, _, rest = resource.partition(":::")
        bucket, _, path = rest.partition("/")
        if not rest or resource == "*" or "*" in bucket:
            continue
        if bucket != plan.bucket:
            yield f"it names the bucket {bucket}, and this one is {plan.bucket}"
        elif beginning != f"arn:{plan.partition}:s3":
            yield f"ARNs begin with arn:{plan.partition}:s3 here, and it has {beginning}"
        elif "*" not in path:
            yield f"{resource} names no objects: they begin with a prefix, and end with *"


def find_expiring(plan: BucketPlan, lifecycle: Document | None) -> list[tuple[Document, str]]:
    """Find the rules that take away what is live below our prefixes, and what each of them does."""
    found = []
    for rule in _list_enabled(lifecycle):
        touched = [
            prefix
            for prefix in (*plan.public_prefixes, *plan.private_prefixes)
            if prefix != INCOMING_PREFIX and _touches(rule, prefix)
        ]
        deed = _describe_deed(rule)
        if touched and deed:
            found.append((rule, f"{_name(rule)} {deed} below {', '.join(touched)}"))
    return found


def find_unserved(plan: BucketPlan, lifecycle: Document | None) -> dict[str, list[str]]:
    """Find the prefixes for which no rule does what it must, by what that is."""
    rules = list(_list_enabled(lifecycle))

    def lacks(prefix: str, part: str, key: str) -> bool:
        return not any(_covers(rule, prefix) and rule.get(part, {}).get(key) for rule in rules)

    parts = [*plan.streamed_prefixes, INCOMING_PREFIX]
    every = [*plan.public_prefixes, *plan.private_prefixes]
    return {
        "incoming": [each for each in [INCOMING_PREFIX] if lacks(each, "Expiration", "Days")],
        "unfinished": [
            each
            for each in parts
            if lacks(each, "AbortIncompleteMultipartUpload", "DaysAfterInitiation")
        ],
        "versions": [
            each for each in every if lacks(each, "NoncurrentVersionExpiration", "NoncurrentDays")
        ],
    }


def _list_enabled(lifecycle: Document | None) -> Iterator[Document]:
    for rule in as_list((lifecycle or {}).get("Rules")):
        if rule.get("Status") == "Enabled":
            yield rule


def _describe_deed(rule: Document) -> str:
    """Say what a rule does to objects that are live; '' where it leaves them alone."""
    expiration = rule.get("Expiration") or {}
    if expiration.get("Days"):
        return f"deletes after {expiration['Days']} days what is live"
    if expiration.get("Date"):
        return f"deletes on {str(expiration['Date'])[:10]} what is live"
    for transition in as_list(rule.get("Transitions")):
        if transition.get("StorageClass") in _ARCHIVES:
            return f"moves to {transition['StorageClass']}, where nobody can read it, what is live"
    return ""


def _read_prefix(rule: Document) -> tuple[str, bool]:
    """Return the prefix of a rule, and whether it is about some of the objects there only."""
    if "Filter" not in rule:
        return str(rule.get("Prefix") or ""), False
    given = rule["Filter"] or {}
    both = given.get("And") or given
    return str(both.get("Prefix") or ""), bool(set(both) - {"Prefix"})


def _covers(rule: Document, prefix: str) -> bool:
    """Whether all objects below a prefix of ours are meant."""
    own, is_some = _read_prefix(rule)
    return prefix.startswith(own) and not is_some


def _touches(rule: Document, prefix: str) -> bool:
    """Whether objects below a prefix of ours may be meant."""
    own, _ = _read_prefix(rule)
    given = rule.get("Filter") or {}
    if given.get("Tag") or (given.get("And") or {}).get("Tags"):
        return False  # nothing of ours has one
    return prefix.startswith(own) or own.startswith(prefix)


def _name(rule: Document) -> str:
    return f"the rule {rule['ID']}" if rule.get("ID") else "a rule without a name"


def as_list(value: Any) -> list[Any]:
    """Return a list of what may stand alone, or be missing."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
