"""Who is asking: passwords, tokens, and the accounts that a route may see or change.

Each dependency settles the identity in a short transaction of its own, which is
over before a byte of a body is read. Hashing runs in the thread pool, as many
at once as there are cores, so that neither the loop nor the memory suffers.
"""

import asyncio
import functools
import os
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import jwt
from fastapi import Depends, Path
from fastapi.security import OAuth2PasswordBearer
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import func, select
from starlette.concurrency import run_in_threadpool

from config import settings
from database import session
from errors import (
    Busy,
    InvalidToken,
    NotAuthenticated,
    NotYours,
    TokenExpired,
    UserNotFound,
    WrongCredentials,
)
from models import User, fold
from schemas import LARGEST_ID, is_text, normalized_email

ALGORITHM = "HS256"
# OWASP's password storage cheat sheet: argon2id with 19 MiB, two passes, one lane.
ARGON2_MEMORY_KIB = 19 * 1024
ARGON2_PASSES = 2
# A hash takes some 30 ms: this is a queue of hundreds.
HASHING_WAIT_SECONDS = 10

_passwords = PasswordHash(
    (Argon2Hasher(time_cost=ARGON2_PASSES, memory_cost=ARGON2_MEMORY_KIB, parallelism=1),)
)
_hashing = asyncio.Semaphore(os.cpu_count() or 1)

_bearer = OAuth2PasswordBearer(tokenUrl=f"{settings.api_prefix}/users/token", auto_error=False)
UserId = Annotated[int, Path(ge=1, le=LARGEST_ID)]


def prepare() -> None:
    """Read or make the secret, and hash nobody's password, before the first request needs them."""
    _key()
    _nobody_hash()


async def hash_password(password: str) -> str:
    """Hash with argon2id. Raises Busy when too many are waiting."""
    return str(await _in_hashing_slot(_passwords.hash, password))


async def password_matches(password: str, password_hash: str | None) -> bool:
    """Compare in the same time whether or not there is
    an account; raises Busy when too many are waiting.
    """
    text = password if is_text(password) else ""
    matches = await _in_hashing_slot(_passwords.verify, text, password_hash or _nobody_hash())
    return bool(matches) and password_hash is not None


async def log_in(email: str, password: str) -> str:
    """Return a token.

    Raises WrongCredentials, alike for an unknown address and a wrong password.
    """
    try:
        address = fold(normalized_email(email))
    except ValueError:
        address = ""  # no account's, and it costs the same time
    async with session() as db:
        # The database's clock, so that tokens and
        # `tokens_valid_after` compare whatever server made them.
        found = await db.execute(
            select(User.id, User.password_hash, func.clock_timestamp()).where(
                User.email_folded == address
            )
        )
        account = found.one_or_none()
    if not await password_matches(password, account[1] if account else None) or account is None:
        raise WrongCredentials
    return issue_token(account[0], account[2])


def issue_token(user_id: int, issued_at: datetime) -> str:
    """Sign an access token.

    `issued_at` keeps its microseconds: two tokens of one second are told apart.
    """
    expires_at = datetime.now(UTC) + timedelta(minutes=settings.access_token_expire_minutes)
    claims = {"sub": str(user_id), "iat": issued_at.timestamp(), "exp": expires_at, "aud": "access"}
    return jwt.encode(claims, _key(), ALGORITHM)


async def _current_user(token: Annotated[str | None, Depends(_bearer)]) -> User:
    if token is None:
        raise NotAuthenticated
    claims = _read_token(token)
    if not re.fullmatch("[0-9]{1,18}", claims["sub"]) or not isinstance(claims["iat"], int | float):
        raise InvalidToken
    async with session() as db:
        user = await db.get(User, int(claims["sub"]))
    if user is None or user.tokens_valid_after.timestamp() >= claims["iat"]:
        raise InvalidToken
    return user


def _read_token(token: str) -> dict[str, Any]:
    try:
        # `iat` is compared with the database's clock, not
        # checked against ours, which may lag behind it.
        claims: dict[str, Any] = jwt.decode(
            token,
            _key(),
            [ALGORITHM],
            audience="access",
            options={"require": ["sub", "iat", "exp"], "verify_iat": False},
        )
    except jwt.ExpiredSignatureError as err:
        raise TokenExpired from err
    except jwt.InvalidTokenError as err:
        raise InvalidToken from err
    return claims


CurrentUser = Annotated[User, Depends(_current_user)]


async def _editable_user(user_id: UserId, current: CurrentUser) -> User:
    if current.id == user_id:
        return current
    if not current.is_admin:
        raise NotYours
    async with session() as db:
        user = await db.get(User, user_id)
    if user is None:
        raise UserNotFound
    return user


# The account that the path names, when the one who asks may change it: its owner or an admin.
EditableUser = Annotated[User, Depends(_editable_user)]


async def _in_hashing_slot(function: Any, *arguments: str) -> Any:
    try:
        async with asyncio.timeout(HASHING_WAIT_SECONDS):
            await _hashing.acquire()
    except TimeoutError as err:
        raise Busy("Many people are logging in right now. Please try again in a moment.") from err
    call = asyncio.ensure_future(run_in_threadpool(function, *arguments))
    call.add_done_callback(_release_hashing_slot)
    return await asyncio.shield(call)


def _release_hashing_slot(call: "asyncio.Future[Any]") -> None:
    """Only now, when the thread has ended: whoever asked may have been cancelled long before."""
    _hashing.release()
    if not call.cancelled():
        call.exception()  # seen, also when nobody waits for it any more


@functools.cache
def _key() -> str:
    return settings.signing_secret()


@functools.cache
def _nobody_hash() -> str:
    """What an unknown account is checked against, so
    that it costs the same time as a wrong password.
    """
    return _passwords.hash(os.urandom(16).hex())
