"""The tables: accounts, photos, thumbnails, all objects announced, repeated requests, sightings.

A stored file's row is written before the upload to the store starts and removed after the object is
deleted. It is also the outbox of its deletion: the transaction that stops using a file marks its
row.
"""

import enum
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    event,
    func,
    text,
)
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from database import Base
from errors import StoreRefused
from storage import AsyncStore, Stores

DEFAULT_IMAGE_PATH = "/static/profile_pics/default.jpg"

# Which of the two was taken is told by the constraint that the database names.
USERNAME_CONSTRAINT = "users_username_folded_key"
EMAIL_CONSTRAINT = "users_email_folded_key"
# Folding makes a few characters longer (one ligature becomes
# 18); beyond this an index entry would not fit a page.
LONGEST_FOLDED = 320


class FileState(enum.StrEnum):
    """The life of a stored file, in order: pending -> live -> doomed -> deleting -> gone.

    A pending file that expires goes straight to deleting. From deleting there is no way back.
    """

    PENDING = "pending"  # announced; its bytes are perhaps there
    LIVE = "live"  # a row refers to it
    DOOMED = "doomed"  # nothing refers to it any more
    DELETING = "deleting"  # being removed from the store


class StoredFile(Base):
    """One object in one store. Times are the database's, never a server's."""

    __tablename__ = "stored_files"
    __table_args__ = (
        UniqueConstraint("storage", "bucket", "key", name="stored_files_place_key"),
        CheckConstraint(
            "state IN ('pending', 'live', 'doomed', 'deleting')", name="stored_files_state_check"
        ),
        CheckConstraint(
            "state <> 'live' OR (content_type IS NOT NULL AND size_bytes IS NOT NULL"
            " AND sha256 IS NOT NULL AND width_px IS NOT NULL AND height_px IS NOT NULL)",
            name="stored_files_live_check",
        ),
        Index(
            "stored_files_due_index", "next_attempt_at", postgresql_where=text("state <> 'live'")
        ),
        # For the deletion of an account with all that it has, and what waits in its grace.
        Index(
            "stored_files_owner_index",
            "owner_id",
            postgresql_where=text("state IN ('live', 'doomed')"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    storage: Mapped[str] = mapped_column(String(50))  # the name of a configured store
    bucket: Mapped[str] = mapped_column(String(255))  # '' on disk
    key: Mapped[str] = mapped_column(String(255))  # random, never reused
    purpose: Mapped[str] = mapped_column(String(50))
    state: Mapped[FileState] = mapped_column(String(20))
    owner_id: Mapped[int] = mapped_column(BigInteger)  # no foreign key: it outlives the account
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    state_changed_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now()
    )
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))  # at deleting
    # When the reaper looks at it: a pending file's expiry, a doomed one's (next) deletion.
    next_attempt_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now()
    )
    # Until then a deleted row is a tombstone: a stopped process may put late.
    tombstone_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # The store's name for an upload in parts that is not complete: it is ended with the row.
    upload_id: Mapped[str | None] = mapped_column(Text())
    last_error: Mapped[str | None] = mapped_column(String(100))  # of the last failed deletion
    content_type: Mapped[str | None] = mapped_column(String(100))
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    # In hexadecimal; of a file in parts as files/hashing.py composes it.
    sha256: Mapped[str | None] = mapped_column(String(72))
    width_px: Mapped[int | None] = mapped_column(Integer)
    height_px: Mapped[int | None] = mapped_column(Integer)
    # What a page paints before the picture arrives; NULL for files older than this.
    dominant_colour: Mapped[str | None] = mapped_column(String(7))  # #rrggbb
    thumbhash: Mapped[str | None] = mapped_column(String(40))  # in base64

    if TYPE_CHECKING:  # SQLAlchemy would take the annotation for a column's
        _stores: Stores  # of the application whose session made or read the row

    def know(self, stores: Stores) -> None:
        """Tell the row its application's stores, as its session does to those that it reads."""
        self._stores = stores

    @property
    def filename(self) -> str:
        """The last part of the key, which is what `image_file` shows."""
        return self.key.rpartition("/")[2]

    @property
    def placeholder(self) -> dict[str, Any] | None:
        """What `image_placeholder` shows: sides, main colour and ThumbHash, if they are known."""
        if self.dominant_colour is None or self.thumbhash is None:
            return None
        sides = {"width": self.width_px, "height": self.height_px}
        return {**sides, "dominant_colour": self.dominant_colour, "thumbhash": self.thumbhash}

    @property
    def store(self) -> AsyncStore:
        """The store that holds it, one of its application's, which its session told it.

        Raises StoreRefused when the settings know it no longer.
        """
        return self._stores.of(self.storage, self.bucket)

    @property
    def url(self) -> str | None:
        """What a browser loads; None when the settings no longer know the store that holds it."""
        try:
            return self.store.url(self.key)
        except StoreRefused:
            return None


@event.listens_for(Session, "loaded_as_persistent")
@event.listens_for(Session, "after_attach")
def _tell_stores(session: Session, row: object) -> None:
    """Let a row know its application's stores, also once its session has ended."""
    if isinstance(row, StoredFile | User):
        row.know(session.info["stores"])


class User(Base):
    """An account. Name and address are unique regardless of case, by their folded forms."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("username_folded", name=USERNAME_CONSTRAINT),
        UniqueConstraint("email_folded", name=EMAIL_CONSTRAINT),
        UniqueConstraint("picture_id", name="users_picture_id_key"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    username: Mapped[str] = mapped_column(String(50))
    username_folded: Mapped[str] = mapped_column(String(LONGEST_FOLDED))
    email: Mapped[str] = mapped_column(String(254))
    email_folded: Mapped[str] = mapped_column(String(LONGEST_FOLDED))
    password_hash: Mapped[str] = mapped_column(String(255))
    is_admin: Mapped[bool] = mapped_column(server_default=text("false"))
    # Tokens issued at or before this moment are void.
    tokens_valid_after: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now()
    )
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    picture_id: Mapped[int | None] = mapped_column(
        ForeignKey("stored_files.id", ondelete="RESTRICT", name="users_picture_id_fkey")
    )
    picture: Mapped[StoredFile | None] = relationship(lazy="joined")

    if TYPE_CHECKING:
        _stores: Stores

    def know(self, stores: Stores) -> None:
        """Tell the row its application's stores, as its session does to those that it reads."""
        self._stores = stores

    @property
    def image_file(self) -> str | None:
        """The picture's file name, or None."""
        return self.picture.filename if self.picture else None

    @property
    def image_path(self) -> str:
        """The URL that a browser loads: the picture's public one, or the default picture's."""
        url = self.picture.url if self.picture else None
        return url or f"{self._stores.public_url}{DEFAULT_IMAGE_PATH}"

    @property
    def image_placeholder(self) -> dict[str, Any] | None:
        """What a page can paint before the picture arrives; None for the default picture."""
        return self.picture.placeholder if self.picture else None


class Visibility(enum.StrEnum):
    """Who may see a photo."""

    PUBLIC = "public"  # everyone
    PRIVATE = "private"  # its owner, and whoever was given a link that has not expired


class Photo(Base):
    """A photo of a gallery: the master that is shown, and the original if it is kept.

    `content_type` and `size_bytes` are of the file as it was sent.
    """

    __tablename__ = "photos"
    __table_args__ = (
        UniqueConstraint("original_id", name="photos_original_id_key"),
        UniqueConstraint("master_id", name="photos_master_id_key"),
        CheckConstraint("visibility IN ('public', 'private')", name="photos_visibility_check"),
        # By -id, so that no index but this one gives an account's photos in their order.
        Index("photos_owner_index", "owner_id", "visibility", text("(-id)")),
        Index(
            "photos_public_index",
            text("id DESC"),
            postgresql_where=text("visibility = 'public'"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    owner_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="RESTRICT", name="photos_owner_id_fkey")
    )
    original_id: Mapped[int | None] = mapped_column(
        ForeignKey("stored_files.id", ondelete="RESTRICT", name="photos_original_id_fkey")
    )
    master_id: Mapped[int] = mapped_column(
        ForeignKey("stored_files.id", ondelete="RESTRICT", name="photos_master_id_fkey")
    )
    # As its sender named it: shown, and never used as a path.
    filename: Mapped[str] = mapped_column(String(255))
    caption: Mapped[str] = mapped_column(Text())
    alt: Mapped[str] = mapped_column(Text())
    visibility: Mapped[Visibility] = mapped_column(String(10))
    content_type: Mapped[str] = mapped_column(String(100))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    # What the original carries and the master does not; what else was changed on the way.
    removed_metadata: Mapped[list[str]] = mapped_column(ARRAY(String(20)))
    notes: Mapped[list[str]] = mapped_column(ARRAY(String(30)), server_default="{}")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    owner: Mapped[User] = relationship(lazy="joined", innerjoin=True)
    original: Mapped[StoredFile | None] = relationship(lazy="joined", foreign_keys=[original_id])
    master: Mapped[StoredFile] = relationship(
        lazy="joined", innerjoin=True, foreign_keys=[master_id]
    )
    # What is made of the master so far, in one more round trip for any number of photos.
    thumbnails: Mapped[list["Thumbnail"]] = relationship(
        lazy="selectin",
        viewonly=True,
        primaryjoin=lambda: (
            (Photo.id == Thumbnail.photo_id)
            & (Photo.master_id == Thumbnail.master_id)
            & Thumbnail.file_id.is_not(None)
        ),
    )


class Thumbnail(Base):
    """A size of a photo that somebody asked for: made once, or being made, of this master.

    It goes with its photo; its file is let go of by whoever lets go of the master.
    """

    __tablename__ = "thumbnails"
    __table_args__ = (
        PrimaryKeyConstraint(
            "photo_id", "master_id", "rendition", "version", name="thumbnails_pkey"
        ),
        UniqueConstraint("file_id", name="thumbnails_file_id_key"),
    )

    photo_id: Mapped[int] = mapped_column(
        ForeignKey("photos.id", ondelete="CASCADE", name="thumbnails_photo_id_fkey")
    )
    # No foreign key: whatever replaces the master deletes these rows.
    master_id: Mapped[int] = mapped_column(BigInteger)
    rendition: Mapped[str] = mapped_column(String(40))  # sides, fit and format, written canonically
    version: Mapped[int] = mapped_column(SmallInteger)  # of the way in which it is made
    # Once it is stored.
    file_id: Mapped[int | None] = mapped_column(
        ForeignKey("stored_files.id", ondelete="RESTRICT", name="thumbnails_file_id_fkey")
    )
    # Who makes it, and until when nobody else may take that over.
    claim: Mapped[uuid.UUID | None]
    claimed_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # Failed so often, and is not tried before.
    failures: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    retry_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    file: Mapped[StoredFile | None] = relationship(lazy="joined")


class SingleThumbnail(Base):
    """A thumbnail of which nothing else was kept: its owner sent a file for it."""

    __tablename__ = "single_thumbnails"
    __table_args__ = (
        UniqueConstraint("file_id", name="single_thumbnails_file_id_key"),
        # By -id, as the one of photos.
        Index("single_thumbnails_owner_index", "owner_id", text("(-id)")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    owner_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="RESTRICT", name="single_thumbnails_owner_id_fkey")
    )
    file_id: Mapped[int] = mapped_column(
        ForeignKey("stored_files.id", ondelete="RESTRICT", name="single_thumbnails_file_id_fkey")
    )
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    file: Mapped[StoredFile] = relationship(lazy="joined", innerjoin=True)


class IdempotencyKey(Base):
    """A key under which its owner may send a request again, and what came of it."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        PrimaryKeyConstraint("owner_id", "key", name="idempotency_keys_pkey"),
        Index("idempotency_keys_age_index", "created_at"),
    )

    owner_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE", name="idempotency_keys_owner_id_fkey")
    )
    key: Mapped[str] = mapped_column(String(255))
    # Whose it is to complete, and until when nobody else may take it over.
    claim: Mapped[uuid.UUID]
    claimed_until: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    # Of a photo or a single thumbnail, as the fingerprint tells; once it is completed. No foreign
    # key: what was made may go, and the key is not used again.
    made_id: Mapped[int | None] = mapped_column(BigInteger)
    fingerprint: Mapped[str | None] = mapped_column(String(64))


class RateBucket(Base):
    """A bucket of tries. Unlogged: a crash of the server empties the table."""

    __tablename__ = "rate_buckets"
    __table_args__ = (
        PrimaryKeyConstraint("key", name="rate_buckets_pkey"),
        {"prefixes": ["UNLOGGED"]},
    )

    key: Mapped[bytes]  # a keyed hash of what is counted and whose it is
    full_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    is_granted: Mapped[bool]  # what the last try was told


class Installation(Base):
    """The one row that says which database this is.

    A store's marker object names the one database that may sweep it.
    """

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("is_only", name="installation_is_only_check"),)

    is_only: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    id: Mapped[uuid.UUID] = mapped_column(server_default=text("gen_random_uuid()"))


class Sighting(Base):
    """An object that no row explained when a sweep saw it.

    It is deleted only if a later sweep sees it again.
    """

    __tablename__ = "sightings"

    storage: Mapped[str] = mapped_column(String(50), primary_key=True)
    bucket: Mapped[str] = mapped_column(String(255), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    first_seen_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now()
    )
    last_seen_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now()
    )
