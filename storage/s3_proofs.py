"""What proves that a success comes from a store: a maintenance page says 200 to everything too.

A list or a receipt has the root element that S3 gives it, an object its headers, a deletion the
status 204. What has none of these is refused, and the refusal names what answered.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from botocore.model import OperationModel
from botocore.response import StreamingBody

from storage.s3_checksums import CHECKSUM_HEADER, encode_checksum

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# What is answered in XML, and how its root is called.
_ROOTS = {
    "ListObjectsV2": "ListBucketResult",
    "ListObjectVersions": "ListVersionsResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "DeleteObjects": "DeleteResult",
}
_PUTS = {"PutObject", "UploadPart"}
_DELETIONS = {"DeleteObject", "AbortMultipartUpload"}
# How S3 says under a status of 200 that it has failed after all.
_LATE_ERROR = "Error"
_ROOT = re.compile(rb"\s*(?:(?:<\?.*?\?>|<!--.*?-->)\s*)*<(?:[\w.-]+:)?([\w.-]+)", re.DOTALL)
# What may stand before it: S3 writes spaces until a long upload is put together.
_PROLOGUE_BYTES = 4096
# Headers of S3 and of its relatives; CloudFront and API Gateway give theirs to every page.
_SIGN = re.compile(r"x-amz-(?!cf-|apigw-)|x-goog-", re.IGNORECASE)
# The ETag of an object, also of one that came in parts; web servers write theirs in other ways, or
# mark it as weak.
_OBJECT_ETAG = re.compile(r'"?[0-9a-fA-F]{32}(?:-\d+)?"?')
# Where the body of the answer to a put is noted, which has none if it comes from a store.
_BEGIN = "Begin"
# Enough to recognise a page by.
_SHOWN_BYTES = 80


class NoStoreAnswered(Exception):
    """A success that no store has sent; says what did."""

    def __init__(self, status: int, headers: Mapping[str, str], begin: bytes) -> None:
        server = headers.get("server", "no Server header")
        content_type = headers.get("content-type", "no Content-Type")
        super().__init__(
            f"what answered {status} is no store: {server}, {content_type},"
            f" {begin[:_SHOWN_BYTES].decode(errors='replace')!r}"
        )


def prove_answers(client: "S3Client") -> None:
    """Let every call of the client raise NoStoreAnswered for a success without its proof.

    The whole proof of a put is known only to whoever has its bytes: `prove_put`.
    """

    def prove(
        operation_model: OperationModel,
        response_dict: dict[str, Any],
        customized_response_dict: dict[str, Any],
        **_: Any,
    ) -> None:
        status: int = response_dict["status_code"]
        body: bytes | StreamingBody = response_dict["body"]
        if not 200 <= status < 300:
            return
        begin = b"" if isinstance(body, StreamingBody) else body
        headers = {name.lower(): value for name, value in response_dict["headers"].items()}
        if _is_proven(operation_model.name, status, headers, begin):
            if operation_model.name in _PUTS:
                customized_response_dict[_BEGIN] = begin
            return
        if isinstance(body, StreamingBody):
            begin = body.read(_SHOWN_BYTES)
            body.close()
        raise NoStoreAnswered(status, headers, begin)

    # Before the answer is parsed, for few pages are XML; and so general a name
    # comes before botocore's own, which takes what is no XML for an error of S3.
    client.meta.events.register("before-parse.*.*", cast(Any, prove))


def _is_proven(operation: str, status: int, headers: Mapping[str, str], body: bytes) -> bool:
    if operation in _ROOTS:
        root = _ROOT.match(body, 0, _PROLOGUE_BYTES)
        return root is not None and root[1].decode() in (_ROOTS[operation], _LATE_ERROR)
    if operation in _DELETIONS and status == 204:
        return True
    return _has_sign(headers) or (
        operation not in _DELETIONS and bool(_OBJECT_ETAG.fullmatch(headers.get("etag", "")))
    )


def prove_put(answer: Mapping[str, Any], content: bytes, sha256: str) -> None:
    """Raise NoStoreAnswered for the answer to a put that no store of these bytes has sent.

    It has an ETag, and beside it the checksum, a header of a store, or as ETag the MD5 of the
    bytes. Raises ChecksumDiffers where the checksum is that of other bytes.
    """
    told = answer["ResponseMetadata"]
    headers: Mapping[str, str] = told["HTTPHeaders"]
    etag = answer.get("ETag", "").strip('"')
    checksum = headers.get(CHECKSUM_HEADER)
    if checksum is not None and checksum != encode_checksum(sha256):
        raise ChecksumDiffers(f"stored was what has the checksum {checksum}")
    if etag and (_has_sign(headers) or etag.lower() == _hash_md5(content)):
        return
    raise NoStoreAnswered(told["HTTPStatusCode"], headers, answer.get(_BEGIN, b""))


class ChecksumDiffers(Exception):
    """A store has stored other bytes than it was sent."""


def _has_sign(headers: Mapping[str, str]) -> bool:
    return any(_SIGN.match(name) for name in headers)


def _hash_md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
