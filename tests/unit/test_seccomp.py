"""Proves what the filter of system calls decides, on both architectures, by running its program."""

import itertools
import re
import struct
from pathlib import Path

import pytest

from pictures.seccomp import Instruction, assemble
from pictures.system_calls import ARCHITECTURES

PID = 4321
ALLOW = 0x7FFF0000
KILL = 0x80000000
EACCES = 0x0005000D
EPERM = 0x00050001
ENOSYS = 0x00050026
TABLES = {
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


@both
def test_the_numbers_are_those_of_the_kernels_table(machine: str) -> None:
    if not TABLES[machine].exists():
        pytest.skip("the kernel's headers are not installed")
    text = TABLES[machine].read_text()
    defined = dict(re.findall(r"#define (__NR\w+)\s+(\w+)", text))
    numbers = {
        name.removeprefix("__NR_"): defined.get(number, number)
        for name, number in defined.items()
        if name.startswith("__NR_")
    }
    for name, number in ARCHITECTURES[machine].numbers.items():
        assert numbers.get(name) == str(number), name


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
