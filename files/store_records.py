"""What the database says of its stores, and which database it is itself.

One round trip each, and no connection is held between them.
"""

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from database import Database
from files import identity_statements as statements
from storage import AsyncStore, Marker


@dataclass(frozen=True)
class Place:
    """What is known to lie where rows say."""

    store_id: uuid.UUID
    is_seen: bool  # else the marker is still to be made, by whoever comes first


@dataclass(frozen=True)
class Lease:
    """What this database has written into the marker of a store."""

    tokens: frozenset[str]
    newest: str
    age_seconds: float  # since it was renewed


class StoreRecords:
    """The rows about stores of one database. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._identity = ""
        self._installation_id = ""

    async def identify(self) -> str:
        """Say which database this is: no copy of it, however made, but one byte by byte."""
        if not self._identity:
            row = (await self._database.fetch(statements.READ_DATABASE))[0]
            system = 0
            if row["may_ask"]:
                (asked,) = await self._database.fetch(statements.READ_SYSTEM)
                system = asked["system_identifier"]
            self._installation_id = str(row["id"])
            identity = f"{row['id']} {system} {row['oid']}"
            self._identity = hashlib.sha256(identity.encode()).hexdigest()
        return self._identity

    async def read_installation_id(self) -> str:
        """Return the id that `sweep --claim` once wrote into its marker."""
        await self.identify()
        return self._installation_id

    async def list_places(self) -> set[tuple[str, str]]:
        """List the names and buckets of all rows of files."""
        rows = await self._database.fetch(statements.LIST_PLACES)
        return {(row["storage"], row["bucket"]) for row in rows}

    async def has_rows(self, store: AsyncStore) -> bool:
        """Tell whether a file was ever announced there and is not forgotten."""
        (row,) = await self._database.fetch(statements.HAS_ROWS, **_name(store))
        return bool(row["has_rows"])

    async def sample_live(self, store: AsyncStore) -> list[str]:
        """Return the keys of a few live files, as many as there are up to ten."""
        rows = await self._database.fetch(statements.SAMPLE_LIVE, **_name(store))
        return [row["key"] for row in rows]

    async def read_place(self, store: AsyncStore) -> Place | None:
        rows = await self._database.fetch(statements.READ_PLACE, **_name(store))
        return Place(rows[0]["store_id"], rows[0]["seen_at"] is not None) if rows else None

    async def announce_place(self, store: AsyncStore) -> uuid.UUID:
        """Give a store an id, before its marker is made: all processes have the same one."""
        await self._add_place(store, uuid.uuid4())
        place = await self.read_place(store)
        assert place is not None
        return place.store_id

    async def see_place(self, store: AsyncStore, store_id: uuid.UUID) -> None:
        """Note what the marker says of a store that was not seen before."""
        await self._add_place(store, store_id)
        await self._database.fetch(statements.SEE_PLACE, **_name(store), seen_id=store_id)

    async def _add_place(self, store: AsyncStore, store_id: uuid.UUID) -> None:
        await self._database.fetch(statements.ADD_PLACE, **_name(store), store_id=store_id)

    async def read_lease(self, store_id: uuid.UUID) -> Lease | None:
        rows = await self._database.fetch(statements.READ_LEASE, store_id=store_id)
        if not rows:
            return None
        tokens = rows[0]["tokens"]
        return Lease(frozenset(tokens), tokens[-1], rows[0]["age_seconds"])

    async def begin_lease(self, store_id: uuid.UUID) -> str:
        """Return the token for a first marker: all processes have the same one."""
        tokens = [uuid.uuid4().hex]
        await self._database.fetch(statements.ADD_LEASE, store_id=store_id, tokens=tokens)
        lease = await self.read_lease(store_id)
        assert lease is not None
        return lease.newest

    async def renew_lease(
        self, store_id: uuid.UUID, marker_token: str, patience_seconds: float
    ) -> str | None:
        """Commit the next token, if the marker has one of ours and nobody renewed it lately."""
        token = uuid.uuid4().hex
        renewed = await self._database.fetch(
            statements.RENEW,
            store_id=store_id,
            marker_token=marker_token,
            token=token,
            patience_seconds=patience_seconds,
        )
        return token if renewed else None

    async def adopt(self, store: AsyncStore, store_id: uuid.UUID) -> str:
        """Know the store by this id from now on, and none of its tokens but the one returned."""
        token = uuid.uuid4().hex
        await self._database.fetch(statements.ADOPT_PLACE, **_name(store), store_id=store_id)
        await self._database.fetch(statements.ADOPT_LEASE, store_id=store_id, tokens=[token])
        return token

    async def compose(self, store_id: uuid.UUID, reaper: str, token: str) -> Marker:
        """Compose a marker that is renewed now."""
        now: datetime = (await self._database.fetch(statements.READ_NOW))[0]["now"]
        return Marker(str(store_id), reaper, token, now.isoformat(timespec="seconds"))


def parse_ids(*texts: str) -> Iterable[uuid.UUID]:
    """Yield those that are ids."""
    for text in texts:
        try:
            yield uuid.UUID(text)
        except ValueError:
            continue


def _name(store: AsyncStore) -> dict[str, str]:
    return {"storage": store.name, "bucket": store.bucket}
