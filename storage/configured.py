"""The configured stores: the current one, which takes new objects, and all that rows may name."""

import logging

from concurrency import ThreadSlots
from config import Settings
from errors import StoreRefused
from locations import StoreSettings
from storage.async_store import AsyncStore, Guard
from storage.contract import STORE_THREADS, Store
from storage.signing import LinkSigner

logger = logging.getLogger(__name__)


class Stores:
    """Every store that rows may name; all but `current` are only read and deleted from.

    Makes the clients, and asks nobody. Raises StartupError.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.stores()
        self.public_url = settings.public_url or ""  # before the paths of this service
        self.signer = LinkSigner(settings.signing_secret)
        self._stores = {
            name: _make_store(name, given, self.signer, self.public_url)
            for name, given in self._settings.items()
        }
        # A bound for each: a previous store that hangs takes nothing from the current one.
        self._threads = {name: ThreadSlots(STORE_THREADS) for name in self._stores}
        self._faces: dict[tuple[str, str], AsyncStore] = {}
        self._guard: Guard | None = None
        self.current = self.named(settings.store_name)

    def of(self, name: str, bucket: str) -> AsyncStore:
        """Give the store that a row names; raises StoreRefused where no setting knows it."""
        if (name, bucket) not in self._faces:
            if name not in self._stores:
                logger.error(
                    "rows name the store %r, which is not configured: add it to PREVIOUS_STORES",
                    name,
                )
                raise StoreRefused
            store = self._stores[name].in_bucket(bucket)
            face = AsyncStore(name, store, self._threads[name])
            face.guard = self._guard
            self._faces[name, bucket] = face
        return self._faces[name, bucket]

    def named(self, name: str) -> AsyncStore:
        """Give a store as the settings have it; raises StoreRefused where they do not."""
        bucket = self._stores[name].bucket if name in self._stores else ""
        return self.of(name, bucket)

    def guard_with(self, guard: Guard) -> None:
        """Let every store ask this guard before it takes or deletes anything."""
        self._guard = guard
        for face in self._faces.values():
            face.guard = guard

    def on_disk(self) -> list[AsyncStore]:
        """Give the local stores, the current one first: this service serves their objects."""
        names = [name for name, given in self._settings.items() if given.storage == "local"]
        names.sort(key=lambda name: name != self.current.name)
        return [self.of(name, "") for name in names]

    @property
    def names(self) -> set[str]:
        """What rows may call a store."""
        return set(self._stores)

    @property
    def threads(self) -> int:
        """How many threads all stores together may hold."""
        return STORE_THREADS * len(self._stores)


def _make_store(name: str, settings: StoreSettings, signer: LinkSigner, public_url: str) -> Store:
    # Imported here, because boto3 costs a local installation
    # 20 MB and a third of a second for nothing.
    if settings.storage == "s3":
        from storage.s3 import S3Store

        store = S3Store(settings)
        for note in store.notes:
            logger.warning("of the store %s: %s", name, note)
        return store
    from storage.local import LocalStore

    assert settings.directory is not None
    return LocalStore(settings.directory, signer, public_url)
