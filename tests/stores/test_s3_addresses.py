"""Public URLs are those of botocore's own data; of the machine only credentials are followed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from pydantic import SecretStr

from errors import StartupError
from locations import StoreSettings
from storage.s3 import S3Store
from tests.support.clinic import read_descriptions_once
from tests.support.s3 import FakeS3
from tests.support.s3_messages import Answer

KEY = "profile_pics/x.jpg"
# As docs.aws.amazon.com/general/latest/gr/s3.html has the endpoints of S3, and botocore those of
# the partitions that few may see.
SUFFIXES = {
    "us-east-1": "amazonaws.com",
    "ap-southeast-5": "amazonaws.com",
    "cn-northwest-1": "amazonaws.com.cn",
    "us-gov-east-1": "amazonaws.com",
    "us-iso-east-1": "c2s.ic.gov",
    "us-isob-west-1": "sc2s.sgov.gov",
    "eu-isoe-west-1": "cloud.adc-e.uk",
    "us-isof-south-1": "csp.hci.ic.gov",
    "eusc-de-east-1": "amazonaws.eu",
}


@pytest.fixture(autouse=True)
def made_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of these tests make a client, which reads botocore's descriptions of services."""
    read_descriptions_once(monkeypatch)


def make_store(**given: Any) -> S3Store:
    keys = {"access_key_id": SecretStr("key"), "secret_access_key": SecretStr("secret")}
    settings = {"storage": "s3", "bucket_name": "pictures", **keys, **given}
    return S3Store(StoreSettings.model_validate(settings))


@pytest.mark.parametrize("region", SUFFIXES)
def test_the_url_is_right_in_each_partition(region: str) -> None:
    host = f"s3.{region}.{SUFFIXES[region]}"
    store = make_store(region=region)
    assert store.url(KEY) == f"https://pictures.{host}/{KEY}"
    dotted = store.in_bucket("pictures.example.com")
    assert dotted.url(KEY) == f"https://{host}/pictures.example.com/{KEY}"
    # Given as an endpoint it is the same place.
    given = make_store(region=region, endpoint_url=f"https://{host}")
    assert given.url(KEY) == store.url(KEY)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (
            {"bucket_name": "pictures-123456789012-eu-west-1-an", "region": "eu-west-1"},
            "https://pictures-123456789012-eu-west-1-an.s3.eu-west-1.amazonaws.com",
        ),
        (
            {"bucket_name": "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine"},
            "https://mine-123456789012.s3-accesspoint.eu-west-1.amazonaws.com",
        ),
        # Addresses of AWS that are given mean the same bucket in the same way.
        (
            {"endpoint_url": "https://s3.eu-west-1.amazonaws.com", "region": "eu-west-1"},
            "https://pictures.s3.eu-west-1.amazonaws.com",
        ),
        (
            {"endpoint_url": "https://s3.dualstack.eu-west-1.amazonaws.com"},
            "https://pictures.s3.dualstack.eu-west-1.amazonaws.com",
        ),
        (
            {"endpoint_url": "https://s3-accelerate.amazonaws.com"},
            "https://pictures.s3-accelerate.amazonaws.com",
        ),
        (
            {"endpoint_url": "https://bucket.vpce-1a2b.s3.eu-west-1.vpce.amazonaws.com"},
            "https://bucket.vpce-1a2b.s3.eu-west-1.vpce.amazonaws.com/pictures",
        ),
        (
            {"endpoint_url": "https://s3.eu-central-003.backblazeb2.com"},
            "https://s3.eu-central-003.backblazeb2.com/pictures",
        ),
        # No host has an address before its own.
        (
            {"endpoint_url": "http://127.0.0.1:9000", "addressing_style": "virtual"},
            "http://127.0.0.1:9000/pictures",
        ),
        (
            {"public_base_url": "https://cdn.example.com/pictures"},
            "https://cdn.example.com/pictures",
        ),
    ],
)
def test_the_url_is_that_of_the_very_place(given: dict[str, str], url: str) -> None:
    store = make_store(**given)
    assert store.url(KEY) == f"{url}/{KEY}"
    if "public_base_url" not in given:
        signed = store.signed_url(KEY, 60)
        assert signed.startswith(f"{url}/{KEY}?") and "X-Amz-Signature=" in signed


def test_a_url_needs_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    store = make_store(access_key_id=None, secret_access_key=None)
    assert store.url(KEY) == f"https://pictures.s3.us-east-1.amazonaws.com/{KEY}"


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[FakeS3]:
    """Where the machine's own settings would lead."""
    with FakeS3() as server:
        server.say(Answer())
        yield server


@pytest.fixture(scope="module")
def ours() -> Iterator[FakeS3]:
    with FakeS3() as server:
        server.say(Answer())
        yield server


Configure = Callable[[str], None]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Configure:
    """Writes the file of the machine's AWS profiles."""

    def write(text: str) -> None:
        file = tmp_path / "config"
        file.write_text(text)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))

    write("")
    return write


MACHINES = {
    "AWS_ENDPOINT_URL_S3": {"AWS_ENDPOINT_URL_S3": "{elsewhere}"},
    "AWS_ENDPOINT_URL": {"AWS_ENDPOINT_URL": "{elsewhere}"},
    "AWS_DEFAULT_REGION": {"AWS_DEFAULT_REGION": "ap-south-1"},
    "AWS_REGION": {"AWS_REGION": "ap-south-1"},
    "AWS_USE_FIPS_ENDPOINT": {"AWS_USE_FIPS_ENDPOINT": "true"},
    "AWS_USE_DUALSTACK_ENDPOINT": {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
    "us_east_1_regional_endpoint": {"AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "legacy"},
}
PROFILES = {
    "endpoint_url in the AWS profile": "endpoint_url = {elsewhere}",
    "endpoint_url of S3 in the AWS profile": (
        "services = mine\n[services mine]\ns3 =\n  endpoint_url = {elsewhere}"
    ),
    "region in the AWS profile": "region = ap-south-1",
    "use_fips_endpoint in the AWS profile": "use_fips_endpoint = true",
    "addressing_style of S3": "s3 =\n  addressing_style = path",
    "use_accelerate_endpoint of S3": "s3 =\n  use_accelerate_endpoint = true",
    "use_dualstack_endpoint of S3": "s3 =\n  use_dualstack_endpoint = true",
}


def assert_ours(elsewhere: FakeS3, ours: FakeS3, name: str) -> None:
    """Uploads and URLs go where our settings say, and what is not followed is named."""
    elsewhere.requests.clear()
    plain = make_store()
    assert plain.url(KEY) == f"https://pictures.s3.us-east-1.amazonaws.com/{KEY}"
    assert plain.signed_url(KEY, 60).startswith(plain.url(KEY))
    [note] = plain.notes
    assert name in note and "is not followed" in note
    if "endpoint_url" in name.lower():
        assert f"set S3_ENDPOINT_URL={elsewhere.url}" in note
    store = make_store(endpoint_url=ours.url)
    store.delete(KEY)
    assert store.url(KEY) == f"{ours.url}/pictures/{KEY}"
    assert elsewhere.requests == []


@pytest.mark.parametrize("name", MACHINES)
def test_what_the_environment_says_of_a_place_is_not_followed_but_told(
    elsewhere: FakeS3,
    ours: FakeS3,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    for variable, value in MACHINES[name].items():
        monkeypatch.setenv(variable, value.format(elsewhere=elsewhere.url))
    assert_ours(elsewhere, ours, name)


@pytest.mark.parametrize("name", PROFILES)
def test_what_a_profile_says_of_a_place_is_not_followed_but_told(
    elsewhere: FakeS3,
    ours: FakeS3,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    configure("[profile mine]\n" + PROFILES[name].format(elsewhere=elsewhere.url))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert_ours(elsewhere, ours, name)


def test_a_machine_that_says_the_same_or_nothing_is_not_spoken_of(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make_store().notes == []
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example.com/")
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert make_store(endpoint_url="https://s3.example.com").notes == []


def test_the_credentials_of_a_profile_are_followed(
    ours: FakeS3, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure("[profile mine]\naws_access_key_id = of-the-profile\naws_secret_access_key = s")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    store = make_store(endpoint_url=ours.url, access_key_id=None, secret_access_key=None)
    store.delete(KEY)
    assert "Credential=of-the-profile/" in ours.requests[-1].headers["authorization"]


def test_a_profile_that_is_not_there_counts_only_where_its_keys_are_needed(
    ours: FakeS3, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    store = make_store(endpoint_url=ours.url)
    store.delete(KEY)
    assert store.notes == []
    with pytest.raises(StartupError, match="nobodys"):
        make_store(access_key_id=None, secret_access_key=None)


def test_a_region_that_nobody_knows_is_told_with_the_one_that_it_resembles(
    configure: Configure,
) -> None:
    [note] = make_store(region="us-esat-1").notes
    assert "no region us-esat-1 of AWS" in note and "us-east-1" in note
    assert make_store(region="fsn1", endpoint_url="https://fsn1.your-objectstorage.com").notes == []


def test_urls_are_botocores_though_signed_by_nobody(configure: Configure) -> None:
    """Against a second client, which does nothing else."""
    client = boto3.client("s3", region_name="cn-north-1", config=Config(signature_version=UNSIGNED))
    params = {"Bucket": "pictures", "Key": KEY}
    url = client.generate_presigned_url("get_object", Params=params)
    assert make_store(region="cn-north-1").url(KEY) == url
