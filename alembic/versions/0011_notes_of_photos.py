"""What was changed of a photo on the way from its original to its master."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # Of older photos nothing is known; and a service of the version before says nothing.
    op.add_column(
        "photos",
        sa.Column("notes", sa.ARRAY(sa.String(length=30)), server_default="{}", nullable=False),
    )


def downgrade() -> None:
    op.drop_column("photos", "notes")
