"""A filter of system calls: what a decoder may still ask of the kernel once it has warmed up.

The calls on the list work, some of them only with harmless arguments; those that only look for a
file are refused as if it were not allowed; any other ends the process with SIGSYS. Assembled for
x86-64, where it is run by the tests, and for aarch64, where its numbers were compared and never
run.
"""

import ctypes
import platform
import signal
import struct
from dataclasses import dataclass

from pictures.system_calls import ARCHITECTURES, Architecture

# linux/seccomp.h, linux/filter.h and linux/bpf_common.h.
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_TSYNC = 1
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_KILL_PROCESS = 0x80000000
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_IF_GREATER = 0x25  # BPF_JMP | BPF_JGT | BPF_K
_JUMP_IF_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_INSTRUCTION = struct.Struct("=HBBI")
# struct seccomp_data: the call's number, the architecture, the instruction pointer, six arguments
# of eight bytes, of which the lower half comes first on both architectures.
_NUMBER_OFFSET = 0
_ARCHITECTURE_OFFSET = 4
_ARGUMENTS_OFFSET = 16
_ARGUMENT_BYTES = 8

_EPERM = 1
_EACCES = 13
_EINVAL = 22
_ENOTTY = 25
_ENOSYS = 38
_PROT_EXEC = 4
# The last of the advice on memory that concerns nobody else; past it are those of root, which may
# spoil pages that others use too.
_MADV_NOHUGEPAGE = 15
_PR_SET_NAME = 15
_PR_SET_VMA = 0x53564D41
# What a C library makes a thread with: memory, files, signal handlers and thread group in common,
# and no new namespace. CLONE_DETACHED, which means nothing, is set by musl only.
_THREAD_FLAGS = 0x3D0F00
_CLONE_DETACHED = 0x400000

# Reading and answering, memory, threads, the clock, the end: as decoders were seen to use them, and
# as both C libraries are written.
_ALLOWED = (
    *("read", "write", "readv", "writev", "close", "lseek", "fstat"),
    *("munmap", "mremap", "brk"),
    *("futex", "sched_yield", "set_robust_list", "rseq", "exit", "exit_group"),
    *("rt_sigprocmask", "rt_sigaction", "rt_sigreturn", "sigaltstack"),
    *("clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday"),
    *("getpid", "gettid", "getrandom", "sysinfo", "getcpu", "setitimer", "restart_syscall"),
)
# They name a file, or ask what kind of thing a descriptor is: libraries and Python do so in passing
# and live with a refusal.
_REFUSED = {
    **dict.fromkeys(
        ("open", "openat", "stat", "lstat", "newfstatat", "statx", "access", "faccessat"), _EACCES
    ),
    **dict.fromkeys(("faccessat2", "readlink", "readlinkat", "getcwd"), _EACCES),
    "ioctl": _ENOTTY,
    "clone3": _ENOSYS,  # whose flags no filter can read; a C library takes clone instead
    "membarrier": _ENOSYS,  # musl asks for it before its first thread, and lives without
    "tkill": _EPERM,  # musl's abort(), which then ends the process by a crash of its own
}


@dataclass(frozen=True)
class Instruction:
    """One of classic BPF; jumps are counted from the next instruction."""

    code: int
    value: int
    jump_if_true: int = 0
    jump_if_false: int = 0

    def to_bytes(self) -> bytes:
        return _INSTRUCTION.pack(self.code, self.jump_if_true, self.jump_if_false, self.value)


def assemble(architecture: Architecture, pid: int) -> list[Instruction]:
    """Assemble the filter for the process with this number."""
    program = [
        Instruction(_LOAD, _ARCHITECTURE_OFFSET),
        Instruction(_JUMP_IF_EQUAL, architecture.audit_value, jump_if_true=1),
        Instruction(_RETURN, _KILL_PROCESS),
        # x32's numbers have a bit of their own, so that none of them is on the list.
        Instruction(_LOAD, _NUMBER_OFFSET),
    ]
    for name in _ALLOWED:
        program += _rule(architecture, name, [Instruction(_RETURN, _ALLOW)])
    for name in ("mmap", "mprotect"):
        program += _rule(architecture, name, _unless_any_bit(2, _PROT_EXEC))
    # Without flags, of which some are known for holes in kernels, and without an address.
    for name in ("recvfrom", "sendto"):
        program += _rule(architecture, name, _if_zero(3, pointer=4))
    program += _rule(architecture, "madvise", _unless_greater(2, _MADV_NOHUGEPAGE, _EINVAL))
    program += _rule(architecture, "clone", _make_thread())
    program += _rule(architecture, "tgkill", _abort(pid))
    program += _rule(architecture, "sched_getaffinity", _if_equal(0, (0, pid), _EPERM))
    program += _rule(architecture, "prctl", _if_equal(0, (_PR_SET_NAME, _PR_SET_VMA), _EPERM))
    # Of its own process, and without a new limit.
    program += _rule(architecture, "prlimit64", _if_zero(0, pointer=2))
    for name, number in _REFUSED.items():
        program += _rule(architecture, name, [Instruction(_RETURN, _ERRNO | number)])
    return [*program, Instruction(_RETURN, _KILL_PROCESS)]


def _rule(architecture: Architecture, name: str, body: list[Instruction]) -> list[Instruction]:
    """For one call, what decides about it; nothing where the architecture has no such call."""
    number = architecture.numbers.get(name)
    if number is None:
        return []
    return [Instruction(_JUMP_IF_EQUAL, number, jump_if_false=len(body)), *body]


def _load_argument(position: int) -> Instruction:
    """Load its lower half: all that the kernel looks at of an int."""
    return Instruction(_LOAD, _ARGUMENTS_OFFSET + position * _ARGUMENT_BYTES)


def _unless_any_bit(position: int, bits: int) -> list[Instruction]:
    return [
        _load_argument(position),
        Instruction(_JUMP_IF_ANY_BIT, bits, jump_if_true=1),
        Instruction(_RETURN, _ALLOW),
        Instruction(_RETURN, _KILL_PROCESS),
    ]


def _make_thread() -> list[Instruction]:
    return [
        _load_argument(0),
        Instruction(_AND, 0xFFFFFFFF ^ _CLONE_DETACHED),
        Instruction(_JUMP_IF_EQUAL, _THREAD_FLAGS, jump_if_true=1),
        Instruction(_RETURN, _KILL_PROCESS),
        Instruction(_RETURN, _ALLOW),
    ]


def _abort(pid: int) -> list[Instruction]:
    """A library that finds its own heap broken may end this very process, as itself says."""
    return [
        _load_argument(0),
        Instruction(_JUMP_IF_EQUAL, pid, jump_if_true=1),
        Instruction(_RETURN, _KILL_PROCESS),
        _load_argument(2),
        Instruction(_JUMP_IF_EQUAL, signal.SIGABRT, jump_if_true=1),
        Instruction(_RETURN, _KILL_PROCESS),
        Instruction(_RETURN, _ALLOW),
    ]


def _if_equal(position: int, values: tuple[int, int], error: int) -> list[Instruction]:
    first, second = values
    return [
        _load_argument(position),
        Instruction(_JUMP_IF_EQUAL, first, jump_if_true=2),
        Instruction(_JUMP_IF_EQUAL, second, jump_if_true=1),
        Instruction(_RETURN, _ERRNO | error),
        Instruction(_RETURN, _ALLOW),
    ]


def _unless_greater(position: int, most: int, error: int) -> list[Instruction]:
    return [
        _load_argument(position),
        Instruction(_JUMP_IF_GREATER, most, jump_if_true=1),
        Instruction(_RETURN, _ALLOW),
        Instruction(_RETURN, _ERRNO | error),
    ]


def _if_zero(position: int, pointer: int) -> list[Instruction]:
    """If this int is, and both halves of that pointer."""
    pointer_offset = _ARGUMENTS_OFFSET + pointer * _ARGUMENT_BYTES
    return [
        _load_argument(position),
        Instruction(_JUMP_IF_EQUAL, 0, jump_if_false=4),
        Instruction(_LOAD, pointer_offset),
        Instruction(_JUMP_IF_EQUAL, 0, jump_if_false=2),
        Instruction(_LOAD, pointer_offset + 4),
        Instruction(_JUMP_IF_EQUAL, 0, jump_if_true=1),
        Instruction(_RETURN, _KILL_PROCESS),
        Instruction(_RETURN, _ALLOW),
    ]


class _FilterProgram(ctypes.Structure):
    """struct sock_fprog of linux/filter.h."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def filter_system_calls(libc: ctypes.CDLL, pid: int) -> bool:
    """Install the filter for all threads of this process, for good.

    It needs NO_NEW_PRIVS. Return whether it holds: not on other architectures, nor where the kernel
    has no seccomp.
    """
    architecture = ARCHITECTURES.get(platform.machine())
    if architecture is None:
        return False
    program = assemble(architecture, pid)
    code = b"".join(instruction.to_bytes() for instruction in program)
    handed_over = _FilterProgram(len(program), code)
    result: int = libc.syscall(
        ctypes.c_long(architecture.numbers["seccomp"]),
        ctypes.c_long(_SECCOMP_SET_MODE_FILTER),
        ctypes.c_long(_SECCOMP_FILTER_FLAG_TSYNC),
        ctypes.byref(handed_over),
    )
    return result == 0
