"""What the service and a decoder say to each other, and how it becomes bytes and is read again.

A job is a line, and the file behind it or in memory that both share; an answer is a line, and
behind that of a picture its bytes. A decoder may have been taken over by its file: of what it
answers only that is taken which can be nothing worse than a poor picture.
"""

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any

import errors
from errors import DarkroomError
from pictures.costs import MIB
from pictures.values import METADATA_NAMES, Crop, MetadataName, ProcessedImage

# What the service says first: whether a descriptor of shared memory comes with it.
MEMORY_SHARED = b"+"
NOTHING_SHARED = b"-"
# What a decoder says when it can take a picture.
READY = b"!"
# Ten times what a noisy 300 x 300 JPEG takes; a decoder that says more was taken over by its file.
MOST_ANSWER_BYTES = MIB

_JPEG_SIGNATURE = b"\xff\xd8"
_COLOUR = re.compile("#[0-9a-f]{6}")
_THUMBHASH = re.compile("[A-Za-z0-9+/]{8,40}={0,2}")
# What a decoder may refuse a picture with.
_REFUSALS: dict[str, type[DarkroomError]] = {
    error.code: error
    for error in vars(errors).values()
    if isinstance(error, type)
    and issubclass(error, errors.BadPicture | errors.TooLarge | errors.BadForm)
}


class Nonsense(Exception):
    """A decoder says what no decoder of ours says."""


@dataclass(frozen=True)
class Job:
    """A picture to make of a file of `content_bytes`.

    It follows, unless it `is_shared`. While it works on it, a decoder may take `memory_bytes` more
    than by itself.
    """

    content_bytes: int
    memory_bytes: int
    cpu_seconds: float
    crop: Crop | None
    max_pixels: int
    max_whole_pixels: int
    is_shared: bool = False

    def to_line(self) -> bytes:
        return _to_line(dataclasses.asdict(self))

    @classmethod
    def from_line(cls, line: bytes) -> "Job":
        """Read what the service said, which is believed."""
        fields = json.loads(line)
        crop = fields.pop("crop")
        return cls(crop=None if crop is None else Crop(*crop), **fields)


@dataclass(frozen=True)
class Made:
    """The answer before a picture that was made, whose JPEG of `jpeg_bytes` follows."""

    jpeg_bytes: int
    dominant_colour: str
    thumbhash: str
    removed_metadata: tuple[MetadataName, ...]

    def to_line(self) -> bytes:
        return _to_line(dataclasses.asdict(self))

    def finish(self, jpeg: bytes) -> ProcessedImage:
        """Put both parts of the answer together; the service itself names and hashes the picture.

        Raises Nonsense when the bytes are not those that were announced.
        """
        _check(len(jpeg) == self.jpeg_bytes)
        _check(jpeg.startswith(_JPEG_SIGNATURE))
        return ProcessedImage.from_jpeg(
            jpeg, self.dominant_colour, self.thumbhash, self.removed_metadata
        )


@dataclass(frozen=True)
class Refused:
    """The answer to a file of which no picture is made."""

    code: str
    sentence: str

    def to_line(self) -> bytes:
        return _to_line(dataclasses.asdict(self))

    def to_error(self) -> DarkroomError:
        return _REFUSALS[self.code](self.sentence)


def read_answer(line: bytes) -> Made | Refused:
    """Read what a decoder said, which is not believed. Raises Nonsense."""
    try:
        fields = json.loads(line)
        return _read_refused(fields) if "code" in fields else _read_made(fields)
    except (ValueError, LookupError, TypeError, RecursionError) as err:
        raise Nonsense from err


def _read_refused(fields: Any) -> Refused:
    code = fields["code"]
    sentence = fields["sentence"]
    _check(isinstance(code, str) and code in _REFUSALS)
    _check(isinstance(sentence, str))
    return Refused(code, sentence)


def _read_made(fields: Any) -> Made:
    jpeg_bytes = fields["jpeg_bytes"]
    colour = fields["dominant_colour"]
    thumbhash = fields["thumbhash"]
    removed = fields["removed_metadata"]
    _check(type(jpeg_bytes) is int and 0 < jpeg_bytes <= MOST_ANSWER_BYTES)
    _check(isinstance(colour, str) and _COLOUR.fullmatch(colour) is not None)
    _check(isinstance(thumbhash, str) and _THUMBHASH.fullmatch(thumbhash) is not None)
    _check(isinstance(removed, list) and all(name in METADATA_NAMES for name in removed))
    return Made(jpeg_bytes, colour, thumbhash, tuple(removed))


def _check(is_sound: bool) -> None:
    if not is_sound:
        raise Nonsense


def _to_line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode() + b"\n"
