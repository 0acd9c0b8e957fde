"""Whether bytes are a file as we write it, whichever format was asked for, or told."""

from pictures.renditions import Rendition, RenditionFormat
from pictures.served_avif import is_served_avif
from pictures.served_jpeg import is_served_jpeg
from pictures.served_webp import is_served_clear_webp, is_served_webp

_RENDITIONS = {
    RenditionFormat.JPEG: is_served_jpeg,
    RenditionFormat.WEBP: is_served_webp,
    RenditionFormat.AVIF: is_served_avif,
}
# What is no rendition is a WebP only where something stays transparent.
_PICTURES = {
    RenditionFormat.JPEG: is_served_jpeg,
    RenditionFormat.WEBP: is_served_clear_webp,
}


def is_served_file(file: bytes, rendition: Rendition) -> bool:
    """Whether it is one of ours, in the rendition's format and of its sides.

    That is said of every byte but those of the coded picture, which is not decoded.
    """
    return _RENDITIONS[rendition.format](file, rendition.size)


def is_served_picture(file: bytes, file_format: RenditionFormat, size: tuple[int, int]) -> bool:
    """Whether it is a profile picture of ours, or a master or thumbnail, likewise."""
    return _PICTURES[file_format](file, size)
