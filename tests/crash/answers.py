"""One request of a client of the crash runner: what it is answered, and whether that is honest."""

import http.client
import json
from collections.abc import Callable, Collection
from typing import Any

from tests.crash.history import Change
from tests.crash.lane import FAULT_SECONDS, Lane

Answer = tuple[int, dict[str, Any]]

# What may be answered beside success: nothing else is honest.
REFUSALS = {
    "busy",
    "database_unavailable",
    "shutting_down",
    "store_unavailable",
    "upload_expired",
    "wrong_store",
}
AFTER_DELETION = {"user_not_found", "invalid_token"}


def ask_and_note(
    lane: Lane,
    change: Change,
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
    list_honest: Callable[[], Collection[str]],
) -> Answer | None:
    """Send a request for this change and note what was told; None when there was no answer.

    `list_honest` is asked once there is an answer: which codes, beside those of outages, may say
    that nothing was changed, after all that others have begun until then.
    """
    try:
        status, content = lane.request(method, path, body, headers)
    except TimeoutError:
        if not lane.is_stopped() and not lane.has_ended():
            lane.wrong(f"{method} {path} was not answered within {FAULT_SECONDS:.0f} seconds")
        return None
    except (OSError, http.client.HTTPException):
        return None
    told = json.loads(content or b"{}")
    code = told.get("code")
    if status in (200, 201, 204):
        change.end("told")
    elif status == 503 and code == "outcome_unknown":
        change.know_no_more()
    elif (status == 503 and code in REFUSALS) or code in list_honest():
        change.end("refused")
    else:
        lane.wrong(f"{method} {path} was answered {status} {code}")
        return None
    return status, told
