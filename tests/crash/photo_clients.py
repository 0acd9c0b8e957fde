"""Clients that change galleries without a pause: they add, replace, describe, move and delete."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from tests.crash.accounts import Account
from tests.crash.answers import AFTER_DELETION, Answer, ask_and_note
from tests.crash.galleries import MOST_PHOTOS, Photo
from tests.crash.history import GONE, Change
from tests.crash.lane import Lane
from tests.crash.single_clients import SingleClient
from tests.crash.thumbnail_clients import ThumbnailReader
from tests.support.hashes import hash_file
from tests.support.services import FORM, form, part

# How often each is done, beside the others. What is added in parts costs as much as ten others.
Shares = Mapping[str, float]
ALL: Final[Shares] = {
    "add": 3,
    "add in parts": 0.3,
    "replace": 2,
    "describe": 1,
    "move": 2,
    "delete": 2,
    "single": 2,
}
ADDING: Final[Shares] = {"add": 1}
# A deletion behind the answer takes far less.
DEAD_SECONDS: Final = 3.0
JSON: Final = {"Content-Type": "application/json"}


class PhotoClient:
    """One client of one account; alone, it compares what it is shown with what it was told."""

    def __init__(self, lane: Lane, account: Account, shares: Shares, is_alone: bool) -> None:
        self._lane = lane
        self._account = account
        self._gallery = account.gallery
        self._shares = shares
        self._is_alone = is_alone
        self._reader = ThumbnailReader(lane, account.headers, is_alone)
        self._single = SingleClient(lane, account, is_alone)

    def work(self, ending: threading.Event) -> None:
        while not ending.is_set():
            answer = self.change_once()
            if answer is None:
                if self._lane.has_second:
                    continue  # the other one goes on
                return
            status, told = answer
            if status in (401, 404) and told.get("code") in AFTER_DELETION:
                return
            if self._is_alone and self._lane.findings:
                return  # so that the comparison after the end finds it as it was

    def change_once(self) -> Answer | None:
        """Do one thing to one photo, or one thumbnail of none; return what was answered."""
        photos = self._gallery.find_told()
        does = self._choose(len(photos))
        if does.startswith("add"):
            return self.add(is_padded=does == "add in parts")
        if does == "single":
            return self._single.change_once()
        photo = self._lane.random.choice(photos)
        if does == "look":
            return self._reader.look(photo)
        if does == "replace":
            return self._replace(photo)
        if does == "delete":
            change = photo.originals.begin(GONE)
            return self._expect_thumbnails_dead(photo, self._ask(photo, change, "DELETE"))
        if does == "describe":
            self._lane.sent += 1
            alt = f"as described at {self._lane.sent}"
            return self._ask(photo, photo.alts.begin(alt), "PATCH", {"alt": alt})
        return self._move(photo)

    def _choose(self, count: int) -> str:
        if count >= MOST_PHOTOS:
            others = {
                name: share
                for name, share in self._shares.items()
                if not name.startswith("add") and name != "delete"
            }
            shares: Shares = {**others, "delete": max(1.0, sum(others.values()) / 4)}
        elif count == 0:
            shares = {name: share for name, share in self._shares.items() if name.startswith("add")}
        else:
            shares = self._shares
        return self._lane.random.choices(list(shares), list(shares.values()))[0]

    def add(self, is_padded: bool = False) -> Answer | None:
        """Add a photo."""
        visibility = self._lane.random.choice(["public", "private"])
        photo = self._gallery.begin(visibility)
        content, change = self._begin_picture(photo, is_padded)
        body = form(
            part(content), _field("caption", photo.caption), _field("visibility", visibility)
        )
        headers = {**self._account.headers, **FORM}
        answer = ask_and_note(
            self._lane, change, "POST", "/photos", body, headers, self._list_honest
        )
        if answer is not None and answer[0] == 201:
            photo.id = answer[1]["id"]
            self._compare(photo, answer[1])
        return answer

    def _replace(self, photo: Photo) -> Answer | None:
        content, change = self._begin_picture(photo, is_padded=False)
        answer = self._ask(photo, change, "PATCH", form(part(content)))
        return self._expect_thumbnails_dead(photo, answer)

    def _move(self, photo: Photo) -> Answer | None:
        """Hide it or show it; hidden, its public URL is dead."""
        old_url = photo.url
        wanted = "public" if photo.visibilities.possible() == {"private"} else "private"
        change = photo.visibilities.begin(wanted)
        answer = self._ask(photo, change, "PATCH", {"visibility": wanted})
        has_moved = answer is not None and answer[0] == 200 and photo.url != old_url
        if self._is_alone and has_moved and wanted == "private" and old_url:
            self._expect_dead(old_url)
        return self._expect_thumbnails_dead(photo, answer)

    def _begin_picture(self, photo: Photo, is_padded: bool) -> tuple[bytes, Change]:
        self._lane.sent += 1
        content, checksum = self._lane.originals.make(self._lane.sent, is_padded)
        return content, photo.originals.begin(checksum)

    def _ask(
        self,
        photo: Photo,
        change: Change,
        method: str,
        body: bytes | dict[str, str] | None = None,
    ) -> Answer | None:
        """Ask for a change of a photo; alone, compare what is told with what it may be."""
        headers = self._account.headers | (FORM if isinstance(body, bytes) else JSON)
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        path = f"/photos/{photo.id}"

        def list_honest() -> set[str]:
            honest = {"photo_changed", *self._list_honest()}
            return honest | ({"photo_not_found"} if photo.may_be_gone() else set())

        answer = ask_and_note(self._lane, change, method, path, content, headers, list_honest)
        if answer is not None and answer[0] == 200:
            self._compare(photo, answer[1])
        if answer is not None and answer[1].get("code") == "photo_not_found":
            photo.originals.begin(GONE).end("told")  # a deletion that nobody was told of
        return answer

    def _list_honest(self) -> set[str]:
        """What may be answered since the account may be deleted, and its photos with it."""
        is_there = not self._account.history.may_be_gone()
        return set() if is_there else {*AFTER_DELETION, "photo_not_found"}

    def _compare(self, photo: Photo, told: dict[str, Any]) -> None:
        photo.url = told["url"]
        if not self._is_alone:
            return
        if told["visibility"] not in photo.visibilities.possible():
            self._lane.wrong(f"{photo.caption} is told to be {told['visibility']}")
        if told["alt"] not in photo.alts.possible():
            self._lane.wrong(f"{photo.caption} is told to say what no accepted request left")
        possible = photo.originals.possible()
        masters = {self._lane.originals.masters.get(sha256 or "") for sha256 in possible}
        served = self._load(photo.url)
        if served is not None and (served[0] != 200 or served[1] not in masters):
            self._lane.wrong(f"{photo.url} is answered {served[0]}, or with another's bytes")

    def _expect_thumbnails_dead(self, photo: Photo, answer: Answer | None) -> Answer | None:
        """Look at one of those that were made of what a photo showed, if it was told to be gone.

        Returns the answer.
        """
        is_told = answer is not None and answer[0] in (200, 204)
        if self._is_alone and is_told and photo.thumbnail_urls:
            self._expect_dead(self._lane.random.choice(sorted(photo.thumbnail_urls)))
        photo.thumbnail_urls.clear()
        return answer

    def _expect_dead(self, url: str) -> None:
        """After it was told that this is shown no more, nobody sees it, a short while aside."""
        deadline = time.monotonic() + DEAD_SECONDS
        while True:
            served = self._load(url)
            if served is None or served[0] in (403, 404):
                return
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        self._lane.wrong(f"{url} is answered {served[0]} after its photo was changed")

    def _load(self, url: str) -> tuple[int, str] | None:
        """Load what a URL names: status and checksum; None without an answer."""
        parts = urlsplit(url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, content = self._lane.request("GET", path, port=parts.port)
            return status, hash_file(content)
        return None


def _field(name: str, value: str) -> bytes:
    return part(value.encode(), f'form-data; name="{name}"')
