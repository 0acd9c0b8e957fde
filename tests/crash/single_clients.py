"""A client that has single thumbnails made, loads and deletes them."""

import contextlib
import http.client
from urllib.parse import urlsplit

from tests.crash.accounts import Account
from tests.crash.answers import AFTER_DELETION, Answer, ask_and_note
from tests.crash.history import GONE
from tests.crash.lane import Lane
from tests.crash.singles import MOST_SINGLES, make_file
from tests.support.hashes import hash_file
from tests.support.services import FORM, form, part


class SingleClient:
    """One client of one account; alone, it loads what it was told was made."""

    def __init__(self, lane: Lane, account: Account, is_alone: bool) -> None:
        self._lane = lane
        self._account = account
        self._is_alone = is_alone

    def change_once(self) -> Answer | None:
        """Make a thumbnail, or delete one; return what was answered."""
        count = len(self._account.singles.find_told())
        if self._lane.random.random() * MOST_SINGLES >= count:
            return self.make()
        return self._delete()

    def make(self) -> Answer | None:
        """Have a thumbnail made."""
        self._lane.sent += 1
        content, checksum = make_file(self._lane.sent)
        single = self._account.singles.begin(checksum)
        change = single.history.begin(checksum)
        headers = {**self._account.headers, **FORM}
        body = form(part(content))
        answer = ask_and_note(
            self._lane, change, "POST", "/photos/thumbnail", body, headers, self._list_honest
        )
        if answer is not None and answer[0] == 201:
            single.id = answer[1]["id"]
            self._compare(answer[1]["thumbnail"], checksum)
        return answer

    def _delete(self) -> Answer | None:
        single = self._lane.random.choice(self._account.singles.find_told())
        may_be_gone = single.may_be_gone()
        change = single.history.begin(GONE)

        def list_honest() -> set[str]:
            return self._list_honest() | ({"thumbnail_not_found"} if may_be_gone else set())

        path = f"/thumbnails/{single.id}"
        headers = self._account.headers
        answer = ask_and_note(self._lane, change, "DELETE", path, None, headers, list_honest)
        if answer is not None and answer[1].get("code") == "thumbnail_not_found":
            single.history.begin(GONE).end("told")  # a deletion that nobody was told of
        return answer

    def _list_honest(self) -> set[str]:
        """What may be answered since the account may be deleted, and its thumbnails with it."""
        is_there = not self._account.history.may_be_gone()
        return set() if is_there else {*AFTER_DELETION, "thumbnail_not_found"}

    def _compare(self, url: str, checksum: str) -> None:
        if not self._is_alone:
            return
        parts = urlsplit(url)
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, content = self._lane.request("GET", parts.path, port=parts.port)
            if status != 200 or hash_file(content) != checksum:
                self._lane.wrong(f"{url} is answered {status}, or with another's bytes")
