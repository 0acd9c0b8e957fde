"""What is in the database and the store of one lane, and whether that is what clients were told."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg

from connections import is_outage
from image_utils import process_profile_image
from storage import markers
from tests.crash.accounts import Account
from tests.crash.findings import Finding
from tests.crash.galleries import READ_PHOTOS, Originals
from tests.crash.history import GONE
from tests.crash.singles import READ_SINGLES
from tests.crash.thumbnails import READ_THUMBNAILS, compare_thumbnails
from tests.support.hashes import hash_file
from tests.support.pictures import encoded, numbered
from tests.support.rows import account
from tests.support.services import Bucket

# More than clients send between two comparisons.
PICTURES = 500
# After a kill -9; the log that it replays is short.
RECOVERY_SECONDS = 30.0
# Above every lease of what is being made, and every pause before it is tried again.
CLAIMS_END = timedelta(minutes=10)


class State:
    """A database and a store, looked at from the side: never through the service or a proxy."""

    def __init__(self, folder: Path, database_url: str, bucket: Bucket | None) -> None:
        self._media = folder / "media"
        self._runner = asyncio.Runner()
        self._url = database_url.replace("+asyncpg", "")
        self._connection = self._runner.run(asyncpg.connect(self._url))
        self._bucket = bucket
        self._s3 = bucket.client() if bucket else None

    def close(self) -> None:
        self._runner.run(self._connection.close())
        self._runner.close()

    def sql(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database; while a killed server recovers, for as long as that takes."""
        return self._runner.run(self._ask(statement, arguments))

    async def _ask(self, statement: str, arguments: tuple[object, ...]) -> list[asyncpg.Record]:
        deadline = time.monotonic() + RECOVERY_SECONDS
        while True:
            try:
                if self._connection.is_closed():
                    self._connection = await asyncpg.connect(self._url)
                rows: list[asyncpg.Record] = await self._connection.fetch(statement, *arguments)
                return rows
            except (
                OSError,
                asyncpg.InterfaceError,
                asyncpg.InternalClientError,
                asyncpg.PostgresError,
            ) as err:
                is_away = is_outage(err) if isinstance(err, asyncpg.PostgresError) else True
                if not is_away or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)

    def objects(self) -> dict[str, str]:
        """The checksum of every object, by key; on disk also of every file that is none.

        What says which store this is counts for neither.
        """
        if self._s3 is not None and self._bucket is not None:
            name = self._bucket.name
            keys = [
                found["Key"] for found in self._s3.list_objects_v2(Bucket=name).get("Contents", [])
            ]
            contents = [self._s3.get_object(Bucket=name, Key=key)["Body"].read() for key in keys]
        else:
            paths = [path for path in self._media.rglob("*") if path.is_file()]
            keys = [path.relative_to(self._media).as_posix() for path in paths]
            contents = [path.read_bytes() for path in paths]
        found = {key: hash_file(content) for key, content in zip(keys, contents, strict=True)}
        return {key: checksum for key, checksum in found.items() if key not in markers.KEYS}

    def uploads(self) -> list[str]:
        """The keys of unfinished uploads in parts; on disk they are drafts, which are objects."""
        if self._s3 is None or self._bucket is None:
            return []
        found = self._s3.list_multipart_uploads(Bucket=self._bucket.name).get("Uploads", [])
        return [upload["Key"] for upload in found]

    def make_account(self, name: str) -> tuple[int, datetime]:
        """Insert an account; return its number, and the database's time after that.

        It outlives a kill of the server, as an account does that a service made.
        """
        self.sql("SET synchronous_commit = on")
        made = account(name)
        ((account_id,),) = self.sql(made.statement, *made.arguments)
        ((now,),) = self.sql("SELECT clock_timestamp()")
        return account_id, now

    def make_due(self) -> None:
        """Let the time pass after which the reaper looks at
        what waits: expiries, backoffs, the age of drafts.
        """
        # As the reaper does, it skips what a stopped service has locked.
        waits = "SELECT id FROM stored_files WHERE state <> 'live' FOR UPDATE SKIP LOCKED"
        self.sql(f"UPDATE stored_files SET next_attempt_at = now() WHERE id IN ({waits})")
        for draft in self._media.glob(".drafts/*"):
            os.utime(draft, (0, 0))

    def leave_doomed(self) -> None:
        """Insert a row that nothing refers to and whose object is gone, for a reaper to finish."""
        storage = "'s3'" if self._bucket else "'local'"
        bucket = f"'{self._bucket.name}'" if self._bucket else "''"
        key = "'profile_pics/' || gen_random_uuid() || '.jpg'"
        self.sql(
            "INSERT INTO stored_files (storage, bucket, key, purpose, state, owner_id)"
            f" VALUES ({storage}, {bucket}, {key}, 'profile_picture', 'doomed', 0)"
        )

    def never_due(self) -> list[Finding]:
        """Rows that no reaper would look at within the longest backoff: an hour and a quarter."""
        rows = self.sql(
            "SELECT key, state FROM stored_files WHERE state <> 'live' AND tombstone_until IS NULL"
            " AND next_attempt_at > now() + interval '80 minutes'"
        )
        return [
            Finding("leaked", f"the {row['state']} row {row['key']} is not due for hours")
            for row in rows
        ]

    def let_a_day_pass(self) -> None:
        """Let the time of the tombstones pass."""
        self.sql("UPDATE stored_files SET tombstone_until = now() WHERE state = 'deleting'")

    def let_claims_end(self) -> None:
        """Let the time pass after which another service does
        what a dead one has begun, or has put off: thumbnails and jobs.

        A job that fails once more is tried again soon, as if it were for the first time.
        """
        self.sql(
            "UPDATE thumbnails SET claimed_until = claimed_until - $1::interval,"
            " retry_at = retry_at - $1::interval",
            CLAIMS_END,
        )
        self.sql(
            "UPDATE pgqueuer SET heartbeat = heartbeat - $1::interval,"
            " execute_after = execute_after - $1::interval, attempts = 0",
            CLAIMS_END,
        )

    def count_files(self) -> int:
        """How many rows of files there are."""
        ((count,),) = self.sql("SELECT count(*) FROM stored_files")
        return int(count)

    def find_newest_file(self) -> int:
        """The highest number of a row that there is."""
        ((newest_id,),) = self.sql("SELECT coalesce(max(id), 0) FROM stored_files")
        return int(newest_id)

    def clear(self) -> None:
        """After a finding: an empty database and store, so that it is counted once."""
        self.sql("TRUNCATE stored_files, users, pgqueuer CASCADE")
        for path in self._media.rglob("*"):
            if path.is_file() and path != self._media / markers.LOCAL_KEY:
                path.unlink()
        if self._s3 is not None and self._bucket is not None:
            name = self._bucket.name
            for key in self.objects():
                self._s3.delete_object(Bucket=name, Key=key)
            for upload in self._s3.list_multipart_uploads(Bucket=name).get("Uploads", []):
                self._s3.abort_multipart_upload(
                    Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"]
                )

    def _compare_store(
        self, rows: Mapping[int, asyncpg.Record], referred: set[int], is_a_day_later: bool
    ) -> Iterator[Finding]:
        """Compare rows with what refers to them, with the objects and with unfinished uploads."""
        objects = self.objects()
        for file_id in referred:
            row = rows[file_id]
            if row["state"] != "live" or objects.get(row["key"]) != row["sha256"]:
                how = "is there, but is another" if row["key"] in objects else "is not there"
                yield Finding("lost", f"the object of the {row['state']} {row['key']} {how}")
        for row in rows.values():
            rests = (
                row["state"] == "deleting"
                and row["tombstone_until"] is not None
                and not is_a_day_later
            )
            if not rests and (row["state"] != "live" or row["id"] not in referred):
                yield Finding("leaked", f"the {row['state']} row {row['key']} is left")
        # What a stopped process brought after its expiry is there until the tombstone ends.
        known = {
            row["key"] for row in rows.values() if row["state"] == "live" or not is_a_day_later
        }
        for key in objects.keys() - known:
            yield Finding("leaked", f"the object {key} is left")
        for key in self.uploads():
            if is_a_day_later or key not in known:
                yield Finding("leaked", f"an upload of {key} is open")

    def compare(
        self, accounts: Sequence[Account], originals: Originals, is_a_day_later: bool
    ) -> list[Finding]:
        """Every row has its object, every object its row,
        and each account shows what accepted requests left.

        After the reaper's pass only live rows are left, and tombstones until a
        day has passed. Each history goes on from what its account shows now.
        """
        rows = {row["id"]: row for row in self.sql("SELECT * FROM stored_files")}
        shown = {
            row["id"]: row["picture_id"] for row in self.sql("SELECT id, picture_id FROM users")
        }
        photos = self.sql(READ_PHOTOS)
        referred = [*shown.values(), *(photo["master_id"] for photo in photos)]
        referred += [photo["original_id"] for photo in photos]
        thumbnails = self.sql(READ_THUMBNAILS)
        referred += [thumbnail["file_id"] for thumbnail in thumbnails]
        singles = self.sql(READ_SINGLES)
        referred += [single["file_id"] for single in singles]
        referred_ids = {file_id for file_id in referred if file_id is not None}
        findings = list(self._compare_store(rows, referred_ids, is_a_day_later))
        findings += compare_thumbnails(thumbnails, originals)
        for owner in accounts:
            shows: str | None = GONE
            if owner.id in shown:
                picture_id = shown[owner.id]
                shows = rows[picture_id]["sha256"] if picture_id is not None else None
                owned = [photo for photo in photos if photo["owner_id"] == owner.id]
                findings += owner.gallery.compare(owned, originals.masters)
                made = [single for single in singles if single["owner_id"] == owner.id]
                findings += owner.singles.compare(made)
            if shows not in owner.history.possible():
                findings.append(
                    Finding("wrong", f"an account shows {shows}, which no accepted request left")
                )
            owner.history.restart(shows)
        return findings


class Pictures:
    """Small pictures unlike each other, made when they are first asked for. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[int, tuple[bytes, str]] = {}

    def __getitem__(self, number: int) -> tuple[bytes, str]:
        """One of them, with the checksum of what is made of it."""
        number %= PICTURES
        with self._lock:
            if number not in self._made:
                content = encoded(numbered(number, 320, 320), quality=90)
                checksum = process_profile_image(content).sha256
                assert checksum not in [other for _, other in self._made.values()]
                self._made[number] = content, checksum
            return self._made[number]
