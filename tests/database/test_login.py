"""Proves that logging in tells nobody, by the time it takes, which addresses have an account."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

import errors
from accounts import Limits, Login, Passwords, Tokens
from concurrency import Tasks
from config import Settings
from database import Database
from models import User
from storage import Stores
from tests.support.hashing import CountingHasher

PASSWORD = "correct horse battery"


def test_an_unknown_address_costs_as_many_hashes_as_a_wrong_password(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    hasher = CountingHasher()
    passwords = Passwords(hasher)
    url = new_database()

    async def attempt(
        login: Login,
        email: str,
        password: str,
        refusal: type[errors.DarkroomError] = errors.WrongCredentials,
    ) -> list[str]:
        hasher.calls.clear()
        with pytest.raises(refusal):
            await login.log_in(email, password)
        return list(hasher.calls)

    async def story() -> None:
        # A login answers with the user, whose picture has a URL of the stores.
        settings = Settings(data_dir=tmp_path, logins_per_account_per_minute=2)
        database = Database(url, 1, {"stores": Stores(settings)})
        limits = Limits(database, Tasks(), settings)
        login = Login(database, passwords, Tokens("x" * 32, 1), limits)
        try:
            async with database.session() as db:
                user = User(
                    username="ann",
                    username_folded="ann",
                    email="ann@example.com",
                    email_folded="ann@example.com",
                    password_hash=await passwords.hash(PASSWORD),
                )
                db.add(user)
                await db.commit()
            assert await login.log_in("Ann@Example.com", PASSWORD)
            wrong = await attempt(login, "ann@example.com", "wrong password")
            assert wrong == ["verify"]
            for unknown in ("ben@example.com", "", "nul\x00", "x" * 10_000):
                assert await attempt(login, unknown, "nobody's") == wrong
            # Who has tried too often, with whatever password, costs no hash at all.
            refused = await attempt(login, "ann", PASSWORD, errors.TooManyAttempts)
            assert refused == []
        finally:
            await database.dispose()

    asyncio.run(story())
