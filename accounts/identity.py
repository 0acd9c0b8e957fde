"""Who is asking: logging in, and the accounts that a route may see or change.

Each dependency settles the identity in a short transaction of its own, which is over before a
byte of a body is read.
"""

import logging
from typing import Annotated, Literal

from fastapi import Depends, Path, Request
from fastapi.security import OAuth2PasswordBearer
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import lazyload

import logs
from accounts.limits import RequestLimits
from accounts.passwords import Passwords
from accounts.tokens import Tokens
from credentials import fold, fold_name, normalize_name
from database import RequestDatabase
from errors import (
    InvalidToken,
    LoginAgain,
    NotAuthenticated,
    NotYours,
    UserNotFound,
    WrongCredentials,
)
from logs import Event
from models import User
from schemas import AddressId, Token, UserPrivate, normalize_email

logger = logging.getLogger(__name__)

_bearer = OAuth2PasswordBearer(tokenUrl="users/token", auto_error=False)
UserId = Annotated[AddressId, Path()]
# Long enough to make up one's mind; whoever finds an open session comes later.
RECENT_LOGIN_SECONDS = 15 * 60
# In place of the own id. (GET /users/me is a route of its own: it shows more than others see.)
ME = "me"
UserIdOrMe = Annotated[UserId | Literal["me"], Path()]


def _get_passwords(request: Request) -> Passwords:
    passwords: Passwords = request.app.state.passwords
    return passwords


def _get_tokens(request: Request) -> Tokens:
    tokens: Tokens = request.app.state.tokens
    return tokens


# FastAPI dependencies: those on `request.app.state`.
RequestPasswords = Annotated[Passwords, Depends(_get_passwords)]
RequestTokens = Annotated[Tokens, Depends(_get_tokens)]


class Login:
    """Logs people in; a dependency."""

    def __init__(
        self,
        database: RequestDatabase,
        passwords: RequestPasswords,
        tokens: RequestTokens,
        limits: RequestLimits,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._tokens = tokens
        self._limits = limits

    async def log_in(
        self, name_or_address: str, password: str, client_address: str | None = None
    ) -> Token:
        """Return a token, and whose it is.

        Raises WrongCredentials, alike for an unknown account and a wrong password; and
        TooManyAttempts before it has looked at the password.
        """
        await self._limits.count_login_from(client_address)
        async with self._database.reader() as db:
            # The database's clock, so that tokens and `tokens_valid_after`
            # compare whatever server made them.
            found = await db.execute(
                select(User, func.clock_timestamp()).where(_names_account(name_or_address))
            )
            account = found.one_or_none()
        # By its name and by its e-mail address one account has the same bucket.
        counted = account[0].id if account else fold(name_or_address)
        await self._limits.count_login(counted)
        password_hash = account[0].password_hash if account else None
        if not await self._passwords.match(password, password_hash) or account is None:
            about = account[0].id if account else None
            logger.warning("login failed", extra={"event": Event.LOGIN_FAILED, "about": about})
            raise WrongCredentials
        user, now = account
        logs.note_account(user.id)
        logger.info("logged in", extra={"event": Event.LOGIN_OK, "about": user.id})
        return Token(
            access_token=self._tokens.issue(user.id, now),
            expires_in=self._tokens.lifetime_seconds,
            user=UserPrivate.model_validate(user),
        )


def _names_account(name_or_address: str) -> ColumnElement[bool]:
    """The condition on the account that this names.

    What has an @ is an address: a name of old that looks like one is never taken for it.
    """
    try:
        if "@" in fold(name_or_address):
            return User.email_folded == fold(normalize_email(name_or_address))
        return User.username_folded == fold_name(normalize_name(name_or_address))
    except ValueError:
        return User.username_folded == ""  # no account's, and it costs the same time


async def _read_current_user(
    token: Annotated[str | None, Depends(_bearer)],
    tokens: RequestTokens,
    database: RequestDatabase,
) -> User:
    if token is None:
        raise NotAuthenticated
    claims = tokens.read(token)
    async with database.reader() as db:
        user = await db.get(User, claims.user_id)
    if user is None or user.tokens_valid_after.timestamp() >= claims.issued_at:
        raise InvalidToken
    logs.note_account(user.id)
    return user


CurrentUser = Annotated[User, Depends(_read_current_user)]


async def _read_optional_user(
    token: Annotated[str | None, Depends(_bearer)],
    tokens: RequestTokens,
    database: RequestDatabase,
) -> User | None:
    return None if token is None else await _read_current_user(token, tokens, database)


# Whoever asks; None without a token. One that is not valid is refused as everywhere: its sender
# would take what anyone is shown for all that there is.
OptionalUser = Annotated[User | None, Depends(_read_optional_user)]


def _read_listed_user_id(user_id: UserIdOrMe, viewer: OptionalUser) -> int:
    if isinstance(user_id, int):
        return user_id
    if viewer is None:
        raise NotAuthenticated
    return viewer.id


# The account that the path names, which anyone may ask about. It may not exist.
ListedUserId = Annotated[int, Depends(_read_listed_user_id)]


async def _read_editable_user(
    user_id: UserIdOrMe, current: CurrentUser, database: RequestDatabase
) -> User:
    if user_id in (ME, current.id):
        return current
    if not current.is_admin:
        raise NotYours
    async with database.reader() as db:
        user = await db.get(User, user_id)
    if user is None:
        raise UserNotFound
    logger.info("acts as an admin", extra={"event": Event.ADMIN_ACT, "about": user.id})
    return user


# The account that the path names, when the one who asks may change it: its owner or an admin.
EditableUser = Annotated[User, Depends(_read_editable_user)]


async def _read_deletable_user(
    user: EditableUser,
    current: CurrentUser,
    token: Annotated[str | None, Depends(_bearer)],
    tokens: RequestTokens,
    database: RequestDatabase,
) -> User:
    """Raise LoginAgain where a token that may have been stolen would delete its own account.

    A token is good from the login on that issued it, and no other request makes one.
    """
    assert token is not None
    if user.id == current.id:
        async with database.reader() as db:
            now = await db.scalar(select(func.clock_timestamp()))
        assert now is not None
        if now.timestamp() - tokens.read(token).issued_at > RECENT_LOGIN_SECONDS:
            raise LoginAgain
    return user


# The account that the path names, when the one who asks may delete it.
DeletableUser = Annotated[User, Depends(_read_deletable_user)]


async def lock_account(db: AsyncSession, user_id: int) -> User:
    """Lock an account's row and read it with its picture; raises UserNotFound.

    Two statements: in a join that had to wait, Postgres reads the locked row anew but the joined
    one as it was before the wait, and the picture is missed.
    """
    user = await db.get(
        User,
        user_id,
        options=[lazyload(User.picture)],
        with_for_update=True,
        populate_existing=True,
    )
    if user is None:
        raise UserNotFound
    await db.refresh(user, ["picture"])
    return user
