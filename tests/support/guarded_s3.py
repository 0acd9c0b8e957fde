"""moto with its permissions switched on, and a web server that stands before its buckets."""

import contextlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import httpx
from botocore.exceptions import ClientError

from tests.support.services import Bucket, s3_server
from tests.support.web import WebPage, serve_pages


@dataclass
class Front:
    """A web server before a bucket, as a CDN is; how it is wrong is set by a test."""

    client: Any
    bucket: str
    is_stale: bool = False
    content: bytes | None = None
    content_type: str | None = None
    status: int | None = None
    url: str = ""

    def __post_init__(self) -> None:
        self._kept: dict[str, WebPage] = {}

    def get(self, path: str) -> WebPage:
        key = path.lstrip("/")
        if self.status is not None:
            return WebPage(self.status, b"", "text/plain")
        if self.is_stale and key in self._kept:
            return self._kept[key]
        try:
            found = self.client.get_object(Bucket=self.bucket, Key=key)
        except ClientError as err:
            status = err.response["ResponseMetadata"]["HTTPStatusCode"]
            return WebPage(status, b"", "application/xml")
        content = self.content or found["Body"].read()
        self._kept[key] = WebPage(200, content, self.content_type or found["ContentType"])
        return self._kept[key]


class GuardedS3:
    """moto with its permissions switched on.

    They are off while a test prepares something as the owner of it all.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    @contextlib.contextmanager
    def unguarded(self) -> Iterator[None]:
        self._let_pass("inf")
        try:
            yield
        finally:
            self._let_pass("0")

    def _let_pass(self, actions: str) -> None:
        httpx.post(
            f"{self.endpoint}/moto-api/reset-auth", content=actions, trust_env=False
        ).raise_for_status()

    def user(self, *allowed: tuple[str, str]) -> dict[str, str]:
        """Make a user that may do these actions on these resources and nothing else.

        Returns the settings with its keys.
        """
        return self.user_with([make_statement(*actions) for actions in allowed])

    def user_with(self, statements: list[dict[str, object]]) -> dict[str, str]:
        """Make a user whose policy has these statements; return the settings with its keys."""
        iam = boto3.client(
            "iam",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        name = f"user-{uuid.uuid4().hex}"
        with self.unguarded():
            iam.create_user(UserName=name)
            if statements:
                document = json.dumps({"Version": "2012-10-17", "Statement": statements})
                iam.put_user_policy(UserName=name, PolicyName="allowed", PolicyDocument=document)
            made = iam.create_access_key(UserName=name)["AccessKey"]
        return {
            "S3_ACCESS_KEY_ID": made["AccessKeyId"],
            "S3_SECRET_ACCESS_KEY": made["SecretAccessKey"],
        }

    def bucket(self) -> Bucket:
        with self.unguarded():
            return Bucket.make(self.endpoint)

    @contextlib.contextmanager
    def serving(self, bucket: Bucket) -> Iterator[str]:
        """A web server that reads what is public with its own keys, as moto guards that too.

        Yields its address.
        """
        resources = bucket.policy["Statement"][0]["Resource"]
        reader = self.user(*(("s3:GetObject", resource) for resource in resources))
        client = boto3.client(
            "s3",
            endpoint_url=bucket.endpoint,
            region_name="us-east-1",
            aws_access_key_id=reader["S3_ACCESS_KEY_ID"],
            aws_secret_access_key=reader["S3_SECRET_ACCESS_KEY"],
        )
        with serve_pages(Front(client, bucket.name).get) as url:
            yield url

    def keys(self, bucket: Bucket) -> list[str]:
        with self.unguarded():
            return list(bucket.objects())


def make_statement(action: str, resource: str) -> dict[str, object]:
    """The statement of a policy that allows this."""
    return {"Effect": "Allow", "Action": action, "Resource": resource}


@contextlib.contextmanager
def guarded_s3() -> Iterator[GuardedS3]:
    """A moto of its own, which refuses what no policy allows."""
    with s3_server("moto") as endpoint:
        guarded = GuardedS3(endpoint)
        with guarded.unguarded():
            pass  # from here on all is guarded
        yield guarded
