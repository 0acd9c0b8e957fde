"""What is wrong with a photo of the gallery."""

from errors.base import Conflict, NotFound


class PhotoNotFound(NotFound):
    """Also what another's private photo is: nobody is told that it exists."""

    code = "photo_not_found"
    title = "No such photo"
    sentence = "There is no photo with this id."


class PhotoChanged(Conflict):
    code = "photo_changed"
    title = "Photo changed meanwhile"
    sentence = "This photo was changed at the same time. Please load it again and retry."
