"""A store in an S3 bucket, or in any service that speaks the same language.

One client per process, made at start. One attempt per call: botocore's
own retry of a put whose answer was lost would meet the object that the
first attempt made, so retries are the caller's, under a new key.
"""

import base64
import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import urlsplit

import boto3
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
)
from urllib3.exceptions import HTTPError

from errors import ObjectExists, ObjectNotFound, StartupError, StoreRefused, StoreUnavailable
from locations import StoreSettings
from storage.contract import (
    CACHE_CONTROL,
    STORE_THREADS,
    FoundObject,
    OpenObject,
    check_key,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import PutObjectRequestTypeDef

# Together well below STORE_DEADLINE_SECONDS. S3 answers a
# small put within a second; eight leave room for a slow day.
CONNECT_TIMEOUT_SECONDS = 3
READ_TIMEOUT_SECONDS = 8

# Refusals with a 4xx status that another attempt can
# cure: bytes that were lost or changed on their way.
_PASSING_CODES = {
    "RequestTimeout",
    "BadDigest",
    "IncompleteBody",
    "XAmzContentSHA256Mismatch",
    "RequestTimeTooSkewed",
}


class S3Store:
    """The objects of one bucket.

    Needs PutObject and DeleteObject; the other verbs need GetObject and ListBucket.

    Raises StartupError for an endpoint or a region that cannot be one.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self.bucket = settings.bucket_name
        self._settings = settings
        self._path_style = _is_path_style(settings)
        self._create_only = True
        key_id = settings.access_key_id
        secret = settings.secret_access_key
        try:
            self._client = boto3.session.Session().client(
                "s3",
                region_name=settings.region,
                endpoint_url=settings.endpoint_url,
                aws_access_key_id=key_id.get_secret_value() if key_id else None,
                aws_secret_access_key=secret.get_secret_value() if secret else None,
                config=Config(
                    signature_version="s3v4",
                    connect_timeout=CONNECT_TIMEOUT_SECONDS,
                    read_timeout=READ_TIMEOUT_SECONDS,
                    retries={"total_max_attempts": 1},
                    max_pool_connections=STORE_THREADS,
                    tcp_keepalive=True,
                    request_checksum_calculation=settings.checksums,
                    response_checksum_validation=settings.checksums,
                    s3={"addressing_style": "path" if self._path_style else "virtual"},
                ),
            )
        except (BotoCoreError, ValueError) as err:
            raise StartupError(f"The S3 settings cannot be used: {str(err).rstrip('.')}") from err
        # Redirected, botocore asks where the bucket lies, and asks
        # again when that is redirected too (as from http to https): for
        # ever. It asks by a verb that we neither use nor are allowed.
        self._client.meta.events.register("before-call.s3.HeadBucket", cast(Any, _refuse))

    def put(self, key: str, content: bytes, content_type: str, sha256: str) -> None:
        request: PutObjectRequestTypeDef = {
            "Bucket": self.bucket,
            "Key": check_key(key),
            "Body": content,
            "ContentType": content_type,
            "CacheControl": CACHE_CONTROL,
        }
        if self._settings.checksums == "when_supported":
            request["ChecksumSHA256"] = base64.b64encode(bytes.fromhex(sha256)).decode()
        if self._create_only:
            request["IfNoneMatch"] = "*"
        try:
            with _translate_errors():
                self._put(request)
        except ObjectNotFound as err:
            raise StoreRefused from err.__cause__  # no bucket, or no S3 at all, at this address

    def open(self, key: str) -> OpenObject:
        with _translate_errors():
            found = self._client.get_object(Bucket=self.bucket, Key=check_key(key))
            stream = cast(BinaryIO, _TranslatedStream(cast(BinaryIO, found["Body"])))
            return OpenObject(
                stream, found["ContentLength"], found.get("ContentType", "application/octet-stream")
            )

    def _put(self, request: "PutObjectRequestTypeDef") -> None:
        try:
            self._client.put_object(**request)
        except ClientError as err:
            if (
                err.response.get("Error", {}).get("Code") != "NotImplemented"
                or "IfNoneMatch" not in request
            ):
                raise
            # The service does not know create-only puts and has
            # stored nothing; our random keys stay unique anyway.
            del request["IfNoneMatch"]
            self._client.put_object(**request)
            # Only now: it was that header, and nothing else in the request.
            self._create_only = False

    def exists(self, key: str) -> bool:
        try:
            with _translate_errors():
                self._client.head_object(Bucket=self.bucket, Key=check_key(key))
        except ObjectNotFound:
            return False
        return True

    def delete(self, key: str) -> None:
        try:
            with _translate_errors():
                self._client.delete_object(Bucket=self.bucket, Key=check_key(key))
        except ObjectNotFound as err:
            # AWS says nothing when the key is not there; some
            # services say so. Any other 404 is another web server's.
            cause = err.__cause__
            if (
                isinstance(cause, ClientError)
                and cause.response.get("Error", {}).get("Code") != "NoSuchKey"
            ):
                raise StoreRefused from cause

    def url(self, key: str) -> str:
        settings = self._settings
        if settings.public_base_url:
            return f"{settings.public_base_url}/{key}"
        if settings.endpoint_url:
            parts = urlsplit(settings.endpoint_url)
        else:
            suffix = ".cn" if settings.region.startswith("cn-") else ""
            parts = urlsplit(f"https://s3.{settings.region}.amazonaws.com{suffix}")
        if self._path_style:
            return f"{parts.scheme}://{parts.netloc}{parts.path}/{self.bucket}/{key}"
        return f"{parts.scheme}://{self.bucket}.{parts.netloc}{parts.path}/{key}"

    def find(self, prefix: str) -> Iterator[FoundObject]:
        with _translate_errors():
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix
            ):
                for found in page.get("Contents", []):
                    yield FoundObject(found["Key"], found["Size"], found["LastModified"])

    def remove_leftovers(self, older_than_seconds: float) -> None:
        pass

    def in_bucket(self, bucket: str) -> "S3Store":
        if bucket == self.bucket:
            return self
        settings = self._settings.model_copy(
            update={"bucket_name": bucket, "public_base_url": None}
        )
        if _is_path_style(settings) != self._path_style:
            return S3Store(settings)
        other = copy.copy(self)  # shares the client
        other.bucket = bucket
        other._settings = settings
        return other


def _is_path_style(settings: StoreSettings) -> bool:
    # No wildcard certificate covers a bucket's name with a
    # dot, and few other services have a host for each bucket.
    is_one_host = settings.endpoint_url is not None or "." in settings.bucket_name
    return settings.addressing_style == "path" or (
        settings.addressing_style == "auto" and is_one_host
    )


class _TranslatedStream:
    """A response body whose read errors are ours."""

    def __init__(self, body: BinaryIO) -> None:
        self._body = body

    def read(self, size: int = -1) -> bytes:
        with _translate_errors():
            return self._body.read(size) if size >= 0 else self._body.read()

    def close(self) -> None:
        self._body.close()


def _refuse(**_: object) -> tuple[AWSResponse, dict[str, Any]]:
    return AWSResponse("", 403, HTTPHeaders(), None), {
        "Error": {},
        "ResponseMetadata": {"HTTPHeaders": {}},
    }


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except ClientError as err:
        status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = err.response.get("Error", {}).get("Code", "")
        if status in (409, 412):
            raise ObjectExists from err
        if status == 404 and code != "NoSuchBucket":
            raise ObjectNotFound from err
        if 300 <= status < 500 and status != 429 and code not in _PASSING_CODES:
            raise StoreRefused from err
        raise StoreUnavailable from err
    except (NoCredentialsError, CredentialRetrievalError) as err:
        raise StoreRefused from err
    except (BotoCoreError, HTTPError, OSError) as err:
        raise StoreUnavailable from err
