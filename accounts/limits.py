"""How often one may try: token buckets by address and by account, counted before any hashing.

A bucket is a row of the database, so that all processes count together and by its clock. Its key is
a keyed hash: the table tells nobody's name or address. A full bucket says nothing, and its row is
deleted.
"""

import hmac
import logging
import math
import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Float, LargeBinary, bindparam, case, delete, func, literal_column
from sqlalchemy.dialects.postgresql import insert

from concurrency import Tasks
from config import Settings
from database import LOWER_DURABILITY, Database, Statement
from errors import DatabaseUnavailable, TooManyAttempts
from models import RateBucket

logger = logging.getLogger(__name__)

MINUTE_SECONDS = 60
HOUR_SECONDS = 3600
# Rows of full buckets may lie for so long; they are as many as people tried meanwhile.
CLEANING_INTERVAL_SECONDS = 60.0
# Who tries all the time costs the database one statement in this time, and this process nothing.
REMEMBERED_SECONDS = 1.0
MOST_REFUSALS = 10_000
# Far below the time of one token, and far above what rounding to microseconds adds up to.
ROUNDING_SECONDS = 0.001


def _seconds(name: str) -> object:
    return func.make_interval(0, 0, 0, 0, 0, 0, bindparam(name, type_=Float))


# The bucket is kept as the time at which it is full again: one token is worth `token_seconds`, and
# it holds what is worth `window_seconds`.
_filling = insert(RateBucket).values(
    key=bindparam("key", type_=LargeBinary),
    full_at=func.now() + _seconds("token_seconds"),
    is_granted=True,
)
_full_at = func.greatest(RateBucket.full_at, func.now()) + _seconds("token_seconds")
_is_granted = _full_at <= func.now() + _seconds("window_seconds")
TAKE = Statement(
    _filling.on_conflict_do_update(
        constraint="rate_buckets_pkey",
        set_={
            "full_at": case((_is_granted, _full_at), else_=RateBucket.full_at),
            "is_granted": _is_granted,
        },
    ).returning(
        RateBucket.is_granted,
        func.extract("epoch", RateBucket.full_at - func.now()).label("full_in_seconds"),
        literal_column(LOWER_DURABILITY),
    )
)
FORGET_FULL = Statement(
    delete(RateBucket)
    .where(RateBucket.full_at < func.now())
    .returning(literal_column(LOWER_DURABILITY))
)


@dataclass(frozen=True)
class Policy:
    """So many tries of a sort in so many seconds; those of a quota of 0 are not counted."""

    name: str
    quota: int
    window_seconds: int

    @property
    def token_seconds(self) -> float:
        """After how long there is one more."""
        return self.window_seconds / self.quota


@dataclass(frozen=True)
class _Refusal:
    """Told again, without asking the database, until a time of the monotonic clock."""

    ends_at: float
    wait_seconds: int


class Limits:
    """Counts the tries of one application. Refuses with TooManyAttempts."""

    def __init__(self, database: Database, tasks: Tasks, settings: Settings) -> None:
        self._database = database
        self._tasks = tasks
        self._secret = settings.signing_secret().encode()
        self._cleaned_at = time.monotonic()
        self._refusals: dict[bytes, _Refusal] = {}
        by_account = (settings.logins_per_account_per_minute, MINUTE_SECONDS)
        by_address = (settings.logins_per_address_per_minute, MINUTE_SECONDS)
        registrations = settings.registrations_per_address_per_hour
        self._logins_of_account = Policy("login-account", *by_account)
        self._logins_of_address = Policy("login-address", *by_address)
        # Of its own: who knows an address can use up its logins, but not keep its owner, who is
        # logged in, from changing the password.
        self._passwords_of_account = Policy("password-account", *by_account)
        self._passwords_of_address = Policy("password-address", *by_address)
        self._registrations_of_address = Policy("registration-address", registrations, HOUR_SECONDS)

    async def count_login_from(self, address: str | None) -> None:
        """Count a login from an address, before the account is looked up."""
        await self._take(self._logins_of_address, address)

    async def count_login(self, account: int | str) -> None:
        """Count a login, of an account or of what was typed for one."""
        await self._take(self._logins_of_account, account)

    async def count_password(self, address: str | None, account: int) -> None:
        """Count a comparison with the password of who is logged in."""
        await self._take(self._passwords_of_address, address)
        await self._take(self._passwords_of_account, account)

    async def count_registration(self, address: str | None) -> None:
        """Count a registration."""
        await self._take(self._registrations_of_address, address)

    async def _take(self, policy: Policy, subject: int | str | None) -> None:
        """Take a token out of the subject's bucket. What has no subject is not counted.

        The address comes first everywhere: what it is refused costs no account a token.
        """
        if subject is None or policy.quota == 0:
            return
        # An account's number is another subject than a name of the same digits.
        key = self._hash(f"{policy.name} {subject!r}")
        refusal = self._refusals.get(key)
        if refusal is not None and time.monotonic() < refusal.ends_at:
            raise make_refusal(policy, refusal.wait_seconds)
        # Sent once more over a connection that was dead, it may take two.
        (row,) = await self._database.fetch(
            TAKE,
            key=key,
            token_seconds=policy.token_seconds,
            window_seconds=policy.window_seconds + ROUNDING_SECONDS,
        )
        self._clean_now_and_then()
        if not row["is_granted"]:
            full_in_seconds = float(row["full_in_seconds"])
            wait_seconds = full_in_seconds - policy.window_seconds + policy.token_seconds
            self._remember(key, wait_seconds)
            raise make_refusal(policy, max(1, math.ceil(wait_seconds)))

    def _remember(self, key: bytes, wait_seconds: float) -> None:
        """Ask no more for a moment: it will not be granted earlier."""
        if len(self._refusals) >= MOST_REFUSALS:
            self._refusals.clear()
        ends_at = time.monotonic() + min(wait_seconds, REMEMBERED_SECONDS)
        self._refusals[key] = _Refusal(ends_at, max(1, math.ceil(wait_seconds)))

    def _hash(self, subject: str) -> bytes:
        return hmac.digest(self._secret, f"rate bucket {subject}".encode(), "sha256")

    def _clean_now_and_then(self) -> None:
        if time.monotonic() - self._cleaned_at >= CLEANING_INTERVAL_SECONDS:
            self._cleaned_at = time.monotonic()
            self._tasks.start(self._clean())

    async def _clean(self) -> None:
        try:
            await self._database.fetch(FORGET_FULL)
        except DatabaseUnavailable as err:
            logger.warning("full buckets stay for another minute: %r", err.__cause__)


def make_refusal(policy: Policy, wait_seconds: int) -> TooManyAttempts:
    """Say what was too often and when there is more, in a sentence and in headers."""
    return TooManyAttempts(
        TooManyAttempts.template.format(seconds=wait_seconds),
        {
            "Retry-After": str(wait_seconds),
            # As draft-ietf-httpapi-ratelimit-headers-11 has them.
            "RateLimit-Policy": f'"{policy.name}";q={policy.quota};w={policy.window_seconds}',
            "RateLimit": f'"{policy.name}";r=0;t={wait_seconds}',
        },
    )


def _get_limits(request: Request) -> Limits:
    limits: Limits = request.app.state.limits
    return limits


# A FastAPI dependency: the one on `request.app.state`.
RequestLimits = Annotated[Limits, Depends(_get_limits)]
