"""Where the numbers stand in a picture's file: sizes, sides, counts, offsets, flags."""

import re
import zlib
from collections.abc import Iterator
from struct import pack
from typing import Literal, NamedTuple

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# A table of more has no further places worth a mutation.
MOST_ENTRIES = 30

Order = Literal["big", "little"]


class Field(NamedTuple):
    """A number in the structure of a file, at this offset."""

    at: int
    size: int
    order: Order = "big"
    is_side: bool = False  # of the picture, in pixels


def find_fields(content: bytes) -> Iterator[Field]:
    """All of them, as far as the file is sound; some may lie beyond its end."""
    if content.startswith(b"\xff\xd8"):
        yield from _find_jpeg_fields(content)
    elif content.startswith(PNG_SIGNATURE):
        yield from (
            Field(16, 4, is_side=True),
            Field(20, 4, is_side=True),
            Field(24, 1),
            Field(25, 1),
            Field(28, 1),
        )
        yield from (Field(at, 4) for at, _ in _walk_chunks(content))
    elif content.startswith(b"GIF8"):
        yield from _find_gif_fields(content)
    elif content.startswith(b"RIFF"):
        yield from _find_webp_fields(content)
    elif content[4:8] == b"ftyp":
        yield from _find_box_fields(content, 0, len(content))
    for found in re.finditer(rb"II\*\0|MM\0\*", content):  # EXIF, in any of them, or a TIFF
        yield from _find_exif_fields(content, found.start())
    for found in re.finditer(b"acsp", content):
        start = found.start() - 36
        yield from (Field(start, 4), Field(start + 128, 4))
        for entry in range(min(read_number(content, start + 128, 4), MOST_ENTRIES)):
            yield from (Field(start + 136 + 12 * entry, 4), Field(start + 140 + 12 * entry, 4))


def read_number(content: bytes | bytearray, at: int, size: int, order: Order = "big") -> int:
    return int.from_bytes(content[at : at + size], order)


def _find_jpeg_fields(content: bytes) -> Iterator[Field]:
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        yield Field(at + 2, 2)
        if content[at + 1] in (0xC0, 0xC1, 0xC2):
            yield from (Field(at + 5, 2, is_side=True), Field(at + 7, 2, is_side=True))
            # Precision, components, their sampling.
            yield from (Field(at + offset, 1) for offset in (4, 9, 11, 14))
        if content[at + 1] == 0xDA:
            return
        at += 2 + read_number(content, at + 2, 2)


def _walk_chunks(png: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Where each chunk of a PNG begins and ends."""
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(png):
        end = at + 12 + read_number(png, at, 4)
        yield at, end
        at = end


def _find_gif_fields(content: bytes) -> Iterator[Field]:
    yield from (
        Field(6, 2, "little", is_side=True),
        Field(8, 2, "little", is_side=True),
        Field(10, 1),
    )
    at = 13 + _count_palette_bytes(content[10])
    while at + 10 < len(content) and content[at] in (0x21, 0x2C):
        if content[at] == 0x2C:
            yield from (
                Field(at + offset, 2, "little", is_side=offset > 4) for offset in (1, 3, 5, 7)
            )
            yield Field(at + 9, 1)
            at += 10 + _count_palette_bytes(content[at + 9])
            yield Field(at, 1)  # the smallest code of the compression
            at += 1
        else:
            at += 2
        while at < len(content) and content[at]:
            yield Field(at, 1)
            at += 1 + content[at]
        at += 1


def _count_palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _find_webp_fields(content: bytes) -> Iterator[Field]:
    yield Field(4, 4, "little")
    at = 12
    while at + 8 <= len(content):
        name = content[at : at + 4]
        data = at + 8
        yield Field(at + 4, 4, "little")
        if name == b"VP8X":
            yield from (
                Field(data, 1),
                Field(data + 4, 3, "little", True),
                Field(data + 7, 3, "little", True),
            )
        elif name == b"VP8 ":
            yield from (Field(data + 6, 2, "little", True), Field(data + 8, 2, "little", True))
        elif name == b"VP8L":
            yield Field(data + 1, 4, "little", True)
        elif name == b"ANMF":
            yield from (
                Field(data + offset, 3, "little", offset in (6, 9)) for offset in (0, 3, 6, 9)
            )
            at += 16  # its own header; its chunks follow as if they stood beside it
            continue
        at = (
            data
            + read_number(content, at + 4, 4, "little")
            + (read_number(content, at + 4, 4, "little") & 1)
        )


def _find_box_fields(content: bytes, start: int, end: int) -> Iterator[Field]:
    while start + 8 <= end:
        size = read_number(content, start, 4)
        name = content[start + 4 : start + 8]
        yield Field(start, 4)
        if name in (
            b"meta",
            b"iinf",
            b"iref",
            b"iprp",
            b"ipco",
            b"moov",
            b"trak",
            b"mdia",
            b"minf",
            b"stbl",
        ):
            skipped = {b"meta": 12, b"iref": 12, b"iinf": 14}.get(name, 8)
            yield from _find_box_fields(content, start + skipped, min(start + size, end))
        elif name == b"ispe":
            yield from (Field(start + 12, 4, is_side=True), Field(start + 16, 4, is_side=True))
        elif name in (
            b"irot",
            b"imir",
            b"pixi",
            b"av1C",
            b"hvcC",
            b"auxC",
            b"colr",
            b"infe",
            b"pitm",
            b"dimg",
        ):
            yield from (
                Field(at, 1) for at in range(start + 8, min(start + size, start + 8 + MOST_ENTRIES))
            )
        elif name in (
            b"iloc",
            b"ipma",
            b"clap",
            b"stsz",
            b"stco",
            b"stsc",
            b"tkhd",
            b"idat",
            b"mdat",
        ):
            yield from (
                Field(at, 2)
                for at in range(start + 8, min(start + size, start + 8 + 2 * MOST_ENTRIES), 2)
            )
        if size < 8:
            return
        start += size


def _find_exif_fields(content: bytes, start: int) -> Iterator[Field]:
    order: Order = "little" if content[start] == ord("I") else "big"
    yield Field(start + 4, 4, order)
    table = start + read_number(content, start + 4, 4, order)
    yield Field(table, 2, order)
    for entry in range(min(read_number(content, table, 2, order), MOST_ENTRIES)):
        at = table + 2 + 12 * entry
        yield from (
            Field(at, 2, order),
            Field(at + 2, 2, order),
            Field(at + 4, 4, order),
            Field(at + 8, 4, order),
        )


def repair_checksums(png: bytes | bytearray) -> bytes:
    """The PNG with the right checksum after each of its chunks."""
    changed = bytearray(png)
    for start, end in _walk_chunks(png):
        if end <= len(png):
            changed[end - 4 : end] = pack(">I", zlib.crc32(png[start + 4 : end - 4]))
    return bytes(changed)
