"""Who may upload now, and how much of a body may be in memory: fair shares of seats and of bytes.

Nothing is read that is not reserved, in steps, as it arrives. Whoever began first can always grow
to its end, so no two bodies ever wait for each other; the others pause, for a bounded time.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated

from fastapi import Depends, Request

from concurrency import FairQueue, Seats
from config import FORM_OVERHEAD_BYTES, KIB, Settings
from errors import RETRY_AFTER_SECONDS, Busy, ShuttingDown

# A body grows by so much at a time: what a client announces costs nothing before it comes.
STEP_BYTES = 64 * KIB
# The part of the budget that one account, or one address, may hold: the rest is for the others.
LARGEST_SHARE = 1 / 2
# Whoever comes behind so many is told at once to come back later.
MOST_WAITING = 1000
# Those who are told to come back are told of no longer time than this.
LONGEST_RETRY_SECONDS = 60
# Between two uploads of somebody who sends many; a page takes no longer to send the next one.
RECENT_SECONDS = 1.0
# How much the last upload counts in the time that one usually takes.
WEIGHT_OF_THE_LAST = 0.1


class Share:
    """Bytes that several bodies share; the last ones are for the body that began first."""

    def __init__(self, capacity_bytes: int, reserve_bytes: int) -> None:
        self.held_bytes = 0
        # Those that may still grow, in the order in which they began.
        self.growing: dict[Reservation, None] = {}
        self._capacity_bytes = capacity_bytes
        self._reserve_bytes = reserve_bytes

    @property
    def is_unused(self) -> bool:
        return not self.held_bytes and not self.growing

    @property
    def is_short(self) -> bool:
        """Whether one of its bodies waits for room in it."""
        return any(each.is_waiting and not self.has_room(each, STEP_BYTES) for each in self.growing)

    def has_room(self, reservation: "Reservation", more_bytes: int) -> bool:
        first = next(iter(self.growing), reservation)
        kept_bytes = 0 if first is reservation else self._reserve_bytes - first.held_bytes
        return self.held_bytes + more_bytes + kept_bytes <= self._capacity_bytes


class Reservation:
    """What one body holds of its shares: more and more while it arrives, then the same."""

    def __init__(
        self, admission: "Admission", shares: list[Share], owners: Sequence[Hashable] = ()
    ) -> None:
        self.held_bytes = 0
        self.owners = owners  # the account and, if it counts, the address
        self._admission = admission
        self._shares = shares
        self._patience_seconds = admission.wait_seconds
        self._wanted_bytes = 0
        self._room: asyncio.Future[None] | None = None  # while it waits
        for share in shares:
            share.growing[self] = None

    @property
    def is_waiting(self) -> bool:
        return self._room is not None

    @property
    def is_short(self) -> bool:
        """Whether a body waits for bytes of a share that this one has bytes of, too."""
        return any(share.is_short for share in self._shares)

    async def grow_to(self, amount_bytes: int) -> None:
        """Hold this much, or the most that one body may hold; wait for it where it must.

        Raises Busy when this body has waited too long in all, and ShuttingDown.
        """
        self._wanted_bytes = min(amount_bytes, self._admission.reserve_bytes)
        if self.held_bytes >= self._wanted_bytes:
            return
        while self.held_bytes < self._wanted_bytes:
            if not self._take_step():
                await self._wait()
        if self.held_bytes == self._admission.reserve_bytes:
            self.stop_growing()

    async def _wait(self) -> None:
        """Wait until a step was taken for it."""
        self._admission.refuse_if_closed()
        started = time.monotonic()
        self._room = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._room
        except TimeoutError as err:
            raise self._admission.make_busy() from err
        finally:
            self._room = None
            self._patience_seconds -= time.monotonic() - started

    def _take_step(self) -> bool:
        step_bytes = min(STEP_BYTES, self._wanted_bytes - self.held_bytes)
        if not all(share.has_room(self, step_bytes) for share in self._shares):
            return False
        self.held_bytes += step_bytes
        for share in self._shares:
            share.held_bytes += step_bytes
        return True

    def admit(self) -> None:
        """Take the step that it waits for, if there is room now."""
        if self._room is not None and not self._room.done() and self._take_step():
            self._room.set_result(None)

    def turn_away(self) -> None:
        """End its waiting with ShuttingDown."""
        if self._room is not None and not self._room.done():
            self._room.set_exception(ShuttingDown())

    def stop_growing(self) -> None:
        """Say that all of the body is here: whoever began next is first now."""
        for share in self._shares:
            share.growing.pop(self, None)
        self._admission.admit_others()

    def release(self) -> None:
        """Give all of it back."""
        for share in self._shares:
            share.held_bytes -= self.held_bytes
        self.held_bytes = 0
        self.stop_growing()


class Admission:
    """The seats and the byte budget of one process."""

    def __init__(
        self,
        budget_bytes: int,
        reserve_bytes: int,
        wait_seconds: float,
        *,
        per_account: int,
        per_address: int,
        cores: FairQueue | None = None,
    ) -> None:
        """Share `budget_bytes`, of which `reserve_bytes`, the most of one body, are for the first.

        Waiting for a seat, and all waiting of one body, end after `wait_seconds`. So many uploads
        are under way at once of one account, and of one address; but while somebody waits for one
        of the `cores`, no more of an address begin than of an account.
        """
        self.budget_bytes = budget_bytes
        self.reserve_bytes = reserve_bytes
        self.wait_seconds = wait_seconds
        self._all = Share(budget_bytes, reserve_bytes)
        self._shares: dict[Hashable, Share] = {}
        self._per_account = per_account
        self._cores = cores
        self._account_seats = Seats(per_account, MOST_WAITING)
        self._address_seats = Seats(per_address, MOST_WAITING)
        self._usual_seconds = 0.0
        self._ended_at = -math.inf  # the last upload, on the monotonic clock
        self._is_closed = False

    @classmethod
    def from_settings(
        cls, settings: Settings, longest_stream_bytes: int, cores: FairQueue | None = None
    ) -> "Admission":
        """Take what is set, what a streamed body holds at most, and the turns at the cores."""
        budget_bytes = settings.upload_budget_bytes
        largest_bytes = settings.max_upload_size_bytes + FORM_OVERHEAD_BYTES
        return cls(
            budget_bytes,
            max(largest_bytes, min(longest_stream_bytes, budget_bytes // 2)),
            settings.upload_wait_seconds,
            per_account=settings.uploads_per_account,
            per_address=settings.uploads_per_address,
            cores=cores,
        )

    @property
    def reserved_bytes(self) -> int:
        """How much of the budget is held now."""
        return self._all.held_bytes

    @property
    def waiting(self) -> int:
        """How many wait: for a seat, or for room."""
        pausing = sum(each.is_waiting for each in self._all.growing)
        return self._account_seats.waiting + self._address_seats.waiting + pausing

    def has_uploads(self) -> bool:
        """Tell whether an upload is under way, or was a moment ago: the next one may be coming."""
        is_recent = time.monotonic() - self._ended_at < RECENT_SECONDS
        return is_recent or not self._all.is_unused

    @asynccontextmanager
    async def admit(self, account_id: int, address: str | None) -> AsyncIterator[Reservation]:
        """Wait for a seat of the account and of the address, and hold them.

        Raises Busy where that takes too long or too many wait, and ShuttingDown.
        """
        self.refuse_if_closed()
        owners: list[Hashable] = [("account", account_id)]
        if address is not None:
            owners.append(("address", address))
        async with AsyncExitStack() as stack:
            began = time.monotonic()
            try:
                account_seat = self._account_seats.hold(account_id, self.wait_seconds)
                await stack.enter_async_context(account_seat)
                left_seconds = self.wait_seconds - (time.monotonic() - began)
                address_seat = self._address_seats.hold(address, left_seconds)
                await stack.enter_async_context(address_seat)
                if self._cores is not None and self._has_its_share(address):
                    left_seconds = self.wait_seconds - (time.monotonic() - began)
                    standing_back = self._cores.stand_back(max(0.0, left_seconds))
                    await stack.enter_async_context(standing_back)
            except Busy as err:
                raise self.make_busy() from err
            started = time.monotonic()
            shares = [self._shares.setdefault(owner, self._make_share()) for owner in owners]
            reservation = Reservation(self, [self._all, *shares], owners)
            try:
                yield reservation
            finally:
                reservation.release()
                self._note_duration(time.monotonic() - started)
                self._forget_unused(owners)

    def _has_its_share(self, address: str | None) -> bool:
        """Whether an address has more seats than an account may have."""
        return address is not None and self._address_seats.count_taken(address) > self._per_account

    def admit_others(self) -> None:
        """Give room to those who wait for it, in the order in which they began."""
        for reservation in list(self._all.growing):
            reservation.admit()

    def make_busy(self) -> Busy:
        """Make the refusal of whoever waited too long, with the time that those ahead need."""
        usual_seconds = self._usual_seconds or self.wait_seconds
        ahead = self.waiting / self._per_account
        seconds = min(LONGEST_RETRY_SECONDS, math.ceil(usual_seconds * (1 + ahead)))
        return Busy(retry_after_seconds=max(RETRY_AFTER_SECONDS, seconds))

    def refuse_if_closed(self) -> None:
        """Raise ShuttingDown once it is closed."""
        if self._is_closed:
            raise ShuttingDown

    def close(self) -> None:
        """Turn away all who wait, and all who come; what is under way goes on while it has room."""
        self._is_closed = True
        self._account_seats.close()
        self._address_seats.close()
        for reservation in list(self._all.growing):
            reservation.turn_away()

    def _make_share(self) -> Share:
        capacity_bytes = max(int(self.budget_bytes * LARGEST_SHARE), self.reserve_bytes)
        return Share(capacity_bytes, self.reserve_bytes)

    def _forget_unused(self, owners: Sequence[Hashable]) -> None:
        for owner in owners:
            share = self._shares.get(owner)
            if share is not None and share.is_unused:
                del self._shares[owner]

    def _note_duration(self, seconds: float) -> None:
        self._ended_at = time.monotonic()
        last = WEIGHT_OF_THE_LAST if self._usual_seconds else 1.0
        self._usual_seconds += last * (seconds - self._usual_seconds)


def _get_admission(request: Request) -> Admission:
    admission: Admission = request.app.state.admission
    return admission


# A FastAPI dependency: the one on `request.app.state`.
RequestAdmission = Annotated[Admission, Depends(_get_admission)]
