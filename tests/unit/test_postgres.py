"""Proves that what a server refuses is told with the cure of that very refusal."""

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from postgres import explain_refusal

URL = make_url("postgresql+asyncpg://alice:secret@db.example.com/pictures")


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        ("permission denied for schema public", "GRANT USAGE, CREATE ON SCHEMA public TO alice"),
        ("permission denied for database pictures", "GRANT ALL ON DATABASE pictures TO alice"),
        ("must be owner of table users", "ALTER TABLE name OWNER TO alice for each"),
        ("permission denied for table alembic_version", "ALTER TABLE name OWNER TO alice for each"),
        ("permission denied to do so", "permission denied to do so"),
    ],
)
def test_each_missing_right_has_its_own_cure(said: str, cure: str) -> None:
    sentence = explain_refusal(asyncpg.InsufficientPrivilegeError(said), URL)
    assert cure in sentence
    assert "secret" not in sentence
