"""What S3 is told of the bytes of a put: their SHA-256, which is known, and is taken only once.

It is signed in the place of the bytes (Signature Version 4), whether or not it goes as a checksum
too. botocore would hash the bytes again for each signature: a fourth of what streaming costs.
"""

import base64
from typing import TYPE_CHECKING, Any, cast

from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth
from botocore.awsrequest import AWSRequest

from storage.s3_powers import Power, Powers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CHECKSUM_HEADER = "x-amz-checksum-sha256"
# What has a body that is worth it.
OPERATIONS = ("PutObject", "UploadPart")
# How the signature is called among those of botocore.
_KNOWN_PAYLOAD = "s3v4-known-payload"


class _KnownPayloadAuth(S3SigV4Auth):
    """Signs the hash that a request was given with its bytes."""

    def payload(self, request: AWSRequest) -> str:
        sha256: str = request.context[_KNOWN_PAYLOAD]
        return sha256


AUTH_TYPE_MAPS[_KNOWN_PAYLOAD] = _KnownPayloadAuth


def encode_checksum(sha256: str) -> str:
    """Write a hexadecimal checksum as S3 does, in base64."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def sign_checksums(client: "S3Client", powers: Powers) -> None:
    """Let every put of the client sign its checksum, and send it only to who compares it.

    Each call of OPERATIONS gives its `ChecksumSHA256`.
    """

    def choose(signature_version: str, **_: Any) -> str | None:
        return _KNOWN_PAYLOAD if signature_version == "s3v4" else None  # another is of a link

    def take(request: AWSRequest, signature_version: str, **_: Any) -> None:
        if signature_version == _KNOWN_PAYLOAD:
            checksum = request.headers[CHECKSUM_HEADER]
            request.context[_KNOWN_PAYLOAD] = base64.b64decode(checksum).hex()
            if not powers.has(Power.CHECKSUMS):
                del request.headers[CHECKSUM_HEADER]

    for operation in OPERATIONS:
        client.meta.events.register(f"choose-signer.s3.{operation}", cast(Any, choose))
        client.meta.events.register(f"before-sign.s3.{operation}", cast(Any, take))
