"""What may be made of a master: how large, how it fills its sides, in which format.

A rendition has exactly the sides that its file will have, resolved against its master's: never
enlarged, and one value for each result. Plain values, known to the service and to its decoders
alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pictures.values import CONTENT_TYPES, ProcessedImage, fit_into_master

# One job's: the presets in two formats are eight. A decoder holds all that it made until the last.
MOST_RENDITIONS = 16

Size = tuple[int, int]

_NAMES = {content_type: name for name, content_type in CONTENT_TYPES.items()}


class Fit(StrEnum):
    """How the whole master fills the sides that are asked for; it is never enlarged."""

    # Of its centre as much as has their shape; where the master is smaller, less of the same shape.
    COVER = "cover"
    # In the middle of white of exactly these sides.
    CONTAIN = "contain"
    # In its own shape, as large as fits: one side may be shorter.
    INSIDE = "inside"


class RenditionFormat(StrEnum):
    """A format that renditions are made in."""

    JPEG = "jpeg"
    WEBP = "webp"
    AVIF = "avif"

    @classmethod
    def of(cls, content_type: str) -> "RenditionFormat":
        """Find the format of files of this content type, which is one of theirs."""
        return cls[_NAMES[content_type]]

    @property
    def content_type(self) -> str:
        return CONTENT_TYPES[self.name]

    @property
    def suffix(self) -> str:
        """How the name of such a file ends."""
        return ".jpg" if self is RenditionFormat.JPEG else f".{self}"


@dataclass(frozen=True)
class Rendition:
    """What is made of a master. Its sides are its file's: `resolve_rendition` finds them."""

    width_px: int
    height_px: int
    fit: Fit
    format: RenditionFormat

    @property
    def size(self) -> Size:
        return self.width_px, self.height_px

    def find_scaled_size(self, master_size: Size) -> Size:
        """Find the sides to which what is shown of the master is scaled: for CONTAIN, in white."""
        return fit_inside(self.size, master_size) if self.fit is Fit.CONTAIN else self.size

    def find_shown_size(self, master_size: Size) -> tuple[float, float]:
        """Find the sides of what is shown of the master, around its centre, in its pixels."""
        width, height = master_size
        if self.fit is not Fit.COVER:
            return width, height
        return (
            min(width, height * self.width_px / self.height_px),
            min(height, width * self.height_px / self.width_px),
        )

    def name_file(self, content: bytes) -> ProcessedImage:
        """Name and hash the file that was made; it has no placeholder, its master has one."""
        return ProcessedImage.from_file(
            content, self.format.content_type, self.format.suffix, self.size
        )


def resolve_rendition(
    width_px: int | None,
    height_px: int | None,
    fit: Fit,
    rendition_format: RenditionFormat,
    master_size: Size,
) -> Rendition:
    """Find what is made of a master of these sides when this is asked for.

    A side that is 0 or None is free: the other one decides, and the whole master is shown whatever
    the fit. So it is as well, without white, where the master has the shape that is asked for. A
    box for CONTAIN is at most as large as a master may be. What is resolved resolves to itself.
    Raises ValueError when no side is given, or a negative one.
    """
    asked = (width_px or 0, height_px or 0)
    if min(asked) < 0 or max(asked) == 0:
        raise ValueError(f"a rendition of {asked[0]} x {asked[1]} pixels")
    if min(asked) == 0:
        fit = Fit.INSIDE
    size = _FIND_SIZE[fit](asked, master_size)
    is_filled = _has_shape_of(master_size, size)
    return Rendition(*size, Fit.INSIDE if is_filled else fit, rendition_format)


class ForeignRendition(ValueError):
    """A rendition that was resolved against another master's sides."""


def check_renditions(renditions: Sequence[Rendition], master_size: Size) -> None:
    """Raise ValueError unless they can be one job on a master of these sides.

    That is, at most MOST_RENDITIONS, no two of which are alike. Raises ForeignRendition for one
    that was not resolved against them.
    """
    if not 0 < len(renditions) <= MOST_RENDITIONS or len({*renditions}) < len(renditions):
        raise ValueError(f"{len(renditions)} renditions at once, of which some may be alike")
    for rendition in renditions:
        resolved = resolve_rendition(*rendition.size, rendition.fit, rendition.format, master_size)
        if resolved != rendition:
            raise ForeignRendition(
                f"a rendition of {master_size} pixels: {rendition} is {resolved}"
            )


def fit_inside(box: Size, master_size: Size) -> Size:
    """Find the sides of the whole master in a box, of which one side may be free (0)."""
    if _has_shape_of(master_size, box):
        return box
    width, height = master_size
    box_width, box_height = box
    if box_height == 0 or 0 < box_width * height <= box_height * width:
        fitted_width = min(box_width, width)
        return fitted_width, max(1, round(height * fitted_width / width))
    fitted_height = min(box_height, height)
    return max(1, round(width * fitted_height / height)), fitted_height


def _cover(box: Size, master_size: Size) -> Size:
    """Find the sides of the largest rectangle of the box's shape, at most the box, in the master.

    Its whole master has at least these sides.
    """
    width, height = master_size
    box_width, box_height = box
    if box_width <= width and box_height <= height:
        return box
    if width * box_height <= height * box_width:
        return width, max(1, round(box_height * width / box_width))
    return max(1, round(box_width * height / box_height)), height


def _contain(box: Size, _: Size) -> Size:
    return fit_into_master(box)


_FIND_SIZE = {Fit.COVER: _cover, Fit.CONTAIN: _contain, Fit.INSIDE: fit_inside}


def _has_shape_of(master_size: Size, size: Size) -> bool:
    """Whether these are sides of the whole master, scaled down, one of them to the nearest pixel.

    Either may have been the one that was given.
    """
    width, height = master_size
    scaled_width, scaled_height = size
    if not (0 < scaled_width <= width and 0 < scaled_height <= height):
        return False
    return scaled_height == max(1, round(height * scaled_width / width)) or scaled_width == max(
        1, round(width * scaled_height / height)
    )
