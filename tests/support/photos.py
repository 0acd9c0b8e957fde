"""Photos as a test inserts them by hand, and their objects where somebody loads them."""

import hashlib
import uuid

from files.kinds import PHOTO_ORIGINAL, PHOTO_RENDITION, PRIVATE_PHOTO_RENDITION, Kind
from tests.support.rows import Insert
from tests.support.services import Service
from tests.support.stock import Stock

MASTER_SIDES_PX = (160, 120)
ORIGINAL = b"the file as it was sent, with all that it says of its sender"

_INSERT = """
WITH original AS (
    INSERT INTO stored_files (storage, bucket, key, purpose, state, owner_id,
                              content_type, size_bytes, sha256, width_px, height_px)
    SELECT $1, $2, $3::varchar, $4, 'live', $5, 'image/heic', $6, $15, 4032, 3024
    WHERE $3::varchar IS NOT NULL RETURNING id
), master AS (
    INSERT INTO stored_files (storage, bucket, key, purpose, state, owner_id,
                              content_type, size_bytes, sha256, width_px, height_px,
                              dominant_colour, thumbhash)
    VALUES ($1, $2, $7, $8, 'live', $5, 'image/jpeg', $9, $10, $11, $12,
            '#ac3227', 'XNcJHwT3hkaHeId1iHmYiIiHd3iHiHg=') RETURNING id
)
INSERT INTO photos (owner_id, original_id, master_id, filename, caption, alt, visibility,
                    content_type, size_bytes, removed_metadata)
SELECT $5, (SELECT id FROM original), master.id, 'IMG_0001.HEIC', $13, 'a red boat', $14,
       'image/heic', $6, ARRAY['exif', 'gps'] FROM master RETURNING id
"""


def photo(
    owner_id: int,
    visibility: str = "public",
    *,
    master: bytes = b"a master",
    master_key: str | None = None,
    original_key: str | None = None,
    caption: str = "",
    storage: str = "local",
    bucket: str = "",
) -> Insert:
    """A photo with its files' rows; its original was kept if it has a key."""
    width_px, height_px = MASTER_SIDES_PX
    return Insert(
        _INSERT,
        (
            *(storage, bucket, original_key, PHOTO_ORIGINAL.name, owner_id, len(ORIGINAL)),
            *(master_key or make_master_key(visibility), _find_kind(visibility).name),
            *(len(master), hashlib.sha256(master).hexdigest(), width_px, height_px),
            *(caption, visibility, hashlib.sha256(ORIGINAL).hexdigest()),
        ),
    )


def store_photo(
    service: Service, owner_id: int, visibility: str = "public", *, master: bytes, caption: str = ""
) -> int:
    """Insert a photo into a running service, with its objects; return its id."""
    stock = Stock(service.settings)
    master_key = make_master_key(visibility)
    original_key = f"{PHOTO_ORIGINAL.prefix}{uuid.uuid4().hex}"
    stock.put(master_key, master)
    stock.put(original_key, ORIGINAL)
    return photo(
        owner_id,
        visibility,
        master=master,
        master_key=master_key,
        original_key=original_key,
        caption=caption,
        storage=stock.settings["STORAGE"],
        bucket=stock.bucket_name,
    ).run(service)


def make_master_key(visibility: str) -> str:
    return f"{_find_kind(visibility).prefix}{uuid.uuid4().hex}.jpg"


def _find_kind(visibility: str) -> Kind:
    return PHOTO_RENDITION if visibility == "public" else PRIVATE_PHOTO_RENDITION


def insert_many(service: Service, owner_id: int, visibility: str, count: int) -> None:
    """Insert photos whose originals were not kept."""
    kind = _find_kind(visibility)
    service.sql(
        "WITH master AS ("
        " INSERT INTO stored_files (storage, bucket, key, purpose, state, owner_id,"
        " content_type, size_bytes, sha256, width_px, height_px)"
        " SELECT 'local', '', $4 || gen_random_uuid(), $5, 'live', $1,"
        " 'image/jpeg', 1, repeat('0', 64), 160, 120 FROM generate_series(1, $2::int) RETURNING id"
        ") INSERT INTO photos (owner_id, master_id, filename, caption, alt, visibility,"
        " content_type, size_bytes, removed_metadata)"
        " SELECT $1, id, 'a.jpg', '', '', $3, 'image/jpeg', 1, '{}' FROM master",
        owner_id,
        count,
        visibility,
        kind.prefix,
        kind.name,
    )
