"""A server in front of moto that allows what policies of IAM allow, and nothing else.

It heeds the conditions, which moto passes over, and knows the actions that AWS documents for each
call: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.s3 import FakeS3
from tests.support.s3_messages import Request, is_of_many, render, render_error

# Of what is asked of a bucket: the word in the query, and who may read and write it.
_OF_BUCKETS = {
    "cors": ("s3:GetBucketCORS", "s3:PutBucketCORS"),
    "lifecycle": ("s3:GetLifecycleConfiguration", "s3:PutLifecycleConfiguration"),
    "ownershipControls": ("s3:GetBucketOwnershipControls", "s3:PutBucketOwnershipControls"),
    "policy": ("s3:GetBucketPolicy", "s3:PutBucketPolicy"),
    "publicAccessBlock": ("s3:GetBucketPublicAccessBlock", "s3:PutBucketPublicAccessBlock"),
    "uploads": ("s3:ListBucketMultipartUploads", ""),
    "versioning": ("s3:GetBucketVersioning", "s3:PutBucketVersioning"),
    "versions": ("s3:ListBucketVersions", ""),
}


@dataclass(frozen=True)
class Asked:
    """What one request needs to be allowed."""

    action: str
    resource: str
    keys: Mapping[str, str] = field(default_factory=dict)  # of conditions, those that are there
    key_id: str = ""  # of who asks

    def is_allowed(self, policies: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a statement allows it, and none denies it."""
        statements = [each for policy in policies for each in policy["Statement"]]
        effects = {each["Effect"] for each in statements if self._is_meant(each)}
        return effects == {"Allow"}

    def _is_meant(self, statement: Mapping[str, Any]) -> bool:
        return (
            any(fnmatchcase(self.action, each) for each in _list(statement["Action"]))
            and any(fnmatchcase(self.resource, each) for each in _list(statement["Resource"]))
            and all(
                self._holds(operator, key, value)
                for operator, tests in statement.get("Condition", {}).items()
                for key, value in tests.items()
            )
        )

    def _holds(self, operator: str, key: str, value: str) -> bool:
        if operator == "Null":
            return (key not in self.keys) == (value == "true")
        assert operator == "Bool", f"nobody has written what {operator} means"
        return self.keys.get(key) == value


class PolicedS3(FakeS3):
    """It passes on what its policies allow; without any, everything."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.policies: list[Mapping[str, Any]] | None = None
        self.asked: list[Asked] = []

    def pass_on(self, request: Request) -> bytes:
        asked = list_asked(request)
        self.asked += asked
        policies = self.policies
        if policies is not None and not all(each.is_allowed(policies) for each in asked):
            content = b"" if request.method == "HEAD" else render_error("AccessDenied")
            return render(403, [("x-amz-request-id", "policed")], content)
        return super().pass_on(request)


def list_asked(request: Request) -> list[Asked]:
    """What a request needs to be allowed: one thing, but for a deletion of many objects."""
    parts = urlsplit(request.path)
    bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
    query = parse_qs(parts.query, keep_blank_values=True)
    found = re.search(r"Credential=([^/]+)/", request.headers.get("authorization", ""))
    key_id = found[1] if found else ""
    arn = f"arn:aws:s3:::{bucket}"
    if request.method == "POST" and is_of_many(request.path):
        return [Asked("s3:DeleteObject", f"{arn}/{each}", key_id=key_id) for each in request.keys]
    if not key:
        return [Asked(_find_bucket_action(request.method, query), arn, key_id=key_id)]
    action = _find_object_action(request.method, query)
    keys = {}
    if action == "s3:PutObject":
        is_part = request.method == "PUT" and "uploadId" in query
        creates = not is_part and "uploads" not in query
        keys["s3:ObjectCreationOperation"] = "true" if creates else "false"
        if "if-none-match" in request.headers:
            keys["s3:if-none-match"] = request.headers["if-none-match"]
    return [Asked(action, f"{arn}/{key}", keys, key_id)]


def _find_bucket_action(method: str, query: Mapping[str, Any]) -> str:
    for word, (reading, writing) in _OF_BUCKETS.items():
        if word in query:
            return reading if method == "GET" else writing
    return "s3:CreateBucket" if method == "PUT" else "s3:ListBucket"


def _find_object_action(method: str, query: Mapping[str, Any]) -> str:
    if method in ("GET", "HEAD"):
        return "s3:GetObjectVersion" if "versionId" in query else "s3:GetObject"
    if method == "DELETE":
        if "uploadId" in query:
            return "s3:AbortMultipartUpload"
        return "s3:DeleteObjectVersion" if "versionId" in query else "s3:DeleteObject"
    return "s3:PutObject"


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
