"""Passwords: hashed with argon2id in the thread pool, so that neither loop nor memory suffers.

At most half of the cores hash, and where pictures wait for a core too, hashing gets its share only.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeVar

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from concurrency import Amounts, FairQueue, start_in_thread
from errors import Busy
from schemas import is_text

# OWASP's password storage cheat sheet: argon2id with 19 MiB, two passes, one lane.
ARGON2_MEMORY_KIB = 19 * 1024
ARGON2_PASSES = 2
# A hash takes some 30 ms: this is a queue of hundreds.
HASHING_WAIT_SECONDS = 10.0
# Whoever logs in goes before the pictures that came in the last second, but each hash puts the next
# one off by five times of what it takes: while others wait, hashing has a fifth of one core.
HEAD_START_SECONDS = 1.0
CHARGE_SECONDS = 0.15
# Then it goes on without a core of its own: a login does not wait for pictures that take seconds.
YIELD_SECONDS = 0.25
OWNER = "passwords"

_NO_CORE = Amounts(0, 0)
_ONE_CORE = Amounts(1, 0)

Result = TypeVar("Result")


class Hasher(Protocol):
    """What hashes: argon2id, or what a test puts in its place."""

    def hash(self, password: str) -> str:
        """Hash with a new salt."""

    def verify(self, password: str, hash: str) -> bool:
        """Tell whether this hash was made of this password."""


def make_argon2() -> Hasher:
    """Make the hasher of the service."""
    argon2 = Argon2Hasher(time_cost=ARGON2_PASSES, memory_cost=ARGON2_MEMORY_KIB, parallelism=1)
    return PasswordHash((argon2,))


class Passwords:
    """Hashes and compares, as many at once as there are slots: half as many as cores, but one."""

    def __init__(
        self,
        hasher: Hasher | None = None,
        slots: int | None = None,
        wait_seconds: float = HASHING_WAIT_SECONDS,
        cores: FairQueue | None = None,
    ) -> None:
        """Take turns at the `cores` with whatever else does."""
        count = slots or max(1, (os.cpu_count() or 1) // 2)
        self._hasher = hasher or make_argon2()
        self._slots = FairQueue(_ONE_CORE * count, wait_seconds)
        self._cores = cores or FairQueue(_ONE_CORE * count, wait_seconds)
        # What an unknown account is checked against: it must cost the time of a wrong password.
        self._nobodys_hash = self._hasher.hash(os.urandom(16).hex())

    async def hash(self, password: str) -> str:
        """Hash with argon2id. Raises Busy when too many are waiting."""
        return await self._run(lambda: self._hasher.hash(password))

    async def match(self, password: str, password_hash: str | None) -> bool:
        """Compare in the same time whether or not there is an account.

        Raises Busy when too many are waiting.
        """
        text = password if is_text(password) else ""
        compared = password_hash or self._nobodys_hash
        is_match = await self._run(lambda: self._hasher.verify(text, compared))
        return is_match and password_hash is not None

    async def _run(self, work: Callable[[], Result]) -> Result:
        try:
            await self._slots.take(_ONE_CORE)
        except Busy as err:
            sentence = "Many people are logging in right now. Please try again in a moment."
            raise Busy(sentence) from err
        cores = _NO_CORE
        try:
            with suppress(Busy):
                await self._cores.take(
                    _ONE_CORE, -HEAD_START_SECONDS, [OWNER], CHARGE_SECONDS, YIELD_SECONDS
                )
                cores = _ONE_CORE
        except BaseException:
            self._slots.give_back(_ONE_CORE)
            raise

        def give_back() -> None:
            self._cores.give_back(cores)
            self._slots.give_back(_ONE_CORE)

        return await asyncio.shield(start_in_thread(work, give_back))
