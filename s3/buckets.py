"""The name of a bucket, also where its ARN, its address or a page about it is pasted."""

import re
from dataclasses import replace

from s3.addresses import Address, looks_like_address, parse_address
from s3.regions import is_usual
from s3.values import Names, Note, Place

# `s3://bucket`, and how other programs write it.
SHORT = re.compile(
    r"(?:s3[an]?|gs|r2|b2|minio)://(?P<bucket>[^/?#]+)(?P<prefix>/.*)?", re.IGNORECASE
)
# With what a policy has behind it.
_ARN = re.compile(r"arn:aws[^:]*:s3:::(?P<bucket>[^/*]+)(?:/.*|\*)?")
_PAGE_OF_BUCKET = re.compile(r"/s3/(?:buckets|object)/(?P<bucket>[^/]+)")


def read_bucket(place: Place, names: Names, note: Note) -> Place:
    """Read the name alone; an address may name the region and the endpoint as well.

    Raises ValueError.
    """
    text = place.bucket
    if text is None or (text.startswith("arn:") and not _ARN.fullmatch(text)):
        return place
    found = _ARN.fullmatch(text) or SHORT.fullmatch(text)
    if found:
        prefix = found.groupdict().get("prefix")
        if prefix and prefix != "/":
            raise ValueError(
                f"{names.bucket} must be the bucket's name alone, as in"
                f" {names.bucket}={found['bucket']} (no setting leads into a folder of it)"
            )
        note(f"{names.bucket} is read as {found['bucket']}, the name within {text}")
        return replace(place, bucket=found["bucket"])
    if looks_like_address(text):
        return _read_address(place, text, names, note)
    name = text.strip("/")
    if "/" in name:
        raise ValueError(
            f"{names.bucket} must be the bucket's name alone, as in my-pictures (no setting leads"
            " into a folder of it)"
        )
    return replace(place, bucket=name)


def _read_address(place: Place, text: str, names: Names, note: Note) -> Place:
    address = parse_address(text, names.bucket)
    bucket = find_bucket(address)
    if bucket is None:
        raise ValueError(f"{names.bucket} must be the bucket's name alone, as in my-pictures")
    note(f"{names.bucket} is read as {bucket}, the name within {text}")
    read = replace(place, bucket=bucket)
    known = address.known
    if known is not None and known.is_api and not known.is_plain_aws and place.endpoint is None:
        endpoint = f"https://{known.endpoint_host}"
        note(f"{names.endpoint} is taken from there too: {endpoint}")
        read = replace(read, endpoint=endpoint)
    region = find_region(address)
    if region and is_usual(place.region) and region != place.region:
        note(f"{names.region} is taken from there too: {region}")
        read = replace(read, region=region)
    return read


def find_bucket(address: Address) -> str | None:
    """Find the bucket that an address of a known service, or its console, names."""
    known = address.known
    if known is None:
        return None
    if known.is_console:
        page = _PAGE_OF_BUCKET.match(address.path)
        return page["bucket"] if page and known.is_of_aws else None
    if known.bucket:
        return known.bucket
    return address.segments[0] if known.is_api and len(address.segments) == 1 else None


def find_region(address: Address) -> str | None:
    """Find the region that an address of a known service, or its console, names."""
    known = address.known
    if known is None:
        return None
    asked = address.query.get("region")
    return asked[0] if known.is_console and asked else known.region
