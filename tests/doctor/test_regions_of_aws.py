"""A bucket of AWS in another region, or one of a name that no region has.

moto stands for AWS: what would go to its hosts comes there, over TLS; a name that AWS does not
have is no host.
"""

import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import urllib3.util.connection

from buckets import plan_bucket
from files import kinds
from tests.support.backends import make_settings
from tests.support.certificates import make_authority, make_certificate
from tests.support.clinic import Clinic, open_clinic, read_descriptions_once
from tests.support.s3_messages import Answer, Request
from tests.support.sick_s3 import SickS3, error

HOME = "eu-central-1"
REGIONS = (HOME, "us-east-1")
HOST = re.compile(r"(?:[a-z0-9.-]+\.)?s3\.([a-z0-9-]+)\.amazonaws\.com")


@pytest.fixture
def clinic(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Clinic]:
    monkeypatch.setattr(kinds, "KINDS", (kinds.PROFILE_PICTURE, kinds.PHOTO_ORIGINAL))
    read_descriptions_once(monkeypatch)
    authority = make_authority(tmp_path, "authority")
    names = [name for region in REGIONS for name in list_names(region)]
    certificate = make_certificate(tmp_path, names[0], authority, *names[1:])
    with SickS3(moto, certificate) as front:
        lead_to(front, monkeypatch)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.file))
        clinic = open_clinic(front, moto, monkeypatch, tmp_path)
        del clinic.settings["S3_ENDPOINT_URL"]
        clinic.settings["S3_REGION"] = HOME
        front.ills.append(live_at_home)
        front.rewrite = put_bucket_into_path
        yield clinic


def list_names(region: str) -> tuple[str, str]:
    return f"s3.{region}.amazonaws.com", f"*.s3.{region}.amazonaws.com"


def lead_to(front: SickS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hosts of AWS be this server; other names are none."""
    connect = urllib3.util.connection.create_connection
    look_up = socket.getaddrinfo
    port = int(front.url.rpartition(":")[2])

    def find(host: Any, *arguments: Any, **options: Any) -> Any:
        found = HOST.fullmatch(str(host))
        if found is None and not str(host).endswith(".amazonaws.com"):
            return look_up(host, *arguments, **options)
        if found is None or found[1] not in REGIONS:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))]

    def reach(address: tuple[str, int], *arguments: Any, **options: Any) -> Any:
        host, wanted = address
        if HOST.fullmatch(host):
            find(host)
            host = "127.0.0.1"
        return connect((host, port if wanted == 443 else wanted), *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", find)
    monkeypatch.setattr(urllib3.util.connection, "create_connection", reach)


def put_bucket_into_path(request: Request) -> Request:
    """Ask moto in the way in which it answers strangers, too."""
    bucket, _, _ = request.headers["host"].partition(".s3.")
    headers = {**request.headers, "host": "s3"}
    return replace(request, path=f"/{bucket}{request.path}", headers=headers)


def live_at_home(request: Request) -> Answer | None:
    """Send on whoever asks in another region, as AWS does."""
    found = HOST.fullmatch(request.headers["host"])
    assert found is not None, request.headers
    if found[1] == HOME:
        return None
    moved = error(301, "PermanentRedirect", "must be addressed using the specified endpoint")
    moved.headers["x-amz-bucket-region"] = HOME
    return moved


def test_a_bucket_of_aws_is_examined_as_any_other(clinic: Clinic) -> None:
    examined = clinic.examine()
    assert (examined.status, examined.failed) == (0, []), examined
    url = examined.steps["public read profile_pics/"]["what"]
    assert url.startswith(f"https://{clinic.bucket.name}.s3.{HOME}.amazonaws.com/profile_pics/")
    assert clinic.bucket.objects() == {}


def test_the_planned_policy_is_enough_for_the_doctor(clinic: Clinic) -> None:
    plan = plan_bucket(make_settings(clinic.settings))
    clinic.front.policies = [plan.iam_policies()["service-with-photos"]]
    examined = clinic.examine()
    assert (examined.status, examined.failed) == (0, []), examined
    outcomes = {step: found["outcome"] for step, found in examined.steps.items()}
    assert outcomes["list"] == outcomes["bucket policy"] == "not permitted to look"
    assert clinic.bucket.objects() == {}


@pytest.mark.parametrize(
    ("region", "step", "line"),
    [
        ("eu-centrall-1", "region", "S3_REGION=eu-central-1"),
        ("qq-jjjjjjjjj-7", "region", "S3_REGION=<the region's code>"),
        (HOME, "endpoint", f"getent hosts s3.{HOME}.amazonaws.com"),
    ],
)
def test_a_machine_without_a_network_is_told_what_can_be_known(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, region: str, step: str, line: str
) -> None:
    def find(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", find)
    clinic.settings["S3_REGION"] = region
    found = clinic.examine().steps[step]
    assert found["outcome"] == "failed"
    assert found["cure"]["paste"][0]["text"] == line


def test_a_bucket_behind_an_access_point_is_examined_too(clinic: Clinic) -> None:
    point = f"arn:aws:s3:{HOME}:123456789012:accesspoint/mine"
    clinic.settings["S3_BUCKET_NAME"] = point
    examined = clinic.examine()
    told = [step for step in examined.document["steps"] if step["step"] == "settings"]
    assert [step["outcome"] for step in told] == ["passed", "advice"]
    assert f"{point} is an access point" in told[1]["what"]
    # It is asked where it is, where nobody answers here.
    host = f"mine-123456789012.s3-accesspoint.{HOME}.amazonaws.com"
    assert f"there is no host {host}" in examined.steps["endpoint"]["what"]


@pytest.mark.parametrize(
    ("region", "says"),
    [
        ("us-east-1", "lies in eu-central-1, and S3_REGION is us-east-1"),
        ("eu-centrall-1", "there is no region eu-centrall-1"),
        ("eu-cental-1", "there is no region eu-cental-1"),
    ],
)
def test_a_region_that_is_not_the_buckets_is_named_with_the_right_one(
    clinic: Clinic, region: str, says: str
) -> None:
    clinic.settings["S3_REGION"] = region
    examined = clinic.examine()
    found = examined.steps["region"]
    assert found["outcome"] == "failed" and says in found["what"], examined
    assert found["cure"]["paste"] == [{"kind": "env", "text": f"S3_REGION={HOME}"}]
    cured = clinic.cure(examined, "region")
    assert cured.status == 0 and cured.steps["region"]["what"] == HOME
