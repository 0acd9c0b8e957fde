"""Steps about pages of other origins: what a browser asks before it lets their scripts read or put.

Each origin of CORS_ORIGINS must be allowed, and one that is not among them must not.
"""

from collections.abc import Iterator
from itertools import islice

from botocore.exceptions import BotoCoreError
from urllib3.exceptions import HTTPError

from doctor import cures
from doctor.case import Answer, Case
from doctor.findings import Cure, Finding, advise, failed, not_tried, passed
from doctor.outages import explain_outage
from doctor.pages import describe_page
from doctor.traces import name_key

CORS = "CORS"
NAMES = (CORS,)

# Those of a site are allowed by one rule; who lists more of them has made a mistake in all or none.
_MOST_ORIGINS = 5
# Nobody's, by RFC 2606.
_OTHER_ORIGIN = "https://another.example"
_METHODS = ("PUT", "POST", "GET")
_HEADER = "content-type"


def examine_origins(case: Case) -> Iterator[Finding]:
    """Ask for permission as a browser does, from each origin and from a foreign one."""
    origins = case.plan.origins
    if not origins:
        yield not_tried(CORS, "CORS_ORIGINS names no pages of other origins")
        return
    for origin in islice(origins, _MOST_ORIGINS):
        yield _examine_origin(case, _OTHER_ORIGIN if origin == "*" else origin)
    if "*" not in origins:
        yield from _examine_foreign(case)


def _examine_origin(case: Case, origin: str) -> Finding:
    step = f"{CORS} {origin}"
    for method in _METHODS:
        try:
            answer = _ask(case, origin, method)
        except (BotoCoreError, HTTPError, OSError) as err:
            outage = explain_outage(case, err, case.bucket_url)
            return failed(step, outage.what, outage.cure)
        if not _allows(answer, origin, method):
            return _tell_refusal(case, step, origin, method, answer)
    return passed(step, f"its pages may {', '.join(_METHODS)}")


def _ask(case: Case, origin: str, method: str) -> Answer:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": _HEADER,
    }
    return case.ask("OPTIONS", case.store.direct_url(name_key(case.incoming)), headers)


def _allows(answer: Answer, origin: str, method: str) -> bool:
    told = answer.headers
    origins = told.get("access-control-allow-origin", "")
    methods = _split(told.get("access-control-allow-methods", ""))
    headers = _split(told.get("access-control-allow-headers", ""))
    return (
        200 <= answer.status < 300
        and origins in (origin, "*")
        and (method.lower() in methods or "*" in methods)
        and (_HEADER in headers or "*" in headers)
    )


def _split(header: str) -> set[str]:
    return {word.strip().lower() for word in header.split(",")}


def _tell_refusal(case: Case, step: str, origin: str, method: str, answer: Answer) -> Finding:
    allowed = answer.headers.get("access-control-allow-origin")
    if allowed is None:
        why = "no origin is allowed"
    elif allowed not in (origin, "*"):
        why = f"allowed is {allowed}"
    else:
        why = f"the method {method} or the header {_HEADER} is not allowed"
    what = f"a browser would refuse {method} to its pages: {why} ({describe_page(answer)})"
    if not case.plan.is_aws and answer.status in (405, 501):
        return advise(step, what, Cure("This store has no rules for CORS; let a proxy answer."))
    return failed(step, what, cures.let_pages_ask(case))


def _examine_foreign(case: Case) -> Iterator[Finding]:
    step = f"{CORS} {_OTHER_ORIGIN}"
    try:
        answer = _ask(case, _OTHER_ORIGIN, "PUT")
    except (BotoCoreError, HTTPError, OSError):
        return
    if _allows(answer, _OTHER_ORIGIN, "PUT"):
        yield advise(
            step,
            "pages that CORS_ORIGINS does not name may ask too",
            cures.let_pages_ask(case),
        )
    else:
        yield passed(step, "a page that CORS_ORIGINS does not name is refused")
