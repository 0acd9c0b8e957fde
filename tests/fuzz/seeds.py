"""Sound files that the fuzz begins with: small, of every kind that is taken, full of metadata."""

import io
import re
import time
import zlib
from collections.abc import Iterator
from struct import pack
from typing import Any

import pillow_heif
from PIL import Image, PngImagePlugin

from tests.fuzz.fields import PNG_SIGNATURE, repair_checksums
from tests.support.heic import (
    code_avif_tile,
    nclx,
    put_together,
    with_profile,
    with_transparency,
)
from tests.support.pictures import encoded, quarters

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'
)


def make_taken() -> list[bytes]:
    """Small pictures of each kind that the service takes, full of metadata."""
    return [*_make_jpegs(), *_make_pngs(), *_make_gifs(), *_make_webps(), *_make_isobmff()]


def _make_exif(orientation: int, order: str = ">") -> bytes:
    exif = Image.Exif()
    exif.endian = order
    exif[0x0112] = orientation
    exif[0x010E] = "a description"
    exif[0x011A] = 72.5
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0a comment"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    return exif.tobytes()


def _make_profile(space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of these tags (ICC.1:2010, 7.2), and a white point."""
    tags = {b"wtpt": _xyz(0.9642, 1, 0.8249), **tags}
    table = pack(">I", len(tags))
    data = b""
    start = 132 + 12 * len(tags)
    for name, content in tags.items():
        table += name + pack(">II", start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    head = pack(
        ">I4sI4s4s4s12x4s28x",
        start + len(data),
        b"lcms",
        0x02400000,
        kind,
        space,
        connection,
        b"acsp",
    )
    return head + _xyz(0.9642, 1, 0.8249)[8:] + bytes(48) + table + data


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + pack(">3i", *(round(value * 65536) for value in values))


def _make_profiles() -> dict[str, bytes]:
    """One each of RGB, grey and CMYK, by matrix, curve and table."""
    gamma = b"curv" + bytes(4) + pack(">IH", 1, 0x0233)
    colours = {
        b"rXYZ": (0.61, 0.311, 0.02),
        b"gXYZ": (0.205, 0.626, 0.06),
        b"bXYZ": (0.149, 0.063, 0.745),
    }
    matrix = {name: _xyz(*values) for name, values in colours.items()}
    ramp = bytes(range(256))
    corners = bytes(255 - 5 * number for number in range(2**4 * 3))
    unity = pack(">9i", *(65536 * (number % 4 == 0) for number in range(9)))
    table = b"mft1" + pack(">4x4B", 4, 3, 2, 0) + unity + 4 * ramp + corners + 3 * ramp
    return {
        "RGB": _make_profile(
            b"RGB ", b"XYZ ", matrix | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma)
        ),
        "L": _make_profile(b"GRAY", b"XYZ ", {b"kTRC": gamma}),
        "CMYK": _make_profile(b"CMYK", b"Lab ", {b"A2B0": table}),
    }


def _fade_out(photo: Image.Image) -> Image.Image:
    """The picture, from clear at its left to opaque at its right."""
    photo = photo.convert("RGBA")
    photo.putalpha(Image.linear_gradient("L").rotate(90).resize(photo.size))
    return photo


def _make_jpegs() -> Iterator[bytes]:
    profiles = _make_profiles()
    photo = quarters(48, 32)
    full: dict[str, Any] = {
        "exif": _make_exif(6),
        "icc_profile": profiles["RGB"],
        "xmp": XMP,
        "comment": b"a comment",
    }
    iptc = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + pack(">I", 12) + b"\x1c\x02\x78\0\x07caption"
    plain = encoded(photo, quality=60)
    yield plain
    yield plain[:2] + b"\xff\xed" + pack(">H", len(iptc) + 2) + iptc + plain[2:]
    yield encoded(photo, quality=60, **full)
    yield encoded(photo, quality=60, progressive=True, **full | {"exif": _make_exif(8, "<")})
    yield encoded(photo, quality=80, subsampling="4:4:4", restart_marker_blocks=2)
    yield encoded(photo.convert("L"), icc_profile=profiles["L"])
    yield encoded(photo.convert("CMYK"), quality=60, icc_profile=profiles["CMYK"])
    yield encoded(photo.convert("CMYK"), quality=60, progressive=True)
    yield encoded(
        photo, "MPO", quality=60, save_all=True, append_images=[photo.rotate(180)], **full
    )
    # Large enough to be decoded at a smaller scale.
    yield encoded(photo.resize((1280, 1280)), quality=20)


def _make_pngs() -> Iterator[bytes]:
    profiles = _make_profiles()
    photo = quarters(24, 16)
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "plain")
    texts.add_text("Description", "compressed " * 20, zip=True)
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=True)
    full = {
        "pnginfo": texts,
        "exif": _make_exif(3),
        "icc_profile": profiles["RGB"],
        "dpi": (72, 72),
    }
    yield encoded(photo, "PNG", **full)
    yield encoded(photo, "PNG", transparency=(220, 30, 30))
    for mode in ("RGBA", "LA"):
        yield encoded(_fade_out(photo).convert(mode), "PNG")
    for mode in ("L", "1"):
        yield encoded(photo.convert(mode), "PNG")
    yield encoded(photo.convert("I").convert("I;16"), "PNG")
    yield encoded(photo.convert("L"), "PNG", icc_profile=profiles["L"])
    for colours, options in (
        (4, {"transparency": b"\x00\x80\xff"}),
        (16, {"transparency": 1}),
        (200, {}),
    ):
        yield encoded(photo.quantize(colours), "PNG", **options)
    moving = [photo, photo.rotate(90), photo.rotate(180)]
    yield encoded(
        moving[0], "PNG", save_all=True, append_images=moving[1:], duration=50, disposal=1
    )
    yield encoded(
        moving[0],
        "PNG",
        save_all=True,
        append_images=moving[1:],
        default_image=True,
        exif=_make_exif(2),
    )
    # What Pillow does not write: 16 bits a channel, and interlaced. The data is longer than any of
    # them needs.
    for depth, colour, interlaced in ((16, 2, 0), (16, 6, 0), (16, 4, 1), (8, 6, 1), (2, 0, 1)):
        header = pack(">IIBBBBB", 16, 12, depth, colour, 0, 0, interlaced)
        chunks = {
            b"IHDR": header,
            b"gAMA": pack(">I", 45455),
            b"IDAT": zlib.compress(bytes(3000)),
            b"IEND": b"",
        }
        parts = (pack(">I", len(data)) + name + data + bytes(4) for name, data in chunks.items())
        yield repair_checksums(PNG_SIGNATURE + b"".join(parts))


def _make_gifs() -> Iterator[bytes]:
    photo = quarters(24, 16).quantize(16)
    turned = [photo.rotate(90), photo.rotate(180)]
    yield encoded(photo, "GIF", comment=b"a comment")
    yield encoded(photo, "GIF", transparency=1, interlace=0)
    yield encoded(
        photo, "GIF", save_all=True, append_images=turned, loop=0, disposal=2, duration=100
    )
    yield encoded(quarters(24, 16).convert("L"), "GIF")


def _make_webps() -> Iterator[bytes]:
    photo = quarters(48, 32)
    full = {"exif": _make_exif(5), "icc_profile": _make_profiles()["RGB"], "xmp": XMP}
    for picture in (photo, _fade_out(photo)):
        for lossless in (False, True):
            yield encoded(picture, "WEBP", quality=40, lossless=lossless)
            yield encoded(picture, "WEBP", quality=40, lossless=lossless, **full)
    yield encoded(
        photo,
        "WEBP",
        quality=40,
        save_all=True,
        append_images=[photo.rotate(180)],
        duration=50,
        **full,
    )


def _make_isobmff() -> Iterator[bytes]:
    """AVIF and HEIC, which are boxes of the same kinds."""
    profiles = _make_profiles()
    photo = quarters(48, 32)
    full = {"exif": _make_exif(6), "icc_profile": profiles["RGB"], "xmp": XMP}
    small = {"quality": 40, "speed": 10}
    yield encoded(photo, "AVIF", **small)
    yield encoded(photo, "AVIF", **small, **full)
    yield encoded(_fade_out(photo), "AVIF", **small, **full | {"exif": _make_exif(7)})
    yield encoded(photo.convert("L"), "AVIF", **small)
    yield _take_time_out(
        encoded(photo, "AVIF", **small, save_all=True, append_images=[photo.rotate(180)])
    )
    for picture in (photo, _fade_out(photo), photo.convert("L")):
        yield _make_heic(pillow_heif.from_pillow(picture), **full)
    yield _make_heic(pillow_heif.from_pillow(photo))
    yield _make_heic(pillow_heif.from_bytes("RGB;16", (32, 32), bytes(range(256)) * 24))
    # A grid, as phones write it.
    yield _make_heic(pillow_heif.from_pillow(photo.resize((128, 128))), tile_size=64)
    tile = code_avif_tile(photo.resize((64, 64)), **small)
    yield put_together([tile], (64, 64), (100, 64), told_of_tiles=[nclx(12, 13, 6)])
    grey = code_avif_tile(photo.convert("L"), **small)
    yield with_transparency(grey, grey, photo.size, [with_profile(profiles["L"])])
    several = pillow_heif.from_pillow(photo)
    several.add_from_pillow(photo.rotate(180))
    yield _make_heic(several, thumbnails=[16], **full)


def _take_time_out(moving: bytes) -> bytes:
    """Make the file the same whenever it is made: give it no time of creation or modification.

    ISO/IEC 14496-12, 8.2.2.
    """
    changed = bytearray(moving)
    for found in re.finditer(b"mvhd|tkhd|mdhd", moving):
        changed[found.end() + 4 : found.end() + 20] = bytes(16)
    return bytes(changed)


def _make_heic(picture: pillow_heif.HeifFile, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, quality=40, **options)
    return out.getvalue()


def make_foreign() -> Iterator[bytes]:
    """Files of other kinds, or how they begin."""
    for kind in ("TIFF", "BMP", "ICO", "JPEG2000"):
        yield encoded(quarters(16, 16), kind)
    yield encoded(quarters(16, 16), "PDF", creationDate=time.gmtime(0), modDate=time.gmtime(0))
    yield (
        b'<?xml version="1.0"?>\n<!DOCTYPE svg>\n'
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    )
    yield b"<!DOCTYPE html><html><body>not a picture</body></html>"
    for brand in (b"isom", b"qt  ", b"mp42", b"crx ", b"mif1", b"heix", b"msf1"):
        yield (
            pack(">I", 24)
            + b"ftyp"
            + brand
            + bytes(4)
            + b"mif1"
            + brand
            + pack(">I", 64)
            + b"meta"
            + bytes(56)
        )
    yield b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(20) + b"word/document.xml" + bytes(40)
    yield b"8BPS\0\x01" + bytes(6) + pack(">HIIHH", 3, 16, 16, 8, 3) + bytes(30)
    yield b"\xff\x0a" + bytes(30)
    yield pack(">I", 12) + b"JXL \r\n\x87\n" + bytes(30)
