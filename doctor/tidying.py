"""The last steps, and one of the first: what was left by a run that was killed, and by this one."""

from collections.abc import Iterator
from datetime import UTC, datetime

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from buckets.parts import LIFECYCLE
from doctor import bucket_rules, cures
from doctor.case import Case
from doctor.causes import describe
from doctor.findings import Cure, Finding, Paste, advise, failed, passed
from doctor.policies import look
from doctor.traces import NAME_BEGIN, remove_leftovers
from errors import DarkroomError
from storage.s3_deadlines import limit_call
from storage.s3_proofs import NoStoreAnswered

LEFTOVERS = "leftovers"
TIDY = "nothing left behind"
VERSIONS = "versions"
NAMES = (LEFTOVERS, VERSIONS)


def examine_leftovers(case: Case) -> Iterator[Finding]:
    """Remove what earlier runs of the doctor left that were killed."""
    if not case.may_list:
        return
    try:
        removed = remove_leftovers(case.store, iter(case.prefixes), datetime.now(UTC))
    except DarkroomError:
        return  # a listing that fails is told by the step that is about it
    if removed:
        yield passed(LEFTOVERS, f"{len(removed)} objects of a run that was killed are removed")


def examine_versions(case: Case) -> Iterator[Finding]:
    """Tell of a bucket that keeps what is deleted, as its answers have shown."""
    if not case.store.keeps_versions:
        return
    rules, is_seen = look(case, LIFECYCLE)
    has_rule = is_seen and not bucket_rules.find_unserved(case.plan, rules)["versions"]
    may_erase = _may_erase(case)
    if has_rule and may_erase:
        yield passed(VERSIONS, "what is deleted is kept for a day, and erased where it must be")
        return
    sentence = "For the erasure of accounts allow s3:ListBucketVersions and s3:DeleteObjectVersion."
    pastes: tuple[Paste, ...] = ()
    if not has_rule:
        expiring = cures.expire(case)
        sentence = f"{expiring.sentence} {sentence}"
        pastes += expiring.pastes
    if not may_erase:
        pastes += cures.allow(case.plan, "s3:DeleteObjectVersion", case.arn("*")).pastes
    yield advise(VERSIONS, "the bucket keeps what is deleted", Cure(sentence, pastes))


def _may_erase(case: Case) -> bool:
    """Whether our keys may find old versions; who may find them and not delete them is rare."""
    try:
        with limit_call():
            case.client.list_object_versions(
                Bucket=case.bucket, Prefix=case.prefixes[0] + NAME_BEGIN, MaxKeys=1
            )
    except (ClientError, BotoCoreError, HTTPError, OSError, NoStoreAnswered):
        return False
    return True


def tidy(case: Case) -> Iterator[Finding]:
    """Remove everything that this run has put, and name what cannot be."""
    left = case.traces.remove_all()
    if left:
        reason = describe(next(iter(left.values())))
        yield _tell_left(case, list(left), f"could not be removed: {reason}")
    elif case.traces.late is not None:
        why = "was under way when the doctor was ended, and may arrive after its deletion"
        yield _tell_left(case, [case.traces.late], why)


def name_what_stays(case: Case) -> Iterator[Finding]:
    """Name what was put and is not removed any more."""
    keys = case.traces.below("")
    if keys:
        yield _tell_left(case, keys, "may be there still")


def _tell_left(case: Case, keys: list[str], why: str) -> Finding:
    commands = (cures.aws(case.plan, "delete-object", key=key) for key in keys)
    cure = cures.run("Remove it with credentials that may.", *commands)
    return failed(TIDY, f"{', '.join(keys)} {why}", cure)
