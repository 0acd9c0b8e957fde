"""What runs outside a request: the reaper, which finishes what a crash, an outage or a refusal left."""

import asyncio
import logging
import random

import deletions
import faults
from config import settings
from errors import DarkroomError
from storage import stores

logger = logging.getLogger(__name__)

# Deleted side by side: half of what a store takes at once, so that uploads are not held up.
BATCH = 8
# Only a crash leaves a draft, and no put takes a hundredth of this.
LEFTOVER_AGE_SECONDS = 3600.0


async def reap() -> int:
    """One pass: delete all that is due in this database; return how many files were tried."""
    tried = 0
    while claimed := await deletions.claim_due(BATCH):
        faults.reached("reaper_claimed")
        await deletions.remove(claimed)
        tried += len(claimed)
    for store in stores().on_disk():
        await store.remove_leftovers(LEFTOVER_AGE_SECONDS)
    return tried


async def reap_forever() -> None:
    """Reap at intervals until cancelled. Any number of instances share the work; an outage only postpones it."""
    while True:
        # Spread, so that instances that started together do not ask together.
        await asyncio.sleep(settings.reaper_interval_seconds * random.uniform(0.75, 1.25))  # noqa: S311
        try:
            if tried := await reap():
                logger.info("reaped %d files", tried)
        except DarkroomError as err:
            logger.warning("the reaper will try again: %s %r", err.code, err.__cause__)
        except Exception:
            logger.exception("the reaper will try again")
