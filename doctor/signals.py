"""Ctrl-C, SIGTERM and a closed terminal while something of ours lies in the bucket.

They become an exception, so that what was put is removed on the way out. A put that is under way is
waited for, or its object might arrive after its deletion; a second signal waits for nothing.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupted(BaseException):
    """Somebody has ended the doctor. No `Exception`, so that no step takes it for a finding."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def status(self) -> int:
        """The exit status that a shell gives to a program that this signal ended."""
        return 128 + self.number


class Signals:
    """As a context, the signals that end a program raise Interrupted in its main thread."""

    def __init__(self) -> None:
        self._previous: dict[int, Any] = {}
        self._is_held = False
        self._came: int | None = None

    def __enter__(self) -> Self:
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let the first signal wait until what is inside is done."""
        self._is_held = True
        self._came = None
        try:
            yield
        finally:
            self._is_held = False
            if self._came is not None:
                raise Interrupted(self._came)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_held and self._came is None:
            self._came = number
            return
        self._came = None
        raise Interrupted(number)
