"""What the bucket of the settings must be, as plain documents that AWS and its like take.

It is the one place that says so: who may read what, which pages may ask, what expires, and what
each of our processes is allowed. Nothing is asked of any service here.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from buckets.permissions import PermissionPlan
from config import Settings
from errors import StartupError
from files import kinds
from locations import Origin, StoreSettings

# Of the settings, beside the prefix of a region's name; botocore's partitions.json is the source,
# and a test compares them. Elsewhere ARNs are written as in AWS itself.
PARTITIONS = {
    "cn-": "aws-cn",
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "eu-isoe-": "aws-iso-e",
    "us-isof-": "aws-iso-f",
    "eusc-": "aws-eusc",
}
# How the names of AWS' own hosts end, from the same source.
AWS_HOSTS = (
    *(".amazonaws.com", ".api.aws"),
    *(".amazonaws.com.cn", ".api.amazonwebservices.com.cn"),
    *(".amazonaws.eu", ".api.amazonwebservices.eu"),
    *(".c2s.ic.gov", ".api.aws.ic.gov", ".sc2s.sgov.gov", ".api.aws.scloud"),
    *(".cloud.adc-e.uk", ".api.cloud-aws.adc-e.uk", ".csp.hci.ic.gov", ".api.aws.hci.ic.gov"),
)

# What a browser was sent to put there is looked at within minutes, or never. A day is the shortest
# time there is.
INCOMING_DAYS = 1
# Of uploads in parts. No request takes a day, nobody resumes one, and the reaper ends those that a
# crash left: this is for what no row tells of any more. Three days are longer than a weekend on
# which nobody looked after a reaper that stood still, and cost next to nothing.
UNFINISHED_DAYS = 3
# What was deleted, or replaced as the store's marker is, and is kept by a bucket with versions:
# the shortest time there is, for what is deleted is meant to be gone.
OLD_VERSION_DAYS = 1

# What our own statements and rules are known by, among those that others have put there.
PUBLIC_READ = "DarkroomPublicRead"
CORS_ID = "darkroom-pages"
RULE_PREFIX = "darkroom-"
# Of the permission of a page to ask, in seconds: browsers keep none for longer than two hours.
CORS_SECONDS = 3600
# Reading, also a part of a file; and uploads by a signed PUT or a signed form.
CORS_METHODS = ("GET", "HEAD", "PUT", "POST")
# What uploads and reads of parts bring with them, and what tracers add to whatever a page asks.
CORS_HEADERS = (
    *("Cache-Control", "Content-Disposition", "Content-MD5", "Content-Type"),
    *("If-Match", "If-None-Match", "Range", "x-amz-checksum-sha256", "x-amz-content-sha256"),
    *("traceparent", "tracestate", "baggage", "sentry-trace"),
)
# What a page may read of the answer, beyond what it always may.
CORS_EXPOSED = (
    *("Accept-Ranges", "Content-Range", "ETag", "Location"),
    *("x-amz-checksum-sha256", "x-amz-request-id", "x-amz-version-id"),
)

# As AWS takes and returns it.
Document = dict[str, Any]

_ORIGIN: TypeAdapter[str] = TypeAdapter(Origin)
# Such a name ends with its account and its region, and no other account can take it.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/gpbucketnamespaces.html
_ACCOUNT_REGIONAL = re.compile(r".+-\d{12}-(?P<region>[a-z0-9-]+)-an")


@dataclass(frozen=True)
class BucketPlan:
    """What one bucket must be.

    Each method returns the document that the service's own call takes, and that consoles show.
    """

    bucket: str
    region: str
    partition: str  # the second word of every ARN
    endpoint_url: str | None
    is_aws: bool  # whether AWS itself is asked, which knows conditions that others do not
    public_prefixes: tuple[str, ...]
    private_prefixes: tuple[str, ...]  # what comes in is among them
    streamed_prefixes: tuple[str, ...]
    origins: tuple[str, ...]  # of pages that may read and upload
    headers: tuple[str, ...] = ()  # that they send beyond CORS_HEADERS

    @property
    def arn(self) -> str:
        """The ARN of the bucket."""
        return f"arn:{self.partition}:s3:::{self.bucket}"

    @property
    def location(self) -> str | None:
        """Where the bucket is made, as the call for it names the region.

        None for the oldest region of AWS, which is never named, and where there are no regions.
        """
        return None if self.region in ("us-east-1", "auto") else self.region

    @property
    def namespace(self) -> str | None:
        """The namespace of the bucket's name, where it is not the one that everybody shares."""
        found = _ACCOUNT_REGIONAL.fullmatch(self.bucket)
        return "account-regional" if found and found["region"] == self.region else None

    def bucket_policy(self) -> Document:
        """Let everyone read what is public, by its whole key; nobody may list it."""
        statement = {
            "Sid": PUBLIC_READ,
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": [f"{self.arn}/{prefix}*" for prefix in self.public_prefixes],
        }
        return {"Version": "2012-10-17", "Statement": [statement]}

    def cors(self) -> Document:
        """Let pages read by script, and upload with what the service has signed for them.

        Without an origin there is no rule: then no page of another origin asks for anything, and
        S3 takes no document without a rule.
        """
        if not self.origins:
            return {"CORSRules": []}
        rule = {
            "ID": CORS_ID,
            "AllowedOrigins": list(self.origins),
            "AllowedMethods": list(CORS_METHODS),
            "AllowedHeaders": [*CORS_HEADERS, *self.headers],
            "ExposeHeaders": list(CORS_EXPOSED),
            "MaxAgeSeconds": CORS_SECONDS,
        }
        return {"CORSRules": [rule]}

    def lifecycle(self, *, keeps_versions: bool = True) -> Document:
        """Remove what came in and was not taken, what was begun and not ended, and old versions.

        Each rule has a prefix of ours, so that others in the bucket keep what is theirs. A service
        that knows no versions may refuse what is said of them: ask for none then.
        """
        return {"Rules": list(self._make_rules(keeps_versions))}

    def _make_rules(self, keeps_versions: bool) -> Iterator[Document]:
        for prefix in (*self.public_prefixes, *self.private_prefixes):
            rule: Document = {}
            if prefix == kinds.INCOMING_PREFIX:
                # Removes markers of deleted versions as well, and may not be told so.
                rule["Expiration"] = {"Days": INCOMING_DAYS}
                rule["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": INCOMING_DAYS}
            elif prefix in self.streamed_prefixes:
                rule["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": UNFINISHED_DAYS}
            if keeps_versions:
                rule["NoncurrentVersionExpiration"] = {"NoncurrentDays": OLD_VERSION_DAYS}
                rule.setdefault("Expiration", {"ExpiredObjectDeleteMarker": True})
            if rule:
                name = RULE_PREFIX + prefix.rstrip("/").replace("_", "-")
                yield {"ID": name, "Status": "Enabled", "Filter": {"Prefix": prefix}, **rule}

    def ownership(self) -> Document:
        """Let what is in the bucket belong to its owner, and policies alone say who may read."""
        return {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}

    def public_access_block(self) -> dict[str, bool]:
        """Set the four boxes of "block public access".

        The two for policies are off, or S3 would refuse the policy that lets everyone read, or heed
        it for nobody. The two for ACLs are on in AWS: nothing of ours has one. Elsewhere all are
        off, as they are where nobody sets them: with the first, Ceph's gateway (16.2) refuses every
        put.
        """
        return {
            "BlockPublicAcls": self.is_aws,
            "IgnorePublicAcls": self.is_aws,
            "BlockPublicPolicy": False,
            "RestrictPublicBuckets": False,
        }

    def iam_policies(self) -> dict[str, Document]:
        """Say what each of our processes may do, by the name of its policy.

        `service` is enough for profile pictures, `service-with-photos` for everything. `operator`
        is for the commands and the doctor, `apply` for `cli.py bucket apply`. `erasure` comes to
        the others where the bucket keeps versions.
        """
        return PermissionPlan(
            arn=self.arn,
            profile_pictures=kinds.PROFILE_PICTURE.prefix,
            prefixes=tuple(kind.prefix for kind in kinds.KINDS),
            read_prefixes=tuple(kind.prefix for kind in kinds.KINDS if kind.is_read),
            streamed_prefixes=self.streamed_prefixes,
            incoming=kinds.INCOMING_PREFIX,
            demands_creation=self.is_aws,
        ).policies()


def plan_bucket(settings: Settings) -> BucketPlan:
    """Plan the bucket of the current store; or, while that is a folder, the bucket that is named.

    Raises StartupError where no bucket is named, or no bucket's own name.
    """
    store = find_store(settings)
    if store.bucket_name.startswith("arn:"):
        raise StartupError(
            f"S3_BUCKET_NAME is {store.bucket_name}, an access point: which bucket lies behind it"
            " does not show, so neither that bucket's policy, CORS and lifecycle nor the access"
            " point's own policy can be planned. Set S3_BUCKET_NAME to the bucket's own name for"
            " this command alone."
        )
    public = tuple(kind.prefix for kind in kinds.KINDS if kind.is_public)
    private = tuple(kind.prefix for kind in kinds.KINDS if not kind.is_public)
    is_aws = _is_aws(store.endpoint_url)
    return BucketPlan(
        bucket=store.bucket_name,
        region=store.region,
        partition=find_partition(store.region) if is_aws else "aws",
        endpoint_url=store.endpoint_url,
        is_aws=is_aws,
        public_prefixes=public,
        private_prefixes=(*private, kinds.INCOMING_PREFIX),
        streamed_prefixes=tuple(kind.prefix for kind in kinds.KINDS if kind.is_streamed),
        origins=_find_origins(settings.cors_origins, settings.public_url),
        headers=tuple(settings.cors_headers),
    )


def find_partition(region: str) -> str:
    """Find the part of AWS in which a region lies, as the ARNs there name it."""
    for beginning, partition in PARTITIONS.items():
        if region.startswith(beginning):
            return partition
    return "aws"


def find_store(settings: Settings) -> StoreSettings:
    """Find the store that is planned. Raises StartupError where no bucket is named."""
    stores = settings.stores()
    for name in (settings.store_name, "s3"):
        if name in stores and stores[name].storage == "s3":
            return stores[name]
    raise StartupError("No bucket is named: set S3_BUCKET_NAME.")


def _is_aws(endpoint_url: str | None) -> bool:
    host = urlsplit(endpoint_url or "").hostname
    return host is None or host.endswith(AWS_HOSTS)


def _find_origins(cors_origins: Sequence[str], public_url: str | None) -> tuple[str, ...]:
    """Those of other pages, and our own: to the bucket that one is another's, too."""
    if "*" in cors_origins:
        return ("*",)
    own: list[str] = []
    if public_url:
        parts = urlsplit(public_url)
        own.append(_ORIGIN.validate_python(f"{parts.scheme}://{parts.netloc}"))
    return tuple(dict.fromkeys([*cors_origins, *own]))
