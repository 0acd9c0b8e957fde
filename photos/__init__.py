"""The gallery: the photos of an account, and the lists in which people look at them.

HTTP is not known here: a refusal is an error of the tree.
"""

from photos.gallery import Words, add_photo, change_words, delete_photo, replace_photo
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
)
from photos.stored import read_file

__all__ = [
    "DEFAULT_PAGE_PHOTOS",
    "MOST_PAGE_PHOTOS",
    "Intake",
    "Page",
    "Sent",
    "Words",
    "add_photo",
    "change_words",
    "delete_photo",
    "list_account",
    "list_all",
    "read_file",
    "read_own_photo",
    "read_photo",
    "read_photo_to_change",
    "replace_photo",
]
