"""Passwords that are guessed first are refused; long ones that nobody guesses are not."""

import pytest

from credentials import check_new_password
from credentials.passwords import COMMON_PASSWORDS

KNOWN = ("Alice Liddell", "wonderland@example.com")


@pytest.mark.parametrize(
    "password",
    [
        *(
            "password",
            "12345678",
            "PASSWORD",
            "PassWord1",
            " password ",
            "password\t",
            "qwertyuiop",
        ),
        # Full-width and mathematical letters.
        *(
            "\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44",
            "\U0001d429\U0001d41a\U0001d42c\U0001d42c\U0001d430\U0001d428\U0001d42b\U0001d41d",
        ),
        *(" " * 8, "\u3000" * 8, " \t\n\u2003\u00a0 \t "),
        *("darkroom", "Darkroom2026!", "1-profile_picture", "my darkroom"),
        *("alice liddell", "ALICE LIDDELL ", "Wonderland", "wonderland@EXAMPLE.com"),
    ],
    ids=ascii,
)
def test_what_is_guessed_first_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match=r"^(A|This) password .*\.$"):
        check_new_password(password, *KNOWN)


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "a darkroom in 1839",
        "x" * 256,
        "alice liddell!",
        "пароль-пароль",
        "a+b&c=d%20",
    ],
)
def test_what_nobody_guesses_is_taken(password: str) -> None:
    check_new_password(password, *KNOWN)


def test_the_list_says_where_it_is_from_and_under_which_licence() -> None:
    written = COMMON_PASSWORDS.read_text().splitlines()
    head = " ".join(line for line in written if line.startswith("# "))
    assert "https://gist.github.com/roycewilliams/" in head and "BSD-3-Clause" in head
    assert "Django" in COMMON_PASSWORDS.with_suffix(".LICENSE").read_text()
    lines = [line for line in written if not line.startswith("# ")]
    assert len(lines) > 8000
    assert all(len(line) >= 8 and line == line.casefold().strip() for line in lines)
