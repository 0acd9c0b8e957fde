"""Bytes in, bytes out: any accepted picture becomes a clean, upright JPEG in sRGB, or a WebP.

A square for a profile, the thumbnail of a whole picture, or its master, from which others are cut.
Only the one parser that the content calls for ever sees it, after the limits were read from its
header; whatever a broken file makes that parser raise is a BadPicture. Pure functions without
settings: limits are arguments.
"""

from collections.abc import Callable, Sequence

from PIL import Image

from errors import BrokenPicture
from pictures import pillow
from pictures.box_colours import is_grey
from pictures.colour import (
    Conversion,
    extend_palette,
    is_transparent,
    lay_on_background,
    scale_transparent_colour,
)
from pictures.costs import (
    DEFAULT_MAX_PIXELS,
    DEFAULT_MAX_WHOLE_PIXELS,
    check_size,
    choose_rendition_reduction,
    examine,
)
from pictures.encoding import JPEG_QUALITY, encode
from pictures.formats import Header, make_truncated, read_header, read_png_depth
from pictures.lost import Arrival, read_arrival
from pictures.metadata import name_metadata, read_orientation
from pictures.parsers import open_picture
from pictures.placeholder import find_dominant_colour, hash_thumbnail
from pictures.renditions import Rendition, RenditionFormat, check_renditions
from pictures.scaling import (
    AS_MASTER,
    AS_THUMBNAIL,
    Box,
    Fitting,
    cut_square,
    decode_reduced,
    find_square,
    fit_whole,
    scale_rendition,
    turn_upright,
)
from pictures.told_colours import read_told_colours
from pictures.values import (
    MASTER_SIDE_PX,
    WHITE,
    Background,
    Clear,
    Content,
    Crop,
    MetadataName,
    NoteName,
    ProcessedImage,
)

__all__ = [
    "JPEG_QUALITY",
    "ProcessedImage",
    "make_master",
    "make_renditions",
    "make_thumbnail",
    "process_profile_image",
]

# Decodes a picture and scales what is wanted of it, given its header, orientation and colours.
_Scale = Callable[[Image.Image, Header, int, Conversion], Image.Image]


def process_profile_image(
    content: Content,
    crop: Crop | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    max_whole_pixels: int = DEFAULT_MAX_WHOLE_PIXELS,
    background: Background | Clear = WHITE,
) -> ProcessedImage:
    """Make a 300 x 300 JPEG of `crop`, or of the centre square; or a WebP that is transparent.

    `max_pixels` bounds baseline JPEG, which is decoded at reduced scale; `max_whole_pixels` what
    must be decoded whole: every other kind, and a JPEG of which so small a square is wanted that no
    smaller scale will do. What is transparent shows `background`; for
    "auto" white or dark, whichever the drawing stands out from; "clear" lets it be so, and what is
    not transparent anywhere is a JPEG then, too. Raises BadPicture, TooLarge or BadCrop; of others
    only MemoryError.
    """

    def scale(
        picture: Image.Image, header: Header, orientation: int, conversion: Conversion
    ) -> Image.Image:
        box = find_square(picture.size, orientation, crop)
        square = cut_square(picture, box, header, crop, conversion.convert_before)
        read_arrival(picture).check(box)
        return square

    return _process(content, crop, (max_pixels, max_whole_pixels), background, scale)


def make_master(
    content: Content,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    max_whole_pixels: int = DEFAULT_MAX_WHOLE_PIXELS,
) -> ProcessedImage:
    """Make a JPEG of the whole picture, which fits into 1600 x 1600 and is never enlarged.

    Its limits are those of a profile picture's centre square. What is transparent shows white.
    Raises BadPicture or TooLarge; of others only MemoryError.
    """
    return _make_whole(content, (max_pixels, max_whole_pixels), AS_MASTER)


def make_thumbnail(
    content: Content,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    max_whole_pixels: int = DEFAULT_MAX_WHOLE_PIXELS,
) -> ProcessedImage:
    """Make a JPEG of the whole picture, which fits into 300 x 300 and is never enlarged.

    In all else it is as a master.
    """
    return _make_whole(content, (max_pixels, max_whole_pixels), AS_THUMBNAIL)


def make_renditions(master: Content, renditions: Sequence[Rendition]) -> list[ProcessedImage]:
    """Make them, in their order, of a master that is decoded once.

    It is reduced while it is decoded if all of them are small; else a rendition is the same
    whatever is made with it. Raises BadPicture, also of all that is no master, and ValueError for
    renditions that are no job for this one; of others only MemoryError.
    """
    pillow.configure()
    header = read_header(master)
    size = (header.width_px, header.height_px)
    if not header.is_baseline or max(size) > MASTER_SIDE_PX:
        raise BrokenPicture
    check_renditions(renditions, size)
    with open_picture(master, header) as picture:
        if picture.mode != "RGB" or picture.size != size:
            raise BrokenPicture
        factor = decode_reduced(picture, choose_rendition_reduction(size, renditions))
        if read_arrival(picture).is_cut_short:
            raise make_truncated(len(master))
    made: dict[Rendition, ProcessedImage] = {}
    for shape in dict.fromkeys((rendition.size, rendition.fit) for rendition in renditions):
        alike = [each for each in renditions if (each.size, each.fit) == shape]
        scaled = scale_rendition(picture, factor, size, alike[0])
        for rendition in alike:
            made[rendition] = rendition.name_file(encode(scaled, rendition.format))
    return [made[rendition] for rendition in renditions]


def _make_whole(content: Content, limits: tuple[int, int], fitting: Fitting) -> ProcessedImage:
    def scale(picture: Image.Image, header: Header, _: int, __: Conversion) -> Image.Image:
        box = Box(0, 0, *picture.size)
        whole = fit_whole(picture, header, fitting)
        read_arrival(picture).check(box)
        return whole

    return _process(content, None, limits, WHITE, scale)


def _process(
    content: Content,
    crop: Crop | None,
    limits: tuple[int, int],
    background: Background | Clear,
    scale: _Scale,
) -> ProcessedImage:
    pillow.configure()
    header, _ = examine(content, crop, *limits)
    with open_picture(content, header) as picture:
        check_size(header, picture.size, crop, *limits)
        # Before the pixels: what a PNG has behind them does not count.
        profile = picture.info.get("icc_profile")
        told = read_told_colours(content, header.format, profile)
        _load_unless_reducible(picture, content, header)
        orientation = read_orientation(picture)
        has_boxes = header.format in ("AVIF", "HEIF")
        conversion = Conversion(profile, told, is_grey=has_boxes and is_grey(content))
        scaled = turn_upright(scale(picture, header, orientation, conversion), orientation)
        in_srgb, is_tone_mapped = conversion.finish(scaled)
        del scaled
        upright = lay_on_background(in_srgb, background)
        removed_metadata = name_metadata(picture, content)
        notes = _name_notes(
            removed_metadata,
            read_arrival(picture),
            is_flattened=is_transparent(in_srgb) and not is_transparent(upright),
            is_tone_mapped=is_tone_mapped,
        )
        del in_srgb
    file_format = RenditionFormat.WEBP if is_transparent(upright) else RenditionFormat.JPEG
    return ProcessedImage.from_file(
        encode(upright, file_format),
        file_format.content_type,
        file_format.suffix,
        upright.size,
        find_dominant_colour(upright),
        hash_thumbnail(upright),
        removed_metadata,
        notes,
    )


def _name_notes(
    removed_metadata: tuple[MetadataName, ...],
    arrival: Arrival,
    *,
    is_flattened: bool,
    is_tone_mapped: bool,
) -> tuple[NoteName, ...]:
    """Name what is shown otherwise than the file has it, in the order of NOTE_NAMES."""
    applies: dict[NoteName, bool] = {
        "cut_short": arrival.is_cut_short,
        "transparency_flattened": is_flattened,
        "animation_reduced": "animation" in removed_metadata,
        "tone_mapped": is_tone_mapped,
    }
    return tuple(name for name, does_apply in applies.items() if does_apply)


def _load_unless_reducible(picture: Image.Image, content: Content, header: Header) -> None:
    """Decode all that is not reduced while it is decoded.

    A PNG's getexif() would decode as well, and what is raised there would be lost.
    """
    if header.is_reducible:
        return
    if header.format == "PNG":
        extend_palette(picture)
    picture.load()
    if header.format == "PNG":
        scale_transparent_colour(picture, read_png_depth(content))
