"""Why a browser does not get a public picture: the policy, a redirect, a cache, another bucket."""

from urllib.parse import urljoin, urlsplit, urlunsplit

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from buckets.parts import BOXES
from doctor import cures
from doctor.case import CONTENT_TYPE, Answer, Case
from doctor.findings import Cure
from doctor.pages import describe_page, find_error_code, is_from_store, is_page
from doctor.policies import look
from s3.providers import find_host

PUBLIC_BASE = "S3_PUBLIC_BASE_URL"
# What to do where put-bucket-policy is not known, by their documentation (docs/s3.md).
_WITHOUT_POLICIES = {
    "Cloudflare R2": (
        "connect a domain of yours to the bucket, let a rule of its zone block what is private, and"
        " name it here."
    ),
    "Backblaze B2": (
        "a bucket is public as a whole, so let it be so only where nobody uses the gallery; or let"
        " a CDN that has keys show what is public, and name that here."
    ),
    "Google Cloud Storage": (
        "give allUsers the role Storage Object Viewer in managed folders for what is public, in"
        " Google's own console; or name a CDN here."
    ),
}


def explain_public_read(case: Case, key: str, answer: Answer) -> tuple[str, Cure] | None:
    """Tell what is wrong with what a stranger got for this key; None where it is the picture."""
    if answer.status == 200 and answer.content == case.content:
        return _explain_headers(case, key, answer)
    better = _find_better_base(case, key)
    what = f"{answer.url}: {describe_page(answer)}"
    if better is not None:
        cure = cures.set_lines(
            "The picture is there without it, or by another address: this was tried, and works.",
            **{PUBLIC_BASE: better},
        )
        return f"{what}, and the picture is at {better}/", cure
    if answer.status == 200:
        return _explain_other_content(case, key, answer, what)
    if answer.status in (301, 302, 303, 307, 308):
        return _explain_redirect(case, key, answer, what)
    if "KMS" in answer.content.decode(errors="replace"):
        return f"{what}: a KMS key encrypts it", cures.use_own_encryption(case)
    is_direct = not case.current.public_base_url
    if answer.status in (401, 403):
        if is_direct or is_from_store(answer):
            return _explain_refusal(case, what)
        sentence = "Let what stands in front of the bucket show it to everyone, without a login."
        return what, _do_without(case, key, sentence)
    if answer.status >= 500:
        name = "the store" if is_direct else "what S3_PUBLIC_BASE_URL names"
        sentence = f"Repair {name}: it answers, but is broken or cannot reach the bucket."
        return what, _do_without(case, key, sentence)
    if find_error_code(answer) == "NoSuchBucket":
        return f"{what}: it leads to another bucket", correct_base(case, key)
    return what, correct_base(case, key)


def _explain_headers(case: Case, key: str, answer: Answer) -> tuple[str, Cure] | None:
    content_type = answer.headers.get("content-type")
    if content_type == CONTENT_TYPE:
        return None
    cure = "Let what stands in front of the bucket keep the object's Content-Type."
    return f"{answer.url} came as {content_type}", _do_without(case, key, cure)


def _explain_other_content(case: Case, key: str, answer: Answer, what: str) -> tuple[str, Cure]:
    if is_page(answer):
        return f"{what}: a page, and not the picture", correct_base(case, key)
    cure = "Let S3_PUBLIC_BASE_URL lead to this very bucket, unchanged."
    return f"{answer.url} holds other bytes than were put", _do_without(case, key, cure)


def _explain_redirect(case: Case, key: str, answer: Answer, what: str) -> tuple[str, Cure]:
    """Follow it by hand: pictures must not need it, but where it leads tells what is meant."""
    target = urljoin(answer.url, answer.headers.get("location", ""))
    if target.endswith(f"/{key}"):
        try:
            followed = case.ask("GET", target)
        except (BotoCoreError, HTTPError, OSError, ValueError):
            followed = None
        if followed is not None and followed.content == case.content:
            base = target.removesuffix(f"/{key}")
            cure = cures.set_lines(
                "Name the address that it leads to: this was tried, and works.",
                **{PUBLIC_BASE: base},
            )
            return f"{what}: it leads elsewhere", cure
    return what, correct_base(case, key)


def _explain_refusal(case: Case, what: str) -> tuple[str, Cure]:
    if _lets_requester_pay(case):
        payment = {"Payer": "BucketOwner"}
        command = cures.aws(
            case.plan, "put-bucket-request-payment", request_payment_configuration=payment
        )
        why = "whoever asks is to pay, and strangers cannot"
        return f"{what}: {why}", cures.run("Let the bucket's owner pay for requests.", command)
    why = "nobody but its owner may read it"
    host = find_host(urlsplit(case.current.endpoint_url or "").hostname or "")
    name = host.provider.name if host is not None else ""
    if name in _WITHOUT_POLICIES:
        sentence = f"{name} knows no bucket policies: {_WITHOUT_POLICIES[name]}"
        lines = {PUBLIC_BASE: "<the address of the bucket for browsers>"}
        return f"{what}: {why}", cures.set_lines(sentence, **lines)
    return f"{what}: {why}", cures.open_to_all(case, is_blocked=_is_blocked(case))


def _lets_requester_pay(case: Case) -> bool:
    for client in case.lookers:
        try:
            return client.get_bucket_request_payment(Bucket=case.bucket)["Payer"] == "Requester"
        except (ClientError, BotoCoreError, OSError, ValueError, KeyError):
            continue
    return False


def _is_blocked(case: Case) -> bool:
    """Whether a box may block public policies, as far as it is known."""
    boxes, is_seen = look(case, BOXES)
    if not is_seen:
        return case.plan.is_aws
    return bool(boxes and (boxes.get("BlockPublicPolicy") or boxes.get("RestrictPublicBuckets")))


def _find_better_base(case: Case, key: str) -> str | None:
    """Find an address below which the picture is; each is tried."""
    for base in _list_bases(case):
        try:
            found = case.ask("GET", f"{base}/{key}")
        except (BotoCoreError, HTTPError, OSError, ValueError):
            continue
        if found.status == 200 and found.content == case.content:
            return base
    return None


def _list_bases(case: Case) -> list[str]:
    given = case.current.public_base_url
    if given is None:
        return []
    parts = urlsplit(given)
    path = parts.path.rstrip("/")
    with_bucket = urlunsplit(parts._replace(path=f"{path}/{case.bucket}"))
    bases = [with_bucket]
    if path:
        bases.append(urlunsplit(parts._replace(path=path.rpartition("/")[0])))
        bases.append(urlunsplit(parts._replace(path="")))
    if parts.scheme == "http":
        bases.append(urlunsplit(parts._replace(scheme="https")))
    return bases


def correct_base(case: Case, key: str) -> Cure:
    """Say that what stands in front of the bucket must be named, or corrected."""
    if case.current.public_base_url is None:
        return cures.set_lines(
            "Correct the endpoint, or name what stands in front of the bucket for browsers.",
            **{PUBLIC_BASE: "<the address of the bucket for browsers>"},
        )
    sentence = "Correct S3_PUBLIC_BASE_URL or the CDN's origin: the bucket itself, at its root."
    return _do_without(case, key, sentence)


def _do_without(case: Case, key: str, sentence: str) -> Cure:
    """Name what has to be done to what is in front, and what works without it, if that does."""
    if case.current.public_base_url is None:
        return Cure(sentence)
    try:
        found = case.ask("GET", case.store.direct_url(key))
    except (BotoCoreError, HTTPError, OSError, ValueError):
        found = None
    if found is not None and found.status == 200 and found.content == case.content:
        sentence += " Until then the bucket's own address works, which was tried: leave it empty."
        return cures.set_lines(sentence, **{PUBLIC_BASE: ""})
    lines = {PUBLIC_BASE: "<the address of the bucket for browsers>"}
    return cures.set_lines(sentence, **lines)
