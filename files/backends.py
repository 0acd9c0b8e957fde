"""What one application changes files with: its settings, its database, its stores, its tasks."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from concurrency import Tasks
from config import Settings
from database import Database
from files.identity import Identities
from storage import Stores


@dataclass(frozen=True)
class Backends:
    """Made once for an application, or for a command, which closes the database."""

    settings: Settings
    database: Database
    stores: Stores
    tasks: Tasks = field(default_factory=Tasks)  # what outlives the request that began it
    identities: Identities = field(init=False)

    def __post_init__(self) -> None:
        """Let no store take or delete anything before it is known to be the right one."""
        identities = Identities(self.database, self.stores)
        object.__setattr__(self, "identities", identities)
        self.stores.guard_with(identities)


def _get_backends(request: Request) -> Backends:
    backends: Backends = request.app.state.backends
    return backends


# A FastAPI dependency: the one on `request.app.state`.
RequestBackends = Annotated[Backends, Depends(_get_backends)]
