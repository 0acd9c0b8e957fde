"""The doctor: `scripts/run check_s3.py` tells whether a bucket can do what our files need.

For each kind of file it uploads one and deletes it, with the settings of the service. Where anyone
may read the kind, it also reads by the public URL and sees that the file is gone; where not, that
the service can read it and nobody else. Exits with 1 if anything failed.
"""

from ops import launch  # isort: split (before all that an old Python cannot read)

if __name__ == "__main__":
    launch.end_quietly_at_ctrl_c()
    launch.parse_no_words(
        "Tells whether the bucket of the settings can do what Darkroom needs: uploads a picture,"
        " reads it by its public URL, deletes it. Exits with 1 if anything failed."
    )

import hashlib
import io
import json
import sys
import uuid
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import httpx
from botocore.exceptions import BotoCoreError, ClientError

import config
from config import Settings
from errors import ObjectNotFound, StartupError, StoreError
from files import kinds
from files.kinds import Kind
from locations import StoreSettings
from storage.s3 import S3Store
from storage.s3_proofs import NoStoreAnswered

PICTURE = Path(__file__).parent / "static" / "profile_pics" / "default.jpg"
READ_TIMEOUT_SECONDS = 10

UPLOAD = "upload"
IN_PARTS = "upload in parts"
READ = "read by the public URL"
OWN_READ = "read with our keys"
HIDDEN = "hidden from the public"
DELETE = "delete"
GONE = "gone"
VERSIONS = "versions"

# As `aws s3api put-bucket-lifecycle-configuration` takes it; beside other rules, only the inner
# part.
_VERSIONS_RULE = {
    "Rules": [
        {
            "ID": "remove-what-darkroom-deleted",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
            "Expiration": {"ExpiredObjectDeleteMarker": True},
        }
    ]
}
_VERSIONS_ADVICE = (
    "the bucket keeps what is deleted. Give it this lifecycle rule, and for the erasure of accounts"
    " allow the application s3:ListBucketVersions and s3:DeleteObjectVersion:"
    f" {json.dumps(_VERSIONS_RULE)}"
)
_CURES = {
    "NoSuchBucket": (
        "There is no such bucket: create it, or correct S3_BUCKET_NAME, S3_REGION or"
        " S3_ENDPOINT_URL."
    ),
    "InvalidAccessKeyId": "The service does not know this key: correct S3_ACCESS_KEY_ID.",
    "SignatureDoesNotMatch": "The secret does not fit the key: correct S3_SECRET_ACCESS_KEY.",
    "ExpiredToken": "The credentials have expired: get new ones.",
    "PermanentRedirect": "The bucket lies in another region: correct S3_REGION.",
    "AuthorizationHeaderMalformed": "The bucket lies in another region: correct S3_REGION.",
    "NoCredentialsError": (
        "No credentials were found: set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or give a role."
    ),
    "EndpointConnectionError": (
        "The service cannot be reached: check S3_ENDPOINT_URL and the network."
    ),
    "ConnectTimeoutError": "The service does not answer: check S3_ENDPOINT_URL and the network.",
    "ReadTimeoutError": "The service took too long to answer: try again, and check the network.",
}


def check_bucket(settings: StoreSettings) -> bool:
    """Go through the life of one file of each kind, and print a line for each step.

    Returns whether all of them succeeded.
    """
    try:
        store = S3Store(settings)
    except StartupError as err:
        _print_failure("settings", str(err), "Correct S3_REGION or S3_ENDPOINT_URL.")
        return False
    verdicts = [_check_kind(store, kind) for kind in kinds.KINDS]
    if store.keeps_versions:
        _print_advice(VERSIONS, _VERSIONS_ADVICE)
    return all(verdicts)


def _check_kind(store: S3Store, kind: Kind) -> bool:
    key = _name_key(kind)
    content = PICTURE.read_bytes()
    arn = f"arn:aws:s3:::{store.bucket}/{kind.prefix}*"
    try:
        store.put(key, content, "image/jpeg", hashlib.sha256(content).hexdigest())
    except (StoreError, ObjectNotFound) as err:
        cure = _find_cure(err, f"Allow the application s3:PutObject on {arn}.")
        _print_failure(UPLOAD, _describe_cause(err), cure)
        for step in (READ, DELETE, GONE) if kind.is_public else (OWN_READ, HIDDEN, DELETE):
            _print_failure(step, "not tried, because the upload failed")
        _delete_quietly(store, key)
        return False
    _print_success(UPLOAD, f"{len(content)} bytes as {key}")
    if not kind.is_public:
        return _check_private(store, kind, key, content, arn)
    url = store.url(key)
    is_readable = _check_read(url, content, arn)
    is_deleted = _check_delete(store, key, arn)
    if not (is_readable and is_deleted):
        _print_failure(GONE, "not tried, because an earlier step failed")
        return False
    return _check_gone(url)


def _name_key(kind: Kind) -> str:
    return f"{kind.prefix}check-{uuid.uuid4().hex}.jpg"


def _check_private(store: S3Store, kind: Kind, key: str, content: bytes, arn: str) -> bool:
    verdicts = [
        _check_own_read(store, key, content, arn),
        _check_hidden(store.url(key)),
        _check_delete(store, key, arn),
    ]
    if kind.is_streamed:
        verdicts.append(_check_parts(store, _name_key(kind), content, arn))
    return all(verdicts)


def _check_own_read(store: S3Store, key: str, content: bytes, arn: str) -> bool:
    try:
        stream = store.open(key).stream
        with closing(stream):
            is_same = stream.read() == content
    except (StoreError, ObjectNotFound) as err:
        cure = _find_cure(err, f"Allow the application s3:GetObject on {arn}.")
        _print_failure(OWN_READ, _describe_cause(err), cure)
        return False
    if not is_same:
        _print_failure(OWN_READ, f"{key} holds other bytes", "Ask who changes this bucket.")
        return False
    _print_success(OWN_READ, key)
    return True


def _check_hidden(url: str) -> bool:
    """See that nobody else can read it where the public URL would be, were it public."""
    try:
        status = httpx.get(url, timeout=READ_TIMEOUT_SECONDS).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as err:
        cause = f"{url}: {type(err).__name__}"
        _print_failure(HIDDEN, cause, "Correct S3_PUBLIC_BASE_URL or S3_ENDPOINT_URL.")
        return False
    if status in (401, 403, 404):
        _print_success(HIDDEN, f"{url} answers {status}")
        return True
    public = ", ".join(kind.prefix for kind in kinds.KINDS if kind.is_public)
    cure = f"Let the bucket's policy and what stands in front of it show {public} only."
    _print_failure(HIDDEN, f"{url} answered {status} to a stranger", cure)
    return False


def _check_parts(store: S3Store, key: str, content: bytes, arn: str) -> bool:
    """Begin an upload in parts, find it as the reaper would, and abort it."""
    permission = f"s3:PutObject on {arn}"
    upload_id = ""
    try:
        upload_id = store.begin_upload(key, "image/jpeg")
        store.put_part(key, upload_id, 1, content, hashlib.sha256(content).hexdigest())
        permission = f"s3:ListBucketMultipartUploads on arn:aws:s3:::{store.bucket}"
        is_found = upload_id in store.find_uploads(key)
        permission = f"s3:AbortMultipartUpload on {arn}"
        store.abort_upload(key, upload_id)
    except StoreError as err:
        cure = _find_cure(err, f"Allow the application {permission}.")
        _print_failure(IN_PARTS, _describe_cause(err), cure)
        _abort_quietly(store, key, upload_id)
        return False
    if not is_found:
        cure = "Give the bucket a rule that removes unfinished uploads after a day."
        _print_failure(IN_PARTS, "the service does not list unfinished uploads", cure)
        return False
    _print_success(IN_PARTS, f"one of {len(content)} bytes to {key}, aborted")
    return True


def _check_read(url: str, content: bytes, arn: str) -> bool:
    try:
        answer = httpx.get(url, timeout=READ_TIMEOUT_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as err:
        cause = f"{url}: {type(err).__name__}"
        _print_failure(READ, cause, "Correct S3_PUBLIC_BASE_URL or S3_ENDPOINT_URL.")
        return False
    content_type = answer.headers.get("content-type")
    if answer.status_code in (401, 403):
        cause = f"{url} answered {answer.status_code}"
        cure = f"Allow everyone s3:GetObject on {arn} by bucket policy."
    elif answer.status_code != 200:
        cause = f"{url} answered {answer.status_code}"
        cure = "Correct S3_PUBLIC_BASE_URL or the CDN's origin."
    elif answer.content != content:
        cause = f"{url} holds other bytes"
        cure = "Let S3_PUBLIC_BASE_URL lead to this very bucket, unchanged."
    elif content_type != "image/jpeg":
        cause = f"{url} came as {content_type}"
        cure = "Let the CDN keep the object's Content-Type."
    else:
        _print_success(READ, url)
        return True
    _print_failure(READ, cause, cure)
    return False


def _check_delete(store: S3Store, key: str, arn: str) -> bool:
    try:
        # What a bucket with versions would keep of it goes too, where we may.
        store.delete(key, erases=True)
    except StoreError as err:
        cure = _find_cure(err, f"Allow the application s3:DeleteObject on {arn}.")
        _print_failure(DELETE, _describe_cause(err), f"{cure} Then delete {key} by hand.")
        return False
    _print_success(DELETE, key)
    return True


def _check_gone(url: str) -> bool:
    try:
        status = httpx.get(url, timeout=READ_TIMEOUT_SECONDS).status_code
    except httpx.HTTPError as err:
        _print_failure(GONE, f"{url}: {type(err).__name__}", "Check the network and try again.")
        return False
    if status not in (403, 404):
        _print_failure(
            GONE,
            f"{url} still answered {status}",
            "A cache keeps copies: let it ask the bucket again.",
        )
        return False
    _print_success(GONE, f"the URL answers {status}")
    return True


def _delete_quietly(store: S3Store, key: str) -> None:
    try:
        store.delete(key)  # a put that timed out may have arrived
    except (StoreError, ObjectNotFound):
        pass


def _abort_quietly(store: S3Store, key: str, upload_id: str) -> None:
    if upload_id:
        with suppress(StoreError):
            store.abort_upload(key, upload_id)


def _describe_cause(err: Exception) -> str:
    cause = err.__cause__ or err
    if isinstance(cause, ClientError):
        error = cause.response.get("Error", {})
        return f"{error.get('Code')}: {error.get('Message')}"
    return f"{type(cause).__name__}: {cause}"


def _find_cure(err: Exception, if_refused: str) -> str:
    cause = err.__cause__
    if isinstance(cause, ClientError):
        code = cause.response.get("Error", {}).get("Code", "")
        if code in ("AccessDenied", "403"):
            return if_refused
        return _CURES.get(code, "The service's documentation explains this code.")
    if isinstance(cause, NoStoreAnswered):
        return "Correct S3_ENDPOINT_URL, or ask who answers there in the place of the store."
    if isinstance(cause, BotoCoreError):
        return _CURES.get(type(cause).__name__, "Check the S3 settings and the network.")
    return "Check the S3 settings and the network."


def _print_success(step: str, what: str) -> None:
    print(f"✓ {step}: {what}")


def _print_failure(step: str, cause: str, cure: str = "") -> None:
    print(f"✗ {step}: {cause}. {cure}".rstrip())


def _print_advice(step: str, advice: str) -> None:
    print(f"! {step}: {advice}")


def main(settings: Settings) -> int:
    """Check the bucket that the settings name; return the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal without these marks shows a question mark.
        sys.stdout.reconfigure(errors="replace")
    current = settings.stores()[settings.store_name]
    if current.storage != "s3":
        print("✗ settings: no bucket is in use. Set S3_BUCKET_NAME (and STORAGE=s3 in production).")
        return 1
    print(f"Bucket {current.bucket_name} at {current.endpoint_url or 'AWS, ' + current.region}")
    return 0 if check_bucket(current) else 1


if __name__ == "__main__":
    launch.run_command(partial(main, config.settings))
