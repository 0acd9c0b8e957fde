"""Where a bucket lies, as it is pasted and as it is read; and how the settings are called."""

from collections.abc import Callable
from dataclasses import dataclass

# Takes a sentence about what was read otherwise than it stands there.
Note = Callable[[str], None]


@dataclass(frozen=True)
class Names:
    """How the settings are called, for sentences."""

    bucket: str = "S3_BUCKET_NAME"
    region: str = "S3_REGION"
    endpoint: str = "S3_ENDPOINT_URL"
    public_base: str = "S3_PUBLIC_BASE_URL"
    key_id: str = "S3_ACCESS_KEY_ID"
    secret: str = "S3_SECRET_ACCESS_KEY"


@dataclass(frozen=True)
class Place:
    """Where a bucket lies, with the keys to it. An endpoint of None is AWS's of the region."""

    bucket: str | None = None
    region: str | None = None
    endpoint: str | None = None
    public_base: str | None = None
    key_id: str | None = None
    secret: str | None = None
