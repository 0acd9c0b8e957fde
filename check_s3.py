"""The doctor: can this bucket do what the profile pictures need? `uv run check_s3.py`

Uploads, reads by the public URL, deletes, and sees that it is gone,
with the settings of the service. Needs no more than the service
does: PutObject and DeleteObject. Exits with 1 if anything failed.
"""

import hashlib
import io
import sys
import uuid
from pathlib import Path

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from config import StoreSettings, settings
from errors import ObjectNotFound, StartupError, StoreError
from files.kinds import PROFILE_PICTURE
from storage.s3 import S3Store

PICTURE = Path(__file__).parent / "static" / "profile_pics" / "default.jpg"
READ_TIMEOUT_SECONDS = 10

_CURES = {
    "NoSuchBucket": "There is no such bucket: create it, or correct S3_BUCKET_NAME, S3_REGION or S3_ENDPOINT_URL.",
    "InvalidAccessKeyId": "The service does not know this key: correct S3_ACCESS_KEY_ID.",
    "SignatureDoesNotMatch": "The secret does not fit the key: correct S3_SECRET_ACCESS_KEY.",
    "ExpiredToken": "The credentials have expired: get new ones.",
    "PermanentRedirect": "The bucket lies in another region: correct S3_REGION.",
    "AuthorizationHeaderMalformed": "The bucket lies in another region: correct S3_REGION.",
    "NoCredentialsError": "No credentials were found: set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or give a role.",
    "EndpointConnectionError": "The service cannot be reached: check S3_ENDPOINT_URL and the network.",
    "ConnectTimeoutError": "The service does not answer: check S3_ENDPOINT_URL and the network.",
    "ReadTimeoutError": "The service took too long to answer: try again, and check the network.",
}


def check(known: StoreSettings) -> bool:
    """Go through the life of one picture; print a line
    for each step; return whether all of them succeeded.
    """
    try:
        store = S3Store(known)
    except StartupError as err:
        _failed("settings", str(err), "Correct S3_REGION or S3_ENDPOINT_URL.")
        return False
    key = f"{PROFILE_PICTURE.prefix}check-{uuid.uuid4().hex}.jpg"
    content = PICTURE.read_bytes()
    url = store.url(key)
    arn = f"arn:aws:s3:::{known.bucket_name}/{PROFILE_PICTURE.prefix}*"
    try:
        store.put(key, content, "image/jpeg", hashlib.sha256(content).hexdigest())
    except (StoreError, ObjectNotFound) as err:
        _failed("upload", _cause(err), _cure(err, f"Allow the application s3:PutObject on {arn}."))
        for step in ("read by the public URL", "delete", "gone"):
            _failed(step, "not tried, because the upload failed")
        _delete_quietly(store, key)
        return False
    _succeeded("upload", f"{len(content)} bytes as {key}")
    is_readable = _check_read(url, content, arn)
    is_deleted = _check_delete(store, key, arn)
    if not (is_readable and is_deleted):
        _failed("gone", "not tried, because an earlier step failed")
        return False
    return _check_gone(url)


def _check_read(url: str, content: bytes, arn: str) -> bool:
    step = "read by the public URL"
    try:
        answer = httpx.get(url, timeout=READ_TIMEOUT_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as err:
        _failed(
            step, f"{url}: {type(err).__name__}", "Correct S3_PUBLIC_BASE_URL or S3_ENDPOINT_URL."
        )
        return False
    if answer.status_code in (401, 403):
        _failed(
            step,
            f"{url} answered {answer.status_code}",
            f"Allow everyone s3:GetObject on {arn} by bucket policy.",
        )
    elif answer.status_code != 200:
        _failed(
            step,
            f"{url} answered {answer.status_code}",
            "Correct S3_PUBLIC_BASE_URL or the CDN's origin.",
        )
    elif answer.content != content:
        _failed(
            step,
            f"{url} holds other bytes",
            "Let S3_PUBLIC_BASE_URL lead to this very bucket, unchanged.",
        )
    elif answer.headers.get("content-type") != "image/jpeg":
        kind = answer.headers.get("content-type")
        _failed(step, f"{url} came as {kind}", "Let the CDN keep the object's Content-Type.")
    else:
        _succeeded(step, url)
        return True
    return False


def _check_delete(store: S3Store, key: str, arn: str) -> bool:
    try:
        store.delete(key)
    except StoreError as err:
        cure = _cure(err, f"Allow the application s3:DeleteObject on {arn}.")
        _failed("delete", _cause(err), f"{cure} Then delete {key} by hand.")
        return False
    _succeeded("delete", key)
    return True


def _check_gone(url: str) -> bool:
    try:
        status = httpx.get(url, timeout=READ_TIMEOUT_SECONDS).status_code
    except httpx.HTTPError as err:
        _failed("gone", f"{url}: {type(err).__name__}", "Check the network and try again.")
        return False
    if status not in (403, 404):
        _failed(
            "gone",
            f"{url} still answered {status}",
            "A cache keeps copies: let it ask the bucket again.",
        )
        return False
    _succeeded("gone", f"the URL answers {status}")
    return True


def _delete_quietly(store: S3Store, key: str) -> None:
    try:
        store.delete(key)  # a put that timed out may have arrived
    except (StoreError, ObjectNotFound):
        pass


def _cause(err: Exception) -> str:
    cause = err.__cause__ or err
    if isinstance(cause, ClientError):
        error = cause.response.get("Error", {})
        return f"{error.get('Code')}: {error.get('Message')}"
    return f"{type(cause).__name__}: {cause}"


def _cure(err: Exception, if_refused: str) -> str:
    cause = err.__cause__
    if isinstance(cause, ClientError):
        code = cause.response.get("Error", {}).get("Code", "")
        unknown = (
            if_refused
            if code in ("AccessDenied", "403")
            else "The service's documentation explains this code."
        )
        return _CURES.get(code, unknown)
    if isinstance(cause, BotoCoreError):
        return _CURES.get(type(cause).__name__, "Check the S3 settings and the network.")
    return "Check the S3 settings and the network."


def _succeeded(step: str, what: str) -> None:
    print(f"✓ {step}: {what}")


def _failed(step: str, cause: str, cure: str = "") -> None:
    print(f"✗ {step}: {cause}. {cure}".rstrip())


def main() -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="replace"
        )  # a terminal without these marks shows a question mark
    known = settings.stores()[settings.store_name]
    if known.storage != "s3":
        print("✗ settings: no bucket is in use. Set S3_BUCKET_NAME (and STORAGE=s3 in production).")
        return 1
    print(f"Bucket {known.bucket_name} at {known.endpoint_url or 'AWS, ' + known.region}")
    return 0 if check(known) else 1


if __name__ == "__main__":
    sys.exit(main())
