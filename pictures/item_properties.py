"""What the boxes of an AVIF say of its items, so that libavif takes it as browsers do.

A list of properties of one kind should be in one box (ISO/IEC 23008-12, 9.3.1). Some encoders write
one for the picture and one for its transparency, which browsers read and libavif does not; nor does
it take what it does not know about groups of pictures.
"""

from collections.abc import Iterator
from typing import NamedTuple

from pictures.reading import MOST_STEPS
from pictures.values import Content

_HEAD_BYTES = 8
_VERSION_BYTES = 4
_COUNT_BYTES = 4
_LISTS = b"ipma"
_ALTERNATIVES = b"altr"
_MOST_PROPERTIES = 255
_LONG_NUMBERS = 1


class _Box(NamedTuple):
    kind: bytes
    start: int
    body_start: int
    end: int


class _Association(NamedTuple):
    """An item, and its properties as they are written."""

    item: bytes
    properties: tuple[bytes, ...]


def merge_associations(content: Content) -> bytes:
    """Make one list of each kind; the file is as long as before, and nothing in it moves.

    It is returned as it is where there are no several lists, or they make no sense.
    """
    file = bytes(content)
    meta = _find(file, b"meta", 0, len(file), 0)
    places = meta and _find(file, b"iprp", meta.body_start, meta.end, _VERSION_BYTES)
    if not places:
        return file
    boxes = list(_list_boxes(file, places.body_start, places.end))
    lists = [file[box.body_start : box.end] for box in boxes if box.kind == _LISTS]
    kinds = list(dict.fromkeys(each[:_VERSION_BYTES] for each in lists))
    if len(kinds) == len(lists):
        return file
    try:
        merged = [_merge([each for each in lists if each.startswith(kind)]) for kind in kinds]
    except (ValueError, IndexError):
        return file
    others = [file[box.start : box.end] for box in boxes if box.kind != _LISTS]
    body = b"".join([*others, *(_make_box(_LISTS, each) for each in merged)])
    written = _make_box(b"iprp", body)
    free_bytes = places.end - places.start - len(written)
    if free_bytes < _HEAD_BYTES:
        return file
    free = _make_box(b"free", bytes(free_bytes - _HEAD_BYTES))
    return file[: places.start] + written + free + file[places.end :]


def hide_groups(content: Content) -> bytes:
    """Hide which pictures belong together, such as sizes: the primary one is shown anyway.

    But not which are alternatives: browsers know that as well, and refuse what is wrong with it.
    """
    file = bytes(content)
    meta = _find(file, b"meta", 0, len(file), 0)
    groups = meta and _find(file, b"grpl", meta.body_start, meta.end, _VERSION_BYTES)
    if not groups or _find(file, _ALTERNATIVES, groups.body_start, groups.end, 0):
        return file
    return b"".join((file[: groups.start + 4], b"free", file[groups.body_start :]))


def _find(file: bytes, kind: bytes, start: int, end: int, skipped_bytes: int) -> _Box | None:
    boxes = _list_boxes(file, start + skipped_bytes, end)
    return next((box for box in boxes if box.kind == kind), None)


def _list_boxes(file: bytes, start: int, end: int) -> Iterator[_Box]:
    """List the boxes that are whole and have short heads (ISO/IEC 14496-12, 4.2)."""
    for _ in range(MOST_STEPS):
        size = int.from_bytes(file[start : start + 4], "big")
        if size < _HEAD_BYTES or start + size > end:
            return
        head_end = start + _HEAD_BYTES
        yield _Box(file[start + 4 : head_end], start, head_end, start + size)
        start += size


def _make_box(kind: bytes, body: bytes) -> bytes:
    return (_HEAD_BYTES + len(body)).to_bytes(4, "big") + kind + body


def _merge(lists: list[bytes]) -> bytes:
    """Merge lists of one version and flags. Raises ValueError or IndexError for nonsense."""
    if len(lists) == 1:
        return lists[0]
    properties: dict[bytes, dict[bytes, None]] = {}
    for each in lists:
        for association in _read_list(each):
            own = properties.setdefault(association.item, {})
            own.update(dict.fromkeys(association.properties))
    merged = bytearray(lists[0][:_VERSION_BYTES])
    merged += len(properties).to_bytes(_COUNT_BYTES, "big")
    # In the order of the items' numbers, as they must be.
    for item, own in sorted(properties.items()):
        if len(own) > _MOST_PROPERTIES:
            raise ValueError("more properties than an item can have")
        merged += item + bytes((len(own),)) + b"".join(own)
    return bytes(merged)


def _read_list(body: bytes) -> Iterator[_Association]:
    item_bytes = 2 if body[0] == 0 else 4
    property_bytes = 2 if body[3] & _LONG_NUMBERS else 1
    position = _VERSION_BYTES + _COUNT_BYTES
    count = int.from_bytes(body[_VERSION_BYTES:position], "big")
    if count > MOST_STEPS:
        raise ValueError("more items than a file has")
    for _ in range(count):
        item = body[position : position + item_bytes]
        position += item_bytes
        end = position + 1 + property_bytes * body[position]
        if end > len(body):
            raise ValueError("a list that is cut")
        own = [body[at : at + property_bytes] for at in range(position + 1, end, property_bytes)]
        yield _Association(item, tuple(own))
        position = end
