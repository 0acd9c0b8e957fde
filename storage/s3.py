"""A store in an S3 bucket, or in any service that speaks the same language.

One client per process, made at start. One attempt per call: botocore's
own retry of a put whose answer was lost would meet the object that the
first attempt made, so retries are the caller's, under a new key.
"""

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from botocore.exceptions import BotoCoreError

from errors import DarkroomError, ObjectNotFound, StartupError, StoreError, StoreRefused
from locations import StoreSettings
from storage.contract import CACHE_CONTROL, FoundObject, OpenObject, check_key
from storage.markers import BUCKET_KEY
from storage.s3_addresses import find_direct_base, is_path_style, let_name_urls
from storage.s3_answers import (
    translate_errors,
    translate_reading_errors,
    translate_writing_errors,
)
from storage.s3_checksums import encode_checksum, sign_checksums
from storage.s3_client import make_client
from storage.s3_deadlines import limit_connections
from storage.s3_deletions import S3Deletions, send_content_md5
from storage.s3_marker import read_marker, write_marker
from storage.s3_powers import Lack, Power, Powers
from storage.s3_proofs import prove_answers, prove_put
from storage.s3_regions import refuse_other_regions
from storage.s3_uploads import S3Uploads

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        GetObjectOutputTypeDef,
        PutObjectOutputTypeDef,
        PutObjectRequestTypeDef,
    )


class S3Store:
    """The objects of one bucket.

    Needs PutObject and DeleteObject; the other verbs need GetObject and ListBucket, and uploads in
    parts what storage/s3_uploads.py says.

    Raises StartupError for an endpoint or a region that cannot be one.
    """

    looks_itself = False

    def __init__(self, settings: StoreSettings) -> None:
        self.bucket = settings.bucket_name
        self._settings = settings
        sends_checksums = settings.checksums == "when_supported"
        self._powers = Powers(self._service, sends_checksums=sends_checksums)
        self._client, notes = make_client(settings, is_path_style(settings))
        # What an operator should know of where it lies, in sentences.
        self.notes = [*settings.notes, *notes]
        refuse_other_regions(self._client, settings.region)
        sign_checksums(self._client, self._powers)
        limit_connections(self._client)
        send_content_md5(self._client)
        prove_answers(self._client)
        let_name_urls(self._client)
        try:
            self._set_bucket(settings)
        except (BotoCoreError, ValueError) as err:
            raise StartupError(f"The S3 settings cannot be used: {str(err).rstrip('.')}") from err

    def _set_bucket(self, settings: StoreSettings) -> None:
        bucket = settings.bucket_name
        self.bucket = bucket
        self._settings = settings
        self._direct_base = find_direct_base(self._client, bucket)
        self._uploads = S3Uploads(self._client, bucket, self._powers, self._is_taken)
        self._deletions = S3Deletions(self._client, bucket, self._powers)

    @property
    def lacks(self) -> list[Lack]:
        """What the service was found not to know, and is therefore not asked for any more."""
        return self._powers.lacks

    def put(self, key: str, content: bytes, content_type: str, sha256: str) -> None:
        request: PutObjectRequestTypeDef = {
            "Bucket": self.bucket,
            "Key": check_key(key),
            "Body": content,
            "ContentType": content_type,
            "CacheControl": CACHE_CONTROL,
            "ChecksumSHA256": encode_checksum(sha256),
        }

        def put() -> "PutObjectOutputTypeDef":
            wished = request.copy()
            if self._powers.has(Power.CREATE_ONLY_PUT):
                wished["IfNoneMatch"] = "*"
            return self._client.put_object(**wished)

        with translate_writing_errors():
            stored = self._powers.ask(
                put,
                Power.CREATE_ONLY_PUT,
                Power.CHECKSUMS,
                key=key,
                is_taken=partial(self._is_taken, key),
            )
            prove_put(cast(Any, stored), content, sha256)

    def open(self, key: str) -> OpenObject:
        check_key(key)

        def get() -> "GetObjectOutputTypeDef":
            wish: dict[str, Any] = {}
            if self._powers.has(Power.CHECKSUMS):
                wish["ChecksumMode"] = "ENABLED"
            return self._client.get_object(Bucket=self.bucket, Key=key, **wish)

        with translate_reading_errors():
            found = self._powers.ask(get, Power.CHECKSUMS)
            stream = cast(BinaryIO, _TranslatedStream(cast(BinaryIO, found["Body"])))
            return OpenObject(
                stream, found["ContentLength"], found.get("ContentType", "application/octet-stream")
            )

    def exists(self, key: str) -> bool:
        try:
            with translate_errors():
                self._client.head_object(Bucket=self.bucket, Key=check_key(key))
        except ObjectNotFound:
            return False
        return True

    def _is_taken(self, key: str) -> bool | None:
        try:
            return self.exists(key)
        except StoreError:
            return None  # for we may not look

    @property
    def keeps_versions(self) -> bool:
        return self._deletions.keeps_versions

    def delete(self, key: str, erases: bool = False) -> None:
        self._deletions.delete(key, erases)

    def delete_many(self, keys: Sequence[str], erases: bool = False) -> dict[str, DarkroomError]:
        return self._deletions.delete_many(keys, erases)

    def batch_size(self, erases: bool = False) -> int:
        return self._deletions.batch_size(erases)

    @property
    def client(self) -> "S3Client":
        """The client, for the doctor, which asks more than the service does."""
        return self._client

    def url(self, key: str) -> str:
        return f"{self._settings.public_base_url or self._direct_base}/{key}"

    def direct_url(self, key: str) -> str:
        """The bucket's own URL of an object, whatever stands in front of it."""
        return f"{self._direct_base}/{key}"

    def signed_url(self, key: str, seconds: int) -> str:
        with translate_errors():
            return self._client.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self.bucket,
                    "Key": check_key(key),
                    # It was stored with one for ever and for everyone, as what is public is.
                    "ResponseCacheControl": f"private, max-age={seconds}",
                },
                ExpiresIn=seconds,
            )

    def find(self, prefix: str) -> Iterator[FoundObject]:
        pages = iter(
            self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix
            )
        )
        while True:
            with translate_errors():  # each page is a call by itself, perhaps in another thread
                page = next(pages, None)
            if page is None:
                return
            for found in page.get("Contents", []):
                if found["Key"] == BUCKET_KEY:
                    continue
                yield FoundObject(found["Key"], found["Size"], found["LastModified"])

    def begin_upload(self, key: str, content_type: str) -> str:
        return self._uploads.begin(key, content_type)

    def put_part(self, key: str, upload_id: str, number: int, content: bytes, sha256: str) -> str:
        return self._uploads.put_part(key, upload_id, number, content, sha256)

    def complete_upload(self, key: str, upload_id: str, receipts: Sequence[str]) -> None:
        self._uploads.complete(key, upload_id, receipts)

    def abort_upload(self, key: str, upload_id: str) -> None:
        self._uploads.abort(key, upload_id)

    def find_uploads(self, key: str) -> list[str]:
        return self._uploads.find(key)

    def remove_leftovers(self, older_than_seconds: float) -> None:
        pass

    @property
    def place(self) -> str:
        return f"{self.bucket} at {self._service}"

    @property
    def _service(self) -> str:
        return self._settings.endpoint_url or f"AWS, {self._settings.region}"

    def prepare(self) -> None:
        pass

    def prove(self) -> None:
        pass

    def expect(self, store_id: str) -> None:
        pass

    def read_marker(self) -> bytes | None:
        return read_marker(self._client, self.bucket)

    def write_marker(self, content: bytes, *, is_first: bool) -> None:
        write_marker(self._client, self._powers, self.bucket, content, is_first=is_first)

    def in_bucket(self, bucket: str) -> "S3Store":
        if bucket == self.bucket:
            return self
        settings = self._settings.model_copy(
            update={"bucket_name": bucket, "public_base_url": None}
        )
        other = copy.copy(self)  # shares the client
        try:
            other._set_bucket(settings)
        except (BotoCoreError, ValueError) as err:
            raise StoreRefused from err
        return other


class _TranslatedStream:
    """A response body whose read errors are ours."""

    def __init__(self, body: BinaryIO) -> None:
        self._body = body

    def read(self, size: int = -1) -> bytes:
        with translate_errors():
            return self._body.read(size) if size >= 0 else self._body.read()

    def close(self) -> None:
        self._body.close()
