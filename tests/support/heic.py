"""HEIC files that are put together of tiles, as phones and cameras write them."""

import io
import itertools
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import pillow_heif
from PIL import Image

from pictures.items import find_items

pillow_heif.register_heif_opener()

QUICKLY: dict[str, Any] = {"enc_params": {"preset": "ultrafast"}}
GRID_ID = 1
FIRST_TILE_ID = 2


def box(kind: bytes, contents: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(contents), kind) + contents


class Coded(NamedTuple):
    """What describes how a picture is coded (`hvcC`), and the coded picture."""

    description: bytes
    data: bytes


def code_tile(picture: Image.Image, chroma: int = 420) -> Coded:
    """Code a picture whose sides are multiples of 64."""
    out = io.BytesIO()
    picture.save(out, "HEIF", quality=80, chroma=chroma, **QUICKLY)
    return _take_apart(out.getvalue())


def code_deep_tile(size: tuple[int, int], chroma: int) -> Coded:
    """The same with ten bits a sample, of a slow change from left to right."""
    row = b"".join((65535 * x // size[0]).to_bytes(2, "little") * 3 for x in range(size[0]))
    out = io.BytesIO()
    picture = pillow_heif.from_bytes(mode="RGB;16", size=size, data=row * size[1])
    picture.save(out, quality=60, chroma=chroma, **QUICKLY)
    return _take_apart(out.getvalue())


def _take_apart(content: bytes) -> Coded:
    items = find_items(memoryview(content))
    described = {each.kind: each.contents for each in items.list_properties(items.primary_id)}
    ((start, length),) = items.list_pieces()[items.primary_id]
    return Coded(bytes(described[b"hvcC"]), content[start : start + length])


def nclx(primaries: int, transfer: int, matrix: int, full_range: int = 1) -> bytes:
    """What says of an item how its colours are coded (ISO/IEC 14496-12, 12.1.5)."""
    return box(
        b"colr", b"nclx" + struct.pack(">HHHB", primaries, transfer, matrix, full_range << 7)
    )


def put_together_of_pictures(
    picture: Image.Image, tile_size: tuple[int, int], chroma: int = 420, **options: Any
) -> bytes:
    """Cut this picture into tiles, and put these together."""
    width, height = tile_size
    places = itertools.product(range(0, picture.height, height), range(0, picture.width, width))
    boxes = [(left, top, left + width, top + height) for top, left in places]
    tiles = [code_tile(picture.crop(each), chroma) for each in boxes]
    return put_together(tiles, tile_size, picture.size, **options)


def sides(width_px: int, height_px: int) -> bytes:
    return box(b"ispe", bytes(4) + struct.pack(">II", width_px, height_px))


def put_together(
    tiles: Sequence[Coded],
    tile_size: tuple[int, int],
    size: tuple[int, int],
    *,
    told_of_whole: Sequence[bytes] = (),
    told_of_tiles: Sequence[bytes] = (),
    columns: int | None = None,
    missing_tiles: int = 0,
) -> bytes:
    """A HEIC of these coded tiles, all of which are described as the first one is.

    Where there are fewer tiles than it has places, they are repeated.
    """
    columns = columns or -(-size[0] // tile_size[0])
    rows = -(-size[1] // tile_size[1])
    ids = range(FIRST_TILE_ID, FIRST_TILE_ID + columns * rows - missing_tiles)
    properties = [
        sides(*size),
        *told_of_whole,
        sides(*tile_size),
        box(b"hvcC", tiles[0].description),
        *told_of_tiles,
    ]
    of_whole = range(1, 2 + len(told_of_whole))
    of_tiles = range(of_whole.stop, 1 + len(properties))
    associations = struct.pack(">I", 1 + len(ids)) + _associate(GRID_ID, of_whole)
    associations += b"".join(_associate(tile_id, of_tiles) for tile_id in ids)
    entries = [_enter(GRID_ID, b"grid"), *(_enter(tile_id, b"hvc1") for tile_id in ids)]
    parts = struct.pack(f">{2 + len(ids)}H", GRID_ID, len(ids), *ids)
    meta = [
        box(b"hdlr", bytes(8) + b"pict" + bytes(13)),
        box(b"pitm", bytes(4) + struct.pack(">H", GRID_ID)),
        box(b"iinf", bytes(4) + struct.pack(">H", len(entries)) + b"".join(entries)),
        box(b"iref", bytes(4) + box(b"dimg", parts)),
        box(b"iprp", box(b"ipco", b"".join(properties)) + box(b"ipma", bytes(4) + associations)),
        box(b"idat", bytes((0, 0, rows - 1, columns - 1)) + struct.pack(">HH", *size)),
    ]
    start = box(b"ftyp", b"heic\0\0\0\0mif1heic")
    place_bytes = 8 + 8 + 16 * (1 + len(ids))
    data_start = len(start) + 12 + sum(map(len, meta)) + place_bytes + 8
    places = [_place(GRID_ID, 1, 0, 8)]
    position = data_start
    starts = []
    for coded in tiles:
        starts.append((position, len(coded.data)))
        position += len(coded.data)
    for number, tile_id in enumerate(ids):
        places.append(_place(tile_id, 0, *starts[number % len(tiles)]))
    located = box(b"iloc", b"\1\0\0\0\x44\0" + struct.pack(">H", len(places)) + b"".join(places))
    described = box(b"meta", bytes(4) + b"".join([*meta, located]))
    return start + described + box(b"mdat", b"".join(coded.data for coded in tiles))


def _associate(item_id: int, numbers: Sequence[int]) -> bytes:
    return struct.pack(">HB", item_id, len(numbers)) + bytes(numbers)


def _enter(item_id: int, kind: bytes) -> bytes:
    is_hidden = kind == b"hvc1"
    return box(b"infe", bytes((2, 0, 0, is_hidden)) + struct.pack(">HH", item_id, 0) + kind + b"\0")


def _place(item_id: int, method: int, start: int, length: int) -> bytes:
    return struct.pack(">HHHHII", item_id, method, 0, 1, start, length)
