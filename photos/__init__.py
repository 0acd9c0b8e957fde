"""The gallery: the photos of an account, and the lists in which people look at them.

HTTP is not known here: a refusal is an error of the tree.
"""

from photos.gallery import (
    RENDER_PRESETS,
    Words,
    add_photo,
    change_words,
    delete_photo,
    replace_photo,
)
from photos.intake import Intake, Sent
from photos.listing import (
    DEFAULT_PAGE_PHOTOS,
    MOST_PAGE_PHOTOS,
    Page,
    list_account,
    list_all,
    read_own_photo,
    read_photo,
    read_photo_to_change,
    read_photo_to_render,
)
from photos.options import (
    MOST_SIDE_PX,
    MOST_SIZES,
    ThumbnailOptions,
    WantedFormat,
    parse_sizes,
    write_rendition,
)
from photos.single_thumbnails import (
    ThumbnailsPage,
    add_single_thumbnail,
    delete_single_thumbnail,
    find_thumbnail_fingerprint,
    list_single_thumbnails,
    read_single_thumbnail,
)
from photos.stored import read_file
from photos.thumbnail_links import ThumbnailLinks
from photos.thumbnails import RENDER_THUMBNAIL, VERSION, Thumbnails, list_presets

__all__ = [
    "DEFAULT_PAGE_PHOTOS",
    "MOST_PAGE_PHOTOS",
    "MOST_SIDE_PX",
    "MOST_SIZES",
    "RENDER_PRESETS",
    "RENDER_THUMBNAIL",
    "VERSION",
    "Intake",
    "Page",
    "Sent",
    "ThumbnailLinks",
    "ThumbnailOptions",
    "Thumbnails",
    "ThumbnailsPage",
    "WantedFormat",
    "Words",
    "add_photo",
    "add_single_thumbnail",
    "change_words",
    "delete_photo",
    "delete_single_thumbnail",
    "find_thumbnail_fingerprint",
    "list_account",
    "list_all",
    "list_presets",
    "list_single_thumbnails",
    "parse_sizes",
    "read_file",
    "read_own_photo",
    "read_photo",
    "read_photo_to_change",
    "read_photo_to_render",
    "read_single_thumbnail",
    "replace_photo",
    "write_rendition",
]
