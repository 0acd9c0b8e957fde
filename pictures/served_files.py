"""Whether bytes are a file as a rendition of ours has it, whichever format was asked for."""

from pictures.renditions import Rendition, RenditionFormat
from pictures.served_avif import is_served_avif
from pictures.served_jpeg import is_served_jpeg
from pictures.served_webp import is_served_webp

_WALKERS = {
    RenditionFormat.JPEG: is_served_jpeg,
    RenditionFormat.WEBP: is_served_webp,
    RenditionFormat.AVIF: is_served_avif,
}


def is_served_file(file: bytes, rendition: Rendition) -> bool:
    """Whether it is one of ours, in the rendition's format and of its sides.

    That is said of every byte but those of the coded picture, which is not decoded.
    """
    return _WALKERS[rendition.format](file, rendition.size)
