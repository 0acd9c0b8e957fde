"""Pictures that the tests send: made, not stored, so that what is in them is known."""

import io
from typing import Any

from PIL import Image, ImageDraw

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 180, 60), (40, 60, 220), (245, 245, 245)


def quarters(width_px: int, height_px: int) -> Image.Image:
    """Red, green, blue and white quarters, from the top left in reading order: every turn of it looks different."""
    picture = Image.new("RGB", (width_px, height_px), WHITE)
    draw = ImageDraw.Draw(picture)
    middle_x, middle_y = width_px // 2, height_px // 2
    draw.rectangle((0, 0, middle_x - 1, middle_y - 1), fill=RED)
    draw.rectangle((middle_x, 0, width_px, middle_y - 1), fill=GREEN)
    draw.rectangle((0, middle_y, middle_x - 1, height_px), fill=BLUE)
    return picture


def numbered(number: int, width_px: int, height_px: int) -> Image.Image:
    """The number in ten vertical bars, binary: pictures that no JPEG makes equal."""
    picture = Image.new("L", (width_px, height_px), 230)
    draw = ImageDraw.Draw(picture)
    for bit in range(10):
        if number >> bit & 1:
            draw.rectangle((width_px * bit // 10, 0, width_px * (bit + 1) // 10 - 1, height_px), fill=20)
    return picture


def encoded(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """The file of a picture."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def jpeg(width_px: int = 640, height_px: int = 480, **options: Any) -> bytes:
    """A JPEG of the quarters."""
    return encoded(quarters(width_px, height_px), quality=90, **options)


def phone_photo(width_px: int = 4000, height_px: int = 3000) -> bytes:
    """What a phone held upright writes: the picture lies on its side, and orientation 6 says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(quarters(height_px, width_px).transpose(Image.Transpose.ROTATE_90), quality=90, exif=exif)


def corners(served: bytes) -> list[str]:
    """The colours in the quarters of a served picture, in reading order."""
    picture = Image.open(io.BytesIO(served)).convert("RGB")
    width, height = picture.size
    named = {"red": RED, "green": GREEN, "blue": BLUE, "white": WHITE}

    def name(x: int, y: int) -> str:
        pixel = picture.getpixel((x, y))
        assert isinstance(pixel, tuple)
        return min(named, key=lambda key: sum(abs(a - b) for a, b in zip(named[key], pixel, strict=True)))

    near, far = width // 4, width * 3 // 4
    low, high = height // 4, height * 3 // 4
    return [name(near, low), name(far, low), name(near, high), name(far, high)]
