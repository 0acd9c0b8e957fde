"""Signatures of links that expire: whoever holds one may read one object until then.

The signing key is derived from the application's secret for this purpose alone, so that a signature
is worth nothing anywhere else, nor is a token worth anything here.
"""

import hashlib
import hmac
from collections.abc import Callable
from functools import cached_property

_PURPOSE = b"darkroom: links to private objects"


class LinkSigner:
    """Signs keys and recognises what it signed; the clock is the caller's."""

    def __init__(self, find_secret: Callable[[], str]) -> None:
        """Ask for the secret at the first link: a command that shows none leaves it alone."""
        self._find_secret = find_secret

    def sign(self, key: str, expires_at: int) -> str:
        """Sign a key until a moment, in seconds since 1970."""
        said = f"{expires_at}:{key}".encode()
        return hmac.new(self._signing_key, said, hashlib.sha256).hexdigest()

    def is_genuine(self, key: str, expires_at: int, signature: str) -> bool:
        """Tell whether we signed exactly this, in a time that says nothing of how near it is."""
        return hmac.compare_digest(self.sign(key, expires_at).encode(), signature.encode())

    @cached_property
    def _signing_key(self) -> bytes:
        return hmac.digest(self._find_secret().encode(), _PURPOSE, "sha256")
