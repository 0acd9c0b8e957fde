"""Stores that are not AWS pass the doctor, which tells what they cannot do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from files import kinds
from tests.support.clinic import Clinic, read_descriptions_once
from tests.support.providers import (
    A_PAGE,
    AWS_ELSEWHERE,
    AWS_WRONG_SIGNATURE,
    PROVIDERS,
    WASABI_ELSEWHERE,
    Quirks,
    serve_as,
)
from tests.support.services import Bucket

# What moto takes, and anybody may do there.
EMULATED = {"list", "presigned PUT", "address of pictures"}
# What each of them lacks, by the step that tells it.
TOLD: dict[str, dict[str, str]] = {
    "r2": {"presigned POST": "takes no forms"},
    "old r2": {"presigned POST": "takes no forms", "checksums": "takes no checksums"},
    "b2": {
        "presigned POST": "takes no forms",
        "checksums": "takes no checksums",
        "create-only put": "knows no put that overwrites nothing",
        "completed upload originals/": "knows no completion",
    },
    "gcs": {"create-only put": "second put replace", "delete many": "deletes no objects together"},
    "old gcs": {
        "create-only put": "second put replace",
        "checksums": "takes no checksums",
        "delete many": "deletes no objects together",
    },
    "wasabi": {"create-only put": "second put replace"},
    "old minio": {"create-only put": "second put replace"},
}


@pytest.fixture
def clinic(
    moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Clinic]:
    """A bucket of a service with the quirks that the test is given."""
    monkeypatch.setattr(kinds, "KINDS", (kinds.PROFILE_PICTURE, kinds.PHOTO_ORIGINAL))
    read_descriptions_once(monkeypatch)
    bucket = Bucket.make(moto)
    quirks: Quirks = request.param
    with serve_as(moto, quirks) as front:
        settings = {**bucket.settings(), "S3_ENDPOINT_URL": front.url}
        yield Clinic(cast(Any, None), bucket, monkeypatch, tmp_path, settings)
    assert bucket.objects() == {}


@pytest.mark.parametrize(
    ("name", "clinic"), [(name, PROVIDERS[name]) for name in TOLD], indirect=["clinic"]
)
def test_a_store_that_lacks_something_passes_and_it_is_told(clinic: Clinic, name: str) -> None:
    examined = clinic.examine()
    assert (examined.status, examined.failed) == (0, []), examined
    advice = {
        step: found["what"]
        for step, found in examined.steps.items()
        if found["outcome"] == "advice" and not step.startswith("lifecycle")
    }
    for step, words in TOLD[name].items():
        assert words in advice.pop(step), examined
    # moto compares no checksums, and no conditions of forms.
    assert set(advice) <= {*EMULATED, "checksums", "presigned POST"}


@pytest.mark.parametrize(
    ("step", "says", "line", "clinic"),
    [
        ("endpoint", "Welcome to our console", "S3_ENDPOINT_URL=<", A_PAGE),
        ("region", "lies in eu-west-1", "S3_REGION=eu-west-1", AWS_ELSEWHERE),
        ("region", "lies in eu-west-1", "S3_REGION=eu-west-1", AWS_WRONG_SIGNATURE),
        (
            "region",
            "s3.eu-central-1.wasabisys.com",
            "S3_ENDPOINT_URL=https://s3.eu-central-1.wasabisys.com",
            WASABI_ELSEWHERE,
        ),
    ],
    indirect=["clinic"],
)
def test_a_place_where_the_bucket_is_not_is_told(
    clinic: Clinic, step: str, says: str, line: str
) -> None:
    found = clinic.examine().steps[step]
    assert found["outcome"] == "failed" and says in found["what"], found
    assert found["cure"]["paste"][0]["text"].startswith(line), found
