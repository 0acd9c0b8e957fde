"""Bytes in, bytes out: any accepted picture becomes a clean, upright, square JPEG in sRGB.

Pillow and nothing else.

Only the one parser that the content calls for ever sees it, after the limits
were read from its header; whatever a broken file makes that parser raise is
a BadPicture. Pure functions without settings: limits are arguments.
"""

import base64
import hashlib
import io
import math
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pillow_heif.options
from PIL import AvifImagePlugin, Image, ImageCms, ImageFile, PngImagePlugin
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile
from pillow_heif.as_plugin import HeifImageFile
from thumbhash import rgba_to_thumb_hash

from errors import BadCrop, BadPicture, BrokenPicture, TooLarge
from pictures import costs, formats, metadata
from pictures.costs import (
    DEFAULT_MAX_PIXELS,
    DEFAULT_MAX_WHOLE_PIXELS,
    DRAFT_SIDE_PX,
    PICTURE_SIDE_PX,
    Crop,
)
from pictures.formats import Header
from pictures.metadata import AvifPicture

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)
# Below 80 skin shows blocks at this size, above 90 the file doubles for nothing that an eye sees.
JPEG_QUALITY = 85
# A printer's profile has up to 2 MiB; one of a bigger file is ignored, not parsed.
MAX_PROFILE_BYTES = 4 * 1024 * 1024
# Progressive files have ten; each goes over all coefficients: 13 ms for 42 bytes of a hostile file.
_SCAN_MARKER = b"\xff\xda"
MOST_SCANS = 100
# Rows that are converted at a time: what a strip of a
# wide picture takes stays in the processor's cache.
STRIP_ROWS_PX = 64
# 15 x 15 pixels carry all that a ThumbHash keeps of
# brightness (7 x 7 waves), at a fraction of the work.
THUMBHASH_FACTOR = PICTURE_SIDE_PX // 15
# Of so many shades in a 30 x 30 picture the most frequent one is the dominant colour.
DOMINANT_SHADES = 8
DOMINANT_FACTOR = PICTURE_SIDE_PX // 30

# Nothing is registered or guessed, and no other plugin loaded.
# A phone's MPO is read as the JPEG that it begins with.
_PARSERS = {
    str(parser.format): parser
    for parser in (
        JpegImageFile,
        PngImageFile,
        GifImageFile,
        WebPImageFile,
        AvifPicture,
        HeifImageFile,
    )
}
FORMATS = tuple(_PARSERS)

# Our own check knows the two limits and names both
# numbers; Pillow's single one would come before it.
Image.MAX_IMAGE_PIXELS = None
ImageFile.LOAD_TRUNCATED_IMAGES = False
# Decompressed: one text or a profile, and all texts together.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = MAX_PROFILE_BYTES
# A picture slot is one thread; these would start one for each core in every slot.
AvifImagePlugin.DEFAULT_MAX_THREADS = pillow_heif.options.DECODE_THREADS = 1
# Only the picture itself is decoded, whatever else its file carries.
pillow_heif.options.THUMBNAILS = pillow_heif.options.DEPTH_IMAGES = (
    pillow_heif.options.AUX_IMAGES
) = False

# EXIF 2.32, tag 274: how to turn stored pixels upright; from 5 on the sides change places.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GREY_OF_16_BITS = [round(value / 257) for value in range(2**16)]
_PILLOWS_WORDS_FOR_CUT_SHORT = ("image file is truncated", "Truncated File Read")
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
# ICC.1:2022, 7.2.5 and 7.2.6: the classes that describe
# a device, and the colour spaces that our modes are in.
_DEVICE_CLASSES = ("mntr", "scnr", "prtr", "spac")
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_NO_INK = {"L": (255,), "RGB": (255, 255, 255), "CMYK": (0, 0, 0, 0)}
# A profile under which paper is darker than this is nonsense, however well it is written.
_DARKEST_WHITE = 200


@dataclass(frozen=True)
class ProcessedImage:
    """A finished picture.

    `sha256` is in hexadecimal; `filename` is random and was never used before.

    `dominant_colour` is #rrggbb, `thumbhash` the hash in
    base64; `removed_metadata` names what the original carried.
    """

    content: bytes
    content_type: str
    width_px: int
    height_px: int
    sha256: str
    filename: str
    dominant_colour: str
    thumbhash: str
    removed_metadata: tuple[str, ...]


def process_profile_image(
    content: bytes,
    crop: Crop | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    max_whole_pixels: int = DEFAULT_MAX_WHOLE_PIXELS,
    background: Colour = WHITE,
) -> ProcessedImage:
    """Make a 300 x 300 JPEG of `crop`, or of the centre
    square; what is transparent shows `background`.

    `max_pixels` bounds baseline JPEG, which is decoded at reduced scale; `max_whole_pixels` what
    must be decoded whole: every other kind, and a JPEG of which so small a square is wanted that
    no smaller scale will do. Raises BadPicture, TooLarge or BadCrop; of others only MemoryError.
    """
    header, _ = costs.examine(content, crop, max_pixels, max_whole_pixels)
    if (
        header.format == "JPEG"
        and not header.is_baseline
        and content.count(_SCAN_MARKER) > MOST_SCANS
    ):
        raise BrokenPicture
    with _opened(content, header) as picture:
        costs.check_size(header, picture.size, crop, max_pixels, max_whole_pixels)
        if header.format != "JPEG":
            # a PNG's getexif() does so too, and what it raises there must not be lost
            picture.load()
        if header.format == "PNG":
            _scale_transparent_colour(picture, depth=content[24])
        orientation = metadata.orientation(picture)
        square = _square(picture, _stored_box(picture.size, orientation, crop), header, crop)
        if orientation in _TURNS:
            square = square.transpose(_TURNS[orientation])
        upright = _on_background(_in_srgb(square, picture.info.get("icc_profile")), background)
        removed = metadata.names(picture, content)
    return finished(_encoded(upright), *_placeholder(upright), removed)


def finished(
    jpeg: bytes, dominant_colour: str, thumbhash: str, removed_metadata: tuple[str, ...]
) -> ProcessedImage:
    """Name and hash what the image step made."""
    side = PICTURE_SIDE_PX
    sha256 = hashlib.sha256(jpeg).hexdigest()
    shown = dominant_colour, thumbhash, removed_metadata
    return ProcessedImage(jpeg, "image/jpeg", side, side, sha256, new_filename(), *shown)


def new_filename() -> str:
    """A name that was never used before and that nobody can guess."""
    return f"{uuid.uuid4().hex}.jpg"


@contextmanager
def _opened(content: bytes, header: Header) -> Iterator[Image.Image]:
    """Open with the one parser, and turn whatever it raises, here or later, into a BadPicture."""
    try:
        with _PARSERS[header.format](io.BytesIO(content)) as picture:
            yield picture
    except (BadPicture, TooLarge, BadCrop, MemoryError):
        raise
    # OSError, SyntaxError, ValueError, struct.error, zlib.error ...: all of them a bad file
    except Exception as err:
        if any(each in str(err) for each in _PILLOWS_WORDS_FOR_CUT_SHORT) or formats.is_cut_short(
            content
        ):
            raise formats.truncated(content) from err
        raise BrokenPicture from err


def _scale_transparent_colour(picture: Image.Image, depth: int) -> None:
    """A PNG names it in its own depth (PNG 3, 11.3.1.1),
    and Pillow leaves it so, but for 1, 8 and 16 grey.
    """
    hidden = picture.info.get("transparency")
    if picture.mode == "L" and depth in (2, 4) and hidden is not None:
        picture.info["transparency"] = hidden * 255 // (2**depth - 1)
    if picture.mode == "RGB" and depth == 16 and hidden is not None:
        picture.info["transparency"] = tuple(value >> 8 for value in hidden)


def _stored_box(
    size: tuple[int, int], orientation: int, crop: Crop | None
) -> tuple[float, float, int]:
    """The left, top and side, in stored pixels, of a
    crop given in upright ones, or of the centre square.
    """
    width, height = size
    if crop is None:
        side = min(size)
        return (
            (width - side) / 2,
            (height - side) / 2,
            side,
        )  # to half a pixel, and so the same however it is turned
    upright = (height, width) if orientation >= 5 else (width, height)
    x, y, side = crop
    if side < 1 or x < 0 or y < 0 or x + side > upright[0] or y + side > upright[1]:
        raise BadCrop(
            f"The crop lies outside the picture, which is {upright[0]} x {upright[1]} pixels when upright."
        )
    along, down = (y, x) if orientation >= 5 else (x, y)
    left = width - side - along if orientation in (2, 3, 7, 8) else along
    top = height - side - down if orientation in (3, 4, 6, 7) else down
    return left, top, side


def _square(
    picture: Image.Image, box: tuple[float, float, int], header: Header, crop: Crop | None
) -> Image.Image:
    """Decode, crop and scale; a JPEG is reduced while it is
    decoded, all else in strips before the better filter.
    """
    (left, top, side) = box
    (stored_width, stored_height) = picture.size
    wanted = costs.reduction(header, picture.size, crop)
    picture.draft(None, (stored_width // wanted or 1, stored_height // wanted or 1))
    picture.load()
    # libjpeg divides by a whole number and rounds the sides
    # up: the quotient of the sides would be off a little.
    factor = round(max(stored_width / picture.width, stored_height / picture.height))
    right = min((left + side) / factor, picture.width)
    bottom = min((top + side) / factor, picture.height)
    left = left / factor
    top = top / factor
    reduced, scale, x, y = _reduced(picture, (left, top, right, bottom))
    right = min((right - x) / scale, reduced.width)
    bottom = min((bottom - y) / scale, reduced.height)
    exact = ((left - x) / scale, (top - y) / scale, right, bottom)
    return reduced.resize((PICTURE_SIDE_PX, PICTURE_SIDE_PX), Image.Resampling.LANCZOS, exact)


def _reduced(
    picture: Image.Image, box: tuple[float, float, float, float]
) -> tuple[Image.Image, int, int, int]:
    """The box in a mode that scales well, averaged by a
    whole factor; with the factor and where it begins.

    Strip by strip, so that no second copy of a large picture is ever in memory.
    """
    left = int(box[0])
    top = int(box[1])
    right = math.ceil(box[2])
    bottom = math.ceil(box[3])
    scale = max(1, int(min(box[2] - box[0], box[3] - box[1])) // DRAFT_SIDE_PX)
    if scale == 1 and picture.mode in _SPACES and "transparency" not in picture.info:
        return picture.crop((left, top, right, bottom)), 1, left, top
    rows = -(-STRIP_ROWS_PX // scale) * scale
    strips = (
        picture.crop((left, upper, right, min(upper + rows, bottom)))
        for upper in range(top, bottom, rows)
    )
    first = scalable(next(strips)).reduce(scale)
    reduced = Image.new(first.mode, (first.width, -(-(bottom - top) // scale)))
    reduced.paste(first)
    for number, strip in enumerate(strips, 1):
        reduced.paste(scalable(strip).reduce(scale), (0, number * rows // scale))
    return reduced, scale, left, top


def scalable(picture: Image.Image) -> Image.Image:
    """The same picture in a mode that scales well: eight
    bits a channel, no palette, transparency premultiplied.
    """
    mode = picture.mode
    if mode.startswith(
        "I"
    ):  # 16 bits, in whichever of Pillow's ways to hold them; a transparent shade stays as it is
        return picture.convert("I").point(_GREY_OF_16_BITS, "L")
    if (
        mode == "PA"
        or "transparency" in picture.info
        or (mode == "P" and picture.im.getpalettemode() == "RGBA")
    ):
        picture = picture.convert("RGBA")
    if picture.mode in ("LA", "RGBA"):
        return picture.convert({"LA": "La", "RGBA": "RGBa"}[picture.mode])
    if mode in ("1", "F"):
        return picture.convert("L")
    return picture if picture.mode in ("L", "La", "RGB", "RGBa", "CMYK") else picture.convert("RGB")


def _in_srgb(square: Image.Image, profile: bytes | None) -> Image.Image:
    """The same picture as RGB or RGBA in sRGB.

    A profile that is broken, absurd or of another space is ignored.
    """
    if square.mode in ("La", "RGBa"):
        straight = square.convert({"La": "LA", "RGBa": "RGBA"}[square.mode])
        opaque = _in_srgb(straight.convert(straight.mode[:-1]), profile)
        opaque.putalpha(straight.getchannel("A"))
        return opaque
    if profile and len(profile) <= MAX_PROFILE_BYTES:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            known = source.profile
            if (
                known.xcolor_space.strip() == _SPACES[square.mode]
                and known.device_class in _DEVICE_CLASSES
            ):
                paper = _transformed(Image.new(square.mode, (1, 1), _NO_INK[square.mode]), source)
                if min(paper.tobytes()) >= _DARKEST_WHITE:
                    return _transformed(square, source)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass  # a picture without its profile is better than none
    return square.convert("RGB")


def _transformed(square: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    """As browsers do it: relative colorimetric, with black point compensation."""
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    made = ImageCms.profileToProfile(square, source, _SRGB, intent, "RGB", flags=flags)
    assert made is not None  # only when it is to change the picture in place
    return made


def _on_background(square: Image.Image, background: Colour) -> Image.Image:
    """A new image: what Pillow remembers of the old one (comments, profiles, EXIF) stays behind."""
    clean = Image.new("RGB", square.size, background)
    clean.paste(square, mask=square if square.mode == "RGBA" else None)
    return clean


def _encoded(upright: Image.Image) -> bytes:
    out = io.BytesIO()
    out.name = (
        "picture.jpg"  # told a name, Pillow loads the one encoder, told a format all that it has
    )
    upright.save(out, quality=JPEG_QUALITY, optimize=True)
    return out.getvalue()


def _placeholder(upright: Image.Image) -> tuple[str, str]:
    """The most frequent shade as #rrggbb, and a blurred
    miniature (evanw.github.io/thumbhash) in base64.
    """
    shades = upright.reduce(DOMINANT_FACTOR).quantize(DOMINANT_SHADES)
    most = max(range(DOMINANT_SHADES), key=shades.histogram().__getitem__)
    red, green, blue = (shades.getpalette() or [])[3 * most : 3 * most + 3]
    small = upright.reduce(THUMBHASH_FACTOR).convert("RGBA")
    thumbhash = bytes(rgba_to_thumb_hash(*small.size, list(small.tobytes())))
    return f"#{red:02x}{green:02x}{blue:02x}", base64.b64encode(thumbhash).decode()
