"""What a decoder gives up before it sees its first file, so that all it can do is answer.

Five layers, each of which holds without the others where a kernel lacks one: no new privileges, no
view into its memory by others of its user, Landlock (no file, no TCP, no signal to others), none of
root's capabilities, and a filter of system calls. None of them can be taken back.
"""

import ctypes
import os
import struct
import sys
from enum import Flag, auto

from pictures.capabilities import drop_capabilities
from pictures.seccomp import filter_system_calls

# linux/prctl.h
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
# linux/landlock.h; the numbers are the same on every architecture.
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
# The rights on files by the version that brought them: the first has 13, the second adds links
# between folders, the third truncation, the fifth ioctl on devices.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NETWORK_VERSION = 4
_BIND_AND_CONNECT_TCP = 0b11
_SCOPE_VERSION = 6
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11


class Layer(Flag):
    """A layer of the confinement that a kernel may lack."""

    NO_NEW_PRIVILEGES = auto()
    NOT_DUMPABLE = auto()
    LANDLOCK = auto()
    SYSTEM_CALLS = auto()
    NO_CAPABILITIES = auto()

    def name_each(self) -> str:
        """Name those that it has, for a person: `Landlock, a filter of system calls`."""
        return ", ".join(_NAMES[layer] for layer in self)


_NAMES = {
    Layer.NO_NEW_PRIVILEGES: "no new privileges",
    Layer.NOT_DUMPABLE: "memory that others cannot read",
    Layer.LANDLOCK: "Landlock",
    Layer.SYSTEM_CALLS: "a filter of system calls",
    Layer.NO_CAPABILITIES: "the loss of root's capabilities",
}
NO_LAYER = Layer(0)
EVERY_LAYER = ~NO_LAYER


def confine() -> Layer:
    """Give up all of it; return the layers that hold. No thread but the caller's may run yet.

    What every system can do comes with it: there are no descriptors beyond those that are open.
    """
    import resource  # of POSIX only

    layers = NO_LAYER
    if sys.platform != "linux":
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        return layers
    libc = ctypes.CDLL(None, use_errno=True)
    if _set(libc, _PR_SET_NO_NEW_PRIVS, 1):
        layers |= Layer.NO_NEW_PRIVILEGES
    if _set(libc, _PR_SET_DUMPABLE, 0):
        layers |= Layer.NOT_DUMPABLE
    if _enter_landlock(libc):  # which needs a descriptor for a moment
        layers |= Layer.LANDLOCK
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    if drop_capabilities(libc):
        layers |= Layer.NO_CAPABILITIES
    if filter_system_calls(libc, os.getpid()):  # the last: it forbids all of the above
        layers |= Layer.SYSTEM_CALLS
    return layers


def _set(libc: ctypes.CDLL, option: int, value: int) -> bool:
    zero = ctypes.c_ulong(0)
    result: int = libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero)
    return result == 0


def _enter_landlock(libc: ctypes.CDLL) -> bool:
    """Enter a domain that handles every right that this kernel knows and grants none."""
    version = _call(libc, _LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return False
    files = (1 << _FILE_RIGHTS[min(version, max(_FILE_RIGHTS))]) - 1
    network = _BIND_AND_CONNECT_TCP if version >= _NETWORK_VERSION else 0
    scopes = _ABSTRACT_SOCKETS_AND_SIGNALS if version >= _SCOPE_VERSION else 0
    attributes = struct.pack("=QQQ", files, network, scopes)
    # An older kernel takes what is longer than it knows as long as the rest is zero.
    ruleset = _call(libc, _LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    try:
        return _call(libc, _LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _call(libc: ctypes.CDLL, number: int, *arguments: int | bytes | None) -> int:
    passed = (
        ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments
    )
    result: int = libc.syscall(ctypes.c_long(number), *passed)
    return result
