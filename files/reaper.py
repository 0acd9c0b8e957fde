"""The reaper: finishes what a crash, an outage or a refusal left, outside of any request."""

import asyncio
import logging
import random

import faults
from errors import DarkroomError
from files import deletions, idempotency
from files.backends import Backends

logger = logging.getLogger(__name__)

# Deleted side by side: half of what a store takes at once, so that uploads are not held up.
BATCH = 8
# Only a crash leaves a draft: no put takes a hundredth of this, and a stream touches its draft with
# each part.
LEFTOVER_AGE_SECONDS = 3600.0


async def reap_forever(backends: Backends) -> None:
    """Reap at intervals until cancelled.

    Any number of instances share the work; an outage only postpones it.
    """
    interval_seconds = backends.settings.reaper_interval_seconds
    while True:
        # Spread, so that instances that started together do not ask together.
        await asyncio.sleep(interval_seconds * random.uniform(0.75, 1.25))  # noqa: S311
        try:
            if tried := await reap(backends):
                logger.info("reaped %d files", tried)
        except DarkroomError as err:
            logger.warning("the reaper will try again: %s %r", err.code, err.__cause__)
        except Exception:
            logger.exception("the reaper will try again")


async def reap(backends: Backends) -> int:
    """Delete, in one pass, all that is due in this database; return how many files were tried.

    Each store has a pass of its own, so that one that is away holds up no other's deletions.
    """
    stores = await deletions.find_due_stores(backends.database)
    passes = (_reap_store(backends, name, bucket) for name, bucket in stores)
    tried = await asyncio.gather(*passes, return_exceptions=True)
    await backends.database.fetch(idempotency.FORGET_OLD)
    for store in backends.stores.on_disk():
        await store.remove_leftovers(LEFTOVER_AGE_SECONDS)
    for result in tried:
        if isinstance(result, BaseException):
            raise result
    return sum(count for count in tried if isinstance(count, int))


async def _reap_store(backends: Backends, name: str, bucket: str) -> int:
    """Go on batch by batch, but no further once none of a batch can be deleted."""
    tried = 0
    while claimed := await deletions.claim_due(
        backends.database, backends.stores, name, bucket, BATCH
    ):
        faults.reached("reaper_claimed")
        tried += len(claimed)
        if not await deletions.purge(backends.database, claimed):
            break
    return tried
