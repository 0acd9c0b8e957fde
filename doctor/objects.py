"""Steps of one kind of file: put as the service puts, read as a browser or by our keys, deleted.

The other steps with objects, what a store promises of a put, are those of `promises.py`.
"""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError
from urllib3.exceptions import HTTPError

from doctor import cures
from doctor.case import CONTENT_TYPE, Case
from doctor.causes import explain
from doctor.findings import Cure, Finding, failed, not_tried, passed
from doctor.outages import explain_outage
from doctor.public_reads import correct_base, explain_public_read
from doctor.traces import name_key
from errors import DarkroomError, ObjectNotFound, StoreError, StoreRefused
from files.kinds import Kind

PUT = "put"
PUBLIC_READ = "public read"
OWN_READ = "read with our keys"
HIDDEN = "hidden"
DELETE = "delete"
GONE = "gone"

_UNTRIED = "the put failed"


def examine_kind(case: Case, kind: Kind) -> Iterator[Finding]:
    """Go through the life of one file of a kind."""
    prefix = kind.prefix
    key = name_key(prefix)
    later = (PUBLIC_READ, DELETE, GONE) if kind.is_public else (OWN_READ, HIDDEN, DELETE)
    case.traces.expect(key)
    try:
        put(case, key)
    except DarkroomError as err:
        cause = explain(case, err, "s3:PutObject", case.arn(f"{prefix}*"))
        case.unputtable.add(prefix)
        if isinstance(err, StoreRefused):
            case.traces.doubt(key)
        yield failed(f"{PUT} {prefix}", cause.what, cause.cure)
        for step in later:
            yield not_tried(f"{step} {prefix}", _UNTRIED)
        return
    yield passed(f"{PUT} {prefix}", f"{len(case.content)} bytes as {key}")
    if kind.is_public:
        reading = _examine_public_read(case, prefix, key)
        yield reading
        deletion = examine_delete(case, prefix, key)
        yield deletion
        yield _examine_gone(case, prefix, key, reading, deletion)
        return
    yield _examine_own_read(case, prefix, key)
    yield _examine_hidden(case, prefix, key)
    yield examine_delete(case, prefix, key)


def put(case: Case, key: str) -> None:
    """Put the picture as the service does. Raises StoreError."""
    sha256 = hashlib.sha256(case.content).hexdigest()
    case.put_held(lambda: case.store.put(key, case.content, CONTENT_TYPE, sha256))


def _examine_public_read(case: Case, prefix: str, key: str) -> Finding:
    step = f"{PUBLIC_READ} {prefix}"
    url = case.store.url(key)
    setting = "S3_PUBLIC_BASE_URL" if case.current.public_base_url else "S3_ENDPOINT_URL"
    try:
        answer = case.ask("GET", url)
    except (BotoCoreError, HTTPError, OSError, ValueError) as err:
        outage = explain_outage(case, err, url, setting)
        has_base = case.current.public_base_url is not None and not outage.is_certain
        cure = correct_base(case, key) if has_base else outage.cure
        return failed(step, f"{url}: {outage.what}", cure)
    trouble = explain_public_read(case, key, answer)
    if trouble is not None:
        return failed(step, *trouble)
    case.is_readable = True
    return passed(step, url)


def _examine_own_read(case: Case, prefix: str, key: str) -> Finding:
    step = f"{OWN_READ} {prefix}"
    try:
        stream = case.store.open(key).stream
        with closing(stream):
            is_same = stream.read() == case.content
    except (StoreError, ObjectNotFound) as err:
        cause = explain(case, err, "s3:GetObject", case.arn(f"{prefix}*"))
        return failed(step, cause.what, cause.cure)
    if not is_same:
        cure = Cure("Ask who changes what is in this bucket, or on its way.")
        return failed(step, f"{key} holds other bytes than were put", cure)
    return passed(step, key)


def _examine_hidden(case: Case, prefix: str, key: str) -> Finding:
    """See that nobody else reads it: not from the bucket, nor from what stands in front of it."""
    step = f"{HIDDEN} {prefix}"
    answered = []
    for url in dict.fromkeys((case.store.url(key), case.store.direct_url(key))):
        try:
            answer = case.ask("GET", url)
        except (BotoCoreError, HTTPError, OSError, ValueError) as err:
            outage = explain_outage(case, err, url)
            return failed(step, f"{url}: {outage.what}", outage.cure)
        # What is answered instead of the file, by a page for everything, shows nothing of it.
        if answer.status in (200, 206) and answer.content == case.content:
            what = f"{url} answered {answer.status} to a stranger, and shows the file"
            return failed(step, what, _hide(case, key, url))
        answered.append(f"{urlsplit(url).netloc} answers {answer.status}")
    return passed(step, f"to a stranger {' and '.join(answered)}")


def _hide(case: Case, key: str, url: str) -> Cure:
    """Say who has to show less: the bucket, or only what stands in front of it."""
    direct = case.store.direct_url(key)
    if url != direct:
        try:
            is_hidden = case.ask("GET", direct).status != 200
        except (BotoCoreError, HTTPError, OSError):
            is_hidden = False
        if is_hidden:
            prefixes = ", ".join(f"{prefix}*" for prefix in case.plan.public_prefixes)
            return Cure(
                f"Let what stands in front of it show {prefixes} only: give its own keys, or its"
                " origin access, s3:GetObject on nothing else."
            )
    return cures.show_only_public(case)


def examine_delete(case: Case, prefix: str, key: str) -> Finding:
    """Delete as the service does; what a bucket with versions keeps of it goes too, if we may."""
    step = f"{DELETE} {prefix}"
    try:
        case.store.delete(key, erases=True)
    except DarkroomError as err:
        cause = explain(case, err, "s3:DeleteObject", case.arn(f"{prefix}*"))
        case.undeletable.add(prefix)
        return failed(step, cause.what, cause.cure)
    case.traces.forget(key)
    return passed(step, key)


def _examine_gone(
    case: Case, prefix: str, key: str, reading: Finding, deletion: Finding
) -> Finding:
    step = f"{GONE} {prefix}"
    for earlier in (reading, deletion):
        if earlier.cure is not None:
            return not_tried(step, f"{earlier.step} failed")
    url = case.store.url(key)
    try:
        answer = case.ask("GET", url)
    except (BotoCoreError, HTTPError, OSError, ValueError) as err:
        outage = explain_outage(case, err, url)
        return failed(step, f"{url}: {outage.what}", outage.cure)
    if answer.status in (401, 403, 404, 410):
        return passed(step, f"the URL answers {answer.status}")
    cure = Cure(
        "A cache keeps copies. Let it ask the bucket again, or tell it of each deletion; until then"
        " what is deleted can be seen for as long as it keeps it."
    )
    return failed(step, f"{url} still answered {answer.status} after the deletion", cure)
