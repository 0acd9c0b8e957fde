"""Clients that ask for thumbnails: what a redirect leads to is what was asked for, or nothing is.

Who changes a photo alone knows of which master its thumbnails must be.
"""

import contextlib
import http.client
import io
import json
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from PIL import Image

from pictures import Rendition
from tests.crash.answers import REFUSALS, Answer
from tests.crash.galleries import Photo
from tests.crash.lane import FAULT_SECONDS, Lane
from tests.crash.thumbnails import WISHES, Wish
from tests.support.hashes import hash_file

# What is answered beside the refusals of changes.
NOT_NOW: Final = REFUSALS | {"thumbnail_not_ready", "outcome_unknown"}
# And where the photo changes meanwhile.
CHANGED: Final = {"photo_changed", "photo_not_found", "user_not_found"}


def ask_for_thumbnail(
    lane: Lane,
    path: str,
    headers: dict[str, str],
    refusals: Collection[str],
    port: int | None = None,
) -> tuple[Answer, str] | None:
    """Ask for a thumbnail; return the answer and where it leads to, or None if there was none."""
    try:
        status, content, target = lane.request_redirect(path, headers, port)
    except TimeoutError:
        if not lane.is_stopped() and not lane.has_ended():
            lane.wrong(f"GET {path} was not answered within {FAULT_SECONDS:.0f} seconds")
        return None
    except (OSError, http.client.HTTPException):
        return None
    told = json.loads(content) if status != 302 else {}
    if status != 302 and told.get("code") not in refusals:
        lane.wrong(f"GET {path} was answered {status} {told.get('code')}")
    return (status, told), target


def load_thumbnail(lane: Lane, url: str) -> tuple[int, bytes] | None:
    """Load what a redirect leads to; None where there is no answer."""
    parts = urlsplit(url)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    with contextlib.suppress(OSError, http.client.HTTPException):
        return lane.request("GET", path, port=parts.port)
    return None


def find_fault(content: bytes, rendition: Rendition) -> str:
    """Say what these bytes are not; nothing if they are a picture of the sides and format."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            found = (*picture.size, (picture.format or "").lower())
    except OSError as err:
        return f"cannot be decoded: {err}"
    wanted = (*rendition.size, str(rendition.format))
    return "" if found == wanted else f"is {found}, not {wanted}"


class ThumbnailReader:
    """Asks for thumbnails of an account's photos, as its owner."""

    def __init__(self, lane: Lane, headers: dict[str, str], is_alone: bool) -> None:
        self._lane = lane
        self._headers = headers
        self._is_alone = is_alone

    def look(self, photo: Photo) -> Answer | None:
        """Ask for some thumbnail of a photo, and load what comes."""
        wish = self._lane.random.choice(WISHES)
        assert photo.id is not None
        is_private = "private" in photo.visibilities.possible()
        path = wish.write_path(photo.id, is_private)
        # A change that nobody was told of may still happen.
        is_certain = self._is_alone and photo.is_certain()
        refusals = NOT_NOW if is_certain else NOT_NOW | CHANGED
        asked = ask_for_thumbnail(self._lane, path, self._headers, refusals)
        if asked is None:
            return None
        answer, url = asked
        if answer[0] == 302:
            photo.note_thumbnail(url)
            self._compare(photo, wish, url, is_certain)
        return answer

    def _compare(self, photo: Photo, wish: Wish, url: str, is_certain: bool) -> None:
        served = load_thumbnail(self._lane, url)
        if served is None:
            return
        status, content = served
        if status == 503 or (not is_certain and status in (403, 404)):
            return
        fault = f"is answered {status}"
        if status == 200:
            fault = find_fault(content, wish.rendition)
        if status == 200 and not fault and is_certain:
            originals = self._lane.originals
            (original,) = photo.originals.possible()
            right = originals.render(originals.masters[original or ""], wish.rendition)
            fault = "" if hash_file(content) == right else "is another picture's"
        if fault:
            self._lane.wrong(f"{url}, the thumbnail {wish.query} of {photo.caption}, {fault}")
