"""What is wrong with a photo of the gallery."""

from errors.base import Conflict, NotFound


class PhotoNotFound(NotFound):
    """Also what another's private photo is: nobody is told that it exists."""

    code = "photo_not_found"
    title = "No such photo"
    sentence = "There is no photo with this id."


class OriginalNotKept(NotFound):
    """The settings said, when the photo came, that its original goes once the master is there."""

    code = "original_not_kept"
    title = "Original not kept"
    sentence = "The original of this photo was not kept."


class PhotoChanged(Conflict):
    code = "photo_changed"
    title = "Photo changed meanwhile"
    sentence = "This photo was changed at the same time. Please load it again and retry."
