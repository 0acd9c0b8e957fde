"""A hasher in argon2's place that notes every call, its thread, and how many run at once."""

import threading
import time


class CountingHasher:
    """Argon2's place: notes every call, its thread, and how many run at once."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.threads: set[int] = set()
        self.most = 0
        self._running = 0
        self._lock = threading.Lock()
        self._together = threading.Barrier(1)
        self.stop = threading.Event()
        self.stop.set()

    def forget(self, at_once: int = 1) -> None:
        """Begin anew, from now on with so many calls that wait for each other."""
        self.calls.clear()
        self.threads.clear()
        self._together = threading.Barrier(at_once)

    def hash(self, password: str) -> str:
        self._work("hash")
        return f"hash of {password}"

    def verify(self, password: str, hash: str) -> bool:
        self._work("verify")
        return hash == f"hash of {password}"

    def _work(self, what: str) -> None:
        with self._lock:
            self.calls.append(what)
            self.threads.add(threading.get_ident())
            self._running += 1
            self.most = max(self.most, self._running)
        self._together.wait(30)
        self.stop.wait(30)
        time.sleep(0.05)  # so that one more than allowed would be seen beside these
        with self._lock:
            self._running -= 1
