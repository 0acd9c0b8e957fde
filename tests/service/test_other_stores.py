"""A service at a store that differs from AWS refuses no upload, and its log tells what differs."""

from collections.abc import Callable, Iterator

import pytest

from tests.support import providers
from tests.support.pictures import jpeg
from tests.support.providers import Front
from tests.support.services import Bucket, Service


@pytest.fixture
def front(moto: str) -> Iterator[Front]:
    with Front(moto, providers.B2) as front:
        yield front


def test_uploads_go_on_at_a_store_that_knows_neither_checksums_nor_create_only(
    start_service: Callable[..., Service], moto: str, front: Front
) -> None:
    bucket = Bucket.make(moto)
    settings = {name.lower(): value for name, value in bucket.settings().items()}
    service = start_service(**{**settings, "s3_endpoint_url": f"{front.url}/{bucket.name}"})
    alice = service.register()
    for _ in range(2):
        answer = service.patch_picture(alice, jpeg())
        assert answer.status_code == 200, answer.text
        assert service.get_picture(answer.json()["image_path"]).status_code == 200
    with service.client(alice) as client:
        sent = client.post("/photos", files={"file": ("photo.jpg", jpeg())})
        assert sent.status_code == 201
        assert client.delete("/users/me/picture").status_code == 200
    log = service.log()
    assert log.count("takes no checksums") == log.count("knows no put") == 1
    assert f"S3_ENDPOINT_URL is read as {front.url}" in log


def test_a_bucket_of_another_region_is_named_at_the_start(
    start_service: Callable[..., Service], moto: str, front: Front
) -> None:
    front.quirks = providers.AWS_ELSEWHERE
    bucket = Bucket.make(moto)
    settings = {name.lower(): value for name, value in bucket.settings().items()}
    service = start_service(**{**settings, "s3_endpoint_url": front.url})
    assert "set S3_REGION=eu-west-1" in service.log()
    answer = service.patch_picture(service.register(), jpeg())
    assert (answer.status_code, answer.json()["code"]) == (503, "store_refused")
