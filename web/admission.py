"""Whether there is room for one more body: nothing is read that is not reserved out of one budget.

A reservation does not grow while it is held, so the oldest body can always finish. Whoever waits
too long is told to come back.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Request

from concurrency import Amounts, FairQueue
from config import FORM_OVERHEAD_BYTES, MIB, Settings

# What most avatars fit in. A part of the budget is kept for bodies up to this size, whoever sends
# large ones slowly.
SMALL_BODY_BYTES = MIB
SMALL_SHARE = 8


class Admission:
    """The byte budget of one process, `kept_bytes` of which are for small bodies only."""

    def __init__(self, budget_bytes: int, wait_seconds: float, kept_bytes: int = 0) -> None:
        self.budget_bytes = budget_bytes
        self._queue = FairQueue(Amounts(budget_bytes, budget_bytes - kept_bytes), wait_seconds)

    @classmethod
    def from_settings(cls, settings: Settings) -> "Admission":
        """Keep a share for small bodies, but no more than the largest file leaves."""
        beside_the_largest = (
            settings.upload_budget_bytes - settings.max_upload_size_bytes - FORM_OVERHEAD_BYTES
        )
        return cls(
            settings.upload_budget_bytes,
            settings.upload_wait_seconds,
            kept_bytes=min(settings.upload_budget_bytes // SMALL_SHARE, beside_the_largest),
        )

    @property
    def reserved_bytes(self) -> int:
        """How much of the budget is held now."""
        return self.budget_bytes - self._queue.free.common

    @property
    def waiting(self) -> int:
        """How many bodies wait for their turn."""
        return len(self._queue.waiting)

    @asynccontextmanager
    async def reserve(self, amount_bytes: int) -> AsyncIterator[None]:
        """Hold this much of the budget.

        Raises Busy when it does not become free in time, and ShuttingDown.
        """
        is_large = amount_bytes > SMALL_BODY_BYTES
        needs = Amounts(amount_bytes, amount_bytes if is_large else 0)
        await self._queue.take(needs)
        try:
            yield
        finally:
            self._queue.give_back(needs)

    def close(self) -> None:
        """Turn away all who wait, and all who come; whoever holds some of the budget goes on."""
        self._queue.close()


def _get_admission(request: Request) -> Admission:
    admission: Admission = request.app.state.admission
    return admission


# A FastAPI dependency: the one on `request.app.state`.
RequestAdmission = Annotated[Admission, Depends(_get_admission)]
