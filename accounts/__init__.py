"""Who is asking, and how often: passwords, tokens, limits, the account behind a request.

What an account owns is not known here; its rows are in `models`, its files in `files`.
"""

from accounts.identity import (
    CurrentUser,
    DeletableUser,
    EditableUser,
    ListedUserId,
    Login,
    OptionalUser,
    RequestPasswords,
    UserId,
    lock_account,
)
from accounts.limits import Limits, RequestLimits
from accounts.passwords import Passwords
from accounts.tokens import Tokens

__all__ = [
    "CurrentUser",
    "DeletableUser",
    "EditableUser",
    "Limits",
    "ListedUserId",
    "Login",
    "OptionalUser",
    "Passwords",
    "RequestLimits",
    "RequestPasswords",
    "Tokens",
    "UserId",
    "lock_account",
]
