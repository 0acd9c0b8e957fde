"""One request of a client of the crash runner: what it is answered, and whether that is honest."""

import http.client
import json
from collections.abc import Collection, Sequence
from typing import Any

from tests.crash.history import Change
from tests.crash.lane import FAULT_SECONDS, Lane

Answer = tuple[int, dict[str, Any]]

# What may be answered beside success: nothing else is honest.
REFUSALS = {"busy", "database_unavailable", "shutting_down", "store_unavailable", "upload_expired"}
AFTER_DELETION = {"user_not_found", "invalid_token"}


def ask_and_note(
    lane: Lane,
    changes: Sequence[Change],
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
    honest: Collection[str],
) -> Answer | None:
    """Send a request for these changes and note what was told; None when there was no answer.

    `honest` are the codes that may be told beside outages: that nothing was changed, and why.
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
        for change in changes:
            change.end("told")
    elif status == 503 and code == "outcome_unknown":
        for change in changes:
            change.know_no_more()
    elif (status == 503 and code in REFUSALS) or code in honest:
        for change in changes:
            change.end("refused")
    else:
        lane.wrong(f"{method} {path} was answered {status} {code}")
        return None
    return status, told
