"""Who is asking: passwords, tokens, and the account behind a request.

What an account owns is not known here; its rows are in `models`, its files in `files`.
"""

from accounts.identity import (
    CurrentUser,
    EditableUser,
    ListedUserId,
    Login,
    OptionalUser,
    RequestPasswords,
    UserId,
    lock_account,
)
from accounts.passwords import Passwords
from accounts.tokens import Tokens

__all__ = [
    "CurrentUser",
    "EditableUser",
    "ListedUserId",
    "Login",
    "OptionalUser",
    "Passwords",
    "RequestPasswords",
    "Tokens",
    "UserId",
    "lock_account",
]
