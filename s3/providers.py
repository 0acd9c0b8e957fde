"""The addresses of S3 services that people use: which of them speak S3, and which are for eyes.

From the pages of each provider; a host that is not here is taken as it is.
"""

import re
from dataclasses import dataclass
from functools import cache

_BUCKET = r"(?:(?P<bucket>[^/]+)\.)?"
_REGION_OF_AWS = r"(?P<region>[a-z]{2,4}(?:-[a-z]+)+-\d)"
_AWS = (
    r"(?:amazonaws\.com(?:\.cn)?|amazonaws\.eu|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk"
    r"|csp\.hci\.ic\.gov)"
)


@dataclass(frozen=True)
class Provider:
    """One provider: patterns of hosts, of which the groups `bucket` and `region` are read."""

    name: str
    # Where S3 is spoken. The rest of the host, behind a bucket, is the endpoint.
    api: str
    # Where objects are shown, and nothing is taken.
    public: str = r"(?!)"
    # Pages for people.
    console: str = r"(?!)"
    # What to write for S3_ENDPOINT_URL, for whoever pasted another address.
    example: str = ""
    # The region of every request, where there is but one.
    region: str | None = None
    # Whether browsers read public objects where S3 is spoken.
    shows_objects: bool = True


AWS = "AWS"
PROVIDERS = (
    # First the endpoints of AWS that mean more than the region's own; the host is kept.
    Provider(
        "AWS by another way",
        api=(
            rf"{_BUCKET}(?:s3\.dualstack\.{_REGION_OF_AWS}|s3-accelerate(?:\.dualstack)?"
            rf"|s3-fips(?:\.dualstack)?\.(?P<region_2>[a-z]{{2}}(?:-[a-z]+)+-\d))\.{_AWS}"
        ),
    ),
    Provider(
        AWS,
        api=rf"{_BUCKET}s3(?:[.-]{_REGION_OF_AWS})?\.{_AWS}",
        public=rf"{_BUCKET}s3-website[.-]{_REGION_OF_AWS}\.{_AWS}|[a-z0-9]+\.cloudfront\.net",
        console=(
            r"aws\.amazon\.com|(?:[a-z0-9-]+\.)*console\."
            r"(?:aws\.amazon\.com|amazonaws\.cn|amazonaws-us-gov\.com|amazonaws-eusc\.eu)"
        ),
    ),
    Provider(
        "Cloudflare R2",
        api=rf"{_BUCKET}[0-9a-f]{{32}}(?:\.(?:eu|fedramp))?\.r2\.cloudflarestorage\.com",
        public=r"pub-[0-9a-f]+\.r2\.dev",
        console=r"dash\.cloudflare\.com",
        example="https://<account id>.r2.cloudflarestorage.com",
        region="auto",
        shows_objects=False,
    ),
    Provider(
        "Backblaze B2",
        api=rf"{_BUCKET}s3\.(?P<region>[a-z]+-[a-z]+-\d{{3}})\.backblazeb2\.com",
        public=r"f\d{3}\.backblazeb2\.com|api\d*\.backblazeb2\.com",
        console=r"secure\.backblaze\.com",
        example="https://s3.<region>.backblazeb2.com",
    ),
    Provider(
        "DigitalOcean Spaces",
        api=rf"{_BUCKET}(?P<region>[a-z]{{3}}\d)\.digitaloceanspaces\.com",
        public=rf"{_BUCKET}(?P<region>[a-z]{{3}}\d)\.cdn\.digitaloceanspaces\.com",
        console=r"cloud\.digitalocean\.com",
        example="https://<region>.digitaloceanspaces.com",
    ),
    Provider(
        "Wasabi",
        api=rf"{_BUCKET}s3(?:\.(?P<region>[a-z]{{2}}-[a-z]+-\d))?\.wasabisys\.com",
        console=r"console\.wasabisys\.com",
        example="https://s3.<region>.wasabisys.com",
    ),
    Provider(
        "Google Cloud Storage",
        api=rf"{_BUCKET}storage\.googleapis\.com",
        # Who is logged in is shown objects at `storage.`; they are no browsers of people at large.
        console=r"(?:console|storage)\.cloud\.google\.com",
        example="https://storage.googleapis.com",
        region="auto",
    ),
    Provider(
        "Hetzner",
        api=rf"{_BUCKET}(?P<region>[a-z]{{3}}\d)\.your-objectstorage\.com",
        console=r"console\.hetzner\.(?:com|cloud)",
        example="https://<location>.your-objectstorage.com",
    ),
    Provider(
        "Scaleway",
        api=rf"{_BUCKET}s3\.(?P<region>[a-z]{{2}}-[a-z]{{3}})\.scw\.cloud",
        public=r".+\.s3-website\.[a-z]{2}-[a-z]{3}\.scw\.cloud",
        console=r"console\.scaleway\.com",
        example="https://s3.<region>.scw.cloud",
    ),
    Provider(
        "OVHcloud",
        api=rf"{_BUCKET}s3\.(?P<region>[a-z0-9-]+)\.(?:io|perf)\.cloud\.ovh\.(?:net|us)",
        console=r"(?:[a-z]+\.)?(?:manager|www)\.(?:[a-z]+\.)?ovh(?:cloud)?\.com",
        example="https://s3.<region>.io.cloud.ovh.net",
    ),
    Provider(
        "IDrive e2",
        api=rf"{_BUCKET}s3\.(?P<region>[a-z]{{2}}-[a-z]+-\d)\.idrivee2\.com",
        console=r"app\.idrivee2\.com|www\.idrive\.com",
        example="https://s3.<region>.idrivee2.com",
    ),
    Provider(
        "Linode",
        api=rf"{_BUCKET}(?P<region>[a-z]{{2}}-[a-z]+-\d)\.linodeobjects\.com",
        console=r"cloud\.linode\.com",
        example="https://<region>.linodeobjects.com",
    ),
    Provider(
        "Vultr",
        api=rf"{_BUCKET}(?P<region>[a-z]{{3}}\d)\.vultrobjects\.com",
        console=r"(?:my|console)\.vultr\.com",
        example="https://<region>.vultrobjects.com",
    ),
    Provider(
        "Tigris",
        api=rf"{_BUCKET}(?:fly\.storage\.tigris\.dev|t3\.storage\.dev)",
        console=r"console\.(?:tigris|storage)\.dev",
        example="https://t3.storage.dev",
        region="auto",
    ),
)


@dataclass(frozen=True)
class Host:
    """A host as it is read: whose it is, what it is for, and what it names."""

    provider: Provider
    is_api: bool
    is_console: bool
    # The host without its bucket.
    endpoint_host: str
    bucket: str | None
    region: str | None

    @property
    def is_of_aws(self) -> bool:
        return self.provider.name.startswith(AWS)

    @property
    def is_plain_aws(self) -> bool:
        """Whether a region's own endpoint of AWS is meant, which needs no setting."""
        return self.provider.name == AWS and self.is_api


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def find_host(host: str) -> Host | None:
    """Find out whose host this is; None for one that is not known here."""
    for provider in PROVIDERS:
        for pattern in (provider.api, provider.public, provider.console):
            found = _compile(pattern).fullmatch(host)
            if found is None:
                continue
            groups = found.groupdict()
            bucket = groups.get("bucket")
            return Host(
                provider=provider,
                is_api=pattern == provider.api,
                is_console=pattern == provider.console,
                endpoint_host=host[len(bucket) + 1 :] if bucket else host,
                bucket=bucket,
                region=groups.get("region") or groups.get("region_2") or provider.region,
            )
    return None
