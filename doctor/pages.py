"""What answered in the place of a store or of a picture, told by its headers and first words."""

import re

from doctor.case import Answer

_STORE_SIGN = re.compile(r"x-amz-(?!cf-|apigw-)|x-goog-|x-minio-", re.IGNORECASE)
_STORE_ROOT = re.compile(
    rb"\s*(?:<\?.*?\?>\s*)?<(?:\w+:)?(Error|ListBucketResult|ListAllMyBucketsResult)\b", re.DOTALL
)
_TITLE = re.compile(rb"<title[^>]*>\s*(.*?)\s*</title>", re.DOTALL | re.IGNORECASE)
_CODE = re.compile(rb"<Code>([\w.]+)</Code>")
_SHOWN_BYTES = 80


def is_from_store(answer: Answer) -> bool:
    """Whether an S3 service has said this."""
    return any(_STORE_SIGN.match(name) for name in answer.headers) or bool(
        _STORE_ROOT.match(answer.content)
    )


def find_error_code(answer: Answer) -> str:
    """Find the code of an S3 service's error, '' where there is none."""
    found = _CODE.search(answer.content) if _STORE_ROOT.match(answer.content) else None
    return found[1].decode() if found else ""


def is_page(answer: Answer) -> bool:
    """Whether it is an HTML page."""
    begin = answer.content.lstrip()[:15].lower()
    return begin.startswith((b"<!doctype html", b"<html")) or answer.headers.get(
        "content-type", ""
    ).startswith("text/html")


def describe_page(answer: Answer) -> str:
    """Describe what was answered: its status, who says so, and what it is."""
    code = find_error_code(answer)
    words = [f"it answered {answer.status}{f' {code}' if code else ''}"]
    if answer.headers.get("server"):
        words.append(f"Server: {answer.headers['server']}")
    if answer.headers.get("location"):
        words.append(f"Location: {answer.headers['location']}")
    title = _TITLE.search(answer.content)
    if title:
        words.append(f"a page with the title {_shorten(title[1])!r}")
    elif is_page(answer) and answer.content.strip():
        words.append(f"a page that begins with {_shorten(answer.content)!r}")
    elif answer.content.strip() and not code:
        kind = answer.headers.get("content-type", "no Content-Type")
        words.append(f"{kind} that begins with {_shorten(answer.content)!r}")
    return ", ".join(words)


def _shorten(content: bytes) -> str:
    return " ".join(content[:_SHOWN_BYTES].decode(errors="replace").split())
