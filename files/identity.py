"""What the stores are: each has an id that the database knows, and one database that deletes there.

"Not there" is believed only of the right place, and what a copy of the database thinks is expired
may be what its original shows. So nothing is stored in a store that is another than it was, and
nothing deleted in one whose marker names another database, or a renewal that this one never made.
"""

import asyncio
import logging
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace

from concurrency import Tasks
from database import Database
from errors import (
    DarkroomError,
    DatabaseUnavailable,
    ReapedByAnother,
    StartupError,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    WrongStore,
)
from files.meeting import Look, meet, read
from files.store_records import StoreRecords, parse_ids
from storage import BUCKET_KEY, AsyncStore, Marker, Stores

logger = logging.getLogger(__name__)

# So long a store that was looked at is taken for the same: a bucket is asked four times a minute,
# and whoever comes to reap it waits no longer than that for us to notice.
PROOF_SECONDS = 15.0
# The marker's token is changed so often: a copy of the database, byte by byte, deletes for no
# longer than this before its token is an old one.
RENEWAL_SECONDS = 60.0
# A newcomer that may be a copy leaves renewing to whoever has done it so far ...
SETTLED_SECONDS = 120.0
# ... unless nobody has for three times as long as it takes.
ABANDONED_SECONDS = 180.0
# A process that was stopped between its commit and its write leaves it at that.
MOST_WRITE_DELAY_SECONDS = 30.0
# How often the same is said again.
REMINDER_SECONDS = 300.0

CURES = (
    "Correct DATA_DIR or S3_ENDPOINT_URL, or mount the disk; after a move name the old place in"
    " PREVIOUS_STORES and the new one in STORAGE_NAME; if the pictures are here all the same, run"
    " `cli.py adopt-store`."
)


@dataclass
class _Known:
    """What this process knows of one store."""

    store_id: str = ""  # until it is known
    tokens: frozenset[str] = frozenset()
    renewed_at: float = 0.0  # on our clock
    look: Look | None = None
    looked_at: float = 0.0
    looking: "asyncio.Future[Look] | None" = None
    told: str = ""
    told_at: float = 0.0


class Identities:
    """Guards the stores of one application.

    Unless it `makes_markers` it writes nothing, neither to the database nor to a store.
    """

    def __init__(self, database: Database, stores: Stores) -> None:
        self.makes_markers = True
        self._records = StoreRecords(database)
        self._stores = stores
        self._known: dict[tuple[str, str], _Known] = {}
        self._tasks = Tasks()
        self._began_at = time.monotonic()
        self._is_open = False

    async def open(self) -> None:
        """Look at every store that rows name, before anything is asked of them.

        Raises StartupError where the current one is another than the database knows. One that does
        not answer is looked at later. What is wrong with a previous one is logged.
        """
        current = self._stores.current
        try:
            places = await self._records.list_places()
            self._tell_unknown({name for name, _ in places} - self._stores.names)
            places.discard((current.name, current.bucket))
            previous = [
                self._stores.of(name, bucket)
                for name, bucket in sorted(places)
                if name in self._stores.names
            ]
            await asyncio.gather(self._open(current), *map(self._open, previous))
            self._is_open = True
        except DatabaseUnavailable as err:
            raise StartupError("The database has stopped to answer.") from err

    def _tell_unknown(self, names: set[str]) -> None:
        if names and self.makes_markers:  # else whoever looks says so in its own words
            logger.error(
                "rows name stores that are not configured, whose pictures are neither shown nor"
                " deleted: %s. Add them to PREVIOUS_STORES",
                ", ".join(sorted(names)),
            )

    async def _open(self, store: AsyncStore) -> None:
        try:
            look = await self.look(store)
        except StoreError as err:
            if self.makes_markers:
                logger.error(
                    "the store %s does not answer, and until it does nothing is deleted there: %r",
                    store.name,
                    err.__cause__ or err,
                )
            return
        if store is not self._stores.current:
            return
        if look.wrong:
            raise StartupError(_describe_wrong(store, look))
        if self.makes_markers:
            await store.prove()

    async def require_place(self, store: AsyncStore) -> None:
        """Raise WrongStore for another store than the database knows, and StoreError.

        Costs nothing on disk, where every verb looks by itself, and of a bucket one call in
        PROOF_SECONDS.
        """
        if store.looks_itself and self._know(store).store_id:
            return
        look = await self._look_lately(store)
        if look.wrong:
            raise WrongStore

    async def require_reaper(self, store: AsyncStore) -> None:
        """Raise StoreError unless this is the right store and this database reaps it."""
        look = await self._look_lately(store)
        if look.wrong:
            raise WrongStore
        if not look.is_readable:
            raise StoreRefused
        if not look.is_reaper:
            raise ReapedByAnother

    async def may_reap(self, name: str, bucket: str) -> bool:
        """Tell whether what is due in a store may be claimed, or waits for its right place.

        Neither an outage nor a name that the settings do not know is a reason to wait: they are
        noted with each file.
        """
        if name not in self._stores.names:
            return True
        try:
            await self.require_reaper(self._stores.of(name, bucket))
        except (WrongStore, ReapedByAnother):
            return False
        except StoreError:
            return True
        return True

    async def look_quietly(self, store: AsyncStore) -> None:
        """Look, on disk in any case; what cannot be asked stays what it was."""
        with suppress(DarkroomError):
            await (self.look(store) if store.looks_itself else self._look_lately(store))

    def require_known(self, store: AsyncStore) -> None:
        """Raise WrongStore where the last look told so, StoreUnavailable where there was none."""
        look = self._know(store).look
        if look is None:
            raise StoreUnavailable
        if look.wrong:
            raise WrongStore

    async def _look_lately(self, store: AsyncStore) -> Look:
        known = self._know(store)
        is_fresh = time.monotonic() - known.looked_at < PROOF_SECONDS
        if known.look is not None and not known.look.wrong and is_fresh:
            return known.look
        return await self.look(store)

    async def look(self, store: AsyncStore) -> Look:
        """Look at a store now; whoever asks meanwhile shares the answer. Raises StoreError."""
        known = self._know(store)
        if known.looking is None or known.looking.done():
            known.looking = self._tasks.start(self._look(store, known))
            known.looking.add_done_callback(_mark_seen)
        return await asyncio.shield(known.looking)

    async def _look(self, store: AsyncStore, known: _Known) -> Look:
        look = await read(store)
        if not known.store_id:
            look, store_id = await meet(
                self._records,
                store,
                look,
                is_current=store is self._stores.current,
                makes_markers=self.makes_markers,
            )
            if store_id:
                self._expect(store, known, store_id)
        if known.store_id and look.is_readable and not look.wrong:
            look = await self._compare(known, look)
        known.look = look
        known.looked_at = time.monotonic()
        self._tell(store, known, look)
        return look

    async def _compare(self, known: _Known, look: Look) -> Look:
        """Hold what was read against what is known of the store."""
        if look.marker is None:
            return replace(look, wrong="there is no marker of a store")
        if look.marker.store != known.store_id:
            return replace(look, wrong="there is another store")
        is_named = look.marker.reaper == await self._records.identify()
        if is_named and look.marker.token not in known.tokens:
            await self._read_lease(known)
        return replace(look, is_reaper=is_named and look.marker.token in known.tokens)

    async def _read_lease(self, known: _Known) -> None:
        lease = await self._records.read_lease(uuid.UUID(known.store_id))
        if lease is not None:
            known.tokens = lease.tokens
            known.renewed_at = time.monotonic() - lease.age_seconds

    def _know(self, store: AsyncStore) -> _Known:
        return self._known.setdefault((store.name, store.bucket), _Known())

    def _expect(self, store: AsyncStore, known: _Known, store_id: str) -> None:
        known.store_id = store_id
        store.expect(store_id)

    def _tell(self, store: AsyncStore, known: _Known, look: Look) -> None:
        """Log what is not as it should be, once and from time to time."""
        sentence = _describe_wrong(store, look) if look.wrong else ""
        if not look.is_readable:
            sentence = (
                f"The marker of the store {store.name} cannot be read, so nothing is deleted there:"
                f" allow the service s3:GetObject and s3:PutObject on {BUCKET_KEY}."
            )
        elif look.marker is not None and not look.wrong and not look.is_reaper:
            sentence = (
                f"Another database reaps the store {store.name} ({store.place}), since"
                f" {look.marker.renewed_at} at the latest, so nothing is deleted there. If that one"
                " is gone, run `cli.py adopt-store`."
            )
        if not self._is_open and look.wrong and store is self._stores.current:
            return  # whoever opens the stores says so, and ends
        is_news = sentence != known.told
        if sentence and (is_news or time.monotonic() - known.told_at > REMINDER_SECONDS):
            logger.error("%s", sentence)
            known.told_at = time.monotonic()
        if is_news and not sentence:
            logger.info("the store %s is as it should be again", store.name)
        known.told = sentence

    async def renew(self) -> None:
        """Renew the markers of the stores that this database reaps and that are due."""
        for name, bucket in list(self._known):
            store = self._stores.of(name, bucket)
            known = self._know(store)
            age_seconds = time.monotonic() - known.renewed_at
            if known.look is not None and known.look.is_reaper and age_seconds > RENEWAL_SECONDS:
                try:
                    await self._renew(store, known)
                except StoreError as err:
                    logger.warning("the marker of %s is not renewed: %r", name, err.__cause__)

    async def _renew(self, store: AsyncStore, known: _Known) -> None:
        """Commit the next token, then write it: killed anywhere, the marker has one of ours."""
        look = await self.look(store)
        if not look.is_reaper or look.marker is None:
            return
        began_at = time.monotonic()
        store_id = uuid.UUID(known.store_id)
        is_settled = began_at - self._began_at > SETTLED_SECONDS
        patience_seconds = RENEWAL_SECONDS if is_settled else ABANDONED_SECONDS
        token = await self._records.renew_lease(store_id, look.marker.token, patience_seconds)
        await self._read_lease(known)
        if token is None or time.monotonic() - began_at > MOST_WRITE_DELAY_SECONDS:
            return
        marker = await self._records.compose(store_id, look.marker.reaper, token)
        await store.write_marker(marker.encode(), is_first=False)

    async def read_marker(self, store: AsyncStore) -> tuple[Marker | None, bool]:
        """Read a store's marker, and tell whether this database wrote it. Raises StoreError."""
        content = await store.read_marker()
        if content is None:
            return None, False
        marker = Marker.decode(content)
        if marker.reaper == await self._records.identify():
            for store_id in parse_ids(marker.store):
                lease = await self._records.read_lease(store_id)
                return marker, lease is not None and marker.token in lease.tokens
        return marker, False

    async def adopt(self, store: AsyncStore) -> Marker:
        """Let this database reap the store under the id that it has, or gets; return the marker.

        Raises StoreError, and StartupError where a folder cannot be made.
        """
        marker, _ = await self.read_marker(store)
        place = await self._records.read_place(store)
        candidates = [*parse_ids(marker.store if marker else "")]
        candidates += [place.store_id if place else uuid.uuid4()]
        if marker is None:
            await store.prepare()
        token = await self._records.adopt(store, candidates[0])
        adopted = await self._records.compose(candidates[0], await self._records.identify(), token)
        await store.write_marker(adopted.encode(), is_first=False)
        self._expect(store, self._know(store), adopted.store)
        self._know(store).look = None
        return adopted


def _describe_wrong(store: AsyncStore, look: Look) -> str:
    return (
        f"The store {store.name} at {store.place} is not the one that the database knows:"
        f" {look.wrong}. {CURES}"
    )


def _mark_seen(looking: "asyncio.Future[Look]") -> None:
    if not looking.cancelled():
        looking.exception()
