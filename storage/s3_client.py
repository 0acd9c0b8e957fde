"""The client of a bucket: made of our settings alone, but for the credentials of the machine.

Its network is the machine's too: proxies, and the roots that certificates are verified by. What
else its AWS_* variables and profiles say would lead uploads elsewhere than every URL (decision 34).
"""

import difflib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ProfileNotFound

from errors import StartupError
from locations import StoreSettings
from storage.contract import STORE_THREADS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Together well below STORE_DEADLINE_SECONDS. S3 answers a
# small put within a second; eight leave room for a slow day.
CONNECT_TIMEOUT_SECONDS = 3
READ_TIMEOUT_SECONDS = 8

# What leads a client to another address, or to the same one in another way: what botocore calls it,
# and the value with which it does nothing.
_SWITCHES = {
    "use_fips_endpoint": ("AWS_USE_FIPS_ENDPOINT", False),
    "use_dualstack_endpoint": ("AWS_USE_DUALSTACK_ENDPOINT", False),
    "request_checksum_calculation": ("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported"),
    "response_checksum_validation": ("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_supported"),
}
_WORDS_OF_S3 = (
    "addressing_style",
    "use_accelerate_endpoint",
    "use_dualstack_endpoint",
    "us_east_1_regional_endpoint",
)


def make_client(settings: StoreSettings, path_style: bool) -> tuple["S3Client", list[str]]:
    """Make the client of a store, and sentences about what an operator should know; asks nobody.

    Raises StartupError for an endpoint or a region that cannot be one, and for a profile that is
    named and not there, if its credentials are needed.
    """
    key_id = settings.access_key_id
    secret = settings.secret_access_key
    try:
        session = _make_session(needs_profile=key_id is None)
        client = boto3.session.Session(botocore_session=session).client(
            "s3",
            region_name=settings.region,
            endpoint_url=settings.endpoint_url,
            aws_access_key_id=key_id.get_secret_value() if key_id else None,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=cast(Any, Config)(  # whose stubs know less than it takes
                signature_version="s3v4",
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                read_timeout=READ_TIMEOUT_SECONDS,
                retries={"total_max_attempts": 1},
                max_pool_connections=STORE_THREADS,
                tcp_keepalive=True,
                # Beyond that we send and ask for them ourselves, where a service knows them.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                ignore_configured_endpoint_urls=True,
                use_fips_endpoint=False,
                s3={
                    "addressing_style": "path" if path_style else "virtual",
                    "use_accelerate_endpoint": False,
                    "use_dualstack_endpoint": False,
                    "us_east_1_regional_endpoint": "regional",
                },
            ),
        )
        # Here, where the session has read what it takes; to keep it would cost 9 MB.
        notes = [*_find_ignored(session, settings), *_find_unknown_region(session, settings)]
    except (BotoCoreError, ValueError) as err:
        raise StartupError(f"The S3 settings cannot be used: {str(err).rstrip('.')}") from err
    return client, notes


def _make_session(*, needs_profile: bool) -> botocore.session.Session:
    session = botocore.session.Session()
    if needs_profile:
        return session
    try:
        session.get_scoped_config()
    except ProfileNotFound:
        nowhere = (None, None, None, None)
        return botocore.session.Session(session_vars={"profile": nowhere})
    return session


def _find_ignored(session: botocore.session.Session, settings: StoreSettings) -> list[str]:
    """Name what the machine sets beside credentials and we do not follow, in one sentence."""
    found = list(_list_ignored(session, settings))
    if not found:
        return []
    return [
        "where the bucket lies is said by the settings of Darkroom alone, so this is not followed: "
        + ", ".join(found)
    ]


def _list_ignored(session: botocore.session.Session, settings: StoreSettings) -> Iterator[str]:
    profile = session.get_scoped_config()
    services = session.full_config.get("services", {}).get(profile.get("services"), {})
    endpoints = {
        "AWS_ENDPOINT_URL_S3": os.environ.get("AWS_ENDPOINT_URL_S3"),
        "AWS_ENDPOINT_URL": os.environ.get("AWS_ENDPOINT_URL"),
        "endpoint_url of S3 in the AWS profile": services.get("s3", {}).get("endpoint_url"),
        "endpoint_url in the AWS profile": profile.get("endpoint_url"),
    }
    for name, endpoint in endpoints.items():
        if endpoint and endpoint.rstrip("/") != settings.endpoint_url:
            yield f"{name} {endpoint} (if the bucket lies there, set S3_ENDPOINT_URL={endpoint})"
            break  # the one that other programs follow
    regions = {
        "AWS_REGION": os.environ.get("AWS_REGION"),
        "AWS_DEFAULT_REGION": os.environ.get("AWS_DEFAULT_REGION"),
        "region in the AWS profile": profile.get("region"),
    }
    for name, region in regions.items():
        if region and region != settings.region and settings.endpoint_url is None:
            yield f"{name} {region} (if the bucket lies there, set S3_REGION={region})"
            break
    for word, (name, usual) in _SWITCHES.items():
        value = session.get_config_variable(word)
        if value is not None and str(value).lower() != str(usual).lower():
            yield name if name in os.environ else f"{word} in the AWS profile"
    words = session.get_config_variable("s3") or {}
    for word in _WORDS_OF_S3:
        if word in words:
            yield f"{word} of S3 in the AWS profile or the environment"


def _find_unknown_region(session: botocore.session.Session, settings: StoreSettings) -> list[str]:
    """Say in one sentence that AWS has no such region, as far as botocore knows."""
    if settings.endpoint_url is not None:
        return []
    known = {
        name
        for partition in session.get_available_partitions()
        for name in session.get_available_regions("s3", partition)
    }
    if settings.region in known:
        return []
    close = difflib.get_close_matches(settings.region, sorted(known), n=3)
    hint = f"; is it {' or '.join(close)}?" if close else ""
    return [f"S3_REGION: this version knows no region {settings.region} of AWS{hint}"]
