"""Access tokens: signed by this service, for one account, until they expire or are ended.

A token keeps its time of issue by the database's clock, to the microsecond, and is void for an
account whose `tokens_valid_after` is as late; that comparison is identity.py's.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from errors import InvalidToken, TokenExpired

ALGORITHM = "HS256"
AUDIENCE = "access"


@dataclass(frozen=True)
class Claims:
    """What a valid token says."""

    user_id: int
    issued_at: float  # seconds since 1970, by the database's clock


class Tokens:
    """Issues and reads the tokens of one application, which knows the secret."""

    def __init__(self, secret: str, expire_minutes: int) -> None:
        self._secret = secret
        self._lifetime = timedelta(minutes=expire_minutes)

    @property
    def lifetime_seconds(self) -> int:
        """How long a token is good for."""
        return int(self._lifetime.total_seconds())

    def issue(self, user_id: int, issued_at: datetime) -> str:
        """Sign a token. `issued_at` keeps its microseconds: two of one second are told apart."""
        claims = {
            "sub": str(user_id),
            "iat": issued_at.timestamp(),
            "exp": datetime.now(UTC) + self._lifetime,
            "aud": AUDIENCE,
        }
        return jwt.encode(claims, self._secret, ALGORITHM)

    def read(self, token: str) -> Claims:
        """Check the signature and the time. Raises TokenExpired or InvalidToken."""
        try:
            # `iat` is compared with the database's clock,
            # not checked against ours, which may lag behind it.
            claims: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                [ALGORITHM],
                audience=AUDIENCE,
                options={"require": ["sub", "iat", "exp"], "verify_iat": False},
            )
        except jwt.ExpiredSignatureError as err:
            raise TokenExpired from err
        except jwt.InvalidTokenError as err:
            raise InvalidToken from err
        is_id = re.fullmatch("[0-9]{1,18}", claims["sub"])
        if not is_id or not isinstance(claims["iat"], int | float):
            raise InvalidToken
        return Claims(int(claims["sub"]), claims["iat"])
