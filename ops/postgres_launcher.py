"""Gives up rights, and becomes another program: `python -I -S postgres_launcher.py ORDERS PROGRAM`.

A program of its own, because a process can only give up rights as a whole and for good. It imports
nothing of ours. What it was refused is one line on standard error.
"""

import ctypes
import errno
import json
import os
import signal
import sys
from typing import Any

# From linux/prctl.h, linux/sched.h and linux/landlock.h. The numbers of
# system calls are the same on every architecture, as all since Linux 5.1.
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER = 0x1000_0000
LANDLOCK_CREATE_RULESET = 444
LANDLOCK_ADD_RULE = 445
LANDLOCK_RESTRICT_SELF = 446
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1
# What may be done below a folder are bits, of which each version of Landlock has so many.
RIGHTS_BY_VERSION = (13, 14, 15, 15, 16)
READING = 0b1101  # execute, read a file, list a folder
OF_FILES = 0b1100_0000_0000_0111  # those that can be given for what is not a folder
# Postgres listens on a socket in its folder alone: no TCP, no abstract
# sockets, and no signals to processes outside of the fence.
NETWORK_VERSION = 4
NETWORK = 0b11
SCOPES_VERSION = 6
SCOPES = 0b11

libc = ctypes.CDLL(None, use_errno=True)


class Ruleset(ctypes.Structure):
    """What is forbidden unless a rule allows it: `landlock_ruleset_attr`."""

    _fields_ = (
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scopes", ctypes.c_uint64),
    )


class Rule(ctypes.Structure):
    """What is allowed below an open folder: `landlock_path_beneath_attr`."""

    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder_fd", ctypes.c_int32))


def main() -> None:
    """Obey, and become the program; ORDERS are those of `Account.prefix` in postgres_account.py."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of ours for a Ctrl-C
    orders: dict[str, Any] = json.loads(sys.argv[1])
    command = sys.argv[2:]
    step = "become another user"
    try:
        if orders["uid"] is not None:
            os.setgroups([])
            os.setresgid(orders["gid"], orders["gid"], orders["gid"])
            os.setresuid(orders["uid"], orders["uid"], orders["uid"])
        step = "make a user namespace"
        if orders["uid_inside"] is not None:
            enter_namespace(orders["uid_inside"])
        step = "fence the file system with Landlock"
        if orders["is_confined"]:
            check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        if orders["writable"]:
            fence(orders["readable"], orders["writable"])
        for folder in orders["entered"]:
            step = f"enter {folder}"
            os.stat(os.path.join(folder, "."))  # noqa: PTH118
        step = f"run {command[0]}"
        # Here, because a change of rights takes it back.
        check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0))
        if os.getppid() == orders["parent"]:  # else it died before we asked for that signal
            os.execv(command[0], command)  # noqa: S606
    except OSError as err:
        sys.exit(f"cannot {step}: {err.strerror}")


def enter_namespace(uid_inside: int) -> None:
    """Stay who we are for everyone else, and be `uid_inside` for ourselves.

    The capabilities that come with a new namespace end when a program is executed.
    """
    uid = os.geteuid()
    gid = os.getegid()
    try:
        check(libc.unshare(CLONE_NEWUSER))
    except OSError as err:
        if err.errno == errno.ENOSPC:  # its text would send people to their disk
            err.strerror = "this system allows no more of them"
        raise
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid_inside} {uid} 1"),
        ("gid_map", f"{uid_inside} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def fence(readable: list[str], writable: list[str]) -> None:
    """Forbid all files but these and what lies below them; what is missing is passed over."""
    version = check(
        libc.syscall(
            LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_CREATE_RULESET_VERSION
        )
    )
    rights = (1 << RIGHTS_BY_VERSION[min(version, len(RIGHTS_BY_VERSION)) - 1]) - 1
    ruleset = Ruleset(
        rights,
        NETWORK if version >= NETWORK_VERSION else 0,
        SCOPES if version >= SCOPES_VERSION else 0,
    )
    # A kernel takes what it does not know as long as it is zero.
    ruleset_fd = check(
        libc.syscall(
            LANDLOCK_CREATE_RULESET,
            ctypes.byref(ruleset),
            ctypes.c_size_t(ctypes.sizeof(ruleset)),
            0,
        )
    )
    for paths, allowed in ((readable, READING), (writable, rights)):
        for path in paths:
            allow(ruleset_fd, path, allowed)
    check(libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset_fd, 0))


def allow(ruleset_fd: int, path: str, allowed: int) -> None:
    try:
        folder_fd = os.open(path, os.O_PATH)
    except FileNotFoundError:
        return
    if not os.path.isdir(path):  # noqa: PTH112
        allowed &= OF_FILES
    rule = Rule(allowed, folder_fd)
    check(
        libc.syscall(
            LANDLOCK_ADD_RULE, ruleset_fd, LANDLOCK_RULE_PATH_BENEATH, ctypes.byref(rule), 0
        )
    )
    os.close(folder_fd)


def check(result: int) -> int:
    """Return what a call to libc returned; raises OSError where it failed."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


if __name__ == "__main__":
    main()
