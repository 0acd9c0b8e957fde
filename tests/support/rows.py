"""Rows as a test inserts them by hand: files and accounts, whole unless it asks for less."""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from tests.support.services import Service

CONTENT = b"x"
# Of CONTENT, as if it were a picture. A live file needs all of them.
FACTS: dict[str, object] = {
    "content_type": "image/jpeg",
    "size_bytes": len(CONTENT),
    "sha256": hashlib.sha256(CONTENT).hexdigest(),
    "width_px": 300,
    "height_px": 300,
}


@dataclass(frozen=True)
class Insert:
    """A statement that inserts one row and returns its id."""

    statement: str
    arguments: tuple[object, ...]

    def run(self, service: Service) -> int:
        """Insert into the service's own database."""
        ((row_id,),) = service.sql(self.statement, *self.arguments)
        return int(row_id)

    async def run_on(self, connection: asyncpg.Connection) -> int:
        """Insert on this connection, in its transaction if there is one."""
        return int(await connection.fetchval(self.statement, *self.arguments))


def stored_file(
    state: str = "live",
    *,
    key: str | None = None,
    storage: str = "local",
    bucket: str = "",
    owner_id: int = 1,
    due_in_seconds: float = 0,
    facts: Mapping[str, object] = FACTS,
) -> Insert:
    """A stored file, under a new key unless one is given; nothing is put into its store."""
    columns = {
        "storage": storage,
        "bucket": bucket,
        "key": key or new_key(),
        "purpose": "profile_picture",
        "state": state,
        "owner_id": owner_id,
        **facts,
    }
    names = ", ".join(columns)
    values = ", ".join(f"${number}" for number in range(2, len(columns) + 2))
    statement = (
        f"INSERT INTO stored_files (next_attempt_at, {names})"
        f" VALUES (now() + make_interval(secs => $1), {values}) RETURNING id"
    )
    return Insert(statement, (due_in_seconds, *columns.values()))


def account(name: str | None = None, *, picture_id: int | None = None) -> Insert:
    """An account that nobody can log in to; its name and address are new unless a name is given."""
    statement = (
        "INSERT INTO users"
        " (username, username_folded, email, email_folded, password_hash, picture_id)"
        " VALUES ($1, $1, $2, $2, '', $3) RETURNING id"
    )
    name = name or uuid.uuid4().hex
    return Insert(statement, (name, f"{name}@example.com", picture_id))


def insert_numbered_files(
    service: Service,
    numbers: range,
    state: str,
    *,
    storage: str = "local",
    bucket: str = "",
    content: bytes = CONTENT,
) -> None:
    """Insert one stored file for each number, with the key that `numbered_key` gives it."""
    service.sql(
        "INSERT INTO stored_files (storage, bucket, key, purpose, state, owner_id,"
        " content_type, size_bytes, sha256, width_px, height_px)"
        " SELECT $3, $4, 'profile_pics/' || n || '.jpg', 'profile_picture', $5, 1,"
        " 'image/jpeg', $6, $7, 300, 300 FROM generate_series($1::int, $2::int) AS n ORDER BY n",
        numbers.start,
        numbers.stop - 1,
        storage,
        bucket,
        state,
        len(content),
        hashlib.sha256(content).hexdigest(),
    )


def insert_accounts_of_live_files(service: Service) -> None:
    """Give each live file an account whose picture it is."""
    service.sql(
        "INSERT INTO users"
        " (username, username_folded, email, email_folded, password_hash, picture_id)"
        " SELECT id, id, id, id, '', id FROM stored_files WHERE state = 'live'"
    )


def new_key() -> str:
    return f"profile_pics/{uuid.uuid4().hex}.jpg"


def numbered_key(number: int) -> str:
    return f"profile_pics/{number}.jpg"
