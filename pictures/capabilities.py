"""Gives up the rights of root that Linux counts one by one.

A service that runs as root, as in many containers, would hand them to its decoders.
"""

import ctypes

# linux/capability.h: the third version has two words of 32 bits for each set.
_VERSION = 0x20080522
_NUMBERS = range(64)
# linux/prctl.h
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Sets(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


def drop_capabilities(libc: ctypes.CDLL) -> bool:
    """Empty every set of this thread; return whether it has none any more."""
    zero = ctypes.c_ulong(0)
    for number in _NUMBERS:
        # What may ever be had again. Without the right to do so, it has none to lose.
        libc.prctl(ctypes.c_int(_PR_CAPBSET_DROP), ctypes.c_ulong(number), zero, zero, zero)
    clear_all = ctypes.c_ulong(_PR_CAP_AMBIENT_CLEAR_ALL)
    libc.prctl(ctypes.c_int(_PR_CAP_AMBIENT), clear_all, zero, zero, zero)
    header = _Header(_VERSION, 0)
    empty = (_Sets * 2)()
    result: int = libc.capset(ctypes.byref(header), empty)
    return result == 0
