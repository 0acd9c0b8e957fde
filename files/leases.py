"""What one process works on and no other may take over, for as long as it says that it lives."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from database import Database, Statement
from errors import DatabaseUnavailable

logger = logging.getLogger(__name__)

# A process that died is followed by another after so long; three renewals fit in.
LEASE_SECONDS = 30.0
RENEWAL_SECONDS = 10.0


@asynccontextmanager
async def renew_lease(
    database: Database, renewal: Statement, values: dict[str, object]
) -> AsyncIterator[None]:
    """Renew a lease again and again, by this statement, for as long as the context lasts."""
    renewing = asyncio.create_task(_renew(database, renewal, values))
    try:
        yield
    finally:
        renewing.cancel()


async def _renew(database: Database, renewal: Statement, values: dict[str, object]) -> None:
    while True:
        await asyncio.sleep(RENEWAL_SECONDS)
        try:
            await database.fetch(renewal, **values)
        except DatabaseUnavailable as err:
            logger.warning("a lease could not be renewed: %r", err.__cause__)
