"""What is said about pictures: the square that is wanted, and the finished picture.

Plain values, known to the service and to its decoders alike.
"""

import hashlib
import uuid
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

PICTURE_SIDE_PX = 300
CONTENT_TYPE = "image/jpeg"
# A master fits into a square of this side: what a large screen shows of a photo, and enough for
# every thumbnail; decoding one takes a quarter of what its original takes.
MASTER_SIDE_PX = 1600
# A thumbnail of which nothing else is kept fits into a square of this side.
THUMBNAIL_SIDE_PX = 300
# Of what is taken, by Pillow's name of its format.
CONTENT_TYPES = {
    "JPEG": CONTENT_TYPE,
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
}

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)
# What shows where a picture is transparent: a colour, or white or a dark one, whichever the drawing
# stands out from.
Background = Colour | Literal["auto"]
# Or nothing: what is transparent stays so.
Clear = Literal["clear"]
CLEAR: Clear = "clear"

# A file: as the service has it, or as a decoder sees it in memory that both share.
Content = bytes | memoryview

MetadataName = Literal[
    "animation",
    "c2pa",
    "comment",
    "exif",
    "gain_map",
    "gps",
    "icc_profile",
    "iptc",
    "text",
    "thumbnail",
    "xmp",
]
METADATA_NAMES: tuple[MetadataName, ...] = get_args(MetadataName)

# What is shown otherwise than the file has it.
NoteName = Literal[
    "cut_short",
    "transparency_flattened",
    "animation_reduced",
    "tone_mapped",
]
NOTE_NAMES: tuple[NoteName, ...] = get_args(NoteName)


@dataclass(frozen=True)
class Header:
    """What the first bytes say; `format` is Pillow's name of the one parser that may see the file.

    `bytes_per_pixel` is what decoding holds for each pixel of the file, or of one of its tiles,
    beside the reduced picture of what is reduced while it is decoded.
    """

    format: str
    width_px: int
    height_px: int
    bytes_per_pixel: float
    metadata_bytes: int = 0  # what a JPEG or a PNG carries beside its pixels
    is_baseline: bool = False  # a JPEG that can be decoded line by line
    # Of a HEIC that is put together of such tiles, which are decoded one after the other.
    tile_size: tuple[int, int] | None = None

    @property
    def is_reducible(self) -> bool:
        """Whether it can be reduced while it is decoded."""
        return self.format == "JPEG" or self.tile_size is not None


class Crop(NamedTuple):
    """A square in the upright picture, in its pixels from the top left corner."""

    x_px: int
    y_px: int
    size_px: int


class DeclaredSides(NamedTuple):
    """What a file's header says of its sides, and the square that all of it is fitted into.

    An AVIF or HEIC may show less than it declares: a part, or a smaller one of several pictures.
    """

    width_px: int
    height_px: int
    are_exact: bool
    square_px: int = MASTER_SIDE_PX

    @classmethod
    def of(cls, header: Header, square_px: int) -> "DeclaredSides":
        are_exact = header.format not in ("AVIF", "HEIF")
        return cls(header.width_px, header.height_px, are_exact, square_px)

    def allow(self, size: tuple[int, int]) -> bool:
        """Whether the file may have these sides once it is fitted in, turned or not."""
        declared = (self.width_px, self.height_px)
        turned = (self.height_px, self.width_px)
        if self.are_exact:
            return size in (fit_into(self.square_px, declared), fit_into(self.square_px, turned))
        if not 0 < min(size) <= max(size) <= self.square_px:
            return False
        return any(size[0] <= width and size[1] <= height for width, height in (declared, turned))


@dataclass(frozen=True)
class ProcessedImage:
    """A finished picture.

    `sha256` is in hexadecimal; `filename` is random and was never used before. `dominant_colour` is
    #rrggbb, `thumbhash` the hash in base64; `removed_metadata` names what the original carried,
    `notes` what else was changed. Of a rendition these four are empty: its master has them.
    """

    content: bytes
    content_type: str
    width_px: int
    height_px: int
    sha256: str
    filename: str
    dominant_colour: str
    thumbhash: str
    removed_metadata: tuple[MetadataName, ...]
    notes: tuple[NoteName, ...]

    @classmethod
    def from_file(
        cls,
        content: bytes,
        content_type: str,
        suffix: str,
        size: tuple[int, int],
        dominant_colour: str = "",
        thumbhash: str = "",
        removed_metadata: tuple[MetadataName, ...] = (),
        notes: tuple[NoteName, ...] = (),
    ) -> "ProcessedImage":
        """Name and hash what the image step made; the name ends with the suffix."""
        return cls(
            content=content,
            content_type=content_type,
            width_px=size[0],
            height_px=size[1],
            sha256=hashlib.sha256(content).hexdigest(),
            filename=make_filename(suffix),
            dominant_colour=dominant_colour,
            thumbhash=thumbhash,
            removed_metadata=removed_metadata,
            notes=notes,
        )


def fit_into_master(size: tuple[int, int]) -> tuple[int, int]:
    """Find the sides of the master of a picture, which is never enlarged."""
    return fit_into(MASTER_SIDE_PX, size)


def fit_into(square_px: int, size: tuple[int, int]) -> tuple[int, int]:
    """Find the sides of all of a picture in a square of this side; it is never enlarged."""
    longest_px = max(size)
    if longest_px <= square_px:
        return size
    width_px, height_px = (max(1, round(side * square_px / longest_px)) for side in size)
    return width_px, height_px


def make_filename(suffix: str = ".jpg") -> str:
    """Make a name that was never used before and that nobody can guess."""
    return f"{uuid.uuid4().hex}{suffix}"
