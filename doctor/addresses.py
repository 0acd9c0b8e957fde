"""Steps about the address of pictures: is it one that a browser reaches, and lets a page load?"""

import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

from botocore.exceptions import BotoCoreError
from urllib3.exceptions import HTTPError

from doctor import cures
from doctor.case import CONTENT_TYPE, Case
from doctor.findings import Cure, Finding, advise, failed, passed
from doctor.objects import put
from doctor.pages import describe_page
from doctor.traces import name_key
from errors import DarkroomError

ADDRESS = "address of pictures"
CACHE = "cache in front"
NAMES = (ADDRESS, CACHE)

# Names that no public DNS has: of one machine, of a container's network, of an office.
_LOCAL_ENDINGS = (".local", ".internal", ".lan", ".home", ".localhost", ".svc", ".localdomain")


def examine_addresses(case: Case) -> Iterator[Finding]:
    """Judge the address that `image_path` begins with, and what a cache there does."""
    yield from _examine_address(case)
    if case.current.public_base_url:
        yield from _examine_cache(case)


def _examine_address(case: Case) -> Iterator[Finding]:
    url = case.store.url("")
    parts = urlsplit(url)
    why = find_limit(parts.hostname or "")
    lines = {"S3_PUBLIC_BASE_URL": "<the address of the bucket for browsers>"}
    if why is not None:
        what = f"{parts.netloc} is {why}: browsers elsewhere do not reach it"
        cure = cures.set_lines("Name an address that browsers reach.", **lines)
        is_meant = case.settings.environment == "production" or _is_page_elsewhere(case)
        yield failed(ADDRESS, what, cure) if is_meant else advise(ADDRESS, what, cure)
        return
    page = _find_secure_page(case)
    if parts.scheme == "http" and page:
        secure = urlunsplit(parts._replace(scheme="https")).rstrip("/")
        yield failed(
            ADDRESS,
            f"{url} is plain HTTP, and browsers do not load that into {page}",
            cures.set_lines("Name an https:// address.", S3_PUBLIC_BASE_URL=secure),
        )
        return
    yield passed(ADDRESS, url)


def find_limit(host: str) -> str | None:
    """Say from where alone a host can be reached; None where that is everywhere."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if host == "localhost" or host.endswith(".localhost"):
            return "this machine itself"
        if "." not in host or host.endswith(_LOCAL_ENDINGS):
            return "a name that is known in this network alone"
        return None
    if address.is_loopback:
        return "this machine itself"
    if address.is_private or address.is_link_local or address.is_unspecified:
        return "an address of this network alone"
    return None


def _is_page_elsewhere(case: Case) -> bool:
    """Whether the service itself is meant for other machines than this one."""
    page = case.settings.public_url
    return page is not None and find_limit(urlsplit(page).hostname or "") is None


def _find_secure_page(case: Case) -> str:
    return next((page for page in _list_pages(case) if page.startswith("https://")), "")


def _list_pages(case: Case) -> list[str]:
    pages = [case.settings.public_url, *case.settings.cors_origins]
    return [page for page in pages if page and page not in ("*", "null")]


def _examine_cache(case: Case) -> Iterator[Finding]:
    """See whether what is in front remembers that a picture was not there."""
    prefix = case.prefixes[0]
    if prefix in case.unputtable | case.undeletable:
        return
    key = case.traces.expect(name_key(prefix))
    url = case.store.url(key)
    try:
        before = case.ask("GET", url)
        put(case, key)
        after = case.ask("GET", url)
    except (DarkroomError, BotoCoreError, HTTPError, OSError, ValueError):
        return  # an earlier step has told
    if before.status == 200:
        yield failed(
            CACHE,
            f"{urlsplit(url).netloc} answers 200 to what is not there: {describe_page(before)}",
            Cure("Let it answer 404 where the bucket has nothing, and no page in its place."),
        )
    elif after.status == 200 and after.headers.get("content-type") == CONTENT_TYPE:
        kept = after.headers.get("cache-control", "nothing")
        yield passed(CACHE, f"a new picture is seen at once; browsers are told: {kept}")
    elif case.is_readable:
        yield advise(
            CACHE,
            f"it keeps for a while that a picture was not there ({describe_page(after)})",
            Cure("Let it keep no 403 or 404: a picture that is asked for too early stays missing."),
        )
