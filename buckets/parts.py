"""The documents of a bucket one by one: how each is looked at, joined with ours, and put."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from buckets import merging
from buckets.merging import Merged
from buckets.plan import BucketPlan, Document

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# What services answer where nothing is set yet.
_NOT_SET = {
    "NoSuchBucketPolicy",
    "NoSuchCORSConfiguration",
    "NoSuchLifecycleConfiguration",
    "NoSuchPublicAccessBlockConfiguration",
    "OwnershipControlsNotFoundError",
}


@dataclass(frozen=True)
class Part:
    """One document of a bucket: how it is read, joined and put."""

    name: str
    look: Callable[["S3Client", str], Document]
    looking: str  # the action of IAM
    plan: Callable[[BucketPlan], Document]
    merge: Callable[[Document | None, Document], Merged]
    put: Callable[["S3Client", str, Document], Any]
    putting: str
    is_of_aws: bool = False  # whether hardly any other service knows it


def look_at(client: "S3Client", bucket: str, part: Part) -> Document | None:
    """Read one document of the bucket; None where nothing is set. Raises what botocore raises."""
    try:
        return part.look(client, bucket)
    except ClientError as err:
        if err.response.get("Error", {}).get("Code") in _NOT_SET:
            return None
        raise


def _look_at_policy(client: "S3Client", bucket: str) -> Document:
    return cast(Document, json.loads(client.get_bucket_policy(Bucket=bucket)["Policy"]))


def _put_policy(client: "S3Client", bucket: str, document: Document) -> None:
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(document))


def _look_at_cors(client: "S3Client", bucket: str) -> Document:
    return {"CORSRules": client.get_bucket_cors(Bucket=bucket).get("CORSRules", [])}


def _put_cors(client: "S3Client", bucket: str, document: Document) -> None:
    if document["CORSRules"]:
        client.put_bucket_cors(Bucket=bucket, CORSConfiguration=cast(Any, document))
    else:
        client.delete_bucket_cors(Bucket=bucket)


def _look_at_lifecycle(client: "S3Client", bucket: str) -> Document:
    found = client.get_bucket_lifecycle_configuration(Bucket=bucket)
    document: Document = {"Rules": found.get("Rules", [])}
    # Not said again, it would go back to what AWS takes for granted.
    if "TransitionDefaultMinimumObjectSize" in found:
        document[_SMALLEST] = found["TransitionDefaultMinimumObjectSize"]
    return document


def _put_lifecycle(client: "S3Client", bucket: str, document: Document) -> None:
    options = {_SMALLEST: document[_SMALLEST]} if _SMALLEST in document else {}
    client.put_bucket_lifecycle_configuration(
        Bucket=bucket,
        LifecycleConfiguration=cast(Any, {"Rules": document["Rules"]}),
        **cast(Any, options),
    )


def _look_at_boxes(client: "S3Client", bucket: str) -> Document:
    found = client.get_public_access_block(Bucket=bucket)
    return cast(Document, found["PublicAccessBlockConfiguration"])


def _put_boxes(client: "S3Client", bucket: str, document: Document) -> None:
    client.put_public_access_block(
        Bucket=bucket, PublicAccessBlockConfiguration=cast(Any, document)
    )


def _look_at_ownership(client: "S3Client", bucket: str) -> Document:
    return cast(Document, client.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"])


def _put_ownership(client: "S3Client", bucket: str, document: Document) -> None:
    client.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=cast(Any, document))


_SMALLEST = "TransitionDefaultMinimumObjectSize"
OWNERSHIP = Part(
    "ownership",
    _look_at_ownership,
    "s3:GetBucketOwnershipControls",
    BucketPlan.ownership,
    merging.merge_ownership,
    _put_ownership,
    "s3:PutBucketOwnershipControls",
    is_of_aws=True,
)
BOXES = Part(
    "public-access-block",
    _look_at_boxes,
    "s3:GetBucketPublicAccessBlock",
    BucketPlan.public_access_block,
    merging.merge_boxes,
    _put_boxes,
    "s3:PutBucketPublicAccessBlock",
    is_of_aws=True,
)
POLICY = Part(
    "bucket-policy",
    _look_at_policy,
    "s3:GetBucketPolicy",
    BucketPlan.bucket_policy,
    merging.merge_policy,
    _put_policy,
    "s3:PutBucketPolicy",
)
CORS = Part(
    "cors",
    _look_at_cors,
    "s3:GetBucketCORS",
    BucketPlan.cors,
    merging.merge_cors,
    _put_cors,
    "s3:PutBucketCORS",
)
LIFECYCLE = Part(
    "lifecycle",
    _look_at_lifecycle,
    "s3:GetLifecycleConfiguration",
    BucketPlan.lifecycle,
    merging.merge_lifecycle,
    _put_lifecycle,
    "s3:PutLifecycleConfiguration",
)
# In this order: a public policy is refused while the boxes are on.
PARTS = (OWNERSHIP, BOXES, POLICY, CORS, LIFECYCLE)
