"""The options of a thumbnail: one value for a page's wish, whatever way it is written.

What comes of a wish depends on the master, which is never enlarged, and on what a browser takes.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlencode

from errors import BadThumbnail
from models import StoredFile
from pictures import Fit, Rendition, RenditionFormat, resolve_rendition

# Above every master's sides, so that a larger wish is a mistake.
MOST_SIDE_PX = 4096
# More than a page has places of different sizes.
MOST_SIZES = 8
# `480x320`, `480x`, `x320:cover`.
_SIZE = re.compile(r"([0-9]{1,5})?x([0-9]{1,5})?(?::([a-z]+))?")


class WantedFormat(StrEnum):
    """A format that may be asked for."""

    AUTO = "auto"  # WebP where the browser says that it takes it, else JPEG
    JPEG = "jpeg"
    WEBP = "webp"
    AVIF = "avif"


@dataclass(frozen=True)
class ThumbnailOptions:
    """How large a thumbnail may be, how it fills that, and in which format; None is a free side."""

    width_px: int | None
    height_px: int | None
    fit: Fit = Fit.INSIDE
    format: WantedFormat = WantedFormat.AUTO

    def __post_init__(self) -> None:
        """Raise BadThumbnail unless a side is given, and the sides are possible."""
        sides = [side for side in (self.width_px, self.height_px) if side is not None]
        if not sides or not all(0 < side <= MOST_SIDE_PX for side in sides):
            raise BadThumbnail

    @classmethod
    def parse_size(cls, text: str) -> "ThumbnailOptions":
        """Read a size as lists of sizes have it. Raises BadThumbnail."""
        match = _SIZE.fullmatch(text)
        if match is None:
            raise BadThumbnail
        width, height, fit = match.groups()
        if fit is not None and fit not in list(Fit):
            raise BadThumbnail
        return cls(
            int(width) if width else None,
            int(height) if height else None,
            Fit(fit) if fit else Fit.INSIDE,
        )

    def write_query(self) -> str:
        """Write the options as the query of an address, always alike: this is what is signed."""
        values = {"w": self.width_px, "h": self.height_px, "fit": self.fit, "format": self.format}
        return urlencode({name: value for name, value in values.items() if value is not None})

    def resolve(self, master: StoredFile, accepted: str) -> Rendition:
        """Find what is made of this master for a browser that accepts these types (RFC 9110)."""
        assert master.width_px and master.height_px  # the table demands them of what is live
        return resolve_rendition(
            self.width_px,
            self.height_px,
            self.fit,
            self._choose_format(accepted),
            (master.width_px, master.height_px),
        )

    def _choose_format(self, accepted: str) -> RenditionFormat:
        if self.format is not WantedFormat.AUTO:
            return RenditionFormat(self.format)
        return RenditionFormat.WEBP if "image/webp" in accepted else RenditionFormat.JPEG


def parse_sizes(text: str) -> dict[str, ThumbnailOptions]:
    """Read a list of sizes, by how each is written. Raises BadThumbnail, also for too many."""
    sizes = [size for size in text.split(",") if size]
    if len(sizes) > MOST_SIZES:
        raise BadThumbnail(f"Please ask for at most {MOST_SIZES} sizes at once.")
    return {size: ThumbnailOptions.parse_size(size) for size in sizes}


def write_rendition(rendition: Rendition) -> str:
    """Write what is made as rows have it: one text for each result."""
    return f"{rendition.width_px}x{rendition.height_px}:{rendition.fit}:{rendition.format}"


def read_rendition(text: str) -> Rendition:
    """Read what `write_rendition` wrote."""
    size, fit, rendition_format = text.split(":")
    width_px, height_px = map(int, size.split("x"))
    return Rendition(width_px, height_px, Fit(fit), RenditionFormat(rendition_format))
