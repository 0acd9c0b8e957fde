"""HEIC and AVIF files that are put together of tiles, as phones and cameras write them."""

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
_DESCRIPTIONS = {b"hvc1": b"hvcC", b"av01": b"av1C"}
_BRANDS = {b"hvc1": b"heic\0\0\0\0mif1heic", b"av01": b"avif\0\0\0\0mif1avif"}
GRID_ID = 1
FIRST_TILE_ID = 2


def box(kind: bytes, contents: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(contents), kind) + contents


class Coded(NamedTuple):
    """What describes how a picture is coded (`hvcC` or `av1C`), and the coded picture."""

    description: bytes
    data: bytes
    kind: bytes = b"hvc1"


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


def code_avif_tile(picture: Image.Image, **options: Any) -> Coded:
    """Code a picture as AV1."""
    out = io.BytesIO()
    picture.save(out, "AVIF", **{"quality": 90, "speed": 10, **options})
    return _take_apart(out.getvalue())


def _take_apart(content: bytes) -> Coded:
    items = find_items(memoryview(content))
    kind = items.list_kinds()[items.primary_id]
    described = {each.kind: each.contents for each in items.list_properties(items.primary_id)}
    ((start, length),) = items.list_pieces()[items.primary_id]
    description = bytes(described[_DESCRIPTIONS[kind]])
    return Coded(description, content[start : start + length], kind)


def nclx(primaries: int, transfer: int, matrix: int, full_range: int = 1) -> bytes:
    """What says of an item how its colours are coded (ISO/IEC 14496-12, 12.1.5)."""
    return box(
        b"colr", b"nclx" + struct.pack(">HHHB", primaries, transfer, matrix, full_range << 7)
    )


def with_profile(profile: bytes) -> bytes:
    """What gives an item this profile."""
    return box(b"colr", b"prof" + profile)


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
    """A file of these coded tiles, all of which are described as the first one is.

    Where there are fewer tiles than it has places, they are repeated.
    """
    kind = tiles[0].kind
    columns = columns or -(-size[0] // tile_size[0])
    rows = -(-size[1] // tile_size[1])
    ids = range(FIRST_TILE_ID, FIRST_TILE_ID + columns * rows - missing_tiles)
    properties = [
        sides(*size),
        *told_of_whole,
        sides(*tile_size),
        box(_DESCRIPTIONS[kind], tiles[0].description),
        *told_of_tiles,
    ]
    of_whole = range(1, 2 + len(told_of_whole))
    of_tiles = range(of_whole.stop, 1 + len(properties))
    associations = struct.pack(">I", 1 + len(ids)) + _associate(GRID_ID, of_whole)
    associations += b"".join(_associate(tile_id, of_tiles) for tile_id in ids)
    entries = [
        _enter(GRID_ID, b"grid", is_hidden=False),
        *(_enter(tile_id, kind, is_hidden=True) for tile_id in ids),
    ]
    parts = struct.pack(f">{2 + len(ids)}H", GRID_ID, len(ids), *ids)
    meta = [
        box(b"hdlr", bytes(8) + b"pict" + bytes(13)),
        box(b"pitm", bytes(4) + struct.pack(">H", GRID_ID)),
        box(b"iinf", bytes(4) + struct.pack(">H", len(entries)) + b"".join(entries)),
        box(b"iref", bytes(4) + box(b"dimg", parts)),
        box(b"iprp", box(b"ipco", b"".join(properties)) + box(b"ipma", bytes(4) + associations)),
        box(b"idat", bytes((0, 0, rows - 1, columns - 1)) + struct.pack(">HH", *size)),
    ]
    start = box(b"ftyp", _BRANDS[kind])
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


def with_transparency(
    main: Coded, alpha: Coded, size: tuple[int, int], told: Sequence[bytes] = ()
) -> bytes:
    """A file of a coded picture and of its transparency, a coded grey one."""
    kind = main.kind
    properties = [
        sides(*size),
        box(_DESCRIPTIONS[kind], main.description),
        *told,
        box(_DESCRIPTIONS[kind], alpha.description),
        box(b"auxC", bytes(4) + b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"),
    ]
    count = len(properties)
    associations = struct.pack(">I", 2) + _associate(1, range(1, count - 1))
    associations += _associate(2, (1, count - 1, count))
    entries = _enter(1, kind, is_hidden=False) + _enter(2, kind, is_hidden=True)
    meta = [
        box(b"hdlr", bytes(8) + b"pict" + bytes(13)),
        box(b"pitm", bytes(4) + struct.pack(">H", 1)),
        box(b"iinf", bytes(4) + struct.pack(">H", 2) + entries),
        box(b"iref", bytes(4) + box(b"auxl", struct.pack(">HHH", 2, 1, 1))),
        box(b"iprp", box(b"ipco", b"".join(properties)) + box(b"ipma", bytes(4) + associations)),
    ]
    start = box(b"ftyp", _BRANDS[kind])
    data_start = len(start) + 12 + sum(map(len, meta)) + 8 + 8 + 2 * 16 + 8
    places = _place(1, 0, data_start, len(main.data))
    places += _place(2, 0, data_start + len(main.data), len(alpha.data))
    located = box(b"iloc", b"\1\0\0\0\x44\0" + struct.pack(">H", 2) + places)
    described = box(b"meta", bytes(4) + b"".join([*meta, located]))
    return start + described + box(b"mdat", main.data + alpha.data)


def _associate(item_id: int, numbers: Sequence[int]) -> bytes:
    return struct.pack(">HB", item_id, len(numbers)) + bytes(numbers)


def _enter(item_id: int, kind: bytes, *, is_hidden: bool) -> bytes:
    return box(b"infe", bytes((2, 0, 0, is_hidden)) + struct.pack(">HH", item_id, 0) + kind + b"\0")


def _place(item_id: int, method: int, start: int, length: int) -> bytes:
    return struct.pack(">HHHHII", item_id, method, 0, 1, start, length)
