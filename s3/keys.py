"""A pair of keys, each in its own setting, by the shapes that providers give to them."""

import re
from dataclasses import dataclass

from s3.text import clean, is_more_than_space


@dataclass(frozen=True)
class _Shape:
    """How the id of a key and its secret look at one provider; neither looks like the other."""

    key_id: re.Pattern[str]
    secret: re.Pattern[str]


_TEMPORARY = re.compile(r"ASIA[A-Z0-9]{12,28}")
_FORTY = re.compile(r"[A-Za-z0-9+/]{40}")
_SHAPES = (
    # AWS, also of a role; Wasabi, Vultr, Linode and older Ceph, which write it the same way.
    _Shape(re.compile(r"(?:AKIA|ASIA)[A-Z0-9]{12,28}"), re.compile(r"[A-Za-z0-9+/=]{30,}")),
    _Shape(re.compile(r"[A-Z0-9]{20}"), _FORTY),
    # Cloudflare R2.
    _Shape(re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{64}")),
    # Backblaze B2, an application's key and an account's.
    _Shape(re.compile(r"00[0-9a-f]{23}|[0-9a-f]{12}"), re.compile(r"K00[A-Za-z0-9+/]{28}")),
    # Google Cloud Storage.
    _Shape(re.compile(r"GOOG[A-Z0-9]{20,57}"), _FORTY),
    # DigitalOcean Spaces.
    _Shape(re.compile(r"DO[A-Z0-9]{18}"), re.compile(r"[A-Za-z0-9+/]{43}")),
    # Scaleway.
    _Shape(
        re.compile(r"SCW[A-Z0-9]{17}"), re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
    ),
)


@dataclass(frozen=True)
class KeyPair:
    """The id and the secret, and what was done to read them, without a part of either."""

    key_id: str | None
    secret: str | None
    notes: tuple[str, ...] = ()


def read_keys(key_id: str | None, secret: str | None, id_name: str, secret_name: str) -> KeyPair:
    """Read what is pasted; exchanged where each surely looks like the other."""
    notes = []
    read: list[str | None] = []
    for name, text in ((id_name, key_id), (secret_name, secret)):
        cleaned = clean(text, is_key=True)
        if text is not None and is_more_than_space(text, cleaned):
            notes.append(f"{name} is read without the quotes or the label around it")
        read.append(cleaned)
    found_id, found_secret = read
    if found_id and found_secret and _are_exchanged(found_id, found_secret):
        notes.append(f"{id_name} and {secret_name} are exchanged, and are read the other way round")
        found_id, found_secret = found_secret, found_id
    if found_id and _TEMPORARY.fullmatch(found_id):
        notes.append(
            f"{id_name} is a temporary key, which counts only with its session token: leave it and"
            f" {secret_name} empty, and set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and"
            " AWS_SESSION_TOKEN"
        )
    return KeyPair(found_id, found_secret, tuple(notes))


def _are_exchanged(key_id: str, secret: str) -> bool:
    is_right = any(
        shape.key_id.fullmatch(key_id) and shape.secret.fullmatch(secret) for shape in _SHAPES
    )
    is_wrong = any(
        shape.key_id.fullmatch(secret) and shape.secret.fullmatch(key_id) for shape in _SHAPES
    )
    return is_wrong and not is_right
