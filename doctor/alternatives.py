"""What else the settings could have meant: each possibility is tried, and one that works is named.

So a cure is not a guess: the bucket was asked by the very settings that are to be pasted.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from doctor import cures
from doctor.case import Case
from doctor.causes import DENIED, read_code
from doctor.findings import Cure
from errors import StartupError
from storage.s3 import S3Store
from storage.s3_deadlines import limit_call
from storage.s3_proofs import NoStoreAnswered

# Of two names, one of which is the other with a letter wrong, or two.
_ALIKE = 0.85


@dataclass(frozen=True)
class Alternative:
    """Other settings of the store, and what is wrong with the present ones."""

    step: str
    what: str
    changes: dict[str, str | None]  # of StoreSettings

    def as_lines(self) -> dict[str, str]:
        return {f"S3_{name.upper()}": value or "" for name, value in self.changes.items()}


def find_better_settings(
    case: Case, failure: BaseException | None = None
) -> tuple[str, str, Cure] | None:
    """Find settings by which the bucket answers; None if there are none: step, cause and cure.

    What nobody may look at counts as an answer of the bucket.
    """
    for alternative in _list_alternatives(case, failure):
        case.say(f"trying {alternative.as_lines()}")
        if _answers(case, alternative.changes):
            if _answers(case, {}):
                return None  # by now the bucket answers as it is
            cure = cures.set_lines("This was tried, and works.", **alternative.as_lines())
            return alternative.step, alternative.what, cure
    return None


def _list_alternatives(case: Case, failure: BaseException | None) -> Iterator[Alternative]:
    current = case.current
    if failure is not None and read_code(failure) == "NoSuchBucket":
        yield from _list_names(case)
    if current.endpoint_url is None:
        yield from _list_regions(current.region)
        return
    parts = urlsplit(current.endpoint_url)
    path = parts.path.strip("/")
    if path:
        whole = urlunsplit(parts._replace(path=""))
        what = f"the endpoint ends with /{path}, which belongs to no endpoint"
        yield Alternative("endpoint", what, {"endpoint_url": whole})
    host = parts.hostname or ""
    if host.startswith(f"{case.bucket}."):
        rest = parts.netloc.removeprefix(f"{case.bucket}.")
        whole = urlunsplit(parts._replace(netloc=rest, path=""))
        what = "the endpoint begins with the bucket's name, which is not a part of it"
        yield Alternative("endpoint", what, {"endpoint_url": whole})
    is_strange = failure is not None and not read_code(failure).strip("0123456789")
    if is_strange or isinstance(failure, NoStoreAnswered):
        scheme = "https" if parts.scheme == "http" else "http"
        what = f"{parts.scheme} leads elsewhere, as to {scheme}"
        whole = urlunsplit(parts._replace(scheme=scheme))
        yield Alternative("endpoint", what, {"endpoint_url": whole})
    is_path = current.addressing_style != "virtual"
    if is_path and not isinstance(failure, ClientError | NoStoreAnswered):
        return  # a name that is looked up more is no better
    style = "virtual" if is_path else "path"
    what = f"the store knows no bucket by the address {case.bucket_url}"
    yield Alternative("addressing style", what, {"addressing_style": style})


def _list_names(case: Case) -> Iterator[Alternative]:
    """List the buckets of the same account that are called nearly so, where we may."""
    try:
        buckets = case.lookers[-1].list_buckets().get("Buckets", [])
    except (ClientError, BotoCoreError, HTTPError, OSError):
        return
    names = [bucket["Name"] for bucket in buckets]
    for close in difflib.get_close_matches(case.bucket, names, n=2, cutoff=_ALIKE):
        what = f"there is no bucket {case.bucket}, and one that is called {close}"
        yield Alternative("bucket", what, {"bucket_name": close})


def explain_unknown_region(region: str) -> tuple[str, str, Cure] | None:
    """Say that AWS has no such region, where none could be tried: step, cause and cure."""
    known = _list_known_regions()
    if region in known:
        return None
    close = difflib.get_close_matches(region, known, n=1)
    lines = {"S3_REGION": close[0] if close else "<the region's code>"}
    return "region", f"there is no region {region}", cures.set_lines("Correct the region.", **lines)


def _list_known_regions() -> list[str]:
    session = boto3.session.Session()
    return [
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("s3", partition)
    ]


def _list_regions(region: str) -> Iterator[Alternative]:
    known = _list_known_regions()
    if region in known:
        return
    for close in difflib.get_close_matches(region, known, n=2):
        yield Alternative("region", f"there is no region {region}", {"region": close})


def _answers(case: Case, changes: dict[str, Any]) -> bool:
    """Whether the bucket answers by these settings, or at least refuses as a bucket does."""
    try:
        store = S3Store(case.current.model_copy(update=changes))
        with limit_call():
            store.client.list_objects_v2(Bucket=store.bucket, Prefix=case.prefixes[0], MaxKeys=1)
    except ClientError as err:
        return read_code(err) in DENIED and not read_code(err).isdigit()
    except (StartupError, BotoCoreError, HTTPError, OSError, NoStoreAnswered):
        return False
    return True
