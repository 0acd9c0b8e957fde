"""Uploads in parts to an S3 bucket: S3 calls them multipart uploads.

No part of an answer is believed without its receipt, and nothing is tried twice: whoever streams
aborts a failed upload, and the reaper aborts what a crash left.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from botocore.exceptions import ClientError

from errors import ObjectNotFound, StoreRefused
from storage.contract import CACHE_CONTROL, check_key
from storage.s3_answers import (
    read_code,
    require,
    translate_errors,
    translate_writing_errors,
)
from storage.s3_checksums import encode_checksum
from storage.s3_powers import Power, Powers
from storage.s3_proofs import prove_put

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        CompletedPartTypeDef,
        CompleteMultipartUploadOutputTypeDef,
        CreateMultipartUploadOutputTypeDef,
    )

# Of a receipt: what the parts of an upload are named with as well, if checksums are sent.
_CHECKSUM: Literal["ChecksumSHA256"] = "ChecksumSHA256"


class S3Uploads:
    """The unfinished uploads of one bucket; the methods are those of the store.

    Needs PutObject, AbortMultipartUpload, and ListBucketMultipartUploads to find them.
    """

    def __init__(
        self,
        client: "S3Client",
        bucket: str,
        powers: Powers,
        is_taken: Callable[[str], bool | None],
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._powers = powers
        self._is_taken = is_taken

    def begin(self, key: str, content_type: str) -> str:
        def begin() -> "CreateMultipartUploadOutputTypeDef":
            checksum: dict[str, Any] = {}
            if self._powers.has(Power.CHECKSUMS):
                checksum["ChecksumAlgorithm"] = "SHA256"
            return self._client.create_multipart_upload(
                Bucket=self._bucket,
                Key=check_key(key),
                ContentType=content_type,
                CacheControl=CACHE_CONTROL,
                **checksum,
            )

        with translate_writing_errors():
            begun = self._powers.ask(begin, Power.CHECKSUMS)
        return require(begun.get("UploadId"))

    def put_part(self, key: str, upload_id: str, number: int, content: bytes, sha256: str) -> str:
        checksum = encode_checksum(sha256)
        put = partial(
            self._client.upload_part,
            Bucket=self._bucket,
            Key=check_key(key),
            UploadId=upload_id,
            PartNumber=number,
            Body=content,
            ChecksumSHA256=checksum,
        )
        with translate_writing_errors():
            stored = self._powers.ask(put, Power.CHECKSUMS)
            prove_put(cast(Any, stored), content, sha256)
        return json.dumps({"ETag": stored["ETag"], _CHECKSUM: checksum})

    def complete(self, key: str, upload_id: str, receipts: Sequence[str]) -> None:
        check_key(key)

        def complete() -> "CompleteMultipartUploadOutputTypeDef":
            wish: dict[str, Any] = {}
            if self._powers.has(Power.CREATE_ONLY_UPLOAD):
                wish["IfNoneMatch"] = "*"
            return self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": self._name_parts(receipts)},
                **wish,
            )

        with translate_writing_errors():
            completed = self._powers.ask(
                complete,
                Power.CREATE_ONLY_UPLOAD,
                Power.CHECKSUMS,
                key=key,
                is_taken=partial(self._is_taken, key),
            )
        # Ceph's gateway names the key, and leaves the ETag empty.
        require(completed.get("ETag") or completed.get("Key"))

    def _name_parts(self, receipts: Sequence[str]) -> list["CompletedPartTypeDef"]:
        parts: list[CompletedPartTypeDef] = []
        for number, receipt in enumerate(receipts, 1):
            part: CompletedPartTypeDef = json.loads(receipt)
            if not self._powers.has(Power.CHECKSUMS):
                part.pop(_CHECKSUM, None)
            parts.append({**part, "PartNumber": number})
        return parts

    def abort(self, key: str, upload_id: str) -> None:
        check_key(key)
        try:
            with translate_errors():
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=key, UploadId=upload_id
                )
        except ObjectNotFound as err:
            cause = err.__cause__
            if isinstance(cause, ClientError) and read_code(cause) != "NoSuchUpload":
                raise StoreRefused from cause

    def find(self, key: str) -> list[str]:
        # The service can only be asked for a beginning of keys.
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket, Prefix=check_key(key)
        )
        with translate_writing_errors():
            return [
                upload["UploadId"]
                for page in pages
                for upload in page.get("Uploads", [])
                if upload["Key"] == key
            ]
