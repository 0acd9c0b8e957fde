"""The items of an AVIF or HEIC: what each is, what it is made of, and what is said of it.

They are read where they lie, out of the contents of the box that describes them (ISO/IEC 14496-12,
8.11). What is broken is not there.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pictures.reading import MOST_STEPS

META = b"meta"
# Two are in files that browsers show; a hostile one could have a hundred thousand.
MOST_ASSOCIATION_BOXES = 16
# Of boxes whose contents begin with a version and flags.
_VERSION_BYTES = 4
_FULL_BOXES = (META, b"pitm")
_IN_THE_FILE = 0
_IN_THE_BOX = 1


class Property(NamedTuple):
    """Something that is said of an item (8.11.14)."""

    kind: bytes
    contents: memoryview


class Piece(NamedTuple):
    """Where in a file some of an item's data lies."""

    start: int
    length: int


class Items:
    """The items that a file describes."""

    def __init__(self, meta: memoryview) -> None:
        """Take the contents of the box, behind its version and flags."""
        self._meta = meta
        around = find_box(meta, b"iprp")
        self._properties = [Property(*box) for box in list_boxes(find_box(around, b"ipco"))]
        associations = (contents for kind, contents in list_boxes(around) if kind == b"ipma")
        self._associations: dict[int, list[_Association]] = {}
        for box in itertools.islice(associations, MOST_ASSOCIATION_BOXES):
            for item_id, association in _list_associations(box):
                self._associations.setdefault(item_id, []).append(association)
        # An id has two bytes, or four where there are many items.
        self.primary_id = _read_uint(find_box(meta, b"pitm")[:4])

    def list_properties(self, item_id: int) -> Iterator[Property]:
        """List what is said of this item, in the order in which the file says it."""
        for association in self._associations.get(item_id, []):
            for number in association.list_numbers():
                if 0 < number <= len(self._properties):
                    yield self._properties[number - 1]

    def list_kinds(self) -> dict[int, bytes]:
        """List what each item is (8.11.6)."""
        around = find_box(self._meta, b"iinf")
        count_bytes = 4 if _read_uint(around[:1]) else 2
        kinds: dict[int, bytes] = {}
        for kind, entry in list_boxes(around[_VERSION_BYTES + count_bytes :]):
            version = _read_uint(entry[:1])
            if kind == b"infe" and version in (2, 3):
                # Behind the id there are two bytes about its protection.
                id_end = _VERSION_BYTES + (4 if version == 3 else 2)
                item_id = _read_uint(entry[_VERSION_BYTES:id_end])
                kinds.setdefault(item_id, bytes(entry[id_end + 2 : id_end + 6]))
        return kinds

    def list_parts(self, item_id: int) -> Sequence[int]:
        """List the items that this one is derived from, in their order (8.11.12)."""
        around = find_box(self._meta, b"iref")
        id_bytes = 4 if _read_uint(around[:1]) else 2
        for kind, reference in list_boxes(around[_VERSION_BYTES:]):
            if kind != b"dimg" or _read_uint(reference[:id_bytes]) != item_id:
                continue
            start = id_bytes + 2
            count = _read_uint(reference[id_bytes:start])
            parts = reference[start : start + count * id_bytes]
            return [_read_uint(parts[at : at + id_bytes]) for at in range(0, len(parts), id_bytes)]
        return ()

    def find_own_data(self, item_id: int) -> memoryview:
        """Find an item's data that lies in the box itself, in one piece; empty if it does not."""
        pieces = self._list_places(_IN_THE_BOX).get(item_id, [])
        if len(pieces) != 1:
            return memoryview(b"")
        start, length = pieces[0]
        data = find_box(self._meta, b"idat")
        return data[start : start + length] if length else data[start:]

    def list_pieces(self) -> dict[int, list[Piece]]:
        """List where in the file the data of each item lies that is not in the box itself."""
        return self._list_places(_IN_THE_FILE)

    def _list_places(self, wanted_method: int) -> dict[int, list[Piece]]:
        """List the places of the items that are kept in this way (8.11.3)."""
        box = _Numbers(find_box(self._meta, b"iloc"))
        version = box.read(1)
        box.read(3)
        sizes = box.read(2)
        offset_bytes, length_bytes, base_bytes, index_bytes = (
            sizes >> shift & 15 for shift in (12, 8, 4, 0)
        )
        id_bytes = 4 if version == 2 else 2
        places: dict[int, list[Piece]] = {}
        for _ in range(min(box.read(id_bytes), MOST_STEPS)):
            item_id = box.read(id_bytes)
            method = box.read(2) & 15 if version else _IN_THE_FILE
            box.read(2)
            base = box.read(base_bytes)
            pieces: list[Piece] = []
            for _ in range(box.read(2)):
                if box.is_over:
                    return places
                box.read(index_bytes if version else 0)
                pieces.append(Piece(base + box.read(offset_bytes), box.read(length_bytes)))
            if method == wanted_method:
                places.setdefault(item_id, pieces)
        return places


class _Association(NamedTuple):
    """The numbers of an item's properties, as they are written."""

    written: memoryview
    number_bytes: int

    def list_numbers(self) -> Iterator[int]:
        for at in range(0, len(self.written), self.number_bytes):
            number = _read_uint(self.written[at : at + self.number_bytes])
            # The first bit says whether a reader has to know the property.
            yield number & (0x7FFF if self.number_bytes == 2 else 0x7F)


class _Numbers:
    """The numbers of a box, one behind the other; behind its end they are 0."""

    def __init__(self, box: memoryview) -> None:
        self._box = box
        self._position = 0

    @property
    def is_over(self) -> bool:
        return self._position >= len(self._box)

    def read(self, length: int) -> int:
        self._position += length
        return _read_uint(self._box[self._position - length : self._position])


def find_items(content: memoryview) -> Items:
    """Find the items of a file; none if it describes none."""
    return Items(find_box(content, META))


def find_box(around: memoryview, wanted: bytes) -> memoryview:
    """Find the contents of the first box of this kind; empty if there is none."""
    for kind, contents in list_boxes(around):
        if kind == wanted:
            return contents[_VERSION_BYTES:] if kind in _FULL_BOXES else contents
    return memoryview(b"")


def list_boxes(around: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """List the boxes in this one, each with its kind and its contents (4.2)."""
    position = 0
    for _ in range(MOST_STEPS):
        head = bytes(around[position : position + 16])
        if len(head) < 8:
            return
        size = int.from_bytes(head[:4], "big")
        head_bytes = 8
        if size == 1:
            size = int.from_bytes(head[8:], "big")
            head_bytes = 16
        elif size == 0:
            size = len(around) - position
        if size < head_bytes:
            return
        yield head[4:8], around[position + head_bytes : position + size]
        position += size


def _list_associations(box: memoryview) -> Iterator[tuple[int, _Association]]:
    """List which item has which properties; the box begins with its version and flags."""
    version, *_, flags = bytes(box[:_VERSION_BYTES]).ljust(_VERSION_BYTES, b"\0")
    id_bytes = 4 if version else 2
    number_bytes = 2 if flags & 1 else 1
    position = 8
    for _ in range(min(_read_uint(box[_VERSION_BYTES:position]), MOST_STEPS)):
        if position >= len(box):
            return
        count_at = position + id_bytes
        item_id = _read_uint(box[position:count_at])
        start = count_at + 1
        position = start + _read_uint(box[count_at:start]) * number_bytes
        yield item_id, _Association(box[start:position], number_bytes)


def _read_uint(data: memoryview) -> int:
    return int.from_bytes(data, "big")
