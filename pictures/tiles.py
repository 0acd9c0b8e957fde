"""A HEIC that is put together of tiles, as phones and cameras write them: each tile a file.

So one tile after the other is decoded and made smaller, and the whole picture is never in memory.
Where that would show anything else than the whole picture, there are no tiles.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pictures.items import META, Items, Piece, Property, find_items
from pictures.values import Content

Size = tuple[int, int]
Box = tuple[int, int, int, int]

# A phone's 48 megapixels have 192; libheif takes no more than so many of any picture.
MOST_TILES = 1000
_GRID = b"grid"
_HEVC = b"hvc1"
_CONFIGURATION = b"hvcC"
_SIDES = b"ispe"
_COLOURS = b"colr"
_CODED_COLOURS = b"nclx"
# What may be said of a tile, and of the whole: no more than how it is coded and what its colours
# mean, and of the whole how it is turned. Of a part of it, or of layers, others know more.
_TOLD_OF_ANY = frozenset((_SIDES, _COLOURS, b"pixi", b"pasp", b"clli", b"mdcv", b"amve", b"cclv"))
_TOLD_OF_TILES = _TOLD_OF_ANY | {_CONFIGURATION}
_ROTATION = b"irot"
_MIRRORING = b"imir"
_TOLD_OF_WHOLE = _TOLD_OF_ANY | {_ROTATION, _MIRRORING}
# ISO/IEC 23008-12, 6.6.2.3: of a grid, rows and columns are counted from one on; a flag tells that
# its sides have four bytes.
_LONG_SIDES = 1
_ANGLE_BITS = 0b11
_AXIS_BIT = 0b1
_MOST_PIECES = 64


class Rotation(NamedTuple):
    """By so many right angles, anticlockwise: 1 to 3 (ISO/IEC 23008-12, 6.5.10)."""

    angles: int


class Mirroring(NamedTuple):
    """Top and bottom change places, or left and right (6.5.12)."""

    is_sideways: bool


Turn = Rotation | Mirroring


class Tiling(NamedTuple):
    """How a picture is put together, and turned after that."""

    size: Size
    tile_size: Size
    columns: int
    tiles: Sequence[int]
    turns: Sequence[Turn]

    def list_boxes(self) -> Iterator[Box]:
        """List what each tile shows of the picture: at its right and lower end it shows less."""
        width, height = self.tile_size
        for number in range(len(self.tiles)):
            row, column = divmod(number, self.columns)
            left = column * width
            top = row * height
            yield left, top, min(left + width, self.size[0]), min(top + height, self.size[1])


def find_tiling(items: Items) -> Tiling | None:
    """Find of which tiles the picture is put together; None if of none, or not only of tiles."""
    whole = items.primary_id
    kinds = items.list_kinds()
    tiles = items.list_parts(whole)
    if kinds.get(whole) != _GRID or not 1 < len(tiles) <= MOST_TILES:
        return None
    properties = list(items.list_properties(whole))
    grid = _read_grid(items.find_own_data(whole))
    if grid is None or not _are_told(properties, _TOLD_OF_WHOLE):
        return None
    columns, rows, size = grid
    tile_sizes = {_read_tile_size(items, tile) for tile in tiles}
    tile_size = tile_sizes.pop()
    are_alike = not tile_sizes and all(kinds.get(tile) == _HEVC for tile in tiles)
    if tile_size is None or not are_alike or len(tiles) != columns * rows:
        return None
    is_filled = _is_filled(size[0], tile_size[0], columns)
    is_filled = is_filled and _is_filled(size[1], tile_size[1], rows)
    if not is_filled or _read_size(properties) != size:
        return None
    return Tiling(size, tile_size, columns, tiles, tuple(_read_turns(properties)))


def _read_grid(data: memoryview) -> tuple[int, int, Size] | None:
    """Read how many columns and rows there are, and the sides of the whole."""
    side_bytes = 4 if len(data) > 1 and data[1] & _LONG_SIDES else 2
    if len(data) != 4 + 2 * side_bytes:
        return None
    width = int.from_bytes(data[4 : 4 + side_bytes], "big")
    height = int.from_bytes(data[4 + side_bytes :], "big")
    return data[3] + 1, data[2] + 1, (width, height)


def _are_told(properties: Sequence[Property], kinds: frozenset[bytes]) -> bool:
    return kinds.issuperset(each.kind for each in properties)


def _read_tile_size(items: Items, tile: int) -> Size | None:
    properties = list(items.list_properties(tile))
    is_coded = any(each.kind == _CONFIGURATION for each in properties)
    return _read_size(properties) if is_coded and _are_told(properties, _TOLD_OF_TILES) else None


def _read_size(properties: Sequence[Property]) -> Size | None:
    sizes = [bytes(each.contents[4:12]) for each in properties if each.kind == _SIDES]
    if len(sizes) != 1 or len(sizes[0]) < 8:
        return None
    return int.from_bytes(sizes[0][:4], "big"), int.from_bytes(sizes[0][4:], "big")


def _read_turns(properties: Sequence[Property]) -> Iterator[Turn]:
    for each in properties:
        number = int.from_bytes(each.contents[:1], "big")
        if each.kind == _ROTATION and number & _ANGLE_BITS:
            yield Rotation(number & _ANGLE_BITS)
        elif each.kind == _MIRRORING:
            yield Mirroring(bool(number & _AXIS_BIT))


def _is_filled(side: int, tile_side: int, count: int) -> bool:
    """Whether so many tiles are as many as are needed, and none of them lies outside."""
    return (count - 1) * tile_side < side <= count * tile_side


def list_tile_files(content: Content, tiling: Tiling) -> Iterator[list[Content]]:
    """Make a file of each tile; what is said of the colours of the whole is said of it."""
    file = memoryview(content)
    items = find_items(file)
    places = items.list_pieces()
    colours = [each for each in items.list_properties(items.primary_id) if _is_coding(each)]
    for tile in tiling.tiles:
        told = [
            each
            for each in items.list_properties(tile)
            if each.kind != _COLOURS or (_is_coding(each) and not colours)
        ]
        yield _make_file([*told, *colours], _cut_out(file, places.get(tile, [])))


def _is_coding(told: Property) -> bool:
    """Whether it says how colours are coded; a profile is followed later, in the whole picture."""
    return told.kind == _COLOURS and bytes(told.contents[:4]) == _CODED_COLOURS


def _cut_out(file: memoryview, pieces: Sequence[Piece]) -> list[memoryview]:
    return [file[start : start + length] for start, length in pieces[:_MOST_PIECES]]


def _make_file(properties: Sequence[Property], data: Sequence[memoryview]) -> list[Content]:
    """Make a file of one item, which is said all this of."""
    data_bytes = sum(len(piece) for piece in data)
    kind = _make_box(b"ftyp", b"heic\0\0\0\0mif1heic")
    described = b"".join(_make_box(each.kind, bytes(each.contents)) for each in properties)
    numbers = bytes(
        number | (0x80 if each.kind == _CONFIGURATION else 0)
        for number, each in enumerate(properties, 1)
    )
    item = b"\0\1"
    association = item + bytes((len(numbers),)) + numbers
    before = (
        _make_box(b"hdlr", bytes(8) + b"pict" + bytes(13)),
        _make_box(b"pitm", bytes(4) + item),
        _make_box(
            b"iinf",
            bytes(4) + item + _make_box(b"infe", b"\2\0\0\0" + item + bytes(2) + _HEVC + b"\0"),
        ),
        _make_box(
            b"iprp",
            _make_box(b"ipco", described)
            + _make_box(b"ipma", bytes(4) + b"\0\0\0\1" + association),
        ),
    )
    place_bytes = 8 + 4 + 2 + 2 + 2 + 2 + 2 + 8
    start = len(kind) + 8 + 4 + sum(map(len, before)) + place_bytes + 8
    place = b"\x44\0" + item + item + bytes(2) + item + start.to_bytes(4, "big")
    located = _make_box(b"iloc", bytes(4) + place + data_bytes.to_bytes(4, "big"))
    head = kind + _make_box(META, bytes(4) + b"".join(before) + located)
    return [head, (8 + data_bytes).to_bytes(4, "big") + b"mdat", *data]


def _make_box(kind: bytes, contents: bytes) -> bytes:
    return (8 + len(contents)).to_bytes(4, "big") + kind + contents
