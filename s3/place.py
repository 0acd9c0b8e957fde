"""All that is pasted of a bucket, read together: what one value lacks another one often says.

What can mean one thing only is read so, with a note; for the rest there is one sentence, with the
line to set.
"""

import re
from dataclasses import replace

from s3.addresses import looks_like_address, parse_address
from s3.buckets import find_region, read_bucket
from s3.endpoints import read_endpoint, take_region
from s3.keys import read_keys
from s3.providers import Host
from s3.public_bases import read_public_base
from s3.regions import AUTO, is_usual, read_region
from s3.text import clean, is_more_than_space
from s3.values import Names, Note, Place

# `pictures-123456789012-eu-west-1-an`, in the namespace of an account of AWS.
_OF_AN_ACCOUNT = re.compile(r".+-\d{12}-(?P<region>[a-z]{2,4}(?:-[a-z]+)+-\d)-an")


def read_place(
    pasted: Place, names: Names, *, may_take_bucket: bool = False
) -> tuple[Place, tuple[str, ...]]:
    """Read what is pasted, and note what of it was read otherwise than it stands there.

    What was read, read once more, is the same. With `may_take_bucket` a bucket that is not named is
    taken from the endpoint. Raises ValueError with a sentence that names a setting.
    """
    keys = read_keys(pasted.key_id, pasted.secret, names.key_id, names.secret)
    notes = list(keys.notes)
    note = notes.append
    place = Place(
        bucket=_clean(pasted.bucket, names.bucket, note),
        region=_clean(pasted.region, names.region, note),
        endpoint=_clean(pasted.endpoint, names.endpoint, note),
        public_base=_clean(pasted.public_base, names.public_base, note),
        key_id=keys.key_id,
        secret=keys.secret,
    )
    place = read_bucket(place, names, note)
    place, known = read_endpoint(place, names, note, may_take_bucket=may_take_bucket)
    place = _read_region(place, known, names, note)
    place = take_region(place, known, names, note)
    place = _take_region_of_account(place, names, note)
    place = read_public_base(place, names, note)
    return place, tuple(notes)


def _clean(text: str | None, name: str, note: Note) -> str | None:
    cleaned = clean(text)
    if text is not None and cleaned is not None and is_more_than_space(text, cleaned):
        note(f"{name} is read as {cleaned}, without what stood around it")
    return cleaned


def _read_region(place: Place, known: Host | None, names: Names, note: Note) -> Place:
    text = place.region
    if text is None or (known is not None and known.region == AUTO):
        return place
    if looks_like_address(text):
        code = find_region(parse_address(text, names.region))
        if code is None:
            raise ValueError(
                f"{names.region} must be the code of a region, as in {names.region}=eu-central-1"
            )
    else:
        try:
            code = read_region(text, names.region, is_of_aws=place.endpoint is None)
        except ValueError:
            if known is None or known.region is None:
                raise
            code = known.region  # whatever was meant by it
    if code != text:
        note(f"{names.region} is read as {code}")
    return replace(place, region=code)


def _take_region_of_account(place: Place, names: Names, note: Note) -> Place:
    """Let the region be the one that the bucket's name has, in the namespace of an account."""
    named = _OF_AN_ACCOUNT.fullmatch(place.bucket or "")
    if named is None or place.endpoint is not None or place.region == named["region"]:
        return place
    if not is_usual(place.region):
        raise ValueError(
            f"{names.bucket} is that of a bucket in {named['region']}, and {names.region} is"
            f" {place.region}: set {names.region}={named['region']}"
        )
    note(f"{names.region} is taken from {names.bucket}: {named['region']}")
    return replace(place, region=named["region"])
