"""The files of a fuzz run: sound ones with one to eight mutations, the same in every run."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.fields import PNG_SIGNATURE, Field, find_fields, read_number, repair_checksums
from tests.fuzz.seeds import make_foreign, make_taken

LARGEST_OF_CORPUS_BYTES = 200_000
# A parser finds more in a picture than in what is refused by its first bytes.
TAKEN_TO_FOREIGN = 3
# Of any format: the signature, the sides, the first tables.
HEADER_BYTES = 200
# Most of what makes decoders stumble stands there; all the rest is reached as well.
HEADER_SHARE = 0.35
# Behind a wrong checksum nothing is looked at.
REPAIRED_SHARE = 0.9

BYTES = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF)
NUMBERS = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)
# Around the limits: of our own, of the formats, and of what fits a signed or unsigned number.
SIDES = (
    0,
    1,
    4000,
    4999,
    5001,
    7071,
    16383,
    16384,
    30000,
    65500,
    65535,
    100000,
    1 << 24,
    0x7FFFFFFF,
    0xFFFFFFFF,
)


class Seed(NamedTuple):
    """A sound file, and the numbers of its structure."""

    content: bytes
    fields: Sequence[Field]
    sides: Sequence[Field]


def make_seeds(corpus: Path | None = None) -> list[Seed]:
    """The files that mutations begin with; the small ones of the folder `corpus` come on top."""
    contents = [*make_taken() * TAKEN_TO_FOREIGN, *make_foreign()]
    for path in sorted(corpus.iterdir()) if corpus else []:
        if path.is_file() and 0 < path.stat().st_size < LARGEST_OF_CORPUS_BYTES:
            contents.append(path.read_bytes())
    found = []
    for content in contents:
        fields = [field for field in find_fields(content) if field.at + field.size <= len(content)]
        found.append(Seed(content, fields, [field for field in fields if field.is_side]))
    return found


class Mutation:
    """One file on its way from a seed to something broken."""

    def __init__(self, rng: random.Random, seeds: Sequence[Seed]) -> None:
        self._rng = rng
        self._seeds = seeds
        self._seed = rng.choice(seeds)
        self.content = bytearray(self._seed.content)

    def run(self) -> bytes:
        # Most decoders stop at the first thing that is wrong: mostly few of them.
        for _ in range(self._rng.choice((1, 1, 1, 1, 2, 2, 4, 8))):
            if self.content:
                self._rng.choice(_KINDS)(self)
        if self.content.startswith(PNG_SIGNATURE) and self._rng.random() < REPAIRED_SHARE:
            return repair_checksums(self.content)
        return bytes(self.content)

    def _pick_position(self) -> int:
        is_header = self._rng.random() < HEADER_SHARE
        return self._rng.randrange(
            min(len(self.content), HEADER_BYTES) if is_header else len(self.content)
        )

    def _pick_length(self) -> int:
        return self._rng.choice((1, 2, 3, 4, 8, 16, 64))

    def flip_bit(self) -> None:
        self.content[self._pick_position()] ^= 1 << self._rng.randrange(8)

    def set_byte(self) -> None:
        self.content[self._pick_position()] = self._rng.choice((*BYTES, self._rng.randrange(256)))

    def set_number(self) -> None:
        self._write(
            Field(
                self._pick_position(), self._rng.choice((2, 4)), self._rng.choice(("big", "little"))
            )
        )

    def set_field(self) -> None:
        if self._seed.fields:
            self._write(self._rng.choice(self._seed.fields))

    def set_side(self) -> None:
        if self._seed.sides:
            self._write(self._rng.choice(self._seed.sides), self._rng.choice(SIDES))

    def delete(self) -> None:
        at = self._pick_position()
        del self.content[at : at + self._pick_length()]

    def duplicate(self) -> None:
        at = self._pick_position()
        self.content[at:at] = self.content[at : at + self._pick_length()]

    def insert(self) -> None:
        at = self._pick_position()
        self.content[at:at] = self._rng.randbytes(self._pick_length())

    def swap(self) -> None:
        first = self._pick_position()
        second = self._pick_position()
        length = self._pick_length()
        here = self.content[first : first + length]
        there = self.content[second : second + length]
        self.content[first : first + length] = there
        self.content[second : second + length] = here

    def cut(self) -> None:
        del self.content[self._rng.randrange(len(self.content)) :]

    def splice(self) -> None:
        other = self._rng.choice(self._seeds).content
        begin = self._rng.randrange(len(other))
        self.content[self._pick_position() :] = other[begin:]

    def _write(self, field: Field, value: int | None = None) -> None:
        if value is None:
            old = read_number(self.content, field.at, field.size, field.order)
            value = self._rng.choice((*NUMBERS, old + 1, old - 1, old * 2, len(self.content)))
        bounded = value & (1 << 8 * field.size) - 1
        self.content[field.at : field.at + field.size] = bounded.to_bytes(field.size, field.order)


# Each as often as it stands here: what ends a file soon hides what the others would have shown.
_KINDS = (
    *(Mutation.flip_bit, Mutation.set_byte, Mutation.set_number) * 4,
    *(Mutation.set_field,) * 10,
    *(Mutation.delete, Mutation.duplicate, Mutation.insert, Mutation.swap) * 2,
    *(Mutation.set_side, Mutation.cut, Mutation.splice),
)


@dataclass(frozen=True)
class Files:
    """The files of a run, by number."""

    seed: str
    seeds: Sequence[Seed]

    def __getitem__(self, number: int) -> bytes:
        return Mutation(random.Random(f"{self.seed} {number}"), self.seeds).run()
