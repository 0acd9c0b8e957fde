"""The colours of the wanted square: out of the file's own space into sRGB, and onto a background.

A colour profile is followed where it can be and ignored where it cannot: no picture is refused for
its profile.
"""

import io
from functools import partial
from typing import NamedTuple

from PIL import Image, ImageChops, ImageCms, ImagePalette, ImageStat
from PIL.ImageCms import ImageCmsProfile

from pictures.told_colours import ToldColours
from pictures.tone_mapping import map_tones
from pictures.values import CLEAR, WHITE, Background, Clear, Colour
from pictures.written_profile import write_profile

# What a light drawing is laid on: as dark as pages are at night.
DARK: Colour = (32, 33, 36)
FULLY_OPAQUE = 255
# A printer's profile has up to 2 MiB; one of a bigger file is ignored, not parsed.
MAX_PROFILE_BYTES = 4 * 1024 * 1024

# What eight bits can name.
_MOST_COLOURS = 256

_SRGB = ImageCmsProfile(ImageCms.createProfile("sRGB"))
# ICC.1:2022, 7.2.5 and 7.2.6: the classes that describe a device, and the colour spaces that our
# modes are in.
_DEVICE_CLASSES = ("mntr", "scnr", "prtr", "spac")
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_NO_INK = {"L": (255,), "RGB": (255, 255, 255), "CMYK": (0, 0, 0, 0)}
# A profile under which paper is darker than this is nonsense, however well it is written.
_DARKEST_WHITE = 200
_STRAIGHT_MODES = {"La": "LA", "RGBa": "RGBA"}


def extend_palette(picture: Image.Image) -> None:
    """Give a PNG's palette, before it is decoded, all the entries that its pixels can name.

    Those that the file leaves out show its last colour, as they do in browsers; PNG leaves it open
    (PNG 3, 11.2.2).
    """
    palette = picture.palette
    if picture.mode != "P" or palette is None:
        return
    colours = bytes(palette.palette)
    count = len(colours) // 3
    if not 0 < count < _MOST_COLOURS:
        return
    picture.palette = ImagePalette.raw("RGB", _repeat_last(colours[: 3 * count], 3))
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        transparent = b"\xff" * transparent + b"\0"
    if transparent is not None and len(transparent) >= count:
        picture.info["transparency"] = _repeat_last(transparent[:count], 1)


def _repeat_last(entries: bytes, entry_bytes: int) -> bytes:
    missing = _MOST_COLOURS - len(entries) // entry_bytes
    return entries + entries[-entry_bytes:] * missing


def scale_transparent_colour(picture: Image.Image, depth_bits: int) -> None:
    """Bring a PNG's transparent colour to eight bits, as its pixels are.

    The file names it in its own depth (PNG 3, 11.3.1.1), and Pillow leaves it so, but for grey of
    1, 8 and 16 bits.
    """
    transparent = picture.info.get("transparency")
    if transparent is None:
        return
    if picture.mode == "L" and depth_bits in (2, 4):
        picture.info["transparency"] = transparent * 255 // (2**depth_bits - 1)
    if picture.mode == "RGB" and depth_bits == 16:
        picture.info["transparency"] = tuple(value >> 8 for value in transparent)


class InSrgb(NamedTuple):
    """A picture as RGB or RGBA in sRGB, and whether it was brighter before than paper."""

    picture: Image.Image
    is_tone_mapped: bool


class Conversion:
    """The way of one picture into sRGB: after it was made smaller, but before it is enlarged.

    Enlarged in its own space, where that is far from sRGB, it would have rings around its edges.
    """

    def __init__(
        self, profile: bytes | None, told: ToldColours | None, *, is_grey: bool = False
    ) -> None:
        self._profile = profile
        self._told = told
        self._is_grey = is_grey
        self._early: InSrgb | None = None

    def convert_before(self, small: Image.Image) -> Image.Image:
        """Convert it before it is enlarged, if there is something to convert.

        It stays in a mode that scales well.
        """
        if small.mode != "CMYK" and self._profile is None and self._told is None:
            return small
        self._early = convert_to_srgb(small, self._profile, self._told, is_grey=self._is_grey)
        converted = self._early.picture
        return converted.convert("RGBa") if converted.mode == "RGBA" else converted

    def finish(self, scaled: Image.Image) -> InSrgb:
        """Convert what was scaled, unless it was before."""
        if self._early is None:
            return convert_to_srgb(scaled, self._profile, self._told, is_grey=self._is_grey)
        return InSrgb(convert_to_srgb(scaled, None).picture, self._early.is_tone_mapped)


def convert_to_srgb(
    square: Image.Image,
    profile: bytes | None,
    told: ToldColours | None = None,
    *,
    is_grey: bool = False,
) -> InSrgb:
    """Make the same picture in sRGB, of one in a mode that scales well.

    What its file tells in numbers counts where there is no profile, or goes before it. A profile
    that is broken, absurd or of another space is ignored. A picture that `is_grey` has no colours,
    whatever its mode.
    """
    if square.mode in _STRAIGHT_MODES:
        straight = square.convert(_STRAIGHT_MODES[square.mode])
        colours = straight.convert("L" if is_grey else straight.mode.removesuffix("A"))
        converted = convert_to_srgb(colours, profile, told)
        converted.picture.putalpha(straight.getchannel("A"))
        return converted
    by_numbers = partial(_follow_numbers, square, told)
    by_profile = partial(_try_profile, square, profile)
    goes_before = told is not None and told.go_before_profile
    for convert in (by_numbers, by_profile) if goes_before else (by_profile, by_numbers):
        converted_picture = convert()
        if converted_picture is not None:
            is_hdr = told is not None and told.is_hdr and convert is by_numbers
            return InSrgb(converted_picture, is_hdr)
    return InSrgb(square.convert("RGB"), False)


def _follow_numbers(square: Image.Image, told: ToldColours | None) -> Image.Image | None:
    """Convert by what the file tells in numbers; None if they make no sense, or there are none."""
    if told is None or square.mode == "CMYK":
        return None
    coloured = square.convert("RGB")
    if told.is_hdr:
        return map_tones(coloured, told)
    return _try_profile(coloured, write_profile(told.primaries, told.curve))


def _try_profile(square: Image.Image, profile: bytes | None) -> Image.Image | None:
    """Convert by the profile; None if it is not to be followed, or there is none."""
    if not profile or len(profile) > MAX_PROFILE_BYTES:
        return None
    try:
        source = ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if square.mode == "L" and space == "RGB":
            square = square.convert("RGB")  # the greys of that space
        return _follow_profile(square, source) if _is_credible(source, square.mode) else None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # a picture without its profile is better than none


def _is_credible(source: ImageCmsProfile, mode: str) -> bool:
    """Whether a profile describes a device in this mode's space, on which paper is light."""
    profile = source.profile
    is_of_this_space = profile.xcolor_space.strip() == _SPACES[mode]
    if not is_of_this_space or profile.device_class not in _DEVICE_CLASSES:
        return False
    paper = _follow_profile(Image.new(mode, (1, 1), _NO_INK[mode]), source)
    return min(paper.tobytes()) >= _DARKEST_WHITE


def _follow_profile(square: Image.Image, source: ImageCmsProfile) -> Image.Image:
    """Convert as browsers do: relative colorimetric, with black point compensation."""
    converted = ImageCms.profileToProfile(
        square,
        source,
        _SRGB,
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        "RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None  # it is None only when the picture is changed in place
    return converted


def is_transparent(square: Image.Image) -> bool:
    """Whether something shows through anywhere."""
    if square.mode != "RGBA":
        return False
    opaque_pixels = square.getchannel("A").histogram()[FULLY_OPAQUE]
    return opaque_pixels < square.width * square.height


def lay_on_background(square: Image.Image, background: Background | Clear) -> Image.Image:
    """Make a new image: what Pillow remembers of the old one (comments, EXIF) stays behind.

    It is RGB, or RGBA where something is transparent and is to stay so.
    """
    if background == CLEAR:
        if is_transparent(square):
            clear = Image.new("RGBA", square.size)
            clear.paste(square)
            return clear
        background = WHITE
    colour = _choose_background(square) if background == "auto" else background
    clean = Image.new("RGB", square.size, colour)
    clean.paste(square, mask=square if square.mode == "RGBA" else None)
    return clean


def _choose_background(square: Image.Image) -> Colour:
    """Choose white or the dark one, whichever is farther from what the drawing shows on average."""
    if square.mode != "RGBA":
        return WHITE
    alpha = square.getchannel("A")
    opacity = ImageStat.Stat(alpha).mean[0]
    if opacity == 0:
        return WHITE
    shown = ImageChops.multiply(square.convert("RGB").convert("L"), alpha)
    lightness = ImageStat.Stat(shown).mean[0] * FULLY_OPAQUE / opacity
    is_light = lightness - DARK[0] > WHITE[0] - lightness
    return DARK if is_light else WHITE
