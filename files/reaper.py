"""The reaper: finishes what a crash, an outage or a refusal left, outside of any request."""

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import faults
from errors import DarkroomError
from files import clocks, deletions, idempotency
from files.backends import Backends
from storage import DELETED_AT_ONCE

logger = logging.getLogger(__name__)

# So many are claimed first, which is all that a pass costs a store that is away. While it goes
# quickly each batch is larger than the one before, up to what a store deletes by one call.
FIRST_BATCH = 8
GROWTH = 4
# Both far below a claim's shortest backoff, 22 seconds: a batch is done before anybody else may
# take it, even if it is four times as large and as slow as the one before.
QUICK_SECONDS = 1.0
SLOW_SECONDS = 4.0
# While uploads are under way deletions have a tenth of the time ...
SHARE_BESIDE_UPLOADS = 0.1
# ... but rest no longer than this, or 100,000 files would not go within a quarter of an hour: they
# are a hundred batches of a thousand, which leaves three seconds for each.
LONGEST_REST_SECONDS = 6.0
# After so long a pass of the loop ends, though more may be due, and the next one begins at once:
# for what is due in another store by then.
PASS_SECONDS = 10.0
# A store that is away is asked again after the interval, then twice as long each time, but not
# much longer than people wait for what they have deleted to be gone.
LONGEST_PAUSE_SECONDS = 60.0
# Only a crash leaves a draft: no put takes a hundredth of this, and a stream touches its draft with
# each part.
LEFTOVER_AGE_SECONDS = 3600.0


@dataclass(frozen=True)
class _Pause:
    """How long a store that is away is left alone."""

    seconds: float
    until: float  # on the monotonic clock


class Reaper:
    """The reaper of one process; any number of them share the work.

    `has_uploads` tells whether uploads are under way beside it, to which it then yields.
    """

    def __init__(self, backends: Backends, has_uploads: Callable[[], bool] = lambda: False) -> None:
        self._backends = backends
        self._has_uploads = has_uploads
        self._pauses: dict[tuple[str, str], _Pause] = {}
        # Of the next batch in those stores of which the last pass left something.
        self._sizes: dict[tuple[str, str], int] = {}

    async def reap_forever(self) -> None:
        """Reap at intervals until cancelled; an outage only postpones it."""
        interval_seconds = self._backends.settings.reaper_interval_seconds
        while True:
            if not self._sizes:
                # Spread, so that instances that started together do not ask together.
                await asyncio.sleep(interval_seconds * random.uniform(0.75, 1.25))  # noqa: S311
            try:
                if tried := await self.reap(PASS_SECONDS):
                    logger.info("reaped %d files", tried)
            except DarkroomError as err:
                logger.warning("the reaper will try again: %s %r", err.code, err.__cause__)
            except Exception:
                logger.exception("the reaper will try again")

    async def reap(self, longest_seconds: float = math.inf) -> int:
        """Delete, in one pass, what is due in this database; return how many were tried.

        Each store has a pass of its own, so that one that is away holds up no other's deletions.
        """
        ends_at = time.monotonic() + longest_seconds
        backends = self._backends
        if found := await clocks.bring_back(backends.database, backends.settings):
            logger.warning("the database's clock was wrong: %d files were due too far off", found)
        await backends.identities.renew()
        stores = await deletions.find_due_stores(backends.database)
        sizes = self._sizes
        self._sizes = {}
        passes = (
            self._reap_store(store, sizes.get(store, FIRST_BATCH), ends_at)
            for store in stores
            if not self._is_paused(store)
        )
        tried = await asyncio.gather(*passes, return_exceptions=True)
        await backends.database.fetch(idempotency.FORGET_OLD)
        for store in backends.stores.on_disk():
            await store.remove_leftovers(LEFTOVER_AGE_SECONDS)
        for result in tried:
            if isinstance(result, BaseException):
                raise result
        return sum(count for count in tried if isinstance(count, int))

    async def _reap_store(self, store: tuple[str, str], size: int, ends_at: float) -> int:
        """Go on batch by batch, but no further once the store is away or the time is over.

        Files that cannot be deleted hold up no others: each has its own backoff.
        """
        backends = self._backends
        if not await backends.identities.may_reap(*store):
            return 0
        tried = 0
        while True:
            began = time.monotonic()
            claimed = await deletions.claim_due(backends.database, backends.stores, *store, size)
            if not claimed:
                break
            faults.reached("reaper_claimed")
            tried += len(claimed)
            purged = await deletions.purge(backends.database, claimed)
            if purged.is_store_away:
                self._pause(store)
                break
            self._pauses.pop(store, None)
            took_seconds = time.monotonic() - began
            if took_seconds > SLOW_SECONDS:
                size = max(FIRST_BATCH, size // 2)
            elif took_seconds < QUICK_SECONDS:
                size = min(DELETED_AT_ONCE, size * GROWTH)
            if self._has_uploads():
                rest_seconds = took_seconds * (1 / SHARE_BESIDE_UPLOADS - 1)
                await asyncio.sleep(min(rest_seconds, LONGEST_REST_SECONDS))
            if time.monotonic() > ends_at:
                self._sizes[store] = size
                break
        return tried

    def _is_paused(self, store: tuple[str, str]) -> bool:
        pause = self._pauses.get(store)
        return pause is not None and time.monotonic() < pause.until

    def _pause(self, store: tuple[str, str]) -> None:
        last = self._pauses.get(store)
        seconds = 2 * last.seconds if last else self._backends.settings.reaper_interval_seconds
        seconds = min(seconds, LONGEST_PAUSE_SECONDS)
        self._pauses[store] = _Pause(seconds, time.monotonic() + seconds)


async def reap(backends: Backends) -> int:
    """Make one pass, as a reaper does that knows of no outage; return how many were tried."""
    return await Reaper(backends).reap()
