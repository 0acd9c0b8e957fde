"""What people are told of input that does not fit: nothing of the validator's own words.

A rule that is our own says its sentence itself, as a ValueError in `schemas`.
"""

import re
from typing import Any

from starlette.datastructures import FormData

NO_BOUNDARY = (
    "The Content-Type multipart/form-data lacks its boundary."
    " Do not set this header yourself: whatever makes the form adds it, boundary and all."
)
NOT_JSON = "Please send JSON, and say so: Content-Type: application/json."
NOT_AN_OBJECT = 'The body must be a JSON object, as in {"username": "alice"}.'
NO_BODY = "The request has no body. Please send JSON."
NOT_UTF_8 = "The body cannot be read. Please send JSON in UTF-8."
NO_LOGIN_FORM = (
    "Please send the login as a form with the fields username and password:"
    " Content-Type: application/x-www-form-urlencoded."
)
BROKEN_FORM = "The form is damaged or cut short. Please send it again."

NOUNS = {
    "username": "a name",
    "email": "an e-mail address",
    "password": "a password",
    "current_password": "the current password",
}
LOGIN_NOUNS = {"username": "a name or an e-mail address", "password": "a password"}
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

# What may be repeated of a field's name, which comes from the client.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")


def explain_body(body: object, content_type: str) -> str | None:
    """Say what is wrong with a body as a whole; None if its fields are to blame."""
    if isinstance(body, FormData):
        return None if content_type.lower().startswith(FORMS) else NO_LOGIN_FORM
    return None if "json" in content_type.lower() or body is None else NOT_JSON


def explain_unread_body(content_type: str) -> str:
    """Say why a body could not be read at all."""
    kind = content_type.lower()
    if not kind.startswith(FORMS):
        return NOT_UTF_8
    has_boundary = not kind.startswith("multipart/") or "boundary=" in kind
    return BROKEN_FORM if has_boundary else NO_BOUNDARY


def explain_error(error: dict[str, Any], *, is_login: bool) -> str:
    """Say what is wrong with one field, or with the place where the fields should be."""
    match error["loc"]:
        case ("body",):
            return NO_BODY if error["type"] == "missing" else NOT_AN_OBJECT
        case ("body", int(position)):
            return f"The body is not valid JSON: it goes wrong at character {position + 1}."
        case (*_, field):
            return _explain_field(error, str(field), LOGIN_NOUNS if is_login else NOUNS)
    return "The request is not valid."


def _explain_field(error: dict[str, Any], field: str, nouns: dict[str, str]) -> str:
    limits = error.get("ctx", {})
    shown = field if _PLAIN_NAME.fullmatch(field) else "with another name"
    noun = nouns.get(field, f"the field {shown}")
    subject = noun[0].upper() + noun[1:]
    is_empty = error.get("input") in ("", None)
    match error["type"]:
        case "value_error":
            return str(limits["error"])
        case "extra_forbidden":
            if shown != field:
                return "One of the fields is not known here. Please leave it out."
            return f"There is no field {field} here. Please leave it out."
        case "literal_error":
            return f"{subject} must be {limits['expected'].strip(chr(39))}, or left out."
        case "enum":
            return f"{subject} must be {limits['expected'].replace(chr(39), '')}."
        case "string_unicode":
            return f"{subject} must be valid text."
        case "missing":
            return f"Please enter {noun}."
        case _ if is_empty:
            return f"Please enter {noun}."
        case "too_short" | "string_too_short":
            return f"Please choose {noun} of at least {limits['min_length']} characters."
        case "too_long" | "string_too_long":
            return f"{subject} may have at most {limits['max_length']} characters."
        case "string_type":
            return f"{subject} must be text."
    return f"{subject} is not valid."
