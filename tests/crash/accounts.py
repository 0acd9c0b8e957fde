"""An account that clients of the runner change: its picture, its photos, its thumbnails."""

from tests.crash.galleries import Gallery
from tests.crash.history import History
from tests.crash.singles import Singles


class Account:
    """An account that clients of the runner change, and what it may show."""

    def __init__(self, name: str, user_id: int, token: str) -> None:
        self.name = name
        self.id = user_id
        self.headers = {"Authorization": f"Bearer {token}"}
        self.history = History(None)
        self.gallery = Gallery()
        self.singles = Singles()
