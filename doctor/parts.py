"""Steps of an upload in parts: begun, given a part, found as the reaper finds it, and aborted."""

import hashlib
from collections.abc import Iterator

from doctor.case import CONTENT_TYPE, Case
from doctor.causes import explain
from doctor.findings import Cure, Finding, failed, passed
from doctor.traces import name_key
from errors import DarkroomError

IN_PARTS = "upload in parts"


def examine_parts(case: Case) -> Iterator[Finding]:
    """Try it below each prefix whose files may come in parts."""
    for prefix in case.plan.streamed_prefixes:
        yield _examine_prefix(case, prefix)


def _examine_prefix(case: Case, prefix: str) -> Finding:
    step = f"{IN_PARTS} {prefix}"
    key = name_key(prefix)
    objects = case.arn(f"{prefix}*")
    action = "s3:PutObject"
    resource = objects
    try:
        upload_id = case.put_held(lambda: _begin(case, key))
        sha256 = hashlib.sha256(case.content).hexdigest()
        case.store.put_part(key, upload_id, 1, case.content, sha256)
        action = "s3:ListBucketMultipartUploads"
        resource = case.arn()
        is_found = upload_id in case.store.find_uploads(key)
        action = "s3:AbortMultipartUpload"
        resource = objects
        case.store.abort_upload(key, upload_id)
        case.traces.forget_upload(key, upload_id)
    except DarkroomError as err:
        cause = explain(case, err, action, resource)
        return failed(step, cause.what, cause.cure)
    if not is_found:
        cure = Cure(
            "Give the bucket a rule that removes unfinished uploads, as `cli.py bucket print` does."
        )
        return failed(step, "the store does not list unfinished uploads", cure)
    return passed(step, f"one of {len(case.content)} bytes to {key}, found and aborted")


def _begin(case: Case, key: str) -> str:
    upload_id = case.store.begin_upload(key, CONTENT_TYPE)
    case.traces.expect_upload(key, upload_id)
    return upload_id
