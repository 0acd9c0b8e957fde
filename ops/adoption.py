"""The command `adopt-store`: from now on this database deletes in a store, and no other does.

For a restored or moved database, whose original is gone, and for a store whose marker is lost.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from files import Backends
from ops.inventory import describe_store, translate_errors
from storage import AsyncStore, Marker

# Whoever reaps renews four times meanwhile: it is gone, or will find out that it is no more.
LATELY = timedelta(minutes=5)


@dataclass(frozen=True)
class Adoption:
    """Whether a store was adopted, and the sentence that says so."""

    is_done: bool
    sentence: str


async def adopt(backends: Backends, store: AsyncStore, *, force: bool) -> Adoption:
    """Adopt a store, unless another database has renewed its marker lately.

    Raises CannotLook, StartupError, or DatabaseUnavailable.
    """
    name = describe_store(store)
    with translate_errors(store):
        marker, is_own = await backends.identities.read_marker(store)
        if marker is None:
            before = "It had no marker."
        elif is_own:
            before = "It was its own before."
        else:
            before = f"It was another database's, which renewed it at {marker.renewed_at}."
            if not force and _is_lately(marker):
                return Adoption(
                    False,
                    f"The store {name} is not adopted: another database has renewed its marker at"
                    f" {marker.renewed_at}, and deletes there. End what uses that one, and wait"
                    " five minutes, or say --force.",
                )
        adopted = await backends.identities.adopt(store)
    return Adoption(
        True,
        f"The store {name} ({adopted.store}) is this database's now, which alone deletes there."
        f" {before}",
    )


def _is_lately(marker: Marker) -> bool:
    try:
        renewed_at = datetime.fromisoformat(marker.renewed_at)
    except ValueError:
        return False
    if renewed_at.tzinfo is None:
        renewed_at = renewed_at.replace(tzinfo=UTC)
    return datetime.now(UTC) - renewed_at < LATELY
