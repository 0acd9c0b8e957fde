"""How a reader of headers asks for bytes, so that it reads a whole file and an arriving one alike.

A reader is a generator: it asks for one stretch of the file after the other, forwards, and holds
none of it. What it finds cannot depend on the pieces in which the file comes.
"""

from collections.abc import Generator
from typing import Generic, NamedTuple, TypeVar

from pictures.values import Content

# Of header reading: real files have a few hundred segments or boxes. Ten times more is a file made
# to keep us busy.
MOST_STEPS = 4096
LONGEST_SEARCH_BYTES = 64 * 1024

Result = TypeVar("Result")


class Stretch(NamedTuple):
    """Bytes that a reader asks for: from `start` on, where a negative one counts from the end.

    It gets as many as are there, at most `most_bytes`; fewer than `least_bytes` only where the file
    ends.
    """

    start: int
    least_bytes: int
    most_bytes: int


Reading = Generator[Stretch, Content, Result]
# What asks for the last bytes of a file, once it has ended.
TAIL = Stretch(-LONGEST_SEARCH_BYTES, LONGEST_SEARCH_BYTES, LONGEST_SEARCH_BYTES)


def read_whole(reading: Reading[Result], content: Content) -> Result:
    """Let the reader read a file that is there. Raises what the reader raises."""
    view = memoryview(content)
    try:
        start, _, most_bytes = next(reading)
        while True:
            stretch = view[start:] if start < 0 else view[start : start + most_bytes]
            start, _, most_bytes = reading.send(stretch)
    except StopIteration as stop:
        result: Result = stop.value
        return result


class FedReading(Generic[Result]):
    """A reading of a file that arrives in pieces.

    Of what has arrived it keeps what the reader has yet to see, and the end.
    """

    def __init__(self, reading: Reading[Result]) -> None:
        self._reading = reading
        self._wanted = next(reading)
        self._kept = bytearray()
        self._kept_from = 0
        self._is_done = False
        self._result: Result | None = None
        self.size_bytes = 0

    @property
    def result(self) -> Result | None:
        """What the reader found, or None while it reads."""
        return self._result

    def feed(self, piece: Content) -> None:
        """Take the next bytes. Raises what the reader raises."""
        self.size_bytes += len(piece)
        if self._is_done:
            return
        self._kept += piece
        self._answer(has_ended=False)
        self._forget()

    def finish(self) -> Result:
        """Tell the reader that the file has ended. Raises what the reader raises."""
        self._answer(has_ended=True)
        assert self._result is not None  # a reader that is told the end comes to one
        return self._result

    def _answer(self, *, has_ended: bool) -> None:
        """Give the reader what it waits for, as far as that is there."""
        while not self._is_done:
            start, least_bytes, most_bytes = self._wanted
            if start < 0:
                if not has_ended:
                    return
                start = max(self.size_bytes + start, 0)
            if self.size_bytes - start < least_bytes and not has_ended:
                return
            offset = start - self._kept_from
            try:
                self._wanted = self._reading.send(bytes(self._kept[offset : offset + most_bytes]))
            except StopIteration as stop:
                self._is_done = True
                self._result = stop.value

    def _forget(self) -> None:
        if self._is_done:
            self._kept.clear()
            return
        needed_from = self.size_bytes - LONGEST_SEARCH_BYTES
        if 0 <= self._wanted.start < needed_from:
            needed_from = self._wanted.start
        if needed_from > self._kept_from:
            del self._kept[: needed_from - self._kept_from]
            self._kept_from = needed_from
