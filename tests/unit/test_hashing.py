"""The hash of a file that is read back: of either form, however it is cut into pieces."""

import hashlib
import random

import pytest

from files.hashing import FileHash
from storage import PART_BYTES
from tests.support.hashes import hash_file


def hash_in_pieces(hashed: FileHash, content: bytes, piece_bytes: int) -> str:
    for start in range(0, len(content), piece_bytes):
        hashed.update(content[start : start + piece_bytes])
    return hashed.text()


@pytest.mark.parametrize("size_bytes", [0, 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 3])
@pytest.mark.parametrize("piece_bytes", [1_000_003, PART_BYTES, 3 * PART_BYTES])
def test_a_file_that_is_read_back_has_the_hash_of_its_row(
    size_bytes: int, piece_bytes: int
) -> None:
    content = random.Random(size_bytes).randbytes(size_bytes)
    composed = hash_file(content)
    assert ("-" in composed) == (size_bytes > PART_BYTES)
    plain = hashlib.sha256(content).hexdigest()
    assert hash_in_pieces(FileHash(), content, piece_bytes) == composed
    for expected in (composed, plain):  # what was put at once has the plain one, however long
        assert hash_in_pieces(FileHash.like(expected), content, piece_bytes) == expected
