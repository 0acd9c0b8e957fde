"""Addresses of thumbnails on demand: signed, so that nobody makes us render ten thousand sizes.

Whoever holds a key signs by himself, as a page that a server writes does: the photo's id and the
options are all that is in a signature. Keys can be rotated: the first one signs, all are accepted.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from functools import cached_property

from config import Settings
from errors import BadSignature, LinkExpired
from models import Photo, Visibility
from photos.options import ThumbnailOptions

_PURPOSE = b"darkroom: addresses of thumbnails"
# As long as the link to the private photo itself.
PRIVATE_SECONDS = 600


class ThumbnailLinks:
    """Signs the addresses of one application, and recognises what was signed."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = f"{settings.public_url or ''}{settings.api_prefix}"
        self._given_keys = [key.get_secret_value() for key in settings.thumbnail_keys]
        self._find_secret: Callable[[], str] = settings.signing_secret

    def write_address(self, photo: Photo, options: ThumbnailOptions) -> str:
        """Write a signed address; of a private photo it is good for ten minutes."""
        query = options.write_query()
        if photo.visibility == Visibility.PRIVATE:
            query += f"&expires={int(time.time()) + PRIVATE_SECONDS}"
        signature = _sign(self._keys[0], photo.id, query)
        return f"{self._prefix}/photos/{photo.id}/thumbnail?{query}&sig={signature}"

    def write_preset_address(self, photo: Photo, preset: int, wanted_format: str) -> str:
        """Write the address of a preset, which of a public photo needs no signature."""
        return f"{self._prefix}/photos/{photo.id}/thumbnail?preset={preset}&format={wanted_format}"

    def check(
        self, photo_id: int, options: ThumbnailOptions, expires_at: int | None, signature: str
    ) -> None:
        """Raise BadSignature unless just this was signed, and LinkExpired where it is over."""
        query = options.write_query()
        if expires_at is not None:
            query += f"&expires={expires_at}"
        given = signature.encode()
        signed = [_sign(key, photo_id, query).encode() for key in self._keys]
        if not any(hmac.compare_digest(each, given) for each in signed):
            raise BadSignature
        if expires_at is not None and expires_at <= time.time():
            raise LinkExpired

    @cached_property
    def _keys(self) -> Sequence[bytes]:
        if self._given_keys:
            return [key.encode() for key in self._given_keys]
        return [hmac.digest(self._find_secret().encode(), _PURPOSE, "sha256")]


def _sign(key: bytes, photo_id: int, query: str) -> str:
    said = f"thumbnail:{photo_id}?{query}".encode()
    return hmac.new(key, said, hashlib.sha256).hexdigest()
