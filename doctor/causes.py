"""What a service's refusal means: the cause as a sentence, and the cure.

What was said is shown as it was said, and explained where it is known; the cure is of the last
resort where it is not.
"""

import re
from dataclasses import dataclass
from typing import Any, cast

from botocore.exceptions import BotoCoreError, ClientError

from doctor import cures
from doctor.case import Case, mask_key
from doctor.findings import Cure
from doctor.outages import explain_outage
from doctor.policies import blocks_acls, find_denial
from storage.s3_proofs import ChecksumDiffers, NoStoreAnswered

DENIED = frozenset({"AccessDenied", "403", "Forbidden", "AccessDeniedException"})
OF_CREDENTIALS = frozenset(
    {
        *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
        *("TokenRefreshRequired", "InvalidSecurity", "NotSignedUp", "AccountProblem"),
        *("InvalidClientTokenId", "Unauthorized", "401", "NoCredentialsError"),
        *("PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"),
        *("SSOTokenLoadError", "UnauthorizedSSOTokenError"),
    }
)
OF_REGION = frozenset(
    {
        *("PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "301", "307"),
        *("IllegalLocationConstraintException", "InvalidRegionName", "InvalidRegion", "Redirect"),
        "AuthorizationQueryParametersError",
    }
)
OF_CLOCK = frozenset({"RequestTimeTooSkewed", "RequestExpired", "RequestTimeSkewed"})
_EXPIRED = frozenset({"ExpiredToken", "TokenRefreshRequired", "UnauthorizedSSOTokenError"})
_FULL = frozenset(
    {"507", "InsufficientStorage", "XMinioStorageFull", "QuotaExceeded", "EntityTooLargeForQuota"}
)
_BUSY = frozenset({"SlowDown", "503", "ServiceUnavailable", "429", "TooManyRequests", "500", "502"})
# Of what a service says; what comes after it is rarely read.
_LONGEST_MESSAGE = 300
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/troubleshoot-403-errors.html
_WANTED_RIGHT = re.compile(r"to perform: ([\w-]+:\w+)(?: on resource: \"?([^\s\"]+))?")
_DENIAL = re.compile(r"explicit deny in an? ([\w -]+)")
_EXPECTED_REGION = re.compile(r"expecting '([a-z0-9-]+)'")


@dataclass(frozen=True)
class Cause:
    """Why something failed; `code` is the service's word, or the name of an exception."""

    code: str
    what: str
    cure: Cure

    @property
    def is_denial(self) -> bool:
        """Whether our keys are not allowed to do it."""
        return self.code in DENIED


def find_root(err: BaseException) -> BaseException:
    """Find what a library or a service said, behind one of our errors."""
    return err.__cause__ or err


def read_code(err: BaseException) -> str:
    """Return the word for an error: the code of the service, or the name of the exception."""
    root = find_root(err)
    if isinstance(root, ClientError):
        return str(root.response.get("Error", {}).get("Code", ""))
    return type(root).__name__


def read_status(err: ClientError) -> int:
    """Return the status of an answer, 0 where it has none."""
    return int(err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def read_details(err: BaseException) -> dict[str, Any]:
    """Return all that the service said with its error."""
    root = find_root(err)
    if isinstance(root, ClientError):
        return dict(root.response.get("Error", {}))
    return {}


def explain(case: Case, err: BaseException, action: str, resource: str) -> Cause:
    """Explain a failure of what needs this right on this resource."""
    root = find_root(err)
    code = read_code(err)
    said = describe(err)
    if isinstance(root, ClientError):
        what, cure = _explain_refusal(case, root, code, action, resource)
        return Cause(code, f"{said}: {what}" if what else said, cure)
    if isinstance(root, NoStoreAnswered):
        return Cause(code, str(root), _correct_endpoint())
    if isinstance(root, ChecksumDiffers):
        cure = Cure("Ask who changes what is on its way to this store.")
        return Cause(code, said, cure)
    if code in OF_CREDENTIALS:
        return Cause(code, said, explain_credentials(case, code))
    if isinstance(root, BotoCoreError | OSError):
        outage = explain_outage(case, root, case.bucket_url)
        return Cause(code, outage.what, outage.cure)
    return Cause(code, said, Cure("Check the S3 settings and the network."))


def describe(err: BaseException) -> str:
    """Repeat what was said, in one line."""
    root = find_root(err)
    if isinstance(root, ClientError):
        details = read_details(err)
        message = str(details.get("Message") or "no message")
        words = f"{details.get('Code') or 'no code'} ({message})"
    else:
        words = f"{type(root).__name__} ({root})"
    return " ".join(words.split())[:_LONGEST_MESSAGE].rstrip(".")


def find_region(err: BaseException) -> str:
    """Find the region in which the bucket lies, as a refusal tells it; '' where it does not."""
    root = find_root(err)
    if not isinstance(root, ClientError):
        return ""
    details = read_details(err)
    headers = root.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    expected = _EXPECTED_REGION.search(str(details.get("Message", "")))
    return str(
        details.get("Region")
        or headers.get("x-amz-bucket-region")
        or (expected[1] if expected else "")
    )


def _explain_refusal(
    case: Case, err: ClientError, code: str, action: str, resource: str
) -> tuple[str, Cure]:
    details = read_details(err)
    message = str(details.get("Message", ""))
    headers = err.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    is_html = headers.get("content-type", "").startswith("text/html")
    is_page = is_html and headers.get("content-length") != "0"
    if code in ("", "403") and is_page and read_status(err) == 403:
        what = "a page of something that stands before the store, such as a firewall"
        return what, Cure("Let it pass on what the service and the doctor ask of the store.")
    if code in DENIED:
        return _explain_denial(case, message, action, resource)
    if code.startswith("KMS") or "KMS" in message:
        what = "the bucket encrypts with a KMS key that the application, or everyone, may not use"
        return what, cures.use_own_encryption(case)
    if code in OF_CREDENTIALS:
        return "", explain_credentials(case, code)
    if code in OF_CLOCK:
        clocks = ""
        if details.get("ServerTime"):
            clocks = f"here it is {details.get('RequestTime')}, there {details['ServerTime']}"
        return clocks, cures.set_clock()
    if code in OF_REGION:
        return explain_region(case, err)
    if code == "NoSuchBucket":
        return "there is no such bucket", cures.make_bucket(case)
    if code == "InvalidBucketName":
        what = f"{case.bucket} is no name for a bucket there"
        return what, cures.set_lines("Correct the name.", S3_BUCKET_NAME="<the bucket's name>")
    if code in _FULL:
        what = "the store is full"
        return what, Cure("Make room: a larger disk or quota, or delete what is not needed.")
    if code in _BUSY:
        what = "the service is busy or broken"
        return what, Cure("Try again in a minute; if it stays so, ask who runs the service.")
    if code == "OperationAborted":
        what = "the bucket is still being made or changed"
        return what, Cure("Try again in a minute.")
    if code.isdigit() or not code:
        return "that is no answer of a store", _correct_endpoint()
    return "", Cure("The service's documentation explains this code.")


def _explain_denial(case: Case, message: str, action: str, resource: str) -> tuple[str, Cure]:
    wanted = _WANTED_RIGHT.search(message)
    if wanted is not None and wanted[1].startswith("kms:"):
        what = f"the bucket encrypts with a KMS key, and the keys may not {wanted[1]}"
        return what, cures.use_own_encryption(case)
    found = find_denial(case, action, resource)
    if found is not None:
        named, rest = found
        return f"the bucket's policy denies it ({named})", cures.drop_denial(case, named, rest)
    denial = _DENIAL.search(message)
    if denial is not None:
        what = f"a statement denies it, in a {denial[1].strip()}"
        return what, Cure(f"Take {action} on {resource} out of what that policy denies.")
    if action == "s3:PutObject" and not case.plan.is_aws and blocks_acls(case):
        # Ceph's gateway does: https://github.com/ceph/ceph/pull/30033
        what = "BlockPublicAcls is on, with which some services refuse every put"
        return what, cures.unblock(case)
    what = f"the keys may not {action} on {resource}"
    return what, cures.allow(case.plan, action, resource)


def explain_credentials(case: Case, code: str) -> Cure:
    """Say what to do about keys that a service does not take."""
    key = case.current.access_key_id
    name = key.get_secret_value() if key else ""
    if code in ("InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken") and name.startswith(
        "ASIA"
    ):
        return Cure(
            "This key is a temporary one, which needs its session token: set AWS_ACCESS_KEY_ID,"
            " AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN in the environment, and neither"
            " S3_ACCESS_KEY_ID nor S3_SECRET_ACCESS_KEY.",
        )
    shown = f" ({mask_key(name)})" if name else ""
    if code == "InvalidAccessKeyId":
        return cures.set_lines(
            f"The service does not know this key{shown}: correct it. It belongs to the service that"
            " S3_ENDPOINT_URL names, and may have been deleted.",
            S3_ACCESS_KEY_ID=cures.KEY_ID,
            S3_SECRET_ACCESS_KEY=cures.SECRET,
        )
    if code == "SignatureDoesNotMatch":
        return cures.set_lines(
            f"The secret does not fit the key{shown}: correct it, without quotes or spaces.",
            S3_SECRET_ACCESS_KEY=cures.SECRET,
        )
    if code in _EXPIRED:
        return _renew(case)
    if code == "NoCredentialsError":
        return cures.set_lines(
            "No credentials were found: set them, or give the machine a role.",
            S3_ACCESS_KEY_ID=cures.KEY_ID,
            S3_SECRET_ACCESS_KEY=cures.SECRET,
        )
    return cures.set_lines(
        "The service does not take these credentials: get new ones.",
        S3_ACCESS_KEY_ID=cures.KEY_ID,
        S3_SECRET_ACCESS_KEY=cures.SECRET,
    )


def _renew(case: Case) -> Cure:
    """Say how to get new credentials from where the old ones came."""
    sentence = "The credentials have expired: get new ones."
    source = find_source(case)
    if source == "env":
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        return cures.run(sentence, *(f"export {name}=<a new one>" for name in names))
    if source in ("sso", "login"):
        return cures.run(sentence, f"aws {source}{' login' if source == 'sso' else ''}")
    if source == "explicit":
        lines = {"S3_ACCESS_KEY_ID": cures.KEY_ID, "S3_SECRET_ACCESS_KEY": cures.SECRET}
        return cures.set_lines(sentence, **lines)
    return Cure(f"{sentence} They come from {source or 'nowhere'}.")


def find_source(case: Case) -> str:
    """Find where boto3 has found credentials, in its own words; '' where it has none."""
    credentials = cast(Any, case.client)._request_signer._credentials
    return str(credentials.method) if credentials else ""


def explain_region(case: Case, err: BaseException) -> tuple[str, Cure]:
    """Say in which region the bucket lies."""
    region = find_region(err)
    here = case.current.region
    if region and region != here:
        what = f"the bucket lies in {region}, and S3_REGION is {here}"
        return what, cures.set_lines("Correct the region.", S3_REGION=region)
    endpoint = str(read_details(err).get("Endpoint", ""))
    host = endpoint.removeprefix(f"{case.bucket}.")
    if host:
        what = f"the bucket is reached at {host}"
        return what, cures.set_lines("Correct the endpoint.", S3_ENDPOINT_URL=f"https://{host}")
    what = "the bucket lies in another region than S3_REGION says"
    return what, cures.set_lines("Correct the region.", S3_REGION="<the bucket's region>")


def _correct_endpoint() -> Cure:
    return cures.set_lines(
        "Correct the endpoint, or ask who answers there in the place of the store.",
        S3_ENDPOINT_URL="<the address of the S3 service>",
    )
