"""Proves what the filter of system calls decides, on both architectures, by running its program."""

import itertools
import re
import struct
from pathlib import Path

import pytest

from ops import postgres_launcher
from pictures import confinement
from pictures.seccomp import Instruction, assemble
from pictures.system_calls import ARCHITECTURES

PID = 4321
ALLOW = 0x7FFF0000
KILL = 0x80000000
EACCES = 0x0005000D
EPERM = 0x00050001
ENOSYS = 0x00050026
TABLE = Path(__file__).with_name("system_calls.txt")
# In the order of the table's columns.
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
both = pytest.mark.parametrize("machine", ARCHITECTURES)


def run(program: list[Instruction], audit_value: int, number: int, *arguments: int) -> int:
    """Interpret it as the kernel does, over a struct seccomp_data."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<IIQ6Q", number, audit_value, 0, *padded)
    accumulator = 0
    position = 0
    for _ in range(1000):
        instruction = program[position]
        position += 1
        match instruction.code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, instruction.value)
            case 0x54:
                accumulator &= instruction.value
            case 0x15:
                is_so = accumulator == instruction.value
                position += instruction.jump_if_true if is_so else instruction.jump_if_false
            case 0x25:
                is_so = accumulator > instruction.value
                position += instruction.jump_if_true if is_so else instruction.jump_if_false
            case 0x45:
                is_so = bool(accumulator & instruction.value)
                position += instruction.jump_if_true if is_so else instruction.jump_if_false
            case 0x06:
                return instruction.value
    raise AssertionError("it does not end")


def decide(machine: str, name: str, *arguments: int) -> int:
    architecture = ARCHITECTURES[machine]
    number = architecture.numbers[name]
    return run(assemble(architecture, PID), architecture.audit_value, number, *arguments)


@both
def test_what_an_answer_needs_is_allowed(machine: str) -> None:
    for name in ("read", "write", "recvfrom", "sendto", "munmap", "brk", "futex", "exit_group"):
        assert decide(machine, name) == ALLOW, name


@both
def test_what_is_not_on_the_list_ends_the_process(machine: str) -> None:
    numbers = set(ARCHITECTURES[machine].numbers.values())
    program = assemble(ARCHITECTURES[machine], PID)
    for number in set(range(500)) - numbers:
        assert run(program, ARCHITECTURES[machine].audit_value, number) == KILL, number
    assert decide(machine, "seccomp") == KILL


@both
def test_calls_of_another_architecture_end_the_process(machine: str) -> None:
    program = assemble(ARCHITECTURES[machine], PID)
    assert run(program, 0x40000003, 0) == KILL  # i386
    assert run(program, ARCHITECTURES[machine].audit_value, 0x40000000) == KILL  # x32


@both
def test_memory_is_never_executable(machine: str) -> None:
    for name, protection in itertools.product(("mmap", "mprotect"), range(8)):
        expected = KILL if protection & 4 else ALLOW
        assert decide(machine, name, 0, 4096, protection) == expected


@both
def test_threads_and_no_processes_are_made(machine: str) -> None:
    thread = 0x3D0F00
    assert decide(machine, "clone", thread) == ALLOW
    assert decide(machine, "clone", thread | 0x400000) == ALLOW  # musl
    for flags in (17, 0x4111, thread & ~0x10000, thread | 0x10000000, thread | 0x20000000):
        assert decide(machine, "clone", flags) == KILL
    assert decide(machine, "clone3") == ENOSYS, "the C library takes clone instead"


@both
def test_only_its_own_process_is_within_reach(machine: str) -> None:
    assert decide(machine, "tgkill", PID, PID, 6) == ALLOW, "abort() is the truth about a heap"
    assert decide(machine, "tgkill", PID, PID, 9) == KILL
    assert decide(machine, "tgkill", PID + 1, PID, 6) == KILL
    assert decide(machine, "prlimit64", 0, 9, 0) == ALLOW, "reading its own limits"
    assert decide(machine, "prlimit64", 0, 9, 1) == KILL
    assert decide(machine, "prlimit64", 0, 9, 1 << 32) == KILL
    assert decide(machine, "prlimit64", PID, 9, 0) == KILL
    assert decide(machine, "sched_getaffinity", 0) == ALLOW
    assert decide(machine, "sched_getaffinity", PID + 1) == EPERM


@both
def test_of_prctl_only_names_are_allowed(machine: str) -> None:
    assert decide(machine, "prctl", 15) == ALLOW
    assert [decide(machine, "prctl", option) for option in (4, 22, 38)] == [EPERM] * 3


@both
def test_names_of_files_are_refused(machine: str) -> None:
    for name in ("openat", "newfstatat", "statx", "readlinkat", "faccessat"):
        assert decide(machine, name) == EACCES, name


def read_table(machine: str) -> dict[str, int]:
    """Read what the kernel's headers said when the table was written."""
    column = 1 + list(HEADERS).index(machine)
    rows = [line.split() for line in TABLE.read_text().splitlines() if not line.startswith("#")]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


@both
def test_the_numbers_are_those_of_the_kernels_table(machine: str) -> None:
    assert read_table(machine) == ARCHITECTURES[machine].numbers


@both
def test_the_table_is_that_of_the_kernels_headers_where_they_are(machine: str) -> None:
    text = HEADERS[machine].read_text() if HEADERS[machine].exists() else ""
    defined = dict(re.findall(r"#define (__NR\w+)\s+(\w+)", text))
    for name, number in read_table(machine).items():
        found = defined.get(f"__NR_{name}", str(number))
        assert defined.get(found, found) == str(number), name


@both
def test_its_socket_takes_no_flags_and_no_address(machine: str) -> None:
    for name in ("recvfrom", "sendto"):
        assert decide(machine, name, 0, 1, 2, 0, 0, 0) == ALLOW
        assert decide(machine, name, 0, 1, 2, 1, 0, 0) == KILL, "MSG_OOB"
        assert decide(machine, name, 0, 1, 2, 0, 7, 0) == KILL
        assert decide(machine, name, 0, 1, 2, 0, 7 << 32, 0) == KILL


@both
def test_advice_on_memory_is_for_its_own_only(machine: str) -> None:
    assert decide(machine, "madvise", 0, 4096, 4) == ALLOW
    assert decide(machine, "madvise", 0, 4096, 14) == ALLOW
    assert decide(machine, "madvise", 0, 4096, 100) == 0x00050016, "MADV_HWPOISON"


def test_landlock_is_the_same_for_decoders_and_the_embedded_database() -> None:
    """Whose launcher imports nothing of ours, so that the numbers are written twice."""
    theirs = postgres_launcher
    ours = confinement
    assert theirs.LANDLOCK_CREATE_RULESET == ours._LANDLOCK_CREATE_RULESET
    assert theirs.LANDLOCK_RESTRICT_SELF == ours._LANDLOCK_RESTRICT_SELF
    assert theirs.LANDLOCK_CREATE_RULESET_VERSION == ours._LANDLOCK_CREATE_RULESET_VERSION
    assert dict(enumerate(theirs.RIGHTS_BY_VERSION, start=1)) == ours._FILE_RIGHTS
    assert theirs.NETWORK_VERSION == ours._NETWORK_VERSION
    assert theirs.NETWORK == ours._BIND_AND_CONNECT_TCP
    assert theirs.SCOPES_VERSION == ours._SCOPE_VERSION
    assert theirs.SCOPES == ours._ABSTRACT_SOCKETS_AND_SIGNALS
    assert theirs.PR_SET_NO_NEW_PRIVS == ours._PR_SET_NO_NEW_PRIVS
