"""What S3 is told to expect: the SHA-256 of the bytes, which is signed in their place."""

import base64
from typing import Any

from botocore.awsrequest import AWSRequest
from botocore.config import Config

CHECKSUM_HEADER = "x-amz-checksum-sha256"
_UNSIGNED_PAYLOAD = Config(s3={"payload_signing_enabled": False})


def encode_checksum(sha256: str) -> str:
    """Write a hexadecimal checksum as S3 does, in base64."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def sign_checksum_only(request: AWSRequest, **_: Any) -> None:
    """Leave the bytes of a put out of its signature where their checksum is in it.

    The service compares them with the checksum, which nobody can change: it is a signed header. To
    sign the bytes as well would only hash them once more. An event handler, `before-sign`.
    """
    if CHECKSUM_HEADER in request.headers:
        request.context["client_config"] = _UNSIGNED_PAYLOAD
