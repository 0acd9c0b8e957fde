"""A pool whose patience is that of whoever asks, and which is content with what it can get.

Where the server allows fewer connections than it is set to, or all are lent, one waits for one of
those that there are: as long as the server is heard of.
"""

import asyncio
import logging
from contextlib import suppress

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from sqlalchemy.util import queue

from connections import driver
from connections.outages import is_too_many
from connections.watch import Watch

logger = logging.getLogger(__name__)
# SQLAlchemy logs under the name of the class, and says much that is news to nobody.
logging.getLogger(f"{__name__}.Pool").setLevel(logging.WARNING)

# How long a request waits for a connection of a server that answers others: they are held for
# milliseconds, but for a lock they may wait.
POOL_TIMEOUT_SECONDS = 10.0
# So often whoever waits looks whether the server was heard of.
LOOK_SECONDS = 0.25
# So long no more connections are asked for than there were at the last refusal: a limit that was
# raised, or others' connections that ended, are found soon, and few requests try in vain.
MODEST_SECONDS = 10.0


class Pool(AsyncAdaptedQueuePool):
    """The connections of one engine; belongs to one event loop."""

    watch: Watch  # of the engine's connections
    _most = 0  # as many as the server allowed
    _is_modest_until = 0.0  # on the loop's clock
    _is_told = False

    def _do_get(self) -> ConnectionPoolEntry:
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        driver.reach_by.set(began_at + driver.REACH_SECONDS)
        while self._is_worth_waiting(began_at):
            if self._has_free() or self._may_open():
                try:
                    return super()._do_get()  # which waits for nothing but a new connection
                except Exception as err:
                    if not is_too_many(err) or self._count() == 0:
                        raise
                    self._be_modest(err)
            with suppress(queue.Empty):
                returned: ConnectionPoolEntry = self._pool.get(True, LOOK_SECONDS)
                enough = loop.time() + driver.FIRST_ANSWER_SECONDS
                driver.reach_by.set(max(driver.reach_by.get(), enough))
                return returned
        raise PoolTimeoutError("no connection became free")

    def _is_worth_waiting(self, began_at: float) -> bool:
        """Whether there is patience left, which is longer with a server that answers."""
        now = asyncio.get_running_loop().time()
        silent_since = max(began_at, self.watch.heard_at)
        is_heard = now < silent_since + driver.REACH_SECONDS
        return is_heard and now < began_at + POOL_TIMEOUT_SECONDS

    def _has_free(self) -> bool:
        return self.checkedin() > 0

    def _may_open(self) -> bool:
        is_modest = asyncio.get_running_loop().time() < self._is_modest_until
        most = self._most if is_modest else self.size()
        return self._count() < most

    def _count(self) -> int:
        """Count the connections that there are, or are being made."""
        return self.size() + self.overflow()

    def _be_modest(self, err: Exception) -> None:
        self._most = self._count()
        self._is_modest_until = asyncio.get_running_loop().time() + MODEST_SECONDS
        if not self._is_told:
            self._is_told = True
            logger.warning(
                "the database allows fewer connections than DATABASE_POOL_SIZE=%d (%d now), so"
                " requests wait for those: %s",
                self.size(),
                self._most,
                err,
            )
