"""What is said about pictures: the square that is wanted, and the finished picture.

Plain values, known to the service and to its decoders alike.
"""

import hashlib
import uuid
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

PICTURE_SIDE_PX = 300
CONTENT_TYPE = "image/jpeg"

# A file: as the service has it, or as a decoder sees it in memory that both share.
Content = bytes | memoryview

MetadataName = Literal["comment", "exif", "gps", "icc_profile", "iptc", "text", "thumbnail", "xmp"]
METADATA_NAMES: tuple[MetadataName, ...] = get_args(MetadataName)


class Crop(NamedTuple):
    """A square in the upright picture, in its pixels from the top left corner."""

    x_px: int
    y_px: int
    size_px: int


@dataclass(frozen=True)
class ProcessedImage:
    """A finished picture.

    `sha256` is in hexadecimal; `filename` is random and was never used before. `dominant_colour` is
    #rrggbb, `thumbhash` the hash in base64; `removed_metadata` names what the original carried.
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

    @classmethod
    def from_jpeg(
        cls,
        jpeg: bytes,
        dominant_colour: str,
        thumbhash: str,
        removed_metadata: tuple[MetadataName, ...],
    ) -> "ProcessedImage":
        """Name and hash what the image step made."""
        return cls(
            content=jpeg,
            content_type=CONTENT_TYPE,
            width_px=PICTURE_SIDE_PX,
            height_px=PICTURE_SIDE_PX,
            sha256=hashlib.sha256(jpeg).hexdigest(),
            filename=make_filename(),
            dominant_colour=dominant_colour,
            thumbhash=thumbhash,
            removed_metadata=removed_metadata,
        )


def make_filename() -> str:
    """Make a name that was never used before and that nobody can guess."""
    return f"{uuid.uuid4().hex}.jpg"
