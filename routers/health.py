"""Whether this process lives, and whether it can do its work."""

import asyncio
import time

from fastapi import APIRouter, Request
from sqlalchemy import text

from database import Database, Row, Statement, lacks_connections
from errors import DatabaseUnavailable, StoreUnavailable, WrongStore
from files import Backends, RequestBackends
from schemas import Health
from web.document import refuse_with

router = APIRouter(prefix="/health", tags=["health"])

# Below the patience of the probes that ask: Kubernetes gives one second by default.
READY_PATIENCE_SECONDS = 0.8
IS_READ_ONLY = Statement(
    text(
        "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'"
        " AS is_read_only"
    )
)


@router.get("/live")
@router.head("/live", include_in_schema=False)
async def check_live() -> Health:
    """The process answers: a failure means restart it."""
    return Health(status="live")


@router.get("/ready", responses=refuse_with(DatabaseUnavailable, StoreUnavailable, WrongStore))
@router.head("/ready", include_in_schema=False)
async def check_ready(request: Request, backends: RequestBackends) -> Health:
    """The database takes writes and the store is the right one; else send no requests here now.

    The database is asked over a connection of its own: that others wait for theirs is no failure.
    While the store is away, reads and logins still work, and uploads say 503 by themselves; but one
    that is another than it was, or was never seen yet, is a failure.
    """
    probe: Database = request.app.state.probe
    store = backends.stores.current
    looking = backends.tasks.start(backends.identities.look_quietly(store))
    began_at = time.monotonic()
    asking = await backends.tasks.wait_briefly(_ask(probe, backends), READY_PATIENCE_SECONDS)
    if not asking.done():  # it ends by itself: closing a dead connection takes its time too
        raise DatabaseUnavailable
    [answer] = asking.result()
    if answer["is_read_only"]:  # after a failover, or where its host has seen a full disk
        raise DatabaseUnavailable
    left_seconds = began_at + READY_PATIENCE_SECONDS - time.monotonic()
    await asyncio.wait({looking}, timeout=max(0, left_seconds))
    backends.identities.require_known(store)
    return Health(status="ready")


async def _ask(probe: Database, backends: Backends) -> list[Row]:
    try:
        return await probe.fetch(IS_READ_ONLY)
    except DatabaseUnavailable as err:
        if not lacks_connections(err):
            raise
        # All that the server allows are the requests'.
        return await backends.database.fetch(IS_READ_ONLY)
