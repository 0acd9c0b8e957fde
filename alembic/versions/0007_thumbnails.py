"""Thumbnails of photos, and one name for what is shown of a photo."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# Of the purposes that tell one kind of file from another: as they were, and as they are.
RENAMED = {
    "photo_master": "photo_rendition",
    "private_photo_master": "private_photo_rendition",
}


def upgrade() -> None:
    op.create_table(
        "thumbnails",
        sa.Column("photo_id", sa.BigInteger(), nullable=False),
        sa.Column("master_id", sa.BigInteger(), nullable=False),
        sa.Column("rendition", sa.String(length=40), nullable=False),
        sa.Column("version", sa.SmallInteger(), nullable=False),
        sa.Column("file_id", sa.BigInteger(), nullable=True),
        sa.Column("claim", sa.Uuid(), nullable=True),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["photo_id"], ["photos.id"], name="thumbnails_photo_id_fkey", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["file_id"], ["stored_files.id"], name="thumbnails_file_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint(
            "photo_id", "master_id", "rendition", "version", name="thumbnails_pkey"
        ),
        sa.UniqueConstraint("file_id", name="thumbnails_file_id_key"),
    )
    for old, new in RENAMED.items():
        _rename_purpose(old, new)


def downgrade() -> None:
    # What was made is made again when it is asked for: the reaper deletes it.
    op.execute(
        "UPDATE stored_files SET state = 'doomed', next_attempt_at = now()"
        " WHERE state = 'live' AND id IN (SELECT file_id FROM thumbnails)"
    )
    op.drop_table("thumbnails")
    for old, new in RENAMED.items():
        _rename_purpose(new, old)


def _rename_purpose(old: str, new: str) -> None:
    rename = sa.text("UPDATE stored_files SET purpose = :new WHERE purpose = :old")
    op.get_bind().execute(rename, {"old": old, "new": new})
