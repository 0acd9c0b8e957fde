"""What changes photos: they come, say something else, show another picture, hide, and go.

Each is one change of the heart: what it lets go of is deleted after its commit, and what it stored
in vain is nobody's.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import faults
import jobs
from database import Row, Transaction
from errors import PhotoChanged, PhotoNotFound
from files import Backends
from files.answers import read_changed
from files.change import Change
from files.idempotency import Claim
from files.kinds import PHOTO_ORIGINAL, PHOTO_RENDITION, PRIVATE_PHOTO_RENDITION, Kind
from files.statements import FACTS, LIST_WAITING
from models import Photo, StoredFile, Visibility
from photos import statements, thumbnail_statements
from photos.intake import Sent
from photos.stored import read_file, read_stored
from pictures import ProcessedImage, make_filename
from pictures.decoding import Decoding

# The job that makes the thumbnails of a new master.
RENDER_PRESETS = "render_presets"


@dataclass(frozen=True)
class Words:
    """What the owner says of a photo; None where nothing was said."""

    caption: str | None = None
    alt: str | None = None
    visibility: Visibility | None = None


async def add_photo(
    backends: Backends,
    decoding: Decoding,
    owner_id: int,
    sent: Sent,
    words: Words,
    claim: Claim | None = None,
) -> Photo:
    """Store what was sent and make its master; return the photo, which is whole from its commit on.

    The claim, if there is one, is completed with it. Raises BadPicture, TooLarge, Busy,
    DecoderUnavailable, StoreError, UserNotFound, UploadExpired, StillInProgress, OutcomeUnknown or
    DatabaseUnavailable.
    """
    visibility = words.visibility or Visibility.PUBLIC
    inserted: list[Row] = []
    async with Change(backends, owner_id) as change:
        files = await _store_files(backends, decoding, change, sent, visibility)

        async def insert(transaction: Transaction, _: Row) -> list[int]:
            inserted[:] = await transaction.fetch(
                statements.INSERT_PHOTO,
                owner_id=owner_id,
                filename=sent.filename,
                caption=words.caption or "",
                alt=words.alt or "",
                visibility=visibility,
                **files.columns,
            )
            await _render_later(transaction, inserted[0]["id"])
            if claim is not None:
                content = find_fingerprint(sent.hashes.whole, sent.filename, words)
                await claim.complete(transaction, inserted[0]["id"], content)
            return files.dispensable_ids

        await change.commit(insert, "inside_photo_swap")
    return await read_changed(backends, Photo, inserted[0]["id"], PhotoNotFound)


def find_fingerprint(sha256: str, filename: str, words: Words) -> str:
    """Tell requests apart by what they ask for, whatever their bodies look like byte for byte."""
    asked = json.dumps([sha256, filename, words.caption, words.alt, words.visibility])
    return hashlib.sha256(asked.encode()).hexdigest()


async def replace_photo(
    backends: Backends, decoding: Decoding, photo: Photo, sent: Sent, words: Words
) -> Photo:
    """Show another picture in the place of this one, and say what is new of it; return the photo.

    Raises what `add_photo` raises, and PhotoNotFound; PhotoChanged where it was hidden or shown
    meanwhile.
    """
    async with Change(backends, photo.owner_id) as change:
        visibility = words.visibility or photo.visibility
        files = await _store_files(backends, decoding, change, sent, visibility)
        # Hidden with it, the old one is taken back: its URL must be dead at once.
        has_grace = visibility == photo.visibility

        async def replace(transaction: Transaction, _: Row) -> list[int]:
            found = await read_locked(transaction, photo)
            if found["visibility"] != photo.visibility:
                raise PhotoChanged
            ids = {"photo_id": photo.id, "owner_id": photo.owner_id}
            await transaction.fetch(
                statements.REPLACE_FILES, **ids, filename=sent.filename, **files.columns
            )
            await transaction.fetch(statements.CHANGE_WORDS, **ids, **vars(words))
            let_go_ids = _list_files(found) + await _drop_thumbnails(transaction, photo.id)
            if not has_grace:
                let_go_ids += await _list_waiting(transaction, photo.owner_id)
            await _render_later(transaction, photo.id)
            return let_go_ids + files.dispensable_ids

        await change.commit(replace, "inside_photo_swap", has_grace=has_grace)
    return await read_changed(backends, Photo, photo.id, PhotoNotFound)


async def change_words(backends: Backends, photo: Photo, words: Words) -> Photo:
    """Say something else of a photo, show it to all, or hide it; return the photo.

    Hidden or shown, its master moves to a new key and the old one is deleted, so that public URLs
    are dead at once. Raises PhotoNotFound, PhotoChanged, StoreError, UserNotFound, UploadExpired,
    OutcomeUnknown or DatabaseUnavailable.
    """
    values = vars(words)
    ids = {"photo_id": photo.id, "owner_id": photo.owner_id}

    async def change_only_words(transaction: Transaction, _: Row) -> list[int]:
        if not await transaction.fetch(statements.CHANGE_WORDS, **ids, **values):
            raise PhotoNotFound
        return []

    async def are_changed(transaction: Transaction, _: Row | None) -> bool:
        found = await transaction.fetch_row(statements.READ_PHOTO, **ids)
        given = {name: value for name, value in values.items() if value is not None}
        return found is not None and given == {name: found[name] for name in given}

    async with Change(backends, photo.owner_id) as change:
        if words.visibility in (None, photo.visibility):
            values = {**values, "visibility": None}
            await change.commit(change_only_words, "inside_words", are_changed)
        else:
            moved = await change.store(
                find_kind(words.visibility), await _read_master(photo.master)
            )

            async def move(transaction: Transaction, owner: Row) -> list[int]:
                found = await read_locked(transaction, photo)
                if found["master_id"] != photo.master_id:
                    raise PhotoChanged
                await change_only_words(transaction, owner)
                await transaction.fetch(statements.SHOW_MASTER, **ids, master_id=moved.id)
                dropped_ids = await _drop_thumbnails(transaction, photo.id)
                await _render_later(transaction, photo.id)
                waiting_ids = await _list_waiting(transaction, photo.owner_id)
                return [photo.master_id, *dropped_ids, *waiting_ids]

            await change.commit(move, "visibility_moved")
    return await read_changed(backends, Photo, photo.id, PhotoNotFound)


async def delete_photo(backends: Backends, photo: Photo) -> None:
    """Delete a photo with its original, its master and its thumbnails.

    Raises PhotoNotFound, UserNotFound, OutcomeUnknown or DatabaseUnavailable.
    """
    ids = {"photo_id": photo.id, "owner_id": photo.owner_id}

    async def delete(transaction: Transaction, _: Row) -> list[int]:
        found = await read_locked(transaction, photo)
        dropped_ids = await _drop_thumbnails(transaction, photo.id)
        await transaction.fetch(statements.DELETE_PHOTO, **ids)
        waiting_ids = await _list_waiting(transaction, photo.owner_id)
        return _list_files(found) + dropped_ids + waiting_ids

    async def is_gone(transaction: Transaction, _: Row | None) -> bool:
        return await transaction.fetch_row(statements.READ_PHOTO, **ids) is None

    async with Change(backends, photo.owner_id) as change:
        await change.commit(delete, "inside_photo_deletion", is_gone)


@dataclass(frozen=True)
class _Files:
    """What a photo's row says of its files, and which of them are not kept."""

    columns: Mapping[str, object]
    dispensable_ids: list[int]


async def _store_files(
    backends: Backends,
    decoding: Decoding,
    change: Change,
    sent: Sent,
    visibility: Visibility,
) -> _Files:
    """Store the original to its last byte, make the master of what the store has, and store it."""
    arrived = sent.arrived
    facts = {
        **dict.fromkeys(FACTS),
        "content_type": arrived.content_type,
        "size_bytes": arrived.size_bytes,
        "width_px": arrived.header.width_px,
        "height_px": arrived.header.height_px,
    }
    original = await sent.stream.finish(facts)
    change.add(original)
    fetch = partial(
        read_stored, original.store, original.key, arrived.picture_bytes, sent.hashes.beginning
    )
    picture = await decoding.make_master(arrived.cost, fetch, sent.owners)
    master = await change.store(find_kind(visibility), picture)
    faults.reached("master_put")
    is_kept = backends.settings.keep_originals
    columns = {
        "original_id": original.id if is_kept else None,
        "master_id": master.id,
        "content_type": arrived.content_type,
        "size_bytes": arrived.size_bytes,
        "removed_metadata": list(picture.removed_metadata),
        "notes": list(picture.notes),
    }
    return _Files(columns, [] if is_kept else [original.id])


def find_kind(visibility: Visibility) -> Kind:
    """The kind of what is shown of a photo that is seen by these."""
    return PHOTO_RENDITION if visibility == Visibility.PUBLIC else PRIVATE_PHOTO_RENDITION


async def _read_master(master: StoredFile) -> ProcessedImage:
    """Read a master back from its store, as a picture that can be stored anew."""
    content = await read_file(master)
    facts = {name: getattr(master, name) for name in FACTS if name != "size_bytes"}
    return ProcessedImage(
        content=content, filename=make_filename(), removed_metadata=(), notes=(), **facts
    )


async def read_locked(transaction: Transaction, photo: Photo) -> Row:
    """Read a photo under its owner's lock. Raises PhotoNotFound."""
    ids = {"photo_id": photo.id, "owner_id": photo.owner_id}
    found = await transaction.fetch_row(statements.READ_PHOTO, **ids)
    if found is None:
        raise PhotoNotFound
    return found


async def _render_later(transaction: Transaction, photo_id: int) -> None:
    """Have the thumbnails that pages always use made behind the commit."""
    await jobs.enqueue(transaction, RENDER_PRESETS, {"photo_id": photo_id})


async def _drop_thumbnails(transaction: Transaction, photo_id: int) -> list[int]:
    """Forget the thumbnails of a photo's master; return the files, which are to be let go of."""
    rows = await transaction.fetch(thumbnail_statements.DROP, photo_id=photo_id)
    return [row["file_id"] for row in rows if row["file_id"] is not None]


async def _list_waiting(transaction: Transaction, owner_id: int) -> list[int]:
    """List what an owner's photos showed before and may be read for a while yet.

    Which photo it was no row knows; whoever hides or deletes one means its earlier pictures, too.
    """
    purposes = [kind.name for kind in (PHOTO_ORIGINAL, PHOTO_RENDITION, PRIVATE_PHOTO_RENDITION)]
    rows = await transaction.fetch(LIST_WAITING, owner_id=owner_id, purposes=purposes)
    return [row["id"] for row in rows]


def _list_files(photo: Row) -> list[int]:
    """The files that a photo refers to."""
    return [photo[name] for name in ("original_id", "master_id") if photo[name] is not None]
