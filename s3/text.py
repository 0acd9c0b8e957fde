"""A value as it is pasted: with the spaces, quotes and labels that stood around it."""

import re

# White space, and what is invisible: a mark of byte order, spaces of no width.
_INVISIBLE = " \t\r\n\f\v\u00a0\u200b\u200c\u200d\u2060\ufeff"
_QUOTES = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019", "<": ">"}
# The words of one of which each label has one: AWS_SECRET_ACCESS_KEY, "Access key ID", `keyID`.
_LABEL = r"[\w ./-]*(?:bucket|region|endpoint|access|secret|key|url|location)[\w ./-]*"
_ASSIGNMENT = re.compile(
    rf"(?:export\s+|set\s+|ENV\s+|\$env:)?(?P<label>{_LABEL})\s*=\s*(?P<value>\S.*)",
    re.IGNORECASE | re.DOTALL,
)
# A label in front of an address is no scheme: that has two slashes behind it.
_LABELLED = re.compile(
    rf"[\"']?(?P<label>{_LABEL})[\"']?\s*:(?!//)\s*(?P<value>\S.*)", re.IGNORECASE | re.DOTALL
)
# A secret may have such words and signs in it: there only whole labels are known, before a value.
_KEY_LABEL = (
    r"(?:[A-Z0-9]+[_ ])*(?:access[_ ]?key(?:[_ ]?id)?|secret(?:[_ ]access)?[_ ]?key|secret"
    r"|key[_ ]?id|application[_ ]?key(?:[_ ]?id)?)"
)
_LABELLED_KEY = re.compile(
    rf"(?:export\s+|set\s+|ENV\s+|\$env:)?[\"']?(?P<label>{_KEY_LABEL})[\"']?\s*[=:]\s*"
    r"(?P<value>\S{8,}\s*)",
    re.IGNORECASE,
)
_NOTHING = {"null", "none", "nil", "undefined"}
_LONGEST_LABEL = 40


def clean(text: str | None, *, is_key: bool = False) -> str | None:
    """Take away what stood around a value; None where nothing is left of it."""
    if text is None:
        return None
    cleaned = text.strip(_INVISIBLE)
    while True:
        shorter = _take_key_out(cleaned) if is_key else _take_one_off(cleaned)
        if shorter == cleaned:
            break
        cleaned = shorter
    return None if not cleaned or cleaned.lower() in _NOTHING else cleaned


def is_more_than_space(text: str, cleaned: str | None) -> bool:
    """Whether something was taken away that can be seen."""
    return text.strip(_INVISIBLE) != (cleaned or "")


def _take_one_off(text: str) -> str:
    for pattern in (_ASSIGNMENT, _LABELLED):
        found = pattern.fullmatch(text)
        if found and len(found["label"]) <= _LONGEST_LABEL and not text.startswith("arn:"):
            return found["value"].strip(_INVISIBLE)
    return _unquote(text.rstrip(",;").strip(_INVISIBLE))


def _take_key_out(text: str) -> str:
    found = _LABELLED_KEY.fullmatch(text)
    return _unquote(found["value"].strip(_INVISIBLE) if found else text)


def _unquote(text: str) -> str:
    is_quoted = len(text) > 1 and _QUOTES.get(text[0]) == text[-1]
    return text[1:-1].strip(_INVISIBLE) if is_quoted else text
