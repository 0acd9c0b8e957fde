"""Whether this process lives, and whether it can do its work."""

import asyncio

from fastapi import APIRouter
from sqlalchemy import text

from database import session
from errors import DatabaseUnavailable
from schemas import Health

router = APIRouter(prefix="/health", tags=["health"])

# Below the patience of the probes that ask, which is often one second... three at most.
READY_TIMEOUT_SECONDS = 2.0


@router.get("/live")
async def live() -> Health:
    """The process answers: a failure means restart it."""
    return Health(status="live")


@router.get("/ready")
async def ready() -> Health:
    """The database answers: a failure means send no requests here for now.

    The store is not asked: while it is away, reads and logins still work, and uploads say 503 by themselves.
    """
    try:
        async with asyncio.timeout(READY_TIMEOUT_SECONDS), session() as db:
            await db.execute(text("SELECT 1"))
    except TimeoutError as err:
        raise DatabaseUnavailable from err
    return Health(status="ready")
