"""Draws the three pictures of the README, sends them through the image step, and keeps both ends.

`scripts/dev python -m scripts.make_readme_pictures` writes docs/pictures/NAME-in.* (the file as it
would be uploaded), NAME-in-preview.jpg (its pixels as they lie in the file, for the eye) and
NAME-out.jpg (what the service serves). Everything is drawn by the code below; nothing is random.
"""

import io
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import ExifTags, Image, ImageDraw, ImageFilter

from image_utils import process_profile_image

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"

# Drawn this much larger and scaled down, so that edges are smooth.
OVERSAMPLING = 3
PREVIEW_SIDE_PX = 300
CHECKER_PX = 15

Colour = tuple[int, int, int]
Point = tuple[float, float]

# EXIF 2.32, tag 274: the camera was held upright, its sensor lay on its side.
TURN_CLOCKWISE = 6
# The observatory of Greenwich; a phone would tell where its owner lives.
LATITUDE = (51.0, 28.0, 40.0)
LONGITUDE = (0.0, 0.0, 5.0)

# Adobe RGB (1998): its primaries as XYZ under D50, and its gamma as a count of 256ths.
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
D50 = (0.9642, 1.0, 0.8249)
GAMMA_256THS = 563


def draw_portrait(size: tuple[int, int]) -> Image.Image:
    """A person in front of mountains at dusk, upright; `size` is 3 wide to 4 high."""
    canvas = draw_gradient(size, (38, 66, 120), (250, 186, 128))
    draw = ImageDraw.Draw(canvas)
    pen = Pen(draw, size[0] / 300)
    pen.circle((228, 118), 26, (255, 236, 190))
    pen.polygon(
        [(0, 250), (60, 165), (105, 215), (165, 130), (240, 225), (300, 180), (300, 400), (0, 400)],
        (92, 96, 150),
    )
    pen.polygon(
        [(0, 290), (80, 230), (150, 275), (230, 235), (300, 280), (300, 400), (0, 400)],
        (58, 66, 112),
    )
    pen.circle((150, 396), 92, (196, 62, 58))  # the coat
    pen.polygon([(132, 262), (168, 262), (172, 320), (128, 320)], (214, 158, 122))
    pen.polygon([(112, 300), (188, 300), (196, 326), (104, 326)], (244, 206, 96))  # the scarf
    pen.circle((150, 208), 62, (66, 42, 34))  # the hair
    pen.ellipse((102, 168, 198, 286), (236, 184, 148))
    pen.polygon(
        [(98, 205), (108, 168), (150, 152), (192, 168), (202, 205), (168, 186), (130, 196)],
        (66, 42, 34),
    )
    pen.ellipse((120, 214, 134, 228), (40, 34, 40))
    pen.ellipse((166, 214, 180, 228), (40, 34, 40))
    pen.arc((126, 226, 174, 264), 25, 155, (150, 62, 62), 4)
    return canvas


def draw_sticker(size: tuple[int, int]) -> Image.Image:
    """A cat in a bubble of half transparent glass, on nothing; `size` is square."""
    shadow = Image.new("L", size, 0)
    Pen(ImageDraw.Draw(shadow), size[0] / 300).ellipse((70, 252, 230, 286), 130)
    shadow = shadow.filter(ImageFilter.GaussianBlur(size[0] / 40))
    canvas = Image.new("RGBA", size, (20, 24, 60, 0))
    canvas.putalpha(shadow)
    cat = Image.new("RGBA", size, (0, 0, 0, 0))
    pen = Pen(ImageDraw.Draw(cat), size[0] / 300)
    pen.polygon([(86, 138), (92, 52), (146, 100)], (240, 146, 58, 255))
    pen.polygon([(214, 138), (208, 52), (154, 100)], (240, 146, 58, 255))
    pen.ellipse((78, 92, 222, 222), (240, 146, 58, 255))
    pen.ellipse((114, 160, 186, 222), (255, 232, 206, 255))
    for middle in (118, 182):
        pen.ellipse((middle - 13, 128, middle + 13, 158), (255, 255, 255, 255))
        pen.ellipse((middle - 6, 132, middle + 6, 156), (36, 44, 40, 255))
    pen.polygon([(140, 168), (160, 168), (150, 180)], (196, 82, 92, 255))
    pen.arc((130, 168, 150, 194), 10, 120, (120, 66, 40, 255), 4)
    pen.arc((150, 168, 170, 194), 60, 170, (120, 66, 40, 255), 4)
    canvas.alpha_composite(cat)
    glass = Image.new("RGBA", size, (0, 0, 0, 0))
    pen = Pen(ImageDraw.Draw(glass), size[0] / 300)
    pen.circle((150, 146), 126, (96, 168, 240, 70))
    pen.arc((24, 20, 276, 272), 0, 360, (70, 130, 210, 150), 5)
    pen.arc((44, 40, 256, 252), 200, 250, (255, 255, 255, 220), 9)
    canvas.alpha_composite(glass)
    return canvas


def draw_flower(size: tuple[int, int]) -> Image.Image:
    """A flower over leaves, in numbers that mean Adobe RGB; `size` is 4 wide to 3 high."""
    canvas = draw_gradient(size, (150, 196, 214), (96, 160, 96))
    draw = ImageDraw.Draw(canvas)
    pen = Pen(draw, size[1] / 300)
    pen.polygon([(194, 140), (206, 140), (208, 300), (192, 300)], (62, 118, 58))
    for side in (-1, 1):
        for points, green in (
            (((0, 300), (60, 284), (150, 190), (64, 222)), 108),
            (((0, 300), (34, 262), (110, 120), (32, 190)), 146),
        ):
            pen.polygon([(200 + side * x, y) for x, y in points], (70, green, 62))
    for shade, reach in (((214, 96, 60), 92), ((226, 130, 66), 70)):
        for x, y in ((0, -1), (0.87, -0.5), (0.87, 0.5), (0, 1), (-0.87, 0.5), (-0.87, -0.5)):
            pen.circle((200 + x * reach * 0.72, 140 + y * reach * 0.72), reach * 0.5, shade)
    pen.circle((200, 140), 38, (232, 196, 70))
    pen.circle((200, 140), 22, (128, 78, 52))
    return canvas


class Pen:
    """Draws in a grid of some 300 units, however many pixels the canvas has."""

    def __init__(self, draw: ImageDraw.ImageDraw, unit_px: float) -> None:
        self._draw = draw
        self._unit_px = unit_px

    def polygon(self, points: Sequence[Point], fill: tuple[int, ...]) -> None:
        scaled = [(x * self._unit_px, y * self._unit_px) for x, y in points]
        self._draw.polygon(scaled, fill)

    def ellipse(self, box: tuple[float, float, float, float], fill: tuple[int, ...] | int) -> None:
        self._draw.ellipse([edge * self._unit_px for edge in box], fill)

    def circle(self, middle: Point, radius: float, fill: tuple[int, ...]) -> None:
        x, y = middle
        self.ellipse((x - radius, y - radius, x + radius, y + radius), fill)

    def arc(
        self,
        box: tuple[float, float, float, float],
        start_degrees: float,
        end_degrees: float,
        fill: tuple[int, ...],
        width: float,
    ) -> None:
        scaled = [edge * self._unit_px for edge in box]
        self._draw.arc(scaled, start_degrees, end_degrees, fill, round(width * self._unit_px))


def draw_gradient(size: tuple[int, int], top: Colour, bottom: Colour) -> Image.Image:
    ramp = Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), ramp)


def draw_large(
    draw: Callable[[tuple[int, int]], Image.Image], width_px: int, height_px: int
) -> Image.Image:
    """Draw with smooth edges."""
    return draw((width_px * OVERSAMPLING, height_px * OVERSAMPLING)).reduce(OVERSAMPLING)


def make_phone_photo() -> bytes:
    """A portrait as a phone writes it: lying on its side, with EXIF that says so, and GPS."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "A phone"
    exif[ExifTags.Base.Orientation] = TURN_CLOCKWISE
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps[ExifTags.GPS.GPSLatitudeRef] = "N"
    gps[ExifTags.GPS.GPSLatitude] = LATITUDE
    gps[ExifTags.GPS.GPSLongitudeRef] = "W"
    gps[ExifTags.GPS.GPSLongitude] = LONGITUDE
    on_its_side = draw_large(draw_portrait, 1200, 1600).transpose(Image.Transpose.ROTATE_90)
    return encode(on_its_side, "JPEG", quality=75, exif=exif)


def make_sticker() -> bytes:
    """A PNG whose ground is transparent and whose glass is half so."""
    return encode(draw_large(draw_sticker, 600, 600), "PNG", optimize=True)


def make_camera_photo() -> bytes:
    """A JPEG of a camera set to Adobe RGB, with the profile that says so."""
    flower = draw_large(draw_flower, 1200, 900)
    return encode(flower, "JPEG", quality=75, icc_profile=make_profile())


def make_profile() -> bytes:
    """Adobe RGB (1998) as an ICC profile of version 2: three primaries and a gamma."""
    gamma = b"curv" + bytes(4) + struct.pack(">IH", 1, GAMMA_256THS) + bytes(2)
    description = b"Compatible with Adobe RGB (1998)\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(description)) + description + bytes(78),
        b"cprt": b"text" + bytes(4) + b"CC0\0",
        b"wtpt": encode_xyz(D50),
    }
    for letter, primary in zip((b"r", b"g", b"b"), ADOBE_RGB, strict=True):
        tags[letter + b"XYZ"] = encode_xyz(primary)
        tags[letter + b"TRC"] = gamma
    table = struct.pack(">I", len(tags))
    data = b""
    data_at = 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        table += name + struct.pack(">II", data_at + len(data), len(tag))
        data += tag + bytes(-len(tag) % 4)
    version = 0x02400000
    header = struct.pack(">I4xI", data_at + len(data), version) + b"mntrRGB XYZ "
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + encode_xyz(D50)[8:]
    return header.ljust(128, b"\0") + table + data


def encode_xyz(value: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(part * 65536) for part in value))


def encode(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def make_preview(content: bytes) -> bytes:
    """The pixels as they lie in the file: not turned, on a checkerboard, without the profile."""
    with Image.open(io.BytesIO(content)) as picture:
        stored = picture.convert("RGBA")
    scale = PREVIEW_SIDE_PX / stored.height
    stored = stored.resize((round(stored.width * scale), PREVIEW_SIDE_PX), Image.Resampling.LANCZOS)
    board = Image.new("RGB", stored.size, (255, 255, 255))
    draw = ImageDraw.Draw(board)
    for left in range(0, stored.width, CHECKER_PX):
        for top in range(left // CHECKER_PX % 2 * CHECKER_PX, stored.height, 2 * CHECKER_PX):
            draw.rectangle(
                (left, top, left + CHECKER_PX - 1, top + CHECKER_PX - 1), (204, 204, 204)
            )
    board.paste(stored, mask=stored)
    return encode(board, "JPEG", quality=85)


def make_all() -> dict[str, bytes]:
    """Every file by its name."""
    files = {}
    for name, suffix, content in (
        ("phone", "jpg", make_phone_photo()),
        ("sticker", "png", make_sticker()),
        ("camera", "jpg", make_camera_photo()),
    ):
        files[f"{name}-in.{suffix}"] = content
        files[f"{name}-in-preview.jpg"] = make_preview(content)
        files[f"{name}-out.jpg"] = process_profile_image(content).content
    return files


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, content in make_all().items():
        (FOLDER / name).write_bytes(content)
        print(f"{name}: {len(content)} bytes")  # noqa: T201


if __name__ == "__main__":
    main()
