"""Steps about what a store promises of a put and of deletions, and its marker.

What it does not keep is no failure, where the service does without: then the step is advice, which
says what is weakened.
"""

import hashlib
from collections.abc import Iterator

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from doctor.case import CONTENT_TYPE, Case
from doctor.causes import DENIED, describe, explain, read_code
from doctor.findings import Cure, Finding, advise, failed, may_not_look, not_tried, passed
from doctor.objects import put
from doctor.traces import name_key
from errors import DarkroomError, StoreError
from storage.markers import BUCKET_KEY, Marker
from storage.s3_checksums import encode_checksum
from storage.s3_deadlines import limit_call
from storage.s3_powers import Power

CREATE_ONLY = "create-only put"
CHECKSUM = "checksums"
MANY = "delete many"
MARKER = "marker"
NAMES = (CREATE_ONLY, CHECKSUM, MANY, MARKER)

_OTHER = b"other bytes, which must not be stored"


def examine_promises(case: Case) -> Iterator[Finding]:
    """See what the store does with a second put, with wrong bytes, with a list of keys."""
    prefix = case.prefixes[0]
    if prefix in case.unputtable | case.undeletable:
        for step in (CREATE_ONLY, CHECKSUM, MANY):
            yield not_tried(step, f"put or delete {prefix} failed")
    else:
        keys = [case.traces.expect(name_key(prefix)) for _ in range(2)]
        yield _examine_create_only(case, keys[0])
        yield _examine_checksum(case, keys[1])
        yield _examine_many(case, keys)
    yield _examine_marker(case)


def _examine_create_only(case: Case, key: str) -> Finding:
    try:
        put(case, key)
    except StoreError as err:
        cause = explain(case, err, "s3:PutObject", case.arn(key))
        return failed(CREATE_ONLY, cause.what, cause.cure)
    lack = find_lack(case, Power.CREATE_ONLY_PUT)
    if lack is not None:
        return advise(CREATE_ONLY, lack)
    refusal = _put_raw(case, key, _OTHER, _OTHER, IfNoneMatch="*")
    if refusal is None:
        return advise(
            CREATE_ONLY,
            "the store lets a second put replace the first. Keys are random, so none meets"
            " another's; but a put that is believed lost may arrive late, and is not refused",
        )
    if read_code(refusal) in ("PreconditionFailed", "412", "409", "ConditionalRequestConflict"):
        case.takes_create_only = True
        return passed(CREATE_ONLY, "a second put under the same key is refused")
    return advise(
        CREATE_ONLY,
        f"the store does not know it: {describe(refusal)}. Keys are random, so none meets"
        " another's",
    )


def _examine_checksum(case: Case, key: str) -> Finding:
    mode = case.current.checksums
    lack = find_lack(case, Power.CHECKSUMS)
    if lack is not None:
        return advise(CHECKSUM, lack)
    # On AWS the planned policy lets nobody put without it.
    wish = {"IfNoneMatch": "*"} if case.takes_create_only else {}
    refusal = _put_raw(case, key, case.content, _OTHER, **wish)
    if refusal is None:
        return advise(
            CHECKSUM,
            f"S3_CHECKSUMS={mode}: the store took bytes with another's checksum, and so would take"
            " what has changed on its way",
        )
    code = read_code(refusal)
    if code in DENIED:
        cause = explain(case, refusal, "s3:PutObject", case.arn(key))
        return failed(CHECKSUM, cause.what, cause.cure)
    return passed(
        CHECKSUM, f"S3_CHECKSUMS={mode}: bytes with another's checksum are refused ({code})"
    )


def find_lack(case: Case, power: Power) -> str | None:
    """Say what the service was found not to know when we put, if that is this."""
    found = next((lack for lack in case.store.lacks if lack.power is power), None)
    if found is None:
        return None
    return f"the store {found.sentence}, and it is served without: {found.cause}"


def _put_raw(case: Case, key: str, content: bytes, claimed: bytes, **more: str) -> Exception | None:
    """Put bytes with the checksum of what is claimed; return why that was refused."""
    checksum = encode_checksum(hashlib.sha256(claimed).hexdigest())

    def send() -> None:
        with limit_call():
            case.client.put_object(
                Bucket=case.bucket,
                Key=key,
                Body=content,
                ContentType=CONTENT_TYPE,
                ChecksumSHA256=checksum,
                **more,  # type: ignore[arg-type]
            )

    try:
        case.put_held(send)
    except (ClientError, BotoCoreError, HTTPError, OSError) as err:
        return err
    return None


def _examine_many(case: Case, keys: list[str]) -> Finding:
    prefix = case.prefixes[0]
    try:
        errors = case.store.delete_many(keys, erases=True)
    except DarkroomError as err:
        errors = {keys[0]: err}
    if errors:
        cause = explain(
            case, next(iter(errors.values())), "s3:DeleteObject", case.arn(f"{prefix}*")
        )
        return failed(MANY, cause.what, cause.cure)
    for key in keys:
        case.traces.forget(key)
    lack = find_lack(case, Power.DELETE_MANY)
    if lack is not None:
        return advise(MANY, lack)
    return passed(MANY, f"{len(keys)} objects in one call")


def _examine_marker(case: Case) -> Finding:
    try:
        content = case.store.read_marker()
    except DarkroomError as err:
        cause = explain(case, err, "s3:GetObject", case.arn(BUCKET_KEY))
        if cause.is_denial:
            return may_not_look(
                MARKER, "our keys may not read it, unless there is one: " + cause.what, cause.cure
            )
        return failed(MARKER, cause.what, cause.cure)
    if content is None:
        return passed(MARKER, "there is none yet; the service writes it at its first start")
    marker = Marker.decode(content)
    if not marker.store:
        what = f"{BUCKET_KEY} says nothing of a store"
        return failed(MARKER, what, Cure("See who wrote it; the service does not start beside it."))
    return passed(MARKER, f"this is the store {marker.store}")
