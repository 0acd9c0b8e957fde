"""The two proxies that lose things on purpose, by one name."""

from tests.postgres_proxy import PostgresProxy
from tests.store_proxy import Fault, StoreProxy

__all__ = ["Fault", "PostgresProxy", "StoreProxy"]
