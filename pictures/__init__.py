"""Bytes only: what a picture is, costs and carries, its colours and scaling, and who decodes it.

No database, store or HTTP is known here, and settings only to `decoding`. What is exported loads no
decoding library: the pool and the slots are imported by their full names.
"""

from pictures.costs import Cost, examine, price_renditions
from pictures.formats import PICTURES_TAKEN
from pictures.placeholder_png import draw_placeholder
from pictures.renditions import (
    Fit,
    ForeignRendition,
    Rendition,
    RenditionFormat,
    resolve_rendition,
)
from pictures.values import (
    WHITE,
    Background,
    Crop,
    MetadataName,
    NoteName,
    ProcessedImage,
    make_filename,
)

__all__ = [
    "PICTURES_TAKEN",
    "WHITE",
    "Background",
    "Cost",
    "Crop",
    "Fit",
    "ForeignRendition",
    "MetadataName",
    "NoteName",
    "ProcessedImage",
    "Rendition",
    "RenditionFormat",
    "draw_placeholder",
    "examine",
    "make_filename",
    "price_renditions",
    "resolve_rendition",
]
