"""What an S3 service answers: its refusals as our errors, and a success only with its receipt."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
)
from urllib3.exceptions import HTTPError

from errors import DarkroomError, ObjectExists, ObjectNotFound, StoreRefused, StoreUnavailable
from storage.s3_deadlines import limit_call
from storage.s3_proofs import ChecksumDiffers, NoStoreAnswered

# Refusals with a 4xx status that another attempt can
# cure: bytes that were lost or changed on their way.
_PASSING_CODES = {
    "RequestTimeout",
    "BadDigest",
    "IncompleteBody",
    "XAmzContentSHA256Mismatch",
    "InvalidPart",
    "RequestTimeTooSkewed",
}
# Of the errors that single objects had in a deletion of many, the ones that pass by themselves.
_PASSING_OF_ONE = {"InternalError", "SlowDown", "ServiceUnavailable", "OperationAborted"}


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise what fails inside as a StoreError or ObjectNotFound, caused by the vendor's error.

    What is asked inside has the time of one call.
    """
    try:
        with limit_call():
            yield
    except ClientError as err:
        status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = read_code(err)
        if status in (409, 412):
            raise ObjectExists from err
        if status == 404 and code != "NoSuchBucket":
            raise ObjectNotFound from err
        if 300 <= status < 500 and status != 429 and code not in _PASSING_CODES:
            raise StoreRefused from err
        raise StoreUnavailable from err
    except (NoCredentialsError, CredentialRetrievalError, NoStoreAnswered) as err:
        raise StoreRefused from err
    except (BotoCoreError, HTTPError, OSError, ChecksumDiffers) as err:
        raise StoreUnavailable from err


@contextmanager
def translate_writing_errors() -> Iterator[None]:
    """As translate_errors, for calls to which no object can be missing: they never raise that.

    A 404 is a StoreRefused: there is no bucket, or no S3 at all, at this address. But an upload may
    have been aborted meanwhile, or have been completed by a call whose answer was lost.
    """
    try:
        with translate_errors():
            yield
    except ObjectNotFound as err:
        cause = err.__cause__
        if isinstance(cause, ClientError) and read_code(cause) == "NoSuchUpload":
            raise StoreUnavailable from cause
        raise StoreRefused from cause


@contextmanager
def translate_reading_errors() -> Iterator[None]:
    """As translate_errors, for the reading of an object: missing is what S3 itself calls so.

    Any other 404 is another web server's, and a StoreRefused.
    """
    try:
        with translate_errors():
            yield
    except ObjectNotFound as err:
        code = find_code(err)
        if err.__cause__ is not None and (not code or code.isdigit()):
            raise StoreRefused from err.__cause__
        raise


def read_code(err: ClientError) -> str:
    """Return the code of an error, '' for one that is not of S3."""
    return err.response.get("Error", {}).get("Code", "")


def find_code(err: DarkroomError) -> str:
    """Return the code of the service's error behind one of ours, '' where there is none."""
    cause = err.__cause__
    return read_code(cause) if isinstance(cause, ClientError) else ""


def make_error(code: str, message: str) -> DarkroomError:
    """Make the error that a service had with one of many objects, caused by what it said."""
    error = StoreUnavailable() if code in _PASSING_OF_ONE else StoreRefused()
    error.__cause__ = ClientError({"Error": {"Code": code, "Message": message}}, "DeleteObjects")
    return error


def require(receipt: str | None) -> str:
    """Return what only a store would have answered; a maintenance page says 200 as well.

    Raises StoreUnavailable.
    """
    if not receipt:
        raise StoreUnavailable
    return receipt
