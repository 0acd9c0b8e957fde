"""Names that show alike are the same: their folded form leaves out what shows nothing."""

import unicodedata
from collections.abc import Callable, Sequence

import regex
import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# Only a name with several spaces, or with more than ASCII, may have another form now.
FIND = sa.text(
    "SELECT id, username, username_folded FROM users"
    " WHERE octet_length(username) > length(username) OR username LIKE '%  %'"
)
# Of two old names that are the same now, one keeps its old form: its account logs in by its
# e-mail address.
CHANGE = sa.text(
    "UPDATE users SET username_folded = :folded WHERE id = :id"
    " AND NOT EXISTS (SELECT FROM users WHERE username_folded = :folded)"
)


def upgrade() -> None:
    _fold_all(_fold_name)


def downgrade() -> None:
    _fold_all(_fold)


def _fold_all(fold: Callable[[str], str]) -> None:
    connection = op.get_bind()
    for account_id, name, folded in connection.execute(FIND).all():
        if fold(name) != folded:
            connection.execute(CHANGE, {"id": account_id, "folded": fold(name)})


def _fold_name(name: str) -> str:
    name = regex.sub(r"\p{Zs}+", " ", name)
    return _fold(regex.sub(r"\p{Default_Ignorable_Code_Point}", "", _fold(name)))


def _fold(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
