"""What is wrong with a picture; most of it is said by a decoder."""

from typing import Self

from errors.base import DarkroomError, TooLarge
from errors.uploads import BadForm


class BadPicture(DarkroomError):
    status = 400
    code = "bad_picture"
    # What is said where a part of the picture is there, if anything is.
    share_template = ""

    @classmethod
    def with_share(cls, arrived_share: float) -> Self:
        """Make it for a picture, or the wanted part of it, of which this share arrived."""
        return cls(cls.share_template.format(percent=int(100 * arrived_share)))


class EmptyFile(BadPicture):
    code = "empty_file"
    title = "Empty file"
    sentence = "The file is empty. Please choose a picture and send it again."


class NotAPicture(BadPicture):
    code = "not_a_picture"
    title = "Not a picture"
    sentence = (
        "This file is not a picture that we can read."
        " Please send a JPEG, PNG, GIF, WebP, AVIF or HEIC."
    )


class UnsupportedFormat(BadPicture):
    code = "unsupported_format"
    title = "Format not supported"
    sentence = (
        "Pictures of this format are not taken. Please send a JPEG, PNG, GIF, WebP, AVIF or HEIC."
    )


class TruncatedPicture(BadPicture):
    code = "truncated_picture"
    title = "Picture cut short"
    sentence = "The picture ends too early. Please send the whole file again."
    template = "The picture ends too early, after {file_bytes:,} bytes. Please send all of it."
    share_template = (
        "The picture ends too early: {percent:d} % of it arrived. Please send the whole file again."
    )


class BrokenPicture(BadPicture):
    code = "broken_picture"
    title = "Broken picture"
    sentence = (
        "The picture is damaged and cannot be read."
        " Please save it again, for example as JPEG, and send that."
    )
    share_template = (
        "The picture is damaged: {percent:d} % of it can be read. Please send another copy of it."
    )


class UndecodablePicture(BadPicture):
    """Its decoder took more time or memory than any picture needs, or died of it."""

    code = "undecodable_picture"
    title = "Picture cannot be decoded"
    sentence = (
        "The picture takes far too much to decode."
        " Please save it again, for example as JPEG, and send that."
    )


class TooManyPixels(TooLarge):
    code = "too_many_pixels"
    title = "Too many pixels"
    sentence = "The picture is too large. Please send a smaller one."
    template = (
        "The picture has {width_px} x {height_px} pixels, {millions:.1f} million;"
        " at most {most_millions:g} million are taken of its kind. Please send a smaller one:"
        " a camera's settings have one, and so has whatever exports pictures."
    )


class SideTooLong(TooLarge):
    code = "side_too_long"
    title = "Side too long"
    sentence = "The picture is too long. Please send a smaller one."
    template = (
        "The picture is {width_px} x {height_px} pixels;"
        " at most {most_px} are taken on a side. Please send a smaller one."
    )


class BadBackground(BadForm):
    code = "bad_background"
    title = "Background not usable"
    sentence = "background must be a colour, # and six hexadecimal digits as in #ffffff, or auto."


class BadCrop(BadForm):
    code = "bad_crop"
    title = "Crop not usable"
    sentence = "crop must be x,y,size: three whole numbers, a square inside the upright picture."
    template = "The crop lies outside the picture, which is {width} x {height} pixels when upright."
