"""Accounts and stored files: the first schema."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "stored_files",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("storage", sa.String(length=50), nullable=False),
        sa.Column("bucket", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("purpose", sa.String(length=50), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "state_changed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "next_attempt_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("tombstone_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("content_type", sa.String(length=100), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("width_px", sa.Integer(), nullable=True),
        sa.Column("height_px", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "state <> 'live' OR (content_type IS NOT NULL AND size_bytes IS NOT NULL"
            " AND sha256 IS NOT NULL AND width_px IS NOT NULL AND height_px IS NOT NULL)",
            name="stored_files_live_check",
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'live', 'doomed', 'deleting')", name="stored_files_state_check"
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("storage", "bucket", "key", name="stored_files_place_key"),
    )
    op.create_index(
        "stored_files_due_index",
        "stored_files",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("state <> 'live'"),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("username", sa.String(length=50), nullable=False),
        sa.Column("username_folded", sa.String(length=320), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("email_folded", sa.String(length=320), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=False),
        sa.Column("is_admin", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "tokens_valid_after",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("picture_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["picture_id"], ["stored_files.id"], name="users_picture_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("email_folded", name="users_email_folded_key"),
        sa.UniqueConstraint("picture_id", name="users_picture_id_key"),
        sa.UniqueConstraint("username_folded", name="users_username_folded_key"),
    )


def downgrade() -> None:
    op.drop_table("users")
    op.drop_index(
        "stored_files_due_index",
        table_name="stored_files",
        postgresql_where=sa.text("state <> 'live'"),
    )
    op.drop_table("stored_files")
