"""What the service and a decoder say to each other, and how it becomes bytes and is read again.

A job is a line, and the file behind it or in memory that both share; an answer is a head of a
fixed length, and behind it a picture or a sentence. A decoder may have been taken over by its file:
of what it answers only that is taken which can be nothing worse than a poor picture.
"""

import base64
import dataclasses
import json
import re
import struct
from dataclasses import dataclass
from typing import Any

import errors
from errors import DarkroomError
from pictures.confinement import EVERY_LAYER, Layer
from pictures.foreign import KINDS
from pictures.renditions import Fit, Rendition, RenditionFormat
from pictures.served_files import is_served_file, is_served_picture
from pictures.served_jpeg import count_most_bytes
from pictures.values import (
    CLEAR,
    METADATA_NAMES,
    NOTE_NAMES,
    PICTURE_SIDE_PX,
    WHITE,
    Background,
    Clear,
    Crop,
    DeclaredSides,
    MetadataName,
    NoteName,
    ProcessedImage,
)

# What the service says first: whether a descriptor of shared memory comes with it.
MEMORY_SHARED = b"+"
NOTHING_SHARED = b"-"

# A mark, the layers of its confinement, and the bytes of address space that it takes by itself.
_READY = struct.Struct("!1sBQ")
READY_BYTES = _READY.size
_READY_MARK = b"!"
# A mark, which tells the format of a picture; how many bytes of it or of a sentence follow. Of a
# picture: its sides, the dominant
# colour, a bit for each name of METADATA_NAMES and one for each of NOTE_NAMES, the ThumbHash; of a
# rendition: its sides. Of a refusal: its code. This and the ThumbHash begin with their length.
_HEAD = struct.Struct("!1sIHH3sHB33p")
HEAD_BYTES = _HEAD.size
_MADE_MARKS = {RenditionFormat.JPEG: b"P", RenditionFormat.WEBP: b"W"}
_RENDERED_MARK = b"T"
_REFUSED_MARK = b"R"
_THUMBHASH_BYTES = range(5, 31)
# The longest of ours has some 150.
_MOST_SENTENCE_BYTES = 400
# What a decoder may refuse a picture with.
_REFUSALS: dict[str, type[DarkroomError]] = {
    error.code: error
    for error in (
        *(errors.EmptyFile, errors.NotAPicture, errors.UnsupportedFormat, errors.TruncatedPicture),
        *(errors.BrokenPicture, errors.UndecodablePicture),
        *(errors.TooManyPixels, errors.SideTooLong, errors.BadCrop),
    )
}


class Nonsense(Exception):
    """A decoder says what no decoder of ours says."""


@dataclass(frozen=True)
class Job:
    """A picture to make of a file of `content_bytes`: a square, or else the `whole` of it.

    Or else, where there are `renditions`, these, in their order, of a master of ours. The file
    follows, unless it `is_shared`. While it works on it, a decoder may take `memory_bytes` more
    than by itself.
    """

    content_bytes: int
    memory_bytes: int
    cpu_seconds: float
    crop: Crop | None
    max_pixels: int
    max_whole_pixels: int
    whole: DeclaredSides | None = None
    is_shared: bool = False
    renditions: tuple[Rendition, ...] = ()
    background: Background | Clear = WHITE

    @property
    def picture_count(self) -> int:
        """How many pictures are the answer, if it is no refusal."""
        return len(self.renditions) or 1

    @property
    def picture_formats(self) -> tuple[RenditionFormat, ...]:
        """What a picture that is no rendition may be: a WebP only where it may be transparent."""
        if self.whole is None and self.background == CLEAR:
            return RenditionFormat.JPEG, RenditionFormat.WEBP
        return (RenditionFormat.JPEG,)

    def allows(self, size: tuple[int, int]) -> bool:
        """Whether a picture of these sides is what was asked for."""
        if self.whole is None:
            return size == (PICTURE_SIDE_PX, PICTURE_SIDE_PX)
        return self.whole.allow(size)

    def to_line(self) -> bytes:
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Job":
        """Read what the service said, which is believed."""
        fields = json.loads(line)
        crop = fields.pop("crop")
        whole = fields.pop("whole")
        background = fields.pop("background")
        return cls(
            crop=None if crop is None else Crop(*crop),
            whole=None if whole is None else DeclaredSides(*whole),
            background=background if background in ("auto", CLEAR) else tuple(background),
            renditions=tuple(_read_rendition(each) for each in fields.pop("renditions")),
            **fields,
        )


def _read_rendition(fields: dict[str, Any]) -> Rendition:
    return Rendition(
        fields["width_px"],
        fields["height_px"],
        Fit(fields["fit"]),
        RenditionFormat(fields["format"]),
    )


@dataclass(frozen=True)
class Ready:
    """What a decoder says when it can take a picture, before it has seen a file."""

    layers: Layer
    own_bytes: int

    def to_bytes(self) -> bytes:
        return _READY.pack(_READY_MARK, self.layers.value, self.own_bytes)

    @classmethod
    def from_bytes(cls, said: bytes) -> "Ready":
        """Raises Nonsense."""
        try:
            mark, layers, own_bytes = _READY.unpack(said)
            # Python 3.11.2 takes bits for flags that are none.
            _check(mark == _READY_MARK and layers <= EVERY_LAYER.value)
            return cls(Layer(layers), own_bytes)
        except (struct.error, ValueError) as err:
            raise Nonsense from err


@dataclass(frozen=True)
class Made:
    """The answer before a picture that was made, whose file of `following_bytes` follows."""

    following_bytes: int
    width_px: int
    height_px: int
    dominant_colour: str
    thumbhash: str
    removed_metadata: tuple[MetadataName, ...]
    notes: tuple[NoteName, ...]
    format: RenditionFormat = RenditionFormat.JPEG

    @classmethod
    def of(cls, picture: ProcessedImage) -> "Made":
        """Say what there is to say of this picture."""
        return cls(
            len(picture.content),
            picture.width_px,
            picture.height_px,
            picture.dominant_colour,
            picture.thumbhash,
            picture.removed_metadata,
            picture.notes,
            RenditionFormat.of(picture.content_type),
        )

    def to_bytes(self) -> bytes:
        removed = sum(1 << METADATA_NAMES.index(name) for name in self.removed_metadata)
        notes = sum(1 << NOTE_NAMES.index(name) for name in self.notes)
        colour = bytes.fromhex(self.dominant_colour.removeprefix("#"))
        thumbhash = base64.b64decode(self.thumbhash)
        size = (self.width_px, self.height_px)
        mark = _MADE_MARKS[self.format]
        return _HEAD.pack(mark, self.following_bytes, *size, colour, removed, notes, thumbhash)

    def finish(self, file: bytes) -> ProcessedImage:
        """Put both parts of the answer together; the service itself names and hashes the picture.

        Raises Nonsense when the bytes are none of this format as we make it.
        """
        size = (self.width_px, self.height_px)
        _check(is_served_picture(file, self.format, size))
        return ProcessedImage.from_file(
            file,
            self.format.content_type,
            self.format.suffix,
            size,
            self.dominant_colour,
            self.thumbhash,
            self.removed_metadata,
            self.notes,
        )


@dataclass(frozen=True)
class Rendered:
    """The answer before one rendition, whose file of `following_bytes` follows."""

    rendition: Rendition
    following_bytes: int

    def to_bytes(self) -> bytes:
        size = self.rendition.size
        return _HEAD.pack(_RENDERED_MARK, self.following_bytes, *size, bytes(3), 0, 0, b"")

    def finish(self, file: bytes) -> ProcessedImage:
        """Name and hash the file. Raises Nonsense when it is not what was asked for."""
        _check(is_served_file(file, self.rendition))
        return self.rendition.name_file(file)


@dataclass(frozen=True)
class Refused:
    """The answer to a file of which no picture is made, whose sentence follows."""

    code: str
    sentence_bytes: int

    def to_bytes(self) -> bytes:
        code = self.code.encode()
        return _HEAD.pack(_REFUSED_MARK, self.sentence_bytes, 0, 0, bytes(3), 0, 0, code)

    @property
    def following_bytes(self) -> int:
        return self.sentence_bytes

    def finish(self, sentence: bytes) -> DarkroomError:
        """Make the error of it. Raises Nonsense when it never says that sentence."""
        error = _REFUSALS[self.code]
        try:
            text = sentence.decode()
        except UnicodeDecodeError as err:
            raise Nonsense from err
        _check(any(known.fullmatch(text) for known in _SENTENCES[error]))
        return error(text)


def refuse(error: DarkroomError) -> tuple[Refused, bytes]:
    """Give both parts of the answer that becomes this error again."""
    sentence = error.detail.encode()
    return Refused(error.code, len(sentence)), sentence


def read_head(head: bytes, job: Job, pictures_before: int = 0) -> Made | Rendered | Refused:
    """Read how a decoder's answer to the job begins, or goes on behind so many pictures.

    It is not believed. Raises Nonsense.
    """
    if job.renditions and head[:1] == _RENDERED_MARK:
        return _read_rendered(head, job.renditions[pictures_before])
    try:
        mark, following_bytes, width_px, height_px, colour, removed_bits, note_bits, text = (
            _HEAD.unpack(head)
        )
    except struct.error as err:
        raise Nonsense from err
    if mark == _REFUSED_MARK:
        code = text.decode("ascii", "replace")
        _check(pictures_before == 0)
        _check(code in _REFUSALS and 0 < following_bytes <= _MOST_SENTENCE_BYTES)
        return Refused(code, following_bytes)
    size = (width_px, height_px)
    formats = {_MADE_MARKS[each]: each for each in job.picture_formats}
    _check(mark in formats and not job.renditions and job.allows(size))
    _check(0 < following_bytes <= count_most_bytes(size))
    _check(len(text) in _THUMBHASH_BYTES)
    removed = tuple(name for place, name in enumerate(METADATA_NAMES) if removed_bits >> place & 1)
    notes = tuple(name for place, name in enumerate(NOTE_NAMES) if note_bits >> place & 1)
    thumbhash = base64.b64encode(text).decode()
    dominant_colour = f"#{colour.hex()}"
    return Made(following_bytes, *size, dominant_colour, thumbhash, removed, notes, formats[mark])


def _read_rendered(head: bytes, rendition: Rendition) -> Rendered:
    """Read the head of this rendition, of which nothing but the length is the decoder's to say."""
    following_bytes = int.from_bytes(head[1:5], "big")
    rendered = Rendered(rendition, following_bytes)
    _check(0 < following_bytes <= count_most_bytes(rendition.size) and head == rendered.to_bytes())
    return rendered


def _find_sentences(error: type[DarkroomError]) -> list[re.Pattern[str]]:
    """Find all that this error says of a picture; the numbers in it may be any."""
    templates = [error.sentence, error.template or error.sentence]
    if error is errors.UnsupportedFormat:
        templates += [kind.sentence for kind in KINDS]
    if issubclass(error, errors.BadPicture) and error.share_template:
        templates += [error.share_template]
    return [
        re.compile(_NUMBER.join(map(re.escape, _PLACE.split(template)))) for template in templates
    ]


# A place for a number in a template, and what may stand there.
_PLACE = re.compile(r"\{.*?\}")
_NUMBER = r"[0-9.,e+-]{1,16}"
_SENTENCES = {error: _find_sentences(error) for error in _REFUSALS.values()}


def _check(is_sound: bool) -> None:
    if not is_sound:
        raise Nonsense
