"""The address of a service, also where the bucket, a page or a CDN is in it."""

import re
from dataclasses import replace

from s3.addresses import Address, parse_address
from s3.buckets import SHORT, find_bucket, find_region
from s3.providers import Host
from s3.regions import AUTO, is_usual
from s3.values import Names, Note, Place

# Where MinIO shows its console, if nobody has said otherwise; its S3 is at 9000.
_CONSOLE_PORT = 9001
_ACCESS_POINT = re.compile(r"\.s3-accesspoint\.")
# `bucket.vpce-1a2b.s3.eu-west-1.vpce.amazonaws.com` begins so whichever bucket is meant.
_PRIVATE_LINK = re.compile(r"\.vpce\.amazonaws\.")
# What R2 takes for a region: one for all, and those of its own that it once had.
_R2_REGIONS = {"wnam", "enam", "weur", "eeur", "apac", "oc"}


def read_endpoint(
    place: Place, names: Names, note: Note, *, may_take_bucket: bool
) -> tuple[Place, Host | None]:
    """Read the service's address alone, and whose it is; None is a region's own of AWS.

    Raises ValueError.
    """
    text = place.endpoint
    if text is None:
        return place, None
    if text.startswith("arn:") or SHORT.fullmatch(text):
        raise ValueError(
            f"{names.endpoint} must be the address of the service, and {text} names a bucket: for"
            f" AWS leave {names.endpoint} empty, and set {names.bucket}"
        )
    address = parse_address(text, names.endpoint)
    known = address.known
    if _ACCESS_POINT.search(address.host):
        raise ValueError(
            f"{names.endpoint} must be the address of a service, and {address.host} is that of an"
            f" access point: leave it empty, and set {names.bucket} to the access point's ARN or"
            " its alias"
        )
    if address.is_page:
        raise ValueError(_explain_page(address, names))
    if known is not None and not known.is_api:
        endpoint = _find_endpoint_behind(address, known, names, note)
        bucket = known.bucket
    elif address.query:
        raise ValueError(f"{names.endpoint} must be an address like https://s3.example.com")
    elif known is not None:
        endpoint, bucket = _split_known(address, known, names)
    else:
        endpoint, bucket = _split_unknown(address, place.bucket)
        if address.port == _CONSOLE_PORT and not address.path:
            note(f"{names.endpoint}: at port 9001 MinIO shows its console; its S3 is at 9000")
    place = _agree_on_bucket(place, bucket, endpoint, names, note if may_take_bucket else None)
    if known is not None and known.is_plain_aws:
        note(f"{names.endpoint} is that of AWS, which is the one without this setting")
        return replace(place, endpoint=None), known
    if endpoint != text.rstrip("/"):
        note(f"{names.endpoint} is read as {endpoint}")
    return replace(place, endpoint=endpoint), known


def _explain_page(address: Address, names: Names) -> str:
    name = names.endpoint
    known = address.known
    sentence = f"{name} must be the address of a service, and {address.host} shows pages to people"
    if known is None:
        return f"{sentence}: MinIO's S3 is at port 9000, unless somebody has said otherwise"
    if not known.is_of_aws:
        return f"{sentence}: set {name}={known.provider.example}"
    wishes = [f"leave {name} empty"]
    bucket = find_bucket(address)
    region = find_region(address)
    if bucket:
        wishes.append(f"set {names.bucket}={bucket}")
    if region:
        wishes.append(f"set {names.region}={region}")
    return f"{sentence}: for AWS {', '.join(wishes)}"


def _find_endpoint_behind(address: Address, known: Host, names: Names, note: Note) -> str:
    """Name the endpoint behind an address at which objects are shown, and nothing is taken."""
    if known.provider.name == "DigitalOcean Spaces" and known.region:
        note(
            f"{names.endpoint}: {address.host} is a CDN, which only shows objects; should it be in"
            f" the addresses of pictures, set {names.public_base}={address.url}"
        )
        return f"https://{known.region}.digitaloceanspaces.com"
    meant = (
        f"for AWS leave {names.endpoint} empty"
        if known.is_of_aws
        else f"set {names.endpoint}={known.provider.example}"
    )
    raise ValueError(
        f"{names.endpoint} must be the address of a service, and {address.host} only shows objects,"
        f" as {names.public_base}={address.url} would say: {meant}"
    )


def _split_known(address: Address, known: Host, names: Names) -> tuple[str, str | None]:
    endpoint = f"https://{known.endpoint_host}"
    if len(address.segments) > (0 if known.bucket else 1):
        raise ValueError(
            f"{names.endpoint} must be the address of the service alone, as in"
            f" {names.endpoint}={endpoint}"
        )
    return endpoint, find_bucket(address)


def _split_unknown(address: Address, bucket: str | None) -> tuple[str, str | None]:
    """Take the bucket that is set out of the path or the host, where it stands there too."""
    path = address.path
    host = address.host
    if bucket and not _PRIVATE_LINK.search(host):
        path = path.removesuffix(f"/{bucket}")
        rest = host.removeprefix(f"{bucket}.")
        host = rest if "." in rest else host
    return f"{address.scheme}://{address.name_netloc(host)}{path}", None


def _agree_on_bucket(
    place: Place, bucket: str | None, endpoint: str, names: Names, note: Note | None
) -> Place:
    """Take the bucket of an endpoint where none is named, if that is to be noted."""
    if bucket is None or bucket == place.bucket:
        return place
    if place.bucket is not None:
        raise ValueError(
            f"{names.endpoint} names the bucket {bucket}, and {names.bucket} is {place.bucket}: set"
            f" {names.endpoint}={endpoint} and the right one of them as {names.bucket}"
        )
    if note is None:
        return place
    note(f"{names.bucket} is taken from {names.endpoint}: {bucket}")
    return replace(place, bucket=bucket)


def take_region(place: Place, known: Host | None, names: Names, note: Note) -> Place:
    """Let the region be the one that the endpoint's host names. Raises ValueError."""
    if known is None or known.region in (None, place.region):
        return place
    if known.region == AUTO:
        if is_usual(place.region) or place.region in _R2_REGIONS:
            return place  # which is the same there
    elif not is_usual(place.region) and (place.region or "").lower() not in (AUTO, known.region):
        sentence = (
            f"{names.endpoint} is an address of {known.region}, and {names.region} is"
            f" {place.region}: set {names.region}={known.region}"
        )
        if known.is_of_aws:
            raise ValueError(f"{sentence}, or leave {names.endpoint} empty")
        note(f"{sentence}, should requests be refused")
        return place
    note(f"{names.region} is taken from {names.endpoint}: {known.region}")
    return replace(place, region=known.region)
