"""A server in front of ministack that obeys a bucket's policy and its rules for pages, as AWS does.

ministack refuses what a link or a form does not allow, and wrong checksums; but it shows everything
to everyone, whatever the policy says.
"""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.policed_s3 import list_asked
from tests.support.s3_messages import Request, render, render_error
from tests.support.sick_s3 import SickS3


class ObeyingS3(SickS3):
    """It passes on what is signed, and of what is not what the bucket's policy allows everyone."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self._policies: dict[str, dict[str, Any]] = {}  # by the path of the bucket

    def pass_on(self, request: Request) -> bytes:
        parts = urlsplit(request.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        bucket = parts.path.split("/")[1]
        if "policy" in query and request.method == "PUT":
            self._policies[bucket] = json.loads(request.body)
        elif "policy" in query and request.method == "DELETE":
            self._policies.pop(bucket, None)
        elif request.method != "OPTIONS" and is_of_a_stranger(request, query):
            policies = [self._policies[bucket]] if bucket in self._policies else []
            if not all(each.is_allowed(policies) for each in list_asked(request)):
                content = b"" if request.method == "HEAD" else render_error("AccessDenied")
                return render(403, [("x-amz-request-id", "obeying")], content)
        return super().pass_on(request)


def is_of_a_stranger(request: Request, query: dict[str, list[str]]) -> bool:
    """Whether neither its head nor its address nor its form is signed."""
    is_form = request.headers.get("content-type", "").startswith("multipart/form-data")
    return not ("authorization" in request.headers or "X-Amz-Signature" in query or is_form)
