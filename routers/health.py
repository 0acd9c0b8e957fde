"""Whether this process lives, and whether it can do its work."""

import asyncio

from fastapi import APIRouter
from sqlalchemy import text

from database import session
from errors import DatabaseUnavailable
from schemas import Health

router = APIRouter(prefix="/health", tags=["health"])

# Below the patience of the probes that ask: Kubernetes gives one second by default.
READY_PATIENCE_SECONDS = 0.8

# Held here, because the event loop keeps only weak references to tasks.
_asking: set[asyncio.Task[None]] = set()


@router.get("/live")
@router.head("/live", include_in_schema=False)
async def live() -> Health:
    """The process answers: a failure means restart it."""
    return Health(status="live")


@router.get("/ready")
@router.head("/ready", include_in_schema=False)
async def ready() -> Health:
    """The database answers: a failure means send no requests here for now.

    The store is not asked: while it is away, reads and
    logins still work, and uploads say 503 by themselves.
    """
    asking = asyncio.create_task(_ask_database())
    _asking.add(asking)
    asking.add_done_callback(_forget)
    await asyncio.wait({asking}, timeout=READY_PATIENCE_SECONDS)
    if not asking.done():  # it ends by itself: closing a dead connection takes its time too
        raise DatabaseUnavailable
    asking.result()
    return Health(status="ready")


def _forget(asked: asyncio.Task[None]) -> None:
    _asking.discard(asked)
    if not asked.cancelled():
        asked.exception()  # seen, also when nobody waits for it any more


async def _ask_database() -> None:
    async with session() as db:
        await db.execute(text("SELECT 1"))
