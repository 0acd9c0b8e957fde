"""What is told of a row after a change of it that has happened."""

from typing import TypeVar

from database import Base
from errors import DatabaseUnavailable, NotFound, OutcomeUnknown
from files.backends import Backends

Changed = TypeVar("Changed", bound=Base)


async def read_changed(
    backends: Backends, table: type[Changed], row_id: int, gone: type[NotFound]
) -> Changed:
    """Read a row after its change.

    Raises `gone` where it is so by now, and OutcomeUnknown where the database cannot be asked: no
    other refusal would be true.
    """
    try:
        async with backends.database.reader() as db:
            row = await db.get(table, row_id)
    except DatabaseUnavailable as err:
        raise OutcomeUnknown from err
    if row is None:
        raise gone
    return row
