"""The tables of what the database knows of its stores: which each is, and how its marker renews.

A store is known by its own id, whatever rows call it; two names may stand for one.
"""

import uuid
from datetime import datetime

from sqlalchemy import ARRAY, DateTime, PrimaryKeyConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from database import Base


class StorePlace(Base):
    """Which store lies where rows say: under a name of the settings, in a bucket."""

    __tablename__ = "store_places"
    __table_args__ = (PrimaryKeyConstraint("storage", "bucket", name="store_places_pkey"),)

    storage: Mapped[str] = mapped_column(String(50))
    bucket: Mapped[str] = mapped_column(String(255))  # '' on disk
    store_id: Mapped[uuid.UUID]
    # When its marker was first seen there; until then the marker is still to be made.
    seen_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class StoreLease(Base):
    """What this database has written into the marker of a store that it reaps."""

    __tablename__ = "store_leases"

    store_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    # The newest last. The marker has one of them: a write may have failed, or land late.
    tokens: Mapped[list[str]] = mapped_column(ARRAY(String(36)))
    renewed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
