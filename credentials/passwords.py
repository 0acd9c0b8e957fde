"""Which passwords are refused because they are guessed first, whatever their length.

Those are the common ones (`common_passwords.txt` tells where the list is from), what the service is
called, white space, and what else anybody knows of the account.
"""

import functools
import unicodedata
from pathlib import Path

# What the service is called and is for, whatever digits and signs stand around and between.
SERVICE_WORDS = frozenset(
    {"darkroom", "darkroompassword", "mydarkroom", "profilepicture", "profilepictures"}
)
COMMON_PASSWORDS = Path(__file__).with_name("common_passwords.txt")


def check_new_password(password: str, *known: str) -> None:
    """Raise ValueError, with a sentence for who sent it, for one that is guessed first.

    `known` is what the account is known by: its name and its e-mail address.
    """
    folded = _fold(password)
    if not folded:
        raise ValueError("A password may not be white space alone.")
    if folded in _load_common():
        raise ValueError(
            "This password is one of those that are tried first. Please choose another."
        )
    if "".join(filter(str.isalpha, folded)) in SERVICE_WORDS:
        raise ValueError("A password may not be the name of this service.")
    for name in known:
        if folded in (_fold(name), _fold(name.partition("@")[0])):
            raise ValueError("A password may not be the name or the e-mail address.")


def _fold(text: str) -> str:
    """Let no password be new because of its case, its width or the white space around it."""
    return unicodedata.normalize("NFKC", text).casefold().strip()


@functools.cache
def _load_common() -> frozenset[str]:
    lines = COMMON_PASSWORDS.read_text().splitlines()
    return frozenset(line for line in lines if not line.startswith("# "))
