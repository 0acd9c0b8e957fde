"""Steps that look at the bucket's own configuration, where somebody may look at it.

What works is no failure, whatever is set; what our prefixes lack of rules is advice. Each cure
keeps what others have there.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from buckets import parts
from buckets.merging import merge_lifecycle
from buckets.parts import Part
from doctor import bucket_rules, cures
from doctor.case import Case
from doctor.causes import DENIED, describe, read_code
from doctor.findings import (
    Cure,
    Finding,
    advise,
    failed,
    may_not_look,
    not_tried,
    passed,
)
from files.kinds import INCOMING_PREFIX

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

POLICY = "bucket policy"
BOXES = "block public access"
OWNERSHIP = "object ownership"
CORS = "CORS rules"
EXPIRY = "lifecycle of what is live"
INCOMING = f"lifecycle of {INCOMING_PREFIX}"
UNFINISHED = "lifecycle of unfinished uploads"
OLD_VERSIONS = "lifecycle of old versions"
NAMES = (POLICY, BOXES, OWNERSHIP, CORS, EXPIRY, INCOMING, UNFINISHED, OLD_VERSIONS)

# The two boxes because of which a policy for everyone is refused, or heeded for nobody.
_OF_POLICIES = {"BlockPublicPolicy", "RestrictPublicBuckets"}

Document = Mapping[str, Any]


@dataclass(frozen=True)
class _Hidden:
    """Why one of the bucket's documents could not be read."""

    what: str
    is_denied: bool


def examine_configuration(case: Case) -> Iterator[Finding]:
    """Compare the configuration with what the bucket must be."""
    clients = case.lookers
    yield from _examine(case, clients, POLICY, parts.POLICY, _judge_policy)
    yield from _examine(case, clients, BOXES, parts.BOXES, _judge_boxes)
    yield from _examine(case, clients, OWNERSHIP, parts.OWNERSHIP, _judge_ownership)
    if case.plan.origins:
        yield from _examine(case, clients, CORS, parts.CORS, _judge_cors)
    yield from _examine(case, clients, EXPIRY, parts.LIFECYCLE, _judge_lifecycle)
    yield from _examine_versions(case, clients)


def _examine(
    case: Case,
    clients: "Sequence[S3Client]",
    step: str,
    part: Part,
    judge: Callable[[Case, dict[str, Any] | None], Iterator[Finding]],
) -> Iterator[Finding]:
    found = _look(clients, lambda client: parts.look_at(client, case.bucket, part))
    if not isinstance(found, _Hidden):
        yield from judge(case, found)
    elif found.is_denied:
        yield may_not_look(step, found.what, _let_look(case, part.looking))
    else:
        yield not_tried(step, f"it cannot be looked at here: {found.what}")


def _look(
    clients: "Sequence[S3Client]", ask: "Callable[[S3Client], dict[str, Any] | None]"
) -> dict[str, Any] | _Hidden | None:
    """Look with our keys, and where they may not with others, if there are any."""
    hidden = _Hidden("nobody looked", is_denied=False)
    for client in clients:
        try:
            return ask(client)
        except (ClientError, BotoCoreError, HTTPError, OSError, ValueError, KeyError) as err:
            hidden = _Hidden(describe(err), read_code(err) in DENIED)
            if not hidden.is_denied:
                break
    return hidden


def _let_look(case: Case, action: str) -> Cure:
    allowed = cures.allow(case.plan, action, case.arn())
    return Cure(
        "The service needs no such right. To look all the same, name a profile of ~/.aws whose keys"
        f" may: --admin-profile NAME; or give keys {action}, as in the policy for operators.",
        allowed.pastes,
    )


def _judge_policy(case: Case, policy: dict[str, Any] | None) -> Iterator[Finding]:
    plan = case.plan
    opened = bucket_rules.judge_policy(plan, policy)
    merged = parts.POLICY.merge(policy, plan.bucket_policy())
    command = cures.aws(plan, "put-bucket-policy", policy=merged.document)
    said = "; ".join(opened.faults)
    if opened.private:
        shown = ", ".join(opened.private)
        yield failed(POLICY, f"everyone may read {shown}", cures.show_only_public(case))
    elif not opened.missing:
        what = f"everyone may read {', '.join(plan.public_prefixes)}"
        yield advise(POLICY, f"{what}; but {said}") if said else passed(POLICY, what)
    elif case.is_readable and not said:
        yield passed(POLICY, "not everyone may read by it, but what is public can be read")
    else:
        closed = f"not everyone may read {', '.join(opened.missing)}"
        what = f"{closed}: {said}" if said else closed
        sentence = "Let everyone read what is public. Statements of others stay."
        cure = cures.run(sentence, command)
        yield advise(POLICY, what, cure) if case.is_readable else failed(POLICY, what, cure)


def _judge_boxes(case: Case, boxes: dict[str, Any] | None) -> Iterator[Finding]:
    plan = case.plan
    planned = plan.public_access_block()
    there = boxes or {}
    on = [name for name in planned if there.get(name)]
    blocking = [name for name in on if not planned[name]]
    needless = [name for name in planned if planned[name] and name not in on]
    said = f"on: {', '.join(on) or 'none'}"
    command = cures.aws(plan, "put-public-access-block", public_access_block_configuration=planned)
    if (
        blocking
        and not case.is_readable
        and any("Polic" in each or "Restrict" in each for each in blocking)
    ):
        sentence = "Switch off the boxes for policies; the whole account has the same ones."
        yield failed(BOXES, f"{said}: public policies are not heeded", cures.run(sentence, command))
    elif blocking:
        all_the_same = ", and what is public can be read all the same" if case.is_readable else ""
        yield passed(BOXES, f"{said}{all_the_same}")
    elif needless:
        sentence = "Switch on the two boxes for ACLs: nothing of ours has one."
        yield advise(BOXES, f"{said}; ACLs may make objects public", cures.run(sentence, command))
    else:
        yield passed(BOXES, said)


def _judge_ownership(case: Case, controls: dict[str, Any] | None) -> Iterator[Finding]:
    plan = case.plan
    if not plan.is_aws and not (controls or {}).get("Rules"):
        return  # hardly any other service knows of it
    if not parts.OWNERSHIP.merge(controls, plan.ownership()).is_new:
        yield passed(OWNERSHIP, "the bucket's owner has all, and ACLs do not count")
        return
    command = cures.aws(plan, "put-bucket-ownership-controls", ownership_controls=plan.ownership())
    sentence = "Let ACLs not count, if nothing else in the bucket needs them."
    what = "ACLs count, beside the policies"
    yield advise(OWNERSHIP, what, cures.run(sentence, command))


def _judge_cors(case: Case, cors: dict[str, Any] | None) -> Iterator[Finding]:
    plan = case.plan
    merged = parts.CORS.merge(cors, plan.cors())
    if not merged.is_new:
        yield passed(CORS, f"pages of {', '.join(plan.origins)} may ask")
        return
    command = cures.aws(plan, "put-bucket-cors", cors_configuration=merged.document)
    what = "there is none" if not cors else "they are not those that CORS_ORIGINS needs"
    sentence = "Set them; those of others stay."
    yield advise(CORS, what, cures.run(sentence, command))


def _judge_lifecycle(case: Case, lifecycle: dict[str, Any] | None) -> Iterator[Finding]:
    plan = case.plan
    expiring = bucket_rules.find_expiring(plan, lifecycle)
    if expiring:
        wrong = [rule for rule, _ in expiring]
        rest = [rule for rule in (lifecycle or {}).get("Rules", []) if rule not in wrong]
        yield failed(
            EXPIRY,
            "; ".join(deed for _, deed in expiring),
            _set_rules(case, {"Rules": rest}, "Take that rule away: it deletes people's pictures."),
        )
    else:
        yield passed(EXPIRY, "no rule takes away what is live")
    unserved = bucket_rules.find_unserved(plan, lifecycle)
    cure = _set_rules(case, lifecycle, "Set rules for our prefixes; those of others stay.")
    yield _tell_unserved(
        INCOMING, unserved["incoming"], cure, "what browsers put and nobody took stays for ever"
    )
    yield _tell_unserved(
        UNFINISHED, unserved["unfinished"], cure, "uploads that were begun and not ended may stay"
    )


def _tell_unserved(step: str, prefixes: list[str], cure: Cure, what: str) -> Finding:
    if prefixes:
        return advise(step, f"{what} below {', '.join(prefixes)}", cure)
    return passed(step, "removed by a rule")


def _examine_versions(case: Case, clients: "Sequence[S3Client]") -> Iterator[Finding]:
    """Where the bucket keeps versions, see that old ones go."""
    found = _look(clients, lambda client: dict(client.get_bucket_versioning(Bucket=case.bucket)))
    is_on = isinstance(found, dict) and found.get("Status") in ("Enabled", "Suspended")
    if is_on or case.store.keeps_versions:
        yield from _examine(case, clients, OLD_VERSIONS, parts.LIFECYCLE, _judge_versions)


def _judge_versions(case: Case, lifecycle: dict[str, Any] | None) -> Iterator[Finding]:
    prefixes = bucket_rules.find_unserved(case.plan, lifecycle)["versions"]
    cure = _set_rules(case, lifecycle, "Set rules for our prefixes; those of others stay.")
    yield _tell_unserved(OLD_VERSIONS, prefixes, cure, "what is deleted stays for ever")


def _set_rules(case: Case, there: Document | None, sentence: str) -> Cure:
    plan = case.plan
    planned = plan.lifecycle(keeps_versions=plan.is_aws or case.store.keeps_versions)
    rules = merge_lifecycle(dict(there or {}), planned).document["Rules"]
    # A rule of others may have a date.
    text = json.dumps({"Rules": rules}, default=lambda value: value.isoformat())
    command = cures.aws(plan, "put-bucket-lifecycle-configuration", lifecycle_configuration=text)
    return cures.run(sentence, command)
