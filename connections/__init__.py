"""One connection to Postgres: how it is made, how it speaks, how long it is waited for, given up.

What is said over it is not known here; sessions and transactions are `database.py`'s.
"""

from connections.driver import (
    LOCK_TIMEOUT_MS,
    LOWER_DURABILITY,
    RAISE_DURABILITY,
    DatabaseConnection,
    PoolerFound,
)
from connections.engines import (
    CONNECT_TIMEOUT_SECONDS,
    is_said_to_be_pooled,
    make_direct_engine,
    make_migrating_engine,
    make_pooled_engine,
)
from connections.opening import Opening
from connections.outages import LOST, is_outage, is_too_many

__all__ = [
    "CONNECT_TIMEOUT_SECONDS",
    "LOCK_TIMEOUT_MS",
    "LOST",
    "LOWER_DURABILITY",
    "RAISE_DURABILITY",
    "DatabaseConnection",
    "Opening",
    "PoolerFound",
    "is_outage",
    "is_said_to_be_pooled",
    "is_too_many",
    "make_direct_engine",
    "make_migrating_engine",
    "make_pooled_engine",
]
