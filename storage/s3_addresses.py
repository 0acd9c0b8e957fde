"""The public URLs of a bucket, as botocore's own rules of endpoints have them.

So they are right in every partition of AWS, for access points, and by path or by host, and lead
where the client puts.
"""

import threading
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from botocore import UNSIGNED

from locations import StoreSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_thread = threading.local()
# Any key that is written in a URL as it is.
_SAMPLE_KEY = "k"
# Those of the partitions of AWS (botocore's endpoints.json), for an endpoint that is given.
_AWS_SUFFIXES = (
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".amazonaws.eu",
    ".c2s.ic.gov",
    ".sc2s.sgov.gov",
    ".cloud.adc-e.uk",
    ".csp.hci.ic.gov",
)
# An address in a network of one's own, which knows no hosts of buckets without more ado.
_PRIVATE_LINK = ".vpce."


def is_path_style(settings: StoreSettings) -> bool:
    """Whether each bucket is named in the path, and not in the host.

    Few other services than AWS have a host for each bucket. Where they do, botocore itself takes
    the path for a name with a dot, which no wildcard certificate covers.
    """
    if settings.addressing_style != "auto":
        return settings.addressing_style == "path"
    host = urlsplit(settings.endpoint_url or "").hostname or ""
    return bool(host) and (not host.endswith(_AWS_SUFFIXES) or _PRIVATE_LINK in host)


def let_name_urls(client: "S3Client") -> None:
    """Let `find_direct_base` ask this client for URLs that nobody has signed."""

    def choose(**_: Any) -> Any:
        return UNSIGNED if getattr(_thread, "is_naming", False) else None

    client.meta.events.register_first("choose-signer.s3.GetObject", cast(Any, choose))


def find_direct_base(client: "S3Client", bucket: str) -> str:
    """Name what stands before `/key` in a bucket's own URLs, with nothing in front; asks nobody.

    Raises what botocore does for a bucket that cannot be at this endpoint.
    """
    _thread.is_naming = True
    try:
        url = client.generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": _SAMPLE_KEY}
        )
    finally:
        _thread.is_naming = False
    return url.removesuffix(f"/{_SAMPLE_KEY}")
