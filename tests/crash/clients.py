"""The clients of the crash runner: they change accounts without a pause and judge each answer."""

import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlsplit

from tests.crash.accounts import Account
from tests.crash.answers import AFTER_DELETION, Answer, ask_and_note
from tests.crash.history import GONE, Change
from tests.crash.lane import Lane
from tests.crash.photo_clients import ALL, PhotoClient, Shares
from tests.crash.single_clients import SingleClient
from tests.support.hashes import hash_file
from tests.support.services import FORM, form, part

# One change in five takes the picture away, unless a trial is about that.
REMOVALS = 0.2


@contextlib.contextmanager
def load(
    lane: Lane,
    *,
    pictures: bool = True,
    many: bool = True,
    deleting_account: bool = False,
    removals: float = REMOVALS,
    photos: Shares | None = ALL,
    clients_of_one_gallery: int = 1,
) -> Iterator[threading.Event]:
    """Clients that change two accounts until the service
    is gone or the context ends; yields their end.

    The first account has one client for its picture and one for its photos, so that each answer
    can be compared; the second has three and one at once (or as many `clients_of_one_gallery`) and,
    if asked for, one that deletes it.
    Without `many` there is the first alone, without `photos` or `pictures` nobody who changes
    those. `removals` is the share of changes that take the picture away, `photos` how often each
    change of photos is made.
    """
    ending = threading.Event()
    calm, busy = lane.accounts
    clients = _Clients(lane, removals)
    loops: list[Callable[[], None]] = []
    if pictures:
        loops.append(lambda: clients.change(calm, ending, is_alone=True))
    if pictures and many:
        loops += [lambda: clients.change(busy, ending)] * 3
    if photos is not None:
        loops.append(partial(PhotoClient(lane, calm, photos, is_alone=True).work, ending))
    if photos is not None and many:
        client = PhotoClient(lane, busy, photos, is_alone=False)
        loops += [partial(client.work, ending)] * clients_of_one_gallery
    if deleting_account:
        loops.append(lambda: clients.delete(busy, ending))
    threads = [threading.Thread(target=clients.watched, args=(loop,)) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield ending
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def give_photo(lane: Lane, account: Account) -> None:
    """Let an account have a photo, and a thumbnail of none, for what is about to happen to it."""
    PhotoClient(lane, account, ALL, is_alone=False).add()
    SingleClient(lane, account, is_alone=False).make()


def make_short_lived(lane: Lane) -> Account:
    """Register an account and give it a picture; its history is the lane's to compare."""
    account = lane.register("short-lived-")
    lane.short_lived.append(account)
    _Clients(lane, removals=0.0).change_once(account)
    return account


def delete_account(lane: Lane, account: Account) -> None:
    """Delete the account, once, and note what was told."""
    _Clients(lane, removals=0.0).delete_once(account)


class _Clients:
    """What one client does, over and over."""

    def __init__(self, lane: Lane, removals: float) -> None:
        self._lane = lane
        self._removals = removals

    def watched(self, client: Callable[[], None]) -> None:
        """An answer that a client cannot understand is a wrong
        one; a thread's exception would be seen by nobody.
        """
        try:
            client()
        except Exception as err:
            self._lane.wrong(f"a client met {err!r}")

    def change(self, account: Account, ending: threading.Event, is_alone: bool = False) -> None:
        while not ending.is_set():
            change, answer = self.change_once(account)
            if answer is None:
                if self._lane.has_second:
                    continue  # the other one goes on
                return
            status, body = answer
            if is_alone and status == 404 and None not in account.history.possible():
                self._lane.wrong("a removal was answered 404, but the account must have a picture")
            if is_alone:
                self._compare_shown(account)
            if is_alone and status == 200 and change.wanted is not None:
                self._compare_served(body["image_path"], change.wanted)
            if is_alone and self._lane.findings:
                return  # so that the comparison after the end finds it as it was
            if status in (401, 404) and body.get("code") in AFTER_DELETION:
                return

    def change_once(self, account: Account) -> tuple[Change, Answer | None]:
        """Replace or remove the picture; return what was begun, and what was answered."""
        path = f"/users/{account.id}/picture"
        self._lane.sent += 1
        content, checksum = self._lane.pictures[self._lane.sent]
        if self._lane.random.random() < self._removals:
            change = account.history.begin(None)
            return change, self._send(account, change, "DELETE", path, None, account.headers)
        change = account.history.begin(checksum)
        headers = {**account.headers, **FORM}
        return change, self._send(account, change, "PATCH", path, form(part(content)), headers)

    def delete_once(self, account: Account) -> bool:
        """Delete the account; return whether it makes sense to try again."""
        change = account.history.begin(GONE)
        path = f"/users/{account.id}"
        answer = self._send(account, change, "DELETE", path, None, account.headers)
        return answer is not None and change.outcome == "refused"

    def delete(self, account: Account, ending: threading.Event) -> None:
        ending.wait(self._lane.random.uniform(0.02, 0.3))
        for _ in range(50):
            if ending.is_set() or not self.delete_once(account):
                return

    def _send(
        self,
        account: Account,
        change: Change,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
    ) -> Answer | None:
        """Send and note what was told; None when there was no answer."""

        def list_honest() -> set[str]:
            honest = AFTER_DELETION if account.history.may_be_gone() else set()
            return honest | ({"no_picture"} if change.wanted is None else set())

        return ask_and_note(self._lane, change, method, path, body, headers, list_honest)

    def _compare_shown(self, account: Account) -> None:
        """After each answer: what the account shows can be
        loaded, and is what the answers until now leave possible.
        """
        try:
            status, content = self._lane.request("GET", f"/users/{account.id}")
            if status == 503:
                return
            shows = None
            path = json.loads(content)["image_path"]
            if not path.startswith("/static/"):
                status, content = self._lane.request(
                    "GET", urlsplit(path).path, port=urlsplit(path).port
                )
                shows = hash_file(content)
        except (OSError, http.client.HTTPException):
            return
        if status == 404:
            self._lane.lost(f"{path}, which an account shows, is not there")
        elif status != 200 or shows not in account.history.possible():
            self._lane.wrong(
                f"{path}, which an account shows, is answered {status}, or is not what it must show"
            )

    def _compare_served(self, path: str, wanted: str) -> None:
        try:
            status, content = self._lane.request(
                "GET", urlsplit(path).path, port=urlsplit(path).port
            )
        except (OSError, http.client.HTTPException):
            return  # the service is gone; the comparison after it will tell
        if status != 200 or hash_file(content) != wanted:
            self._lane.wrong(f"{path} is answered {status}, or with other bytes than were accepted")
