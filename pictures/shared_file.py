"""Memory through which one file after the other goes from the service to a decoder.

The service fills it, and the decoder, which mapped it before it was confined, can only read it. Of
an earlier file the next one finds nothing. Where a system has no such memory, there is none.
"""

import mmap
import os
import sys

# Longer files take the socket, as all do where nothing is shared. Half as much again as the longest
# that is taken by default; an idle decoder holds as much as the longest that it had.
SHARED_BYTES = 8 * 1024 * 1024


class SharedFile:
    """The service's side of it. Used by one thread at a time."""

    def __init__(self) -> None:
        """Make the memory, yet without pages. Raises OSError."""
        # A name for whoever lists the descriptors of a process.
        self._memory = os.fdopen(os.memfd_create("darkroom-file"), "wb", buffering=0)
        os.ftruncate(self._memory.fileno(), SHARED_BYTES)
        self._filled_bytes = 0

    def open_for_reading(self) -> int:
        """Open a descriptor that can neither write nor change the size. Raises OSError."""
        return os.open(f"/proc/self/fd/{self._memory.fileno()}", os.O_RDONLY | os.O_CLOEXEC)

    def fill(self, content: bytes) -> None:
        """Write the file, and zeros over what a longer one has left. Raises OSError."""
        left_bytes = max(0, self._filled_bytes - len(content))
        # Before the first byte: what is not written to the end is written over the next time.
        self._filled_bytes = max(self._filled_bytes, len(content))
        self._write(content, 0)
        # Pages that are given back and had again cost more than zeros.
        self._write(bytes(left_bytes), len(content))
        self._filled_bytes = len(content)

    def _write(self, content: bytes, position: int) -> None:
        if os.pwrite(self._memory.fileno(), content, position) != len(content):
            raise OSError("there is no memory for the file")

    def close(self) -> None:
        """Let go of the memory, which ends with the decoder's mapping. More than once is fine."""
        self._memory.close()


def make_shared_file() -> SharedFile | None:
    """Make one where the system can. Raises OSError."""
    return SharedFile() if sys.platform == "linux" else None


def map_shared_file(descriptor: int) -> memoryview:
    """Map the memory into a decoder, for reading, and close the descriptor.

    Python keeps a second one for itself, which can do no more.
    """
    try:
        return memoryview(mmap.mmap(descriptor, SHARED_BYTES, access=mmap.ACCESS_READ))
    finally:
        os.close(descriptor)


def fits_shared_file(content_bytes: int) -> bool:
    """Whether a file of this length goes through the memory, where there is some."""
    return content_bytes <= SHARED_BYTES
