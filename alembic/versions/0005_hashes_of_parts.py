"""Room for a hash that is composed of those of a file's parts, with their number behind it."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.alter_column("stored_files", "sha256", type_=sa.String(length=72))


def downgrade() -> None:
    # What was composed no earlier version can tell: it would call the file damaged.
    op.execute("UPDATE stored_files SET sha256 = left(sha256, 64)")
    op.alter_column("stored_files", "sha256", type_=sa.String(length=64))
