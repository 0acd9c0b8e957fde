"""Why a deletion failed, which database this is, and what sweeps found unexplained."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("stored_files", sa.Column("last_error", sa.String(length=100), nullable=True))
    op.create_table(
        "installation",
        sa.Column("is_only", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.CheckConstraint("is_only", name="installation_is_only_check"),
        sa.PrimaryKeyConstraint("is_only"),
        if_not_exists=True,
    )
    op.execute("INSERT INTO installation DEFAULT VALUES ON CONFLICT DO NOTHING")
    op.create_table(
        "sightings",
        sa.Column("storage", sa.String(length=50), nullable=False),
        sa.Column("bucket", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column(
            "first_seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "last_seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("storage", "bucket", "key"),
    )


def downgrade() -> None:
    """Go back, but keep the table of the one id: stores are marked with it."""
    op.drop_table("sightings")
    op.drop_column("stored_files", "last_error")
