"""What a process has only one of: logging, signals, the allocator, its parent, its memory.

Only the application that owns its process sets them.
"""

import asyncio
import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import logs
from config import MIB
from ops.launch import INTERRUPTED_STATUS

logger = logging.getLogger(__name__)

M_MMAP_THRESHOLD = -3  # its number in malloc.h
# Far above MAX_CONNECTIONS. Some systems allow a billion, with which programs that close each
# possible one, as we may start some, are busy for minutes.
MOST_DESCRIPTORS = 65_536
PR_SET_DUMPABLE = 4  # in linux/prctl.h
# Set by tests and benchmarks that read the service's /proc as its own user.
DUMPABLE_VARIABLE = "DARKROOM_DUMPABLE"


def prepare(log_format: logs.LogFormat) -> None:
    """Log in this format, keep memory from others, return it in time, end with the manager.

    And have descriptors for as many connections as are wanted.
    """
    logs.configure(log_format)
    hide_memory()
    raise_descriptors()
    _return_large_blocks()
    _end_with_parent()


def hide_memory() -> None:
    """Let no other process of the same user read the secrets in this one's memory.

    Nor does a crash write them to a file. On Linux; root with all its rights still can.
    """
    if sys.platform != "linux" or DUMPABLE_VARIABLE in os.environ:
        return
    if ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        logger.warning("other processes of this user can read this one's memory (PR_SET_DUMPABLE)")


def raise_descriptors() -> int:
    """Let as many files and connections be open as the system allows, up to a bound; return that.

    Most systems allow 1,024 for programs that use select(2), and more to those that ask.
    """
    try:
        import resource
    except ImportError:  # only POSIX has it
        return MOST_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


def _return_large_blocks() -> None:
    """Let the memory of a body go back to the system with it.

    The malloc of glibc keeps blocks of up to 32 MiB otherwise, once one of that size was freed
    (mallopt(3)). Where there is another, nothing is to be done.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MIB)


def _end_with_parent() -> None:
    """Let a worker end when uvicorn's process manager was killed.

    Else it would hold the port without a database.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()
    sentinel = parent.sentinel

    def end() -> None:
        loop.remove_reader(sentinel)  # it stays readable: once is enough
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(sentinel, end)


def leave_at_signals(terminated_status: int = 0) -> None:
    """Leave through the contexts when a signal ends the process.

    A second Ctrl-C leaves at once: what is in the middle of its end then is ready for that. A lost
    terminal counts as SIGTERM, except below nohup.
    """
    is_leaving = False

    def leave(number: int, frame: FrameType | None) -> None:
        nonlocal is_leaving
        if is_leaving and number == signal.SIGINT:
            os._exit(INTERRUPTED_STATUS)
        if not is_leaving:
            is_leaving = True
            sys.exit(INTERRUPTED_STATUS if number == signal.SIGINT else terminated_status)

    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGTERM, leave)
    if hasattr(signal, "SIGHUP") and not ignores_hang_up():
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def ignores_hang_up() -> bool:
    """Whether it was started to outlive its terminal, as by nohup."""
    return hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@contextmanager
def at_its_end(turn_away: Callable[[], None]) -> Iterator[None]:
    """Call `turn_away` in the event loop as soon as a signal tells the process to end.

    The server tells the application of its end only after the last request, when the grace is
    over, so its handlers are listened in on.
    """
    loop = asyncio.get_running_loop()
    replaced: dict[signal.Signals, tuple[Any, Any]] = {}  # the handler that was there, and ours
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if threading.current_thread() is threading.main_thread() and callable(handler):

            def end(
                number: int, frame: FrameType | None, handle: Callable[..., Any] = handler
            ) -> None:
                loop.call_soon_threadsafe(turn_away)
                handle(number, frame)

            replaced[number] = (handler, end)
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, (handler, ours) in replaced.items():
            if signal.getsignal(number) is ours:  # the server may have restored the one before it
                signal.signal(number, handler)
