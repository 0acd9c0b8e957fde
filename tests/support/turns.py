"""Letting the other tasks of an event loop run."""

import asyncio

PATIENCE_SECONDS = 30.0


async def turns(count: int = 10) -> None:
    """Let every other task of the loop run until it waits."""
    for _ in range(count):
        await asyncio.sleep(0)
