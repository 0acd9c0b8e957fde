"""What is wrong with a photo of the gallery."""

from errors.base import Conflict, DarkroomError, NotFound, Unavailable


class PhotoNotFound(NotFound):
    """Also what another's private photo is: nobody is told that it exists."""

    code = "photo_not_found"
    title = "No such photo"
    sentence = "There is no photo with this id."


class ThumbnailNotFound(NotFound):
    """Also what another's is: nobody is told that it exists."""

    code = "thumbnail_not_found"
    title = "No such thumbnail"
    sentence = "There is no thumbnail with this id."


class BadThumbnail(DarkroomError):
    status = 422
    code = "bad_thumbnail"
    title = "No such thumbnail"
    sentence = (
        "Please give the width or the height of the thumbnail, up to 4096 pixels, or a preset."
    )


class ThumbnailNotReady(Unavailable):
    code = "thumbnail_not_ready"
    title = "Thumbnail not ready"
    sentence = "This thumbnail is still being made. Please try again in a moment."


class PhotoChanged(Conflict):
    code = "photo_changed"
    title = "Photo changed meanwhile"
    sentence = "This photo was changed at the same time. Please load it again and retry."
