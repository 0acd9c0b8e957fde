"""What runs outside a request: the reaper, which
finishes what a crash, an outage or a refusal left.
"""

import asyncio
import logging
import random

import faults
from config import settings
from errors import DarkroomError
from files import deletions
from storage import stores

logger = logging.getLogger(__name__)

# Deleted side by side: half of what a store takes at once, so that uploads are not held up.
BATCH = 8
# Only a crash leaves a draft, and no put takes a hundredth of this.
LEFTOVER_AGE_SECONDS = 3600.0


async def reap() -> int:
    """One pass: delete all that is due in this database; return how many files were tried."""
    places = await deletions.due_places()
    tried = await asyncio.gather(*(_reap_place(*place) for place in places), return_exceptions=True)
    for store in stores().on_disk():
        await store.remove_leftovers(LEFTOVER_AGE_SECONDS)
    for result in tried:
        if isinstance(result, BaseException):
            raise result
    return sum(count for count in tried if isinstance(count, int))


async def _reap_place(storage: str, bucket: str) -> int:
    """Side by side with the other places, and no further once none of a batch can be deleted.

    So a store that is away holds up no other's deletions:
    neither in this pass nor by delaying the next.
    """
    tried = 0
    while claimed := await deletions.claim_due(storage, bucket, BATCH):
        faults.reached("reaper_claimed")
        tried += len(claimed)
        if not await deletions.remove(claimed):
            break
    return tried


async def reap_forever() -> None:
    """Reap at intervals until cancelled.

    Any number of instances share the work; an outage only postpones it.
    """
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
