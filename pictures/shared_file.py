"""Memory through which one file after the other goes from the service to a decoder.

The service fills it, and the decoder, which mapped it before it was confined, can only read it. Of
an earlier file the next one finds nothing. Where a system has no such memory, there is none.
"""

import mmap
import os

# Longer files take the socket, as all do where nothing is shared. By default no photo is as long.
SHARED_BYTES = 64 * 1024 * 1024
# What an idle decoder holds at most: half as much again as the longest profile picture.
KEPT_BYTES = 8 * 1024 * 1024
_ZEROS = bytes(64 * 1024)


class SharedFile:
    """The service's side of it. Used by one thread at a time."""

    def __init__(self) -> None:
        """Make the memory, yet without pages. Raises OSError."""
        # A name for whoever lists the descriptors of a process.
        self._memory = os.fdopen(os.memfd_create("darkroom-file"), "wb", buffering=0)
        try:
            os.ftruncate(self._memory.fileno(), SHARED_BYTES)
            path = f"/proc/self/fd/{self._memory.fileno()}"
            self._reader = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb", buffering=0)
        except OSError:
            self._memory.close()
            raise
        self._filled_bytes = 0

    @property
    def descriptor(self) -> int:
        """What the decoder gets, which can neither write nor change the size."""
        return self._reader.fileno()

    def fill(self, content: bytes) -> bool:
        """Write the file, and zeros over what another has left; return whether it is there.

        It is not if it is too long, or if there is no memory for it.
        """
        fitting = content if len(content) <= SHARED_BYTES else b""
        # Before the first byte: what is not written to the end is written over the next time.
        left_bytes = self._filled_bytes
        self._filled_bytes = max(left_bytes, len(fitting))
        try:
            self._write(fitting, 0)
            # Pages that are given back and had again cost more than zeros.
            for position in range(len(fitting), left_bytes, len(_ZEROS)):
                self._write(_ZEROS[: left_bytes - position], position)
        except OSError:
            return False
        self._filled_bytes = len(fitting)
        return len(fitting) == len(content)

    def give_back(self) -> None:
        """Give the system back what lies behind KEPT_BYTES: the decoder is done with its file.

        Its mapping stays valid, as the memory has its old size again, without the pages: those of
        the file, and those that reading alone brings into being.
        """
        os.ftruncate(self._memory.fileno(), KEPT_BYTES)
        os.ftruncate(self._memory.fileno(), SHARED_BYTES)
        self._filled_bytes = min(self._filled_bytes, KEPT_BYTES)

    def _write(self, content: bytes, position: int) -> None:
        if os.pwrite(self._memory.fileno(), content, position) != len(content):
            raise OSError("there is no memory for the file")

    def close(self) -> None:
        """Let go of the memory, which ends with the decoder's mapping. More than once is fine."""
        self._memory.close()
        self._reader.close()


def make_shared_file() -> SharedFile | None:
    """Make one, where the system and this Python can."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        return SharedFile()
    except OSError:
        return None


def map_shared_file(descriptor: int) -> memoryview:
    """Map the memory into a decoder, for reading, and close the descriptor.

    Python keeps a second one for itself, which can do no more.
    """
    try:
        return memoryview(mmap.mmap(descriptor, SHARED_BYTES, access=mmap.ACCESS_READ))
    finally:
        os.close(descriptor)
