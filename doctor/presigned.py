"""Steps of uploads that a browser does by itself, with what the service has signed for it.

Direct uploads need this of a bucket, and nothing else does: what is missing is advice. Whatever a
store has not refused is removed again.
"""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, cast

from botocore.auth import SIGV4_TIMESTAMP, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from urllib3.exceptions import HTTPError

from doctor import cures
from doctor.case import CONTENT_TYPE, Answer, Case
from doctor.causes import explain
from doctor.findings import Finding, advise, failed, not_tried, passed
from doctor.objects import DELETE
from doctor.outages import explain_outage
from doctor.pages import describe_page, find_error_code
from doctor.traces import name_key
from errors import DarkroomError

SIGNED_PUT = "presigned PUT"
SIGNED_POST = "presigned POST"
NAMES = (SIGNED_PUT, SIGNED_POST)

_SIGNED_SECONDS = 60
# By then what was good for a minute is good no more, whatever the clocks.
_AGO = timedelta(hours=1)
_OTHER_TYPE = "text/html"
_TAKEN = (200, 201, 204)
# How a store says that it takes no forms; Cloudflare's R2 is one.
_NO_FORMS = frozenset({"NotImplemented", "MethodNotAllowed", "501", "405"})


@dataclass(frozen=True)
class _Form:
    url: str
    fields: Mapping[str, str]


def examine_presigned(case: Case) -> Iterator[Finding]:
    """Put by a link and by a form, and see that they allow nothing but what was signed."""
    for step, put, put_more in (
        (SIGNED_PUT, _put_by_link, _put_more_by_links),
        (SIGNED_POST, _put_by_form, _put_more_by_forms),
    ):
        case.say(step)
        if case.incoming in case.undeletable:
            yield not_tried(step, f"what is put below {case.incoming} could not be deleted")
            continue
        try:
            refusal = put(case, step)
            # Before there is more of it.
            yield from _tidy(case)
            if refusal is not None:
                yield refusal
            elif case.incoming in case.undeletable:
                yield passed(step, "puts a file; more was not tried, as it could not be deleted")
            else:
                yield put_more(case, step)
                yield from _tidy(case)
        except (BotoCoreError, HTTPError, OSError) as err:
            outage = explain_outage(case, err, case.bucket_url)
            yield advise(step, outage.what, outage.cure)


def _tidy(case: Case) -> Iterator[Finding]:
    """Delete what was taken; only what goes wrong is told."""
    keys = case.traces.below(case.incoming)
    if not keys:
        return
    try:
        errors = case.store.delete_many(keys, erases=True)
    except DarkroomError as err:
        errors = dict.fromkeys(keys, err)
    for key in keys:
        if key not in errors:
            case.traces.forget(key)
    for refusal in islice(errors.values(), 1):
        cause = explain(case, refusal, "s3:DeleteObject", case.arn(f"{case.incoming}*"))
        case.undeletable.add(case.incoming)
        yield failed(f"{DELETE} {case.incoming}", cause.what, cause.cure)


def _put_by_link(case: Case, step: str) -> Finding | None:
    key = _name(case)
    answer = _put(case, key, _sign_link(case, key))
    return None if answer.status in _TAKEN else _tell_refusal(case, step, answer)


def _put_more_by_links(case: Case, step: str) -> Finding:
    key = _name(case)
    other = _name(case)
    old = _name(case)
    tried = {
        "another key": _put(case, other, _sign_link(case, key).replace(key, other)),
        "another type": _put(case, key, _sign_link(case, key), _OTHER_TYPE),
        "a link that has expired": _put(case, old, _sign_link(case, old, is_old=True)),
    }
    return _tell(step, "a link", tried)


def _put_by_form(case: Case, step: str) -> Finding | None:
    answer = _post(case, _sign_form(case, _name(case), len(case.content)))
    if answer.status in _TAKEN:
        return None
    code = find_error_code(answer) or str(answer.status)
    if code in _NO_FORMS:
        what = f"the store takes no forms ({code}), so direct uploads have to go by PUT"
        return advise(step, what)
    return _tell_refusal(case, step, answer)


def _put_more_by_forms(case: Case, step: str) -> Finding:
    size_bytes = len(case.content)
    other = _name(case)
    misdirected = _sign_form(case, _name(case), size_bytes)
    old = _sign_form(case, _name(case), size_bytes, is_old=True)
    tried = {
        "more bytes": _post(case, _sign_form(case, _name(case), size_bytes - 1)),
        "another key": _post(case, _Form(misdirected.url, {**misdirected.fields, "key": other})),
        "another type": _post(case, _sign_form(case, _name(case), size_bytes), _OTHER_TYPE),
        "a form that has expired": _post(case, old),
    }
    return _tell(step, "a form", tried)


def _name(case: Case) -> str:
    return case.traces.expect(name_key(case.incoming))


def _tell(step: str, signed: str, tried: Mapping[str, Answer]) -> Finding:
    taken = [what for what, answer in tried.items() if answer.status < 300]
    if taken:
        return advise(
            step,
            f"{signed} puts a file, but the store does not refuse {', '.join(taken)}: whoever is"
            " given one can send more than was meant",
        )
    return passed(step, f"{signed} puts a file; refused are {', '.join(tried)}")


def _tell_refusal(case: Case, step: str, answer: Answer) -> Finding:
    resource = case.arn(f"{case.incoming}*")
    what = f"{describe_page(answer)}: only direct uploads need it"
    if answer.status == 403:
        return advise(step, what, cures.allow(case.plan, "s3:PutObject", resource))
    return advise(step, what)


class _PastAuth(S3SigV4QueryAuth):
    """Signs a link as it was signed an hour ago."""

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        request.context["timestamp"] = (datetime.now(UTC) - _AGO).strftime(SIGV4_TIMESTAMP)
        cast(Any, super())._modify_request_before_signing(request)


def _sign_link(case: Case, key: str, *, is_old: bool = False) -> str:
    if not is_old:
        return case.client.generate_presigned_url(
            "put_object",
            Params={"Bucket": case.bucket, "Key": key, "ContentType": CONTENT_TYPE},
            ExpiresIn=_SIGNED_SECONDS,
        )
    signer = cast(Any, case.client)._request_signer
    auth = _PastAuth(
        signer._credentials.get_frozen_credentials(), "s3", signer._region_name, _SIGNED_SECONDS
    )
    url = case.client.generate_presigned_url("put_object", {"Bucket": case.bucket, "Key": key})
    request = AWSRequest("PUT", url.partition("?")[0], {"Content-Type": CONTENT_TYPE})
    auth.add_auth(request)
    return str(request.url)


def _sign_form(case: Case, key: str, most_bytes: int, *, is_old: bool = False) -> _Form:
    seconds = -_AGO.total_seconds() if is_old else _SIGNED_SECONDS
    signed = case.client.generate_presigned_post(
        case.bucket,
        key,
        Fields={"Content-Type": CONTENT_TYPE},
        Conditions=[["content-length-range", 1, most_bytes], {"Content-Type": CONTENT_TYPE}],
        ExpiresIn=int(seconds),
    )
    return _Form(signed["url"], signed["fields"])


def _put(case: Case, key: str, url: str, content_type: str = CONTENT_TYPE) -> Answer:
    headers = {"Content-Type": content_type}
    answer = case.put_held(lambda: case.ask("PUT", url, headers, case.content))
    return _note(case, key, answer)


def _note(case: Case, key: str, answer: Answer) -> Answer:
    if 400 <= answer.status < 500:
        case.traces.forget(key)
    elif answer.status >= 500:
        case.traces.doubt(key)
    return answer


def _post(case: Case, form: _Form, content_type: str = CONTENT_TYPE) -> Answer:
    boundary = uuid.uuid4().hex
    fields = {**form.fields, "Content-Type": content_type}
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    # Last, or S3 does not see the fields after it.
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="check.jpg"\r\n'
        f"Content-Type: {content_type}\r\n\r\n"
    )
    body = "".join(parts).encode() + case.content + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = case.put_held(lambda: case.ask("POST", form.url, headers, body))
    return _note(case, form.fields["key"], answer)
