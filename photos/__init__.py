"""The gallery: the photos of an account, and the lists in which people look at them.

HTTP is not known here: a refusal is an error of the tree.
"""

from photos.listing import (
    DEFAULT_PAGE_PHOTOS,
    MOST_PAGE_PHOTOS,
    Page,
    list_account,
    list_all,
    read_photo,
)

__all__ = [
    "DEFAULT_PAGE_PHOTOS",
    "MOST_PAGE_PHOTOS",
    "Page",
    "list_account",
    "list_all",
    "read_photo",
]
