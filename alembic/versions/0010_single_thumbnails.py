"""Thumbnails of which nothing else is kept, and keys of requests that made one."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "single_thumbnails",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=False),
        sa.Column("file_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name="single_thumbnails_owner_id_fkey", ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["file_id"],
            ["stored_files.id"],
            name="single_thumbnails_file_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("file_id", name="single_thumbnails_file_id_key"),
    )
    op.create_index(
        "single_thumbnails_owner_index", "single_thumbnails", ["owner_id", sa.text("(-id)")]
    )
    op.alter_column("idempotency_keys", "photo_id", new_column_name="made_id")


def downgrade() -> None:
    # Nobody could show or delete them any more: the reaper deletes them.
    op.execute(
        "UPDATE stored_files SET state = 'doomed', next_attempt_at = now()"
        " WHERE state = 'live' AND id IN (SELECT file_id FROM single_thumbnails)"
    )
    op.drop_table("single_thumbnails")
    op.alter_column("idempotency_keys", "made_id", new_column_name="photo_id")
