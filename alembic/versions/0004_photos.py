"""Photos, uploads in parts, and requests that may be sent again."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("stored_files", sa.Column("upload_id", sa.Text(), nullable=True))
    op.create_index(
        "stored_files_owner_index",
        "stored_files",
        ["owner_id"],
        postgresql_where=sa.text("state = 'live'"),
    )
    op.create_table(
        "photos",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=False),
        sa.Column("original_id", sa.BigInteger(), nullable=True),
        sa.Column("master_id", sa.BigInteger(), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("caption", sa.Text(), nullable=False),
        sa.Column("alt", sa.Text(), nullable=False),
        sa.Column("visibility", sa.String(length=10), nullable=False),
        sa.Column("content_type", sa.String(length=100), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("removed_metadata", sa.ARRAY(sa.String(length=20)), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("visibility IN ('public', 'private')", name="photos_visibility_check"),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name="photos_owner_id_fkey", ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["original_id"],
            ["stored_files.id"],
            name="photos_original_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["master_id"], ["stored_files.id"], name="photos_master_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("master_id", name="photos_master_id_key"),
        sa.UniqueConstraint("original_id", name="photos_original_id_key"),
    )
    op.create_index("photos_owner_index", "photos", ["owner_id", "visibility", sa.text("(-id)")])
    op.create_index(
        "photos_public_index",
        "photos",
        [sa.text("id DESC")],
        postgresql_where=sa.text("visibility = 'public'"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("owner_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("claim", sa.Uuid(), nullable=False),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("photo_id", sa.BigInteger(), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name="idempotency_keys_owner_id_fkey", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("owner_id", "key", name="idempotency_keys_pkey"),
    )
    op.create_index("idempotency_keys_age_index", "idempotency_keys", ["created_at"])


def downgrade() -> None:
    op.drop_table("idempotency_keys")
    op.drop_table("photos")
    # The files of photos are let go of: the reaper deletes them.
    op.execute(
        "UPDATE stored_files SET state = 'doomed', next_attempt_at = now()"
        " WHERE state = 'live'"
        " AND purpose IN ('photo_original', 'photo_master', 'private_photo_master')"
    )
    op.drop_index("stored_files_owner_index", "stored_files")
    op.drop_column("stored_files", "upload_id")
