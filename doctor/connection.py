"""The first steps: does a store answer at the endpoint, by our clock, to our keys, with the bucket?

One request that nobody signed tells of the endpoint and the clock, and one that we sign of the
rest. What is wrong with the settings is found by trying what else they could have meant.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from doctor import cures
from doctor.alternatives import explain_unknown_region, find_better_settings
from doctor.case import Answer, Case, mask_key
from doctor.causes import (
    DENIED,
    OF_CLOCK,
    OF_CREDENTIALS,
    OF_REGION,
    describe,
    explain,
    explain_credentials,
    explain_region,
    read_code,
)
from doctor.findings import Cure, Finding, advise, failed, may_not_look, passed
from doctor.outages import explain_outage
from doctor.pages import describe_page, is_from_store
from doctor.traces import NAME_BEGIN
from storage.s3_deadlines import limit_call
from storage.s3_proofs import NoStoreAnswered

ENDPOINT = "endpoint"
CLOCK = "clock"
CREDENTIALS = "credentials"
REGION = "region"
BUCKET = "bucket"
LIST = "list"
NAMES = (ENDPOINT, CLOCK, CREDENTIALS, REGION, BUCKET, LIST)

# By then every part of a store knows a bucket that was made a moment ago.
NEW_BUCKET_SECONDS = 15.0
_PAUSE_SECONDS = 1.0
# AWS refuses what was signed by a clock that is more than a quarter of an hour off.
REFUSED_SKEW_SECONDS = 15 * 60
# What a clock without NTP has soon; links that are good for a minute notice it.
TOLD_SKEW_SECONDS = 60

_ASKED = ("ListObjectsV2",)
# Where boto3 found credentials, in its own words.
_SOURCES = {
    "explicit": "of S3_ACCESS_KEY_ID",
    "env": "of AWS_ACCESS_KEY_ID in the environment",
    "shared-credentials-file": "of the file ~/.aws/credentials",
    "config-file": "of the file ~/.aws/config",
    "iam-role": "of the machine's role",
    "container-role": "of the container's role",
    "assume-role": "of a role that a profile assumes",
    "assume-role-with-web-identity": "of a role, by a web identity",
    "sso": "of a login by `aws sso login`",
    "login": "of a login by `aws login`",
    "custom-process": "of a program that a profile names",
}


class Hopeless(Exception):
    """No further step makes sense before this one is cured."""


def examine_connection(case: Case) -> Iterator[Finding]:
    """Find out whether the settings lead to the bucket. Raises Hopeless where they do not."""
    url = f"{case.bucket_url}?list-type=2&max-keys=1&prefix={case.prefixes[0]}{NAME_BEGIN}"
    try:
        began = datetime.now(UTC)
        greeting = case.ask("GET", url)
        ended = datetime.now(UTC)
    except (BotoCoreError, HTTPError, OSError) as err:
        yield _explain_outage(case, err, url)
        raise Hopeless from err
    failure = _list_signed(case)
    is_new = failure is not None and read_code(failure) == "NoSuchBucket"
    if failure is not None and is_new:
        failure = _wait_for_bucket(case, failure)
    if failure is not None and _is_from_stranger(failure, greeting):
        yield _explain_stranger(case, greeting, failure)
        raise Hopeless from failure
    yield passed(ENDPOINT, f"a store answers at {urlsplit(url).netloc}")
    yield from _examine_clock(greeting, began + (ended - began) / 2, failure)
    if failure is None:
        case.may_list = True
        yield from _tell_all_is_well(case, is_new=is_new)
        if greeting.status == 200:
            yield advise(
                LIST,
                "everyone may list the bucket, and so knows every key",
                cures.show_only_public(case),
            )
        else:
            yield passed(LIST, "with our keys, and by nobody else")
        return
    yield from _explain_failure(case, failure)


def _explain_outage(case: Case, err: Exception, url: str) -> Finding:
    outage = explain_outage(case, err, url)
    better = None if outage.is_certain else find_better_settings(case, err)
    if better is None and not outage.is_certain and case.current.endpoint_url is None:
        better = explain_unknown_region(case.current.region)
    return failed(*better) if better else failed(ENDPOINT, outage.what, outage.cure)


def _list_signed(case: Case) -> Exception | None:
    prefix = f"{case.prefixes[0]}{NAME_BEGIN}"
    try:
        with limit_call():
            case.client.list_objects_v2(Bucket=case.bucket, Prefix=prefix, MaxKeys=1)
    except (ClientError, BotoCoreError, HTTPError, OSError, NoStoreAnswered) as err:
        return err
    return None


def _wait_for_bucket(case: Case, failure: Exception) -> Exception | None:
    """Ask again for a while; a bucket that was made a moment ago is not known everywhere yet."""
    ends_at = time.monotonic() + min(NEW_BUCKET_SECONDS, case.left_seconds)
    found: Exception | None = failure
    while found is not None and read_code(found) == "NoSuchBucket":
        if time.monotonic() > ends_at or find_better_settings(case, found) is not None:
            break
        case.say(
            f"there is no bucket {case.bucket} yet; one that was made a moment ago is waited for,"
            f" {NEW_BUCKET_SECONDS:g} seconds at most"
        )
        time.sleep(_PAUSE_SECONDS)
        found = _list_signed(case)
    return found


def _is_from_stranger(failure: Exception, greeting: Answer) -> bool:
    """Whether nothing that a store would say was said, neither signed nor unsigned."""
    if isinstance(failure, NoStoreAnswered):
        return True
    has_code = read_code(failure).strip("0123456789") != ""
    return isinstance(failure, ClientError) and not has_code and not is_from_store(greeting)


def _explain_stranger(case: Case, greeting: Answer, failure: Exception) -> Finding:
    better = find_better_settings(case, failure)
    if better is not None:
        return failed(*better)
    what = f"what answers at {urlsplit(greeting.url).netloc} is no S3: {describe_page(greeting)}"
    cure = cures.set_lines(
        "Correct the endpoint: the address of the S3 service itself, as its documentation names it"
        " (no console, no website, no CDN).",
        S3_ENDPOINT_URL="<the address of the S3 service>",
    )
    return failed(ENDPOINT, what, cure)


def _examine_clock(
    greeting: Answer, here: datetime, failure: Exception | None
) -> Iterator[Finding]:
    there = _read_clock(greeting)
    clocks = f"here it is {_write_time(here)}, there {_write_time(there)} (UTC)"
    if failure is not None and read_code(failure) in OF_CLOCK:
        yield failed(CLOCK, f"{describe(failure)}: {clocks}", cures.set_clock())
        raise Hopeless from failure
    if there is None:
        return
    skew_seconds = abs((there - here).total_seconds())
    if skew_seconds >= REFUSED_SKEW_SECONDS:
        yield failed(CLOCK, f"the clocks differ too much: {clocks}", cures.set_clock())
    elif skew_seconds >= TOLD_SKEW_SECONDS:
        yield advise(CLOCK, f"the clocks differ: {clocks}", cures.set_clock())
    else:
        yield passed(CLOCK, f"less than {TOLD_SKEW_SECONDS} s from the store's")


def _write_time(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}" if time else "another time"


def _read_clock(greeting: Answer) -> datetime | None:
    try:
        return parsedate_to_datetime(greeting.headers["date"]).astimezone(UTC)
    except (KeyError, ValueError, TypeError):
        return None


def _tell_all_is_well(case: Case, *, is_new: bool) -> Iterator[Finding]:
    yield passed(CREDENTIALS, describe_credentials(case))
    yield passed(REGION, case.current.region)
    told = ", though not at first: as one that was made a moment ago" if is_new else ""
    yield passed(BUCKET, f"{case.bucket} is there{told}")


def describe_credentials(case: Case) -> str:
    """Say which key is used, and where it comes from."""
    credentials = cast(Any, case.client)._request_signer._credentials
    if credentials is None:
        return "none"
    source = _SOURCES.get(credentials.method, f"by {credentials.method}")
    try:
        key_id = credentials.get_frozen_credentials().access_key
    except (BotoCoreError, OSError):
        return f"the key {source}"
    return f"the key {mask_key(key_id)} {source}"


def _explain_failure(case: Case, failure: Exception) -> Iterator[Finding]:
    code = read_code(failure)
    if code in OF_CREDENTIALS:
        source = describe_credentials(case)
        what = describe(failure) if source == "none" else f"{describe(failure)}, {source}"
        yield failed(CREDENTIALS, what, explain_credentials(case, code))
        raise Hopeless from failure
    if isinstance(failure, ClientError) and failure.operation_name not in _ASKED:
        # Whoever was asked for credentials has refused, and not the store.
        what = f"{failure.operation_name} was refused, {describe_credentials(case)}"
        cure = Cure("Correct the role of the profile, and whom it trusts; or set keys.")
        yield failed(CREDENTIALS, f"{what}: {describe(failure)}", cure)
        raise Hopeless from failure
    yield passed(CREDENTIALS, describe_credentials(case))
    if code in OF_REGION:
        what, cure = explain_region(case, failure)
        yield failed(REGION, f"{describe(failure)}: {what}", cure)
        raise Hopeless from failure
    if code in DENIED:
        yield passed(BUCKET, f"{case.bucket} is there")
        cure = cures.allow(case.plan, "s3:ListBucket", case.arn())
        yield may_not_look(
            LIST, "our keys may not list; only `cli.py check` and `sweep` need it", cure
        )
        return
    better = find_better_settings(case, failure)
    if better is not None:
        yield failed(*better)
    else:
        cause = explain(case, failure, "s3:ListBucket", case.arn())
        yield failed(BUCKET, cause.what, cause.cure)
    raise Hopeless from failure
