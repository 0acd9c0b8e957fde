"""The files of `static/`, cached for a day, or for ever under an address that has their hash.

A file keeps its name when it changes, so our own pages ask for `NAME?v=HASH`.
"""

import hashlib
import os
import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import parse_qs

from fastapi.staticfiles import StaticFiles
from starlette.responses import Response
from starlette.types import Scope

# Long enough to spare most requests for the default picture, short enough to replace it.
FOR_A_DAY = "public, max-age=86400"
FOR_EVER = "public, max-age=31536000, immutable"
# Of SHA-256 in hexadecimal. It tells versions of one file apart, and guards nothing.
HASH_LENGTH = 16

_OWN_FILE = re.compile(r'(?<=")static/([^"?]+)(?=")')


class CachedStaticFiles(StaticFiles):
    """Static files that any site may embed, as it may the pictures of `/media`."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        response.headers["Cache-Control"] = FOR_A_DAY
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("v")
        # Another hash is that of another version of us, which must not stay under this address.
        if asked == [_hash_file(Path(full_path), stat_result.st_mtime_ns)]:
            response.headers["Cache-Control"] = FOR_EVER
        return response


def add_hashes(page: str, folder: Path) -> str:
    """Add the hash to each address of a page that lies in the folder `static/`."""

    def add_hash(address: re.Match[str]) -> str:
        path = folder / address[1]
        return f"{address[0]}?v={_hash_file(path, path.stat().st_mtime_ns)}"

    return _OWN_FILE.sub(add_hash, page)


@lru_cache(maxsize=100)
def _hash_file(path: Path, modified_ns: int) -> str:
    """Hash a file, anew only if it was modified."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:HASH_LENGTH]
