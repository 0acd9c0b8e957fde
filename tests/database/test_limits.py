"""The buckets of tries: what they hold, that they fill by the database's clock, and go."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from accounts import Limits, limits
from concurrency import Tasks
from config import Settings
from database import Database, Row, Statement
from errors import TooManyAttempts

QUOTA = 3
WINDOW_SECONDS = 60
OLDER = "UPDATE rate_buckets SET full_at = full_at - make_interval(secs => {})"
Story = Callable[[Limits, Database], Coroutine[Any, Any, None]]


@pytest.fixture
def run(
    new_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Runs a story with limits of this quota on a new database, which it is given."""
    monkeypatch.setattr(limits, "REMEMBERED_SECONDS", 0.0)

    def run_story(story: Story, quota: int = QUOTA) -> None:
        url = new_database()
        settings = Settings(
            data_dir=tmp_path,
            logins_per_account_per_minute=quota,
            logins_per_address_per_minute=2 * quota,
            registrations_per_address_per_hour=quota,
        )

        async def main() -> None:
            database = Database(url, 4)
            tasks = Tasks()
            try:
                await story(Limits(database, tasks, settings), database)
            finally:
                await tasks.wait_for_all(10)
                await database.dispose()

        asyncio.run(main())

    return run_story


async def ask(database: Database, sql: str) -> list[Row]:
    return await database.fetch(Statement(text(sql)))


async def count(work: Callable[[], Coroutine[Any, Any, None]], times: int) -> list[str | None]:
    """Try so often at once; the policy that refused each, or None."""

    async def attempt() -> str | None:
        try:
            await work()
        except TooManyAttempts as err:
            assert err.headers is not None
            return err.headers["RateLimit"].split(";")[0].strip('"')
        return None

    return sorted(await asyncio.gather(*(attempt() for _ in range(times))), key=str)


async def log_in(limits: Limits, address: str | None, account: int | str) -> None:
    await limits.count_login_from(address)
    await limits.count_login(account)


def test_of_many_tries_at_once_as_many_are_granted_as_the_bucket_holds(
    run: Callable[..., None],
) -> None:
    async def story(limits: Limits, database: Database) -> None:
        told = await count(lambda: log_in(limits, None, "ann"), 4 * QUOTA)
        assert told == [None] * QUOTA + ["login-account"] * 3 * QUOTA
        # Of another's, of another sort, and for another address it says nothing.
        await log_in(limits, None, "ben")
        assert await count(lambda: log_in(limits, None, 17), QUOTA) == [None] * QUOTA
        await log_in(limits, None, "17")
        await limits.count_password(None, 1)
        told = await count(lambda: limits.count_registration("192.0.2.1"), 2 * QUOTA)
        assert told == [None] * QUOTA + ["registration-address"] * QUOTA
        await limits.count_registration("192.0.2.2")

    run(story)


def test_what_is_refused_to_an_address_costs_no_account_a_token(run: Callable[..., None]) -> None:
    async def story(limits: Limits, database: Database) -> None:
        for number in range(2 * QUOTA):
            await log_in(limits, "192.0.2.1", number)
        told = await count(lambda: log_in(limits, "192.0.2.1", "ann"), 2 * QUOTA)
        assert told == ["login-address"] * 2 * QUOTA
        assert await count(lambda: log_in(limits, None, "ann"), QUOTA) == [None] * QUOTA

    run(story)


def test_a_bucket_fills_with_the_time_of_the_database_and_says_when(
    run: Callable[..., None],
) -> None:
    async def story(limits: Limits, database: Database) -> None:
        await count(lambda: log_in(limits, None, "ann"), QUOTA)
        with pytest.raises(TooManyAttempts) as caught:
            await log_in(limits, None, "ann")
        headers = caught.value.headers
        assert headers is not None
        wait_seconds = int(headers["Retry-After"])
        assert 0 < wait_seconds <= WINDOW_SECONDS / QUOTA
        assert headers["RateLimit-Policy"] == f'"login-account";q={QUOTA};w={WINDOW_SECONDS}'
        assert headers["RateLimit"] == f'"login-account";r=0;t={wait_seconds}'
        assert str(wait_seconds) in caught.value.detail
        await ask(database, OLDER.format(wait_seconds))
        assert await count(lambda: log_in(limits, None, "ann"), 2) == [None, "login-account"]
        # It holds no more than its quota, however long nobody tried.
        await ask(database, OLDER.format(100 * WINDOW_SECONDS))
        told = await count(lambda: log_in(limits, None, "ann"), QUOTA + 1)
        assert told == [None] * QUOTA + ["login-account"]

    run(story)


def test_a_refusal_is_told_again_for_a_moment_without_asking_the_database(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REMEMBERED_SECONDS", 60.0)
    monkeypatch.setattr(limits, "MOST_REFUSALS", 2)

    async def story(limits: Limits, database: Database) -> None:
        assert (await count(lambda: limits.count_login("ann"), 2 * QUOTA)).count(None) == QUOTA
        await ask(database, OLDER.format(WINDOW_SECONDS))
        assert await count(lambda: limits.count_login("ann"), 2) == ["login-account"] * 2
        for name in ("ben", "cat"):  # too many to be remembered
            await count(lambda name=name: limits.count_login(name), 2 * QUOTA)  # type: ignore[misc]
        assert None in await count(lambda: limits.count_login("ann"), 1)

    run(story)


def test_a_quota_of_0_counts_nothing(run: Callable[..., None]) -> None:
    async def story(limits: Limits, database: Database) -> None:
        await count(lambda: log_in(limits, "192.0.2.1", "ann"), 50)
        await count(lambda: limits.count_password("192.0.2.1", 1), 50)
        await count(lambda: limits.count_registration("192.0.2.1"), 50)
        assert await ask(database, "SELECT count(*) FROM rate_buckets") == [(0,)]

    run(story, quota=0)


def test_full_buckets_go_and_none_names_anybody(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CLEANING_INTERVAL_SECONDS", 0.0)

    async def story(limits: Limits, database: Database) -> None:
        for number in range(20):
            await log_in(limits, f"192.0.2.{number}", f"ann{number}@example.com")
        await ask(database, OLDER.format(WINDOW_SECONDS))
        await log_in(limits, None, "ben@example.com")
        await limits._tasks.wait_for_all(10)
        rows = await ask(database, "SELECT key FROM rate_buckets")
        assert len(rows) == 1 and len(rows[0][0]) == 32
        # Whoever reads the table cannot find out by trying.
        others = Limits(
            database, limits._tasks, Settings(secret_key=SecretStr("0123456789abcdef" * 2))
        )
        assert rows[0][0] == limits._hash("login-account 'ben@example.com'")
        assert rows[0][0] != others._hash("login-account 'ben@example.com'")
        is_logged = "SELECT relpersistence FROM pg_class WHERE relname = 'rate_buckets'"
        assert await ask(database, is_logged) == [(b"u",)]

    run(story)
