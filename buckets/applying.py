"""The plan of a bucket carried out: what is there is looked at, joined with ours, and put.

Nothing is put where we may not look, for it would replace what others have there. Whoever runs it
may do more than the service: its own keys are asked only where no profile is named.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from buckets.parts import LIFECYCLE, PARTS, Part, look_at
from buckets.plan import BucketPlan
from errors import StartupError
from locations import StoreSettings
from storage.s3_addresses import is_path_style

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_TIMEOUT_SECONDS = 3
# Longer than the service's own: the configuration of a bucket is slower than its objects.
READ_TIMEOUT_SECONDS = 20
# Whatever is put may be put twice.
ATTEMPTS = 2

# What was made or changed a moment ago is not known at once to all of a service.
SETTLE_SECONDS = 15.0
PAUSE_SECONDS = 1.0

NOT_PERMITTED = {"AccessDenied", "403", "AllAccessDisabled"}
_MISSING = {"404", "NoSuchBucket", "NotFound"}
_UNSETTLED = {"NoSuchBucket", "OperationAborted"}
# Of the refusal of a public policy, by a box of the bucket or of its account.
_BOX = "BlockPublicPolicy"

Done = TypeVar("Done")


class Outcome(Enum):
    """What became of one part of a bucket; the value is how it is marked."""

    AS_PLANNED = "✓"
    CHANGED = "+"
    WOULD_CHANGE = "~"
    UNKNOWN_HERE = "-"
    FAILED = "✗"


@dataclass(frozen=True)
class Applied:
    """One part of the bucket, what became of it, and a sentence about it."""

    part: str
    outcome: Outcome
    sentence: str

    def __str__(self) -> str:
        return f"{self.outcome.value} {self.part}: {self.sentence}"


def open_client(store: StoreSettings, profile: str | None = None) -> "S3Client":
    """Make a client with the settings of the store, and its keys unless a profile is named.

    Raises StartupError for a profile that is not there, or settings that cannot be used.
    """
    key_id = store.access_key_id if profile is None else None
    secret = store.secret_access_key if profile is None else None
    try:
        return boto3.session.Session(profile_name=profile).client(
            "s3",
            region_name=store.region,
            endpoint_url=store.endpoint_url,
            aws_access_key_id=key_id.get_secret_value() if key_id else None,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            # As the service's own client: of the machine come credentials and nothing else.
            config=cast(Any, Config)(  # whose stubs know less than it takes
                signature_version="s3v4",
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                read_timeout=READ_TIMEOUT_SECONDS,
                retries={"total_max_attempts": ATTEMPTS},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                ignore_configured_endpoint_urls=True,
                use_fips_endpoint=False,
                use_dualstack_endpoint=False,
                s3={
                    "addressing_style": "path" if is_path_style(store) else "virtual",
                    "use_accelerate_endpoint": False,
                    "use_dualstack_endpoint": False,
                    "us_east_1_regional_endpoint": "regional",
                },
            ),
        )
    except (BotoCoreError, ValueError) as err:
        raise StartupError(f"The bucket cannot be asked: {str(err).rstrip('.')}.") from err


def apply_plan(plan: BucketPlan, client: "S3Client", *, is_dry: bool) -> Iterator[Applied]:
    """Make the bucket as it is planned, part by part, and tell each as it is done.

    Where it `is_dry`, only tell what would be done. Without a bucket nothing else is tried.
    """
    bucket = _make_bucket(plan, client, is_dry=is_dry)
    yield bucket
    if bucket.outcome in (Outcome.FAILED, Outcome.WOULD_CHANGE):
        return
    has_changed = bucket.outcome is Outcome.CHANGED
    for part in PARTS:
        applied = _apply(plan, client, part, is_dry=is_dry, settles=has_changed)
        yield applied
        has_changed = has_changed or applied.outcome is Outcome.CHANGED


def _make_bucket(plan: BucketPlan, client: "S3Client", *, is_dry: bool) -> Applied:
    name = "bucket"
    try:
        region = client.head_bucket(Bucket=plan.bucket).get("BucketRegion", plan.region)
        if plan.is_aws and region != plan.region:
            # It was found by following where AWS led, which the service does not.
            elsewhere = f"{plan.bucket} lies in another region: set S3_REGION={region}"
            return Applied(name, Outcome.FAILED, elsewhere)
        return Applied(name, Outcome.AS_PLANNED, f"{plan.bucket} is there")
    except ClientError as err:
        code = read_code(err)
        if code in NOT_PERMITTED:
            # It may be there all the same, and the rest may be permitted.
            cure = f"not permitted to look for it: allow s3:ListBucket on {plan.arn}"
            return Applied(name, Outcome.UNKNOWN_HERE, cure)
        if code not in _MISSING:
            return Applied(name, Outcome.FAILED, describe(err))
    except BotoCoreError as err:
        return Applied(name, Outcome.FAILED, describe(err))
    if is_dry:
        return Applied(name, Outcome.WOULD_CHANGE, f"{plan.bucket} would be made")
    try:
        _create(plan, client)
    except (ClientError, BotoCoreError) as err:
        return Applied(name, Outcome.FAILED, _explain(err, "s3:CreateBucket", plan))
    return Applied(name, Outcome.CHANGED, f"{plan.bucket} was made")


def _create(plan: BucketPlan, client: "S3Client") -> None:
    """Create the bucket; where a service has no such place, where it creates all of them."""
    options: dict[str, Any] = {}
    if plan.location is not None:
        options["CreateBucketConfiguration"] = {"LocationConstraint": plan.location}
    if plan.namespace is not None:
        options["BucketNamespace"] = plan.namespace
    try:
        client.create_bucket(Bucket=plan.bucket, **options)
    except ClientError as err:
        if plan.is_aws or read_code(err) != "InvalidLocationConstraint":
            raise
        client.create_bucket(Bucket=plan.bucket)


def _apply(
    plan: BucketPlan, client: "S3Client", part: Part, *, is_dry: bool, settles: bool
) -> Applied:
    try:
        there = _wait(lambda: look_at(client, plan.bucket, part), settles)
    except (ClientError, BotoCoreError) as err:
        return _tell_failure(err, part, part.looking, plan)
    merged = part.merge(there, part.plan(plan))
    if not merged.is_new:
        return Applied(part.name, Outcome.AS_PLANNED, "; ".join(["as planned", *merged.notes]))
    if is_dry:
        said = "; ".join(["would be set", *merged.notes])
        return Applied(part.name, Outcome.WOULD_CHANGE, said)
    notes = list(merged.notes)
    try:
        _wait(lambda: part.put(client, plan.bucket, merged.document), settles)
    except (ClientError, BotoCoreError) as err:
        is_refused = isinstance(err, ClientError) and read_code(err) not in NOT_PERMITTED
        if part is not LIFECYCLE or not is_refused:
            return _tell_failure(err, part, part.putting, plan)
        notes.append(f"without what is said of old versions, which was refused: {describe(err)}")
        less = LIFECYCLE.merge(there, plan.lifecycle(keeps_versions=False))
        if not less.is_new:
            return Applied(part.name, Outcome.AS_PLANNED, "; ".join(["as planned", *notes]))
        try:
            LIFECYCLE.put(client, plan.bucket, less.document)
        except (ClientError, BotoCoreError) as second:
            return _tell_failure(second, part, part.putting, plan)
    return Applied(part.name, Outcome.CHANGED, "; ".join(["set", *notes]))


def _wait(do: Callable[[], Done], settles: bool) -> Done:
    """Do it; while the bucket settles, once more a second until it can be done."""
    ends_at = time.monotonic() + (SETTLE_SECONDS if settles else 0)
    while True:
        try:
            return do()
        except ClientError as err:
            is_unsettled = read_code(err) in _UNSETTLED or _BOX in describe(err)
            if not is_unsettled or time.monotonic() >= ends_at:
                raise
        time.sleep(PAUSE_SECONDS)


def _tell_failure(
    err: ClientError | BotoCoreError, part: Part, action: str, plan: BucketPlan
) -> Applied:
    is_refused = isinstance(err, ClientError) and read_code(err) not in NOT_PERMITTED
    if part.is_of_aws and not plan.is_aws and is_refused:
        return Applied(
            part.name, Outcome.UNKNOWN_HERE, f"this service knows none ({describe(err)})"
        )
    return Applied(part.name, Outcome.FAILED, _explain(err, action, plan))


def _explain(err: ClientError | BotoCoreError, action: str, plan: BucketPlan) -> str:
    """Say what is at fault, and what would help."""
    said = describe(err)
    if not isinstance(err, ClientError) or read_code(err) not in NOT_PERMITTED:
        return said
    if _BOX in said:
        return (
            f"{said}. The account blocks public policies for all of its buckets: switch off {_BOX}"
            " and RestrictPublicBuckets there, or let a CDN read the bucket and"
            " set S3_PUBLIC_BASE_URL"
        )
    return f"not permitted: allow {action} on {plan.arn} ({said})"


def describe(err: ClientError | BotoCoreError) -> str:
    """Repeat in one line what was said."""
    if isinstance(err, ClientError):
        message = err.response.get("Error", {}).get("Message", "")
        return f"{read_code(err)}: {message}".rstrip(". :")
    if isinstance(err, NoCredentialsError):
        return "there are no credentials: name a profile of ~/.aws by --profile"
    return str(err).rstrip(".")


def read_code(err: ClientError) -> str:
    """Return the service's word for a refusal."""
    return err.response.get("Error", {}).get("Code", "")
