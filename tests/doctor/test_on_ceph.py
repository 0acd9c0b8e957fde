"""The doctor against Ceph's gateway, which obeys policies: what is wrong is named, and cured.

`scripts/test -m radosgw` runs it, where Debian's ceph-mon, ceph-osd and radosgw are.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from buckets import plan_bucket
from buckets.applying import Outcome, apply_plan
from tests.support.backends import make_settings
from tests.support.clinic import Clinic
from tests.support.radosgw import Radosgw
from tests.support.services import Bucket
from tests.support.sick_s3 import SickS3

pytestmark = pytest.mark.radosgw

# One that the settings name, and the one that the doctor takes for all others.
ORIGIN = "https://app.example.com"
OTHER = "https://another.example"
PUBLIC = ("profile_pics/", "photos/", "thumbnails/")
PUBLIC_READS = tuple(f"public read {prefix}" for prefix in PUBLIC)


@dataclass(frozen=True)
class Sickness:
    """One thing that is wrong, and the steps that must name it; `says` is of the first."""

    make: Callable[[Clinic], object]
    steps: tuple[str, ...]
    says: str


def no_policy(clinic: Clinic) -> None:
    clinic.client.delete_bucket_policy(Bucket=clinic.bucket.name)


def policy_of_another_bucket(clinic: Clinic) -> None:
    clinic.put_policy("another-bucket/profile_pics/*")


def policy_without_star(clinic: Clinic) -> None:
    clinic.put_policy(*(f"{clinic.bucket.name}/{name}" for name in PUBLIC))


def private_prefix_is_public(clinic: Clinic) -> None:
    paths = (*PUBLIC, "originals/")
    clinic.put_policy(*(f"{clinic.bucket.name}/{path}*" for path in paths))


def everything_is_public(clinic: Clinic) -> None:
    clinic.put_policy(f"{clinic.bucket.name}/*")


def public_acls_are_blocked(clinic: Clinic) -> None:
    """As a bucket of AWS should have it; this gateway then refuses every put."""
    clinic.client.put_public_access_block(
        Bucket=clinic.bucket.name,
        PublicAccessBlockConfiguration={"BlockPublicAcls": True, "IgnorePublicAcls": True},
    )


SICKNESSES = {
    "no policy": Sickness(no_policy, PUBLIC_READS, "nobody but its owner may read it"),
    "the policy of another bucket": Sickness(
        policy_of_another_bucket, (*PUBLIC_READS, "bucket policy"), "nobody but its owner"
    ),
    "a policy without a star": Sickness(
        policy_without_star, (*PUBLIC_READS, "bucket policy"), "nobody but its owner may read it"
    ),
    "a private prefix that is public": Sickness(
        private_prefix_is_public,
        ("hidden originals/", "bucket policy"),
        "answered 200 to a stranger",
    ),
    "everything is public": Sickness(
        everything_is_public,
        ("hidden originals/", "hidden private_photos/", "bucket policy"),
        "answered 200 to a stranger",
    ),
    "the box for ACLs is on": Sickness(
        public_acls_are_blocked, ("put profile_pics/",), "BlockPublicAcls is on, with which some"
    ),
}


@pytest.fixture
def clinic(ceph: Radosgw, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Clinic]:
    """A bucket of the gateway as `cli.py bucket apply` makes it."""
    bucket = Bucket.make(ceph.endpoint)
    settings = {**bucket.settings(), "CORS_ORIGINS": ORIGIN}
    plan = plan_bucket(make_settings(settings))
    applied = {each.part: each.outcome for each in apply_plan(plan, bucket.client(), is_dry=False)}
    assert Outcome.FAILED not in applied.values(), applied
    with SickS3(ceph.endpoint) as front:  # passed by: the gateway is asked itself
        yield Clinic(front, bucket, monkeypatch, tmp_path, settings)


def test_a_bucket_that_was_applied_is_found_well_and_its_forms_are_obeyed(clinic: Clinic) -> None:
    examined = clinic.examine()
    assert examined.failed == [], examined
    refused = "refused are more bytes, another key, another type, a form that has expired"
    assert refused in examined.steps["presigned POST"]["what"]
    assert {examined.steps[f"CORS {origin}"]["outcome"] for origin in (ORIGIN, OTHER)} == {"passed"}
    assert clinic.bucket.objects() == {}


@pytest.mark.parametrize("name", SICKNESSES)
def test_it_is_named_and_cured_by_what_is_printed(clinic: Clinic, name: str) -> None:
    sickness = SICKNESSES[name]
    sickness.make(clinic)
    examined = clinic.examine()
    assert {found["step"] for found in examined.failed} >= set(sickness.steps), examined
    assert any(sickness.says in found["what"] for found in examined.failed), examined
    clinic.cure(examined, sickness.steps[-1])
    assert clinic.bucket.objects() == {}
