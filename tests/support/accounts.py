"""Accounts that are made without HTTP: a row and a token, in a tenth of the time of registering."""

import functools
from pathlib import Path

from accounts import Tokens
from accounts.passwords import make_argon2
from tests.support.services import Account, Service

PASSWORD = "the same for everybody"
# For longer than the tests run.
TOKEN_MINUTES = 60


def make_account(service: Service, name: str) -> Account:
    """Make an account of a running service, logged in, as registering would."""
    email = f"{name}@example.com"
    ((account_id, now),) = service.sql(
        "INSERT INTO users (username, username_folded, email, email_folded, password_hash)"
        " VALUES ($1, $1, $2, $2, $3) RETURNING id, clock_timestamp()",
        name,
        email,
        _hash_password(),
    )
    secret = (Path(service.settings["DATA_DIR"]) / "secret_key").read_text().strip()
    token = Tokens(secret, TOKEN_MINUTES).issue(account_id, now)
    return Account(account_id, email, PASSWORD, token)


@functools.cache
def _hash_password() -> str:
    """Hash it once: to be slow is what the hash is for."""
    return make_argon2().hash(PASSWORD)
