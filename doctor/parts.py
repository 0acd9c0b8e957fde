"""Steps of uploads in parts: one is found as the reaper finds it, and aborted, one completed."""

import hashlib
from collections.abc import Iterator

from doctor.case import CONTENT_TYPE, Case
from doctor.causes import explain
from doctor.findings import Cure, Finding, advise, failed, not_tried, passed
from doctor.promises import find_lack
from doctor.traces import name_key
from errors import DarkroomError
from storage.s3_powers import Power

IN_PARTS = "upload in parts"
COMPLETED = "completed upload"


def examine_parts(case: Case) -> Iterator[Finding]:
    """Try it below each prefix whose files may come in parts."""
    for prefix in case.plan.streamed_prefixes:
        if prefix in case.unputtable | case.undeletable:
            yield not_tried(f"{IN_PARTS} {prefix}", f"put or delete {prefix} failed")
            continue
        yield _abort_one(case, prefix)
        yield _complete_one(case, prefix)


def _abort_one(case: Case, prefix: str) -> Finding:
    step = f"{IN_PARTS} {prefix}"
    key = name_key(prefix)
    objects = case.arn(f"{prefix}*")
    action = "s3:PutObject"
    resource = objects
    try:
        upload_id = case.put_held(lambda: _begin(case, key))
        _put_part(case, key, upload_id)
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


def _complete_one(case: Case, prefix: str) -> Finding:
    step = f"{COMPLETED} {prefix}"
    key = case.traces.expect(name_key(prefix))
    try:
        upload_id = case.put_held(lambda: _begin(case, key))
        receipt = _put_part(case, key, upload_id)
        case.put_held(lambda: case.store.complete_upload(key, upload_id, [receipt]))
        case.traces.forget_upload(key, upload_id)
        case.store.delete(key, erases=True)
        case.traces.forget(key)
    except DarkroomError as err:
        cause = explain(case, err, "s3:PutObject", case.arn(f"{prefix}*"))
        return failed(step, cause.what, cause.cure)
    lack = find_lack(case, Power.CREATE_ONLY_UPLOAD)
    if lack is not None:
        return advise(step, lack)
    return passed(step, f"one of {len(case.content)} bytes to {key}, completed and deleted")


def _begin(case: Case, key: str) -> str:
    upload_id = case.store.begin_upload(key, CONTENT_TYPE)
    case.traces.expect_upload(key, upload_id)
    return upload_id


def _put_part(case: Case, key: str, upload_id: str) -> str:
    sha256 = hashlib.sha256(case.content).hexdigest()
    return case.store.put_part(key, upload_id, 1, case.content, sha256)
