"""The marker of a bucket: read with our own keys, past every cache, and written like an object."""

import hashlib
from contextlib import closing
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from errors import ObjectExists, ObjectNotFound, StoreRefused
from storage.markers import BUCKET_KEY, MOST_BYTES
from storage.s3_answers import (
    read_code,
    require,
    translate_errors,
    translate_writing_errors,
)
from storage.s3_checksums import encode_checksum
from storage.s3_powers import Power, Powers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import PutObjectOutputTypeDef, PutObjectRequestTypeDef


def read_marker(client: "S3Client", bucket: str) -> bytes | None:
    """Read it; None where the service says that there is none.

    Raises StoreRefused where we may not look: without ListBucket that may also mean that there is
    none. Raises StoreUnavailable.
    """
    try:
        with translate_errors():
            found = client.get_object(Bucket=bucket, Key=BUCKET_KEY)
            with closing(found["Body"]) as body:
                require(found.get("ETag"))
                return body.read(MOST_BYTES)
    except ObjectNotFound as err:
        cause = err.__cause__
        if isinstance(cause, ClientError) and read_code(cause) == "NoSuchKey":
            return None
        raise StoreRefused from cause  # another web server's 404


def write_marker(
    client: "S3Client", powers: Powers, bucket: str, content: bytes, *, is_first: bool
) -> None:
    """Write it; where it `is_first`, replace none. Raises ObjectExists and StoreError."""
    request: PutObjectRequestTypeDef = {
        "Bucket": bucket,
        "Key": BUCKET_KEY,
        "Body": content,
        "ContentType": "application/json",
        "CacheControl": "no-store",
        "ChecksumSHA256": encode_checksum(hashlib.sha256(content).hexdigest()),
    }

    def put() -> "PutObjectOutputTypeDef":
        wished = request.copy()
        if is_first and powers.has(Power.CREATE_ONLY_PUT):
            wished["IfNoneMatch"] = "*"
        elif is_first and read_marker(client, bucket) is not None:
            raise ObjectExists  # what cannot be created only must be surely missing
        return client.put_object(**wished)

    with translate_writing_errors():
        written = powers.ask(
            put,
            *([Power.CREATE_ONLY_PUT] if is_first else []),
            Power.CHECKSUMS,
            key=BUCKET_KEY,
            is_taken=lambda: read_marker(client, bucket) is not None,
        )
        require(written.get("ETag"))
