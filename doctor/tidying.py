"""The last steps, and one of the first: what was left by a run that was killed, and by this one."""

from collections.abc import Iterator
from datetime import UTC, datetime

from doctor import cures
from doctor.case import Case
from doctor.causes import describe
from doctor.findings import Cure, Finding, Paste, advise, failed, passed
from doctor.traces import remove_leftovers
from errors import DarkroomError

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
    if case.store.keeps_versions:
        erasure = cures.allow(case.plan, "s3:DeleteObjectVersion", case.arn("*"))
        rules = cures.expire(case)
        yield advise(
            VERSIONS,
            "the bucket keeps what is deleted",
            Cure(
                f"{rules.sentence} And for the erasure of accounts allow the application"
                " s3:ListBucketVersions and s3:DeleteObjectVersion.",
                (*rules.pastes, *erasure.pastes),
            ),
        )


def tidy(case: Case) -> Iterator[Finding]:
    """Remove everything that this run has put, and name what cannot be."""
    left = case.traces.remove_all()
    if not left:
        return
    commands = tuple(Paste("shell", cures.delete(case, key)) for key in left)
    reason = describe(next(iter(left.values())))
    yield failed(
        TIDY,
        f"{', '.join(left)} could not be removed: {reason}",
        Cure("Remove it with credentials that may.", commands),
    )
