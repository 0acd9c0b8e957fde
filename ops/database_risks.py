"""What a database is set to by which it loses what it has committed, and the cure of each.

Darkroom asks for durability itself where that is its to ask (database.py); these the server's owner
decides.
"""

import logging

from sqlalchemy import func, select

from database import Database, Statement
from errors import DatabaseUnavailable

logger = logging.getLogger(__name__)

# What is lost, and what to do.
CURES = {
    "fsync": (
        "The database runs with fsync = off: when its machine loses its power, pictures that were"
        " answered 200 are lost, or the whole database is. Set fsync = on and restart PostgreSQL."
    ),
    "full_page_writes": (
        "The database runs with full_page_writes = off: a crash of its machine may leave pages half"
        " written, and rows of pictures unreadable. Set full_page_writes = on, unless its file"
        " system never tears a page, as ZFS."
    ),
}
ASYNCHRONOUS = (
    "The database is set to synchronous_commit = off. Darkroom turns it on in every transaction"
    " that must not be lost, so pictures are safe; other programs that use it may not be."
)

# As a new session has it.
_READ = Statement(
    select(*(func.current_setting(name).label(name) for name in (*CURES, "synchronous_commit")))
)


async def find_risks(database: Database) -> list[str]:
    """Find what it is set to that it loses data by, as it is written in its configuration.

    Raises DatabaseUnavailable.
    """
    (found,) = await database.fetch(_READ)
    return [f"{name} = off" for name in CURES if found[name] == "off"]


async def warn_of_risks(database: Database) -> None:
    """Say each of them in one line of the log, with its cure; an outage is told elsewhere."""
    try:
        (found,) = await database.fetch(_READ)
    except DatabaseUnavailable:
        return
    for name, sentence in CURES.items():
        if found[name] == "off":
            logger.warning(sentence)
    if found["synchronous_commit"] == "off":
        logger.info(ASYNCHRONOUS)
