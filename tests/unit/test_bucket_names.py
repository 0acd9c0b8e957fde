"""A bucket's name that cannot be one is refused at start; what another service takes is taken."""

from typing import Any

import pytest
from botocore.exceptions import ParamValidationError
from botocore.handlers import validate_bucket_name

from config import Settings
from locations import StoreSettings

MINIO = "http://minio:9000"
ACCESS_POINT = "arn:aws:s3:eu-central-1:123456789012:accesspoint/pictures"


def read(name: str, **more: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings as of the current store, and as of a previous one."""
    current = {"s3_bucket_name": name} | {f"s3_{field}": value for field, value in more.items()}
    return current, {"storage": "s3", "bucket_name": name, **more}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("my pictures", {}),
        ("s3://my-pictures/profile_pics", {}),
        ("my-pictures/profile_pics", {}),
        ("my..pictures", {"endpoint_url": MINIO}),
        ("my-pictures.", {"endpoint_url": MINIO}),
        ("192.168.0.1", {"endpoint_url": MINIO}),
        ("arn:aws:sns:::my-pictures", {}),
        ("arn:something", {"endpoint_url": MINIO}),
        ("b" * 256, {"endpoint_url": MINIO}),
        ("My-Pictures", {"region": "eu-central-1"}),
        ("my_pictures", {"region": "eu-central-1"}),
        ("my-pictures-", {"region": "eu-central-1"}),
        ("my", {"region": "eu-central-1"}),
        ("b" * 64, {"region": "eu-central-1"}),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_in_a_sentence(
    name: str, more: dict[str, str]
) -> None:
    current, previous = read(name, **more)
    with pytest.raises(ValueError, match="the bucket's name"):
        Settings(**current)
    with pytest.raises(ValueError, match="the bucket's name"):
        StoreSettings(**previous)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("my-pictures", {"region": "eu-central-1"}),
        ("pictures.example.com", {"region": "eu-central-1"}),
        (ACCESS_POINT, {"region": "eu-central-1"}),
        ("My_Old_Pictures", {}),  # as the oldest buckets of us-east-1 are called
        ("My_Pictures-", {"endpoint_url": MINIO, "region": "eu-central-1"}),
        ("b", {"endpoint_url": MINIO}),
    ],
)
def test_a_name_that_may_be_one_is_taken(name: str, more: dict[str, str]) -> None:
    current, previous = read(name, **more)
    assert Settings(**current).stores()["s3"].bucket_name == name
    assert StoreSettings(**previous).bucket_name == name
    try:
        validate_bucket_name({"Bucket": name})
    except ParamValidationError:
        pytest.fail("botocore refuses at the first call what was taken at start")
