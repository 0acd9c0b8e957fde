"""What each of our processes may do in the bucket, as the documents of IAM policies.

No action is allowed that no verb of ours needs: a test takes each away and sees a verb fail.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from storage.markers import BUCKET_KEY

Statement = dict[str, Any]

# The looks of the doctor, and of `bucket apply` before it changes something.
LOOKS = (
    "s3:GetBucketCORS",
    "s3:GetBucketOwnershipControls",
    "s3:GetBucketPolicy",
    "s3:GetBucketPublicAccessBlock",
    "s3:GetLifecycleConfiguration",
)
CHANGES = (
    "s3:PutBucketCORS",
    "s3:PutBucketOwnershipControls",
    "s3:PutBucketPolicy",
    "s3:PutBucketPublicAccessBlock",
    "s3:PutLifecycleConfiguration",
)


@dataclass(frozen=True)
class PermissionPlan:
    """The policies of one bucket. The prefixes are those of kinds of files, save `incoming`."""

    arn: str
    profile_pictures: str
    prefixes: tuple[str, ...]
    read_prefixes: tuple[str, ...]  # what the service itself reads, or signs links to
    streamed_prefixes: tuple[str, ...]
    incoming: str
    # A key of ours is new each time. So AWS is told to let us put only what is not there yet,
    # and a service gone mad replaces nothing.
    demands_creation: bool

    def policies(self) -> dict[str, dict[str, Any]]:
        """All of them, by name."""
        service = [
            self._for_marker("s3:GetObject", "s3:PutObject"),
            *self._for_objects([self.profile_pictures]),
        ]
        streams = [*self._for_objects(self.prefixes), *self._for_streams(), self._for_incoming()]
        photos = [
            self._for_marker("s3:GetObject", "s3:PutObject"),
            *streams,
            self._for_reading(self.read_prefixes),
        ]
        operator = [
            self._for_marker("s3:PutObject"),
            *streams,
            self._for_reading(self.prefixes),
            self._allow("List", ["s3:ListBucket"], [""]),
            self._allow("Look", [*LOOKS, "s3:GetBucketVersioning"], [""]),
        ]
        everything = [*self.prefixes, self.incoming]
        erasure = [
            self._allow("FindVersions", ["s3:ListBucketVersions"], [""]),
            self._allow("Erase", ["s3:DeleteObjectVersion"], [f"{name}*" for name in everything]),
        ]
        apply = [self._allow("Apply", ["s3:CreateBucket", "s3:ListBucket", *LOOKS, *CHANGES], [""])]
        named = {
            "service": service,
            "service-with-photos": photos,
            "operator": operator,
            "erasure": erasure,
            "apply": apply,
        }
        return {
            name: {"Version": "2012-10-17", "Statement": statements}
            for name, statements in named.items()
        }

    def _for_marker(self, *actions: str) -> Statement:
        """It is written again each minute, and without a public policy read with our keys."""
        return self._allow("Marker", actions, [BUCKET_KEY])

    def _for_objects(self, prefixes: Sequence[str]) -> list[Statement]:
        objects = [f"{prefix}*" for prefix in prefixes]
        create = self._allow("Create", ["s3:PutObject"], objects)
        if self.demands_creation:
            create["Condition"] = {"Null": {"s3:if-none-match": "false"}}
        return [create, self._allow("Delete", ["s3:DeleteObject"], objects)]

    def _for_reading(self, prefixes: Sequence[str]) -> Statement:
        return self._allow("Read", ["s3:GetObject"], [f"{prefix}*" for prefix in prefixes])

    def _for_streams(self) -> list[Statement]:
        objects = [f"{prefix}*" for prefix in self.streamed_prefixes]
        parts = self._allow("PutParts", ["s3:PutObject"], objects)
        # Parts bear no such demand: the call that makes an object of them does.
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html
        parts["Condition"] = {"Bool": {"s3:ObjectCreationOperation": "false"}}
        return [
            *([parts] if self.demands_creation else []),
            self._allow("AbortParts", ["s3:AbortMultipartUpload"], objects),
            self._allow("FindParts", ["s3:ListBucketMultipartUploads"], [""]),
        ]

    def _for_incoming(self) -> Statement:
        """What we sign for a browser it does with our permissions; it demands nothing."""
        actions = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
        return self._allow("Incoming", actions, [f"{self.incoming}*"])

    def _allow(self, name: str, actions: Sequence[str], paths: Sequence[str]) -> Statement:
        """Make one statement; the path '' is the bucket itself."""
        return {
            "Sid": name,
            "Effect": "Allow",
            "Action": list(actions),
            "Resource": [f"{self.arn}/{path}" if path else self.arn for path in paths],
        }
