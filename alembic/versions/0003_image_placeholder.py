"""What a page can paint before a picture arrives."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("stored_files", sa.Column("dominant_colour", sa.String(length=7), nullable=True))
    op.add_column("stored_files", sa.Column("thumbhash", sa.String(length=40), nullable=True))


def downgrade() -> None:
    op.drop_column("stored_files", "thumbhash")
    op.drop_column("stored_files", "dominant_colour")
