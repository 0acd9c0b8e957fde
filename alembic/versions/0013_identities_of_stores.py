"""Which store lies where, and what this database has written into its marker."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "store_places",
        sa.Column("storage", sa.String(length=50), nullable=False),
        sa.Column("bucket", sa.String(length=255), nullable=False),
        sa.Column("store_id", sa.Uuid(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("storage", "bucket", name="store_places_pkey"),
    )
    op.create_table(
        "store_leases",
        sa.Column("store_id", sa.Uuid(), nullable=False),
        sa.Column("tokens", sa.ARRAY(sa.String(length=36)), nullable=False),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("store_id"),
    )


def downgrade() -> None:
    # The markers stay; a service that knows them again takes their ids, and waits for adopt-store.
    op.drop_table("store_leases")
    op.drop_table("store_places")
