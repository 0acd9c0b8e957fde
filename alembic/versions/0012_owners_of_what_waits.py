"""The index of an owner's files has those, too, that wait in their grace."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    _make_index("state IN ('live', 'doomed')")


def downgrade() -> None:
    _make_index("state = 'live'")


def _make_index(condition: str) -> None:
    op.drop_index("stored_files_owner_index", "stored_files")
    op.create_index(
        "stored_files_owner_index",
        "stored_files",
        ["owner_id"],
        postgresql_where=sa.text(condition),
    )
