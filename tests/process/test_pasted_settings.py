"""What is pasted into the settings of a bucket is told once, when the service makes its stores."""

import json
import logging

import pytest

from storage import Stores
from tests.support.backends import make_settings

ACCOUNT = "0123456789abcdef0123456789abcdef"


def test_what_was_read_otherwise_is_told_once_and_for_the_right_store(
    caplog: pytest.LogCaptureFixture,
) -> None:
    previous = {
        "old": {"storage": "s3", "bucket_name": "arn:aws:s3:::older", "region": "eu-west-1"}
    }
    settings = make_settings(
        {
            "STORAGE": "s3",
            "S3_BUCKET_NAME": '"pictures"',
            "S3_ENDPOINT_URL": "https://pictures.fra1.digitaloceanspaces.com",
            "S3_ACCESS_KEY_ID": " secret-of-nobody",
            "S3_SECRET_ACCESS_KEY": "secret-of-nobody",
            "PREVIOUS_STORES": json.dumps(previous),
        }
    )
    with caplog.at_level(logging.WARNING):
        stores = Stores(settings)
        stores.of("old", "another")
    told = [line for line in caplog.messages if line.startswith("of the store ")]
    assert told == [
        "of the store old: bucket_name is read as older, the name within arn:aws:s3:::older",
        "of the store s3: S3_BUCKET_NAME is read as pictures, without what stood around it",
        "of the store s3: S3_ENDPOINT_URL is read as https://fra1.digitaloceanspaces.com",
        "of the store s3: S3_REGION is taken from S3_ENDPOINT_URL: fra1",
    ]
    assert "secret-of-nobody" not in caplog.text
    url = stores.current.url("profile_pics/x.jpg")
    assert url == "https://fra1.digitaloceanspaces.com/pictures/profile_pics/x.jpg"


def test_a_bucket_in_the_endpoint_is_the_one_that_is_used_where_s3_is_meant() -> None:
    given = {"S3_ENDPOINT_URL": f"https://{ACCOUNT}.r2.cloudflarestorage.com/pictures"}
    assert make_settings({**given, "STORAGE": "s3"}).s3_bucket_name == "pictures"
    assert make_settings(given).store_kind == "local"
