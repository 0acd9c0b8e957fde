"""Thumbnails that clients ask for, and whether those that are left are what they must be."""

import hmac
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pictures import Fit, Rendition, RenditionFormat
from tests.crash.findings import Finding
from tests.crash.galleries import Originals

# Of a page that signs by itself: the services of the runner know it.
KEY = "fedcba9876543210" * 2
# So that the presets of a photo are two renders.
PRESET_PX = 160
# Longer than any trial.
LINK_SECONDS = 600
READ_THUMBNAILS = """
SELECT thumbnails.*, photos.caption, photos.owner_id, photos.visibility,
       photos.master_id AS shown_id, master.sha256 AS master_sha256,
       master.purpose AS master_purpose, file.sha256, file.purpose, file.key,
       file.owner_id AS file_owner_id
FROM thumbnails
JOIN photos ON photos.id = thumbnails.photo_id
JOIN stored_files master ON master.id = photos.master_id
LEFT JOIN stored_files file ON file.id = thumbnails.file_id
"""
# Photos of masters that came with a trial, without all that pages always use of them.
FIND_UNFINISHED = """
SELECT photos.caption FROM photos WHERE photos.master_id > $1 AND $2 > (
    SELECT count(*) FROM thumbnails
    WHERE thumbnails.photo_id = photos.id AND thumbnails.master_id = photos.master_id
      AND thumbnails.file_id IS NOT NULL AND thumbnails.rendition = ANY ($3)
)
"""


@dataclass(frozen=True)
class Wish:
    """A query of an address, and what must come of it: all masters of the runner are squares."""

    query: str
    rendition: Rendition
    is_signed: bool = False

    def write_path(self, photo_id: int, is_private: bool) -> str:
        """Write the address, signed as docs/thumbnails.md tells it, if it has to be."""
        path = f"/photos/{photo_id}/thumbnail?"
        if not self.is_signed:
            return path + self.query
        expires = f"&expires={int(time.time()) + LINK_SECONDS}" if is_private else ""
        said = f"thumbnail:{photo_id}?{self.query}{expires}"
        signature = hmac.new(KEY.encode(), said.encode(), "sha256").hexdigest()
        return f"{path}{self.query}{expires}&sig={signature}"


def _ask_for_preset(wanted_format: RenditionFormat) -> Wish:
    rendition = Rendition(PRESET_PX, PRESET_PX, Fit.INSIDE, wanted_format)
    return Wish(f"preset={PRESET_PX}&format={wanted_format}", rendition)


PRESETS = (_ask_for_preset(RenditionFormat.WEBP), _ask_for_preset(RenditionFormat.JPEG))
WISHES = (
    *PRESETS,
    Wish(
        "w=96&h=64&fit=cover&format=jpeg",
        Rendition(96, 64, Fit.COVER, RenditionFormat.JPEG),
        is_signed=True,
    ),
    Wish(
        "w=900&fit=inside&format=webp",
        Rendition(200, 200, Fit.INSIDE, RenditionFormat.WEBP),  # as large as the master
        is_signed=True,
    ),
)


def compare_thumbnails(
    found: Sequence[Mapping[str, Any]], originals: Originals
) -> Iterator[Finding]:
    """Say which of these rows are of a master that is shown no more, or name another's bytes."""
    for row in found:
        name = f"{row['rendition']} of {row['caption']}"
        if row["master_id"] != row["shown_id"]:
            yield Finding("leaked", f"{name} is left of a master that is shown no more")
        if row["file_id"] is None:
            continue
        if row["purpose"] != row["master_purpose"]:
            yield Finding("wrong", f"{name}, which is {row['visibility']}, is a {row['purpose']}")
        if row["file_owner_id"] != row["owner_id"]:
            yield Finding("wrong", f"{name} is another account's")
        rendition = read_rendition(row["rendition"])
        if row["sha256"] != originals.render(row["master_sha256"], rendition):
            yield Finding("wrong", f"{name} is not made of its master")


def read_rendition(text: str) -> Rendition:
    """Read what rows say of a rendition."""
    sides, fit, wanted_format = text.split(":")
    width, height = sides.split("x")
    return Rendition(int(width), int(height), Fit(fit), RenditionFormat(wanted_format))


def write_presets() -> list[str]:
    """Write the presets as rows have them."""
    wanted = [wish.rendition for wish in PRESETS]
    return [f"{each.width_px}x{each.height_px}:{each.fit}:{each.format}" for each in wanted]
