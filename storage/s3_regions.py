"""In which region a bucket lies, where that is not the one of the settings: said, never followed.

Whoever follows stores in one place and names another in every public URL.
"""

import logging
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

_CODES = {
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
}


def refuse_other_regions(client: "S3Client", region: str) -> None:
    """Let no call of the client be sent on to another region; say once where a bucket lies."""
    told: set[str] = set()

    def stay(context: dict[str, Any], **_: Any) -> None:
        # botocore goes where a bucket lies by itself, once; and where nobody tells it, it asks by
        # a verb that we are not allowed, again and again if that is redirected as well.
        context.get("s3_redirect", {})["redirected"] = True

    def tell(parsed: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        place = find_right_place(parsed)
        bucket = context.get("s3_redirect", {}).get("bucket", "")
        if place is None or bucket in told:
            return
        told.add(bucket)
        logger.error(
            "the bucket %s does not lie in %s, where S3_REGION and S3_ENDPOINT_URL lead: set %s",
            bucket,
            region,
            place,
        )

    # After botocore's own, which begins by noting that nothing was redirected.
    client.meta.events.register_last("before-parameter-build.s3", cast(Any, stay))
    client.meta.events.register("after-call.s3", cast(Any, tell))


def find_right_place(response: dict[str, Any]) -> str | None:
    """Read from a refusal where the bucket lies, as a line of settings; None where it says nothing.

    Takes what botocore has parsed, which a ClientError has as its `response`.
    """
    error = response.get("Error", {})
    metadata = response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", 0)
    if status not in (301, 302, 307) and error.get("Code") not in _CODES:
        return None
    region = error.get("Region") or metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region")
    if region:
        return f"S3_REGION={region}"
    if error.get("Endpoint"):
        return f"S3_ENDPOINT_URL=https://{error['Endpoint']}"
    return None
