"""The address before a bucket at which browsers load objects, also where it can be none."""

import re
from dataclasses import replace

from s3.addresses import parse_address
from s3.buckets import SHORT, find_bucket
from s3.values import Names, Note, Place

_FILE = re.compile(r"\.(?:jpe?g|png|gif|webp|avif|heic|html?)$", re.IGNORECASE)


def read_public_base(place: Place, names: Names, note: Note) -> Place:
    """Read it; left out where it is the address of the service. Raises ValueError."""
    text = place.public_base
    name = names.public_base
    if text is None:
        _note_unseen(place, names, note)
        return place
    if text.startswith("arn:") or SHORT.fullmatch(text):
        raise ValueError(
            f"{name} must be an address that browsers load, and {text} names a bucket: leave it"
            " empty for the bucket's own address"
        )
    address = parse_address(text, name)
    if address.is_page:
        raise ValueError(
            f"{name} must be an address at which browsers load objects, and {address.host} shows"
            " pages to people: leave it empty for the bucket's own address"
        )
    if address.query:
        raise ValueError(f"{name} must be an address like https://images.example.com")
    if _FILE.search(address.path):
        raise ValueError(
            f"{name} must be what stands before the names of all pictures, and {address.path} is"
            " the path of one file"
        )
    url = address.url
    known = address.known
    is_service = known is not None and known.is_api and not known.bucket and not address.segments
    if is_service or url == place.endpoint:
        note(
            f"{name} is the address of the service and not of a bucket in it, so it is left out:"
            " pictures have the bucket's own address"
        )
        place = replace(place, public_base=None)
        _note_unseen(place, names, note)
        return place
    if known is not None and known.is_api:
        if not known.provider.shows_objects:
            note(_explain_unseen(name))
        if known.bucket and address.segments == [known.bucket]:
            url = f"https://{address.host}"
        bucket = find_bucket(address)
        if place.bucket and bucket not in (None, place.bucket):
            note(f"{name} shows the bucket {bucket}, and {names.bucket} is {place.bucket}")
    if url != text.rstrip("/"):
        note(f"{name} is read as {url}")
    return replace(place, public_base=url)


def _note_unseen(place: Place, names: Names, note: Note) -> None:
    """Tell of a service whose own addresses no browser can read."""
    if place.endpoint is None:
        return
    known = parse_address(place.endpoint, names.endpoint).known
    if known is not None and not known.provider.shows_objects:
        note(_explain_unseen(names.public_base))


def _explain_unseen(name: str) -> str:
    return (
        "Cloudflare R2 shows browsers nothing at its S3 address: set"
        f" {name}=https://pub-<...>.r2.dev as the bucket's page shows it once public access is"
        " allowed there, or a domain of yours"
    )
