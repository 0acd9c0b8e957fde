"""A store that the service serves without something is healthy, and the doctor tells of it."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from doctor.examination import examine
from doctor.promises import CHECKSUM, CREATE_ONLY, MANY
from doctor.refusals import SETTINGS
from doctor.report import JsonReport
from storage.s3_powers import Power
from tests.support.backends import make_settings
from tests.support.clinic import read_descriptions_once
from tests.support.providers import PROVIDERS, Front
from tests.support.services import Bucket

# What each is told to lack, by the step. Of a wish that is ignored only a second put tells.
TOLD = {
    "b2": {CREATE_ONLY: Power.CREATE_ONLY_PUT.value, CHECKSUM: Power.CHECKSUMS.value},
    "gcs": {CREATE_ONLY: "lets a second put replace the first", MANY: Power.DELETE_MANY.value},
    "create-only always fails": {CREATE_ONLY: Power.CREATE_ONLY_PUT.value},
}


@pytest.fixture
def bucket(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    read_descriptions_once(monkeypatch)
    bucket = Bucket.make(moto)
    yield bucket
    assert bucket.objects() == {}


def look(settings: dict[str, str]) -> tuple[int, list[dict[str, Any]]]:
    out = io.StringIO()
    status = examine(make_settings(settings), JsonReport(out))
    return status, json.loads(out.getvalue())["steps"]


@pytest.mark.parametrize("provider", TOLD)
def test_a_store_that_is_served_without_something_is_healthy_and_told(
    bucket: Bucket, provider: str
) -> None:
    with Front(bucket.endpoint, PROVIDERS[provider]) as front:
        status, steps = look({**bucket.settings(), "S3_ENDPOINT_URL": front.url})
    assert status == 0, steps
    told = {step["step"]: step for step in steps if step["outcome"] == "advice"}
    for name, words in TOLD[provider].items():
        assert words in told[name]["what"], told


def test_what_was_read_otherwise_and_what_is_not_followed_is_told_with_the_line_to_set(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.com")
    pasted = f"{bucket.endpoint}/{bucket.name}"
    status, steps = look({**bucket.settings(), "S3_ENDPOINT_URL": pasted})
    assert status == 0, steps
    read, ignored = (
        step for step in steps if step["step"] == SETTINGS and step["outcome"] == "advice"
    )
    assert read["what"] == f"S3_ENDPOINT_URL is read as {bucket.endpoint}"
    assert "AWS_ENDPOINT_URL_S3 https://s3.example.com" in ignored["what"]
    assert ignored["cure"]["paste"][0]["text"] == "S3_ENDPOINT_URL=https://s3.example.com"
