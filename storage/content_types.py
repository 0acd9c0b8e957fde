"""Content types by the endings of names, of all that is stored here: the same on every machine.

Python's table knows some of them only where the system has a list of its own.
"""

SUFFIXES = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/avif": ".avif",
    "image/heic": ".heic",
}
UNKNOWN_TYPE = "application/octet-stream"

_TYPES = {suffix: content_type for content_type, suffix in SUFFIXES.items()}


def find_suffix(content_type: str) -> str:
    """Find how the name of such a file ends; empty for a type that is none of ours."""
    return SUFFIXES.get(content_type, "")


def find_type(name: str) -> str:
    """Find the type of a file by its name."""
    return _TYPES.get(name[name.rfind(".") :], UNKNOWN_TYPE)
