"""One decoder process as the service sees it: started, asked, ended, and how it ended.

Neither this module nor what it imports loads a decoding library: what a file may do to a decoder,
it cannot do to the service.
"""

import dataclasses
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from enum import Enum, auto
from io import FileIO
from pathlib import Path

import faults
from errors import DarkroomError, DecoderUnavailable
from pictures.confinement import NO_LAYER, Layer
from pictures.costs import MIB
from pictures.messages import (
    HEAD_BYTES,
    MEMORY_SHARED,
    NOTHING_SHARED,
    READY_BYTES,
    Job,
    Nonsense,
    Ready,
    read_head,
)
from pictures.shared_file import SharedFile, make_shared_file
from pictures.usage import count_threads, read_cpu_seconds
from pictures.values import ProcessedImage

logger = logging.getLogger(__name__)

# How long a decoder may take until it is ready: it loads Python and Pillow.
START_SECONDS = 30.0
# An idle decoder ends at once; whoever does not is killed.
END_SECONDS = 1.0
# A decoder's own clock ends it when its time on the processor is over (SIGPROF); one that was taken
# over may stop that clock, so it is looked at from here as well, a little later and this often.
SPARE_CPU_SECONDS = 0.5
CPU_LOOK_SECONDS = 0.5
# Behind its answer a decoder lets go of the picture, which takes it a millisecond; then it waits.
MOST_IDLE_CPU_SECONDS = 0.05
# What it writes on its standard error is told in the log: the last of what a pipe of Linux holds.
PIPE_BYTES = 64 * 1024
MOST_SAID_BYTES = 4096
# No credentials. One arena, which grows by large pages where the system has them: a fault for each
# 4 KiB of the megabytes that a picture fills is up to a third of all work. What is free at its end
# goes back to the system. The threshold is the highest: what is mapped apart has small pages at
# its edges.
ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * MIB),
    "MALLOC_TRIM_THRESHOLD_": str(MIB),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def find_modules() -> str:
    """Find where this process has its modules from, for one that starts without an environment.

    PYTHONPATH may have named them, or the user's home, or a program that changed the path.
    """
    return os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)


class Ending(Enum):
    """How a decoder ended before it answered."""

    NOT_READY = auto()  # and so without a file
    NOT_CONFINED = auto()  # as it was required to be
    KILLED = auto()  # from outside, most often for want of memory
    STOOD_STILL = auto()  # out of time on the clock, but not on the processor
    OUT_OF_TIME = auto()  # on the processor
    FORBIDDEN_CALL = auto()  # as no decoder makes it that does what it should
    CRASHED = auto()  # or left, or said nonsense

    @classmethod
    def from_status(cls, status: int) -> "Ending":
        """Name an exit status, which is negative for a signal."""
        if status == -signal.SIGKILL:
            return cls.KILLED
        if status == -signal.SIGPROF:
            return cls.OUT_OF_TIME
        if status == -signal.SIGSYS:
            return cls.FORBIDDEN_CALL
        return cls.CRASHED

    def condemns_file(self, *, is_decoder_new: bool) -> bool:
        """Whether it is the file's doing.

        The processor's time is counted for each file. A crash or a forbidden call may be an earlier
        file's doing, and counts only in a decoder that had none. All else is the machine's doing.
        """
        is_crash = self in (Ending.CRASHED, Ending.FORBIDDEN_CALL)
        return self is Ending.OUT_OF_TIME or (is_crash and is_decoder_new)


class DecoderEnded(Exception):
    """The decoder ended before it answered."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.name)
        self.ending = ending


class _Overspent(Exception):
    """The decoder has had more of the processor than its picture was given."""


def _lower_priority(pid: int, niceness: int) -> None:
    """Let others go before a process that leads a session of its own. Raises OSError.

    On Linux such a session may share the processor as one, whatever its processes' niceness is:
    then it has a niceness itself (sched(7), autogrouping).
    """
    if niceness:
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
        with suppress(OSError):
            Path(f"/proc/{pid}/autogroup").write_text(str(niceness))


class DecoderProcess:
    """One process. Used by one thread at a time, but for `kill`."""

    def __init__(
        self, program: tuple[str, ...], required_layers: Layer = NO_LAYER, niceness: int = 0
    ) -> None:
        """Start Python with these arguments. Raises DecoderUnavailable."""
        self.pictures = 0
        self._required_layers = required_layers
        self.started_at = time.monotonic()
        self._ready: Ready | None = None
        self._most_cpu_seconds = math.inf  # since its start
        self._cpu_seconds_at_rest = 0.0  # from when it was ready, or gave its last answer
        self._shared: SharedFile | None = None
        try:
            self._socket, theirs = socket.socketpair()
        except OSError as err:
            raise DecoderUnavailable from err
        try:
            self._said, said = _make_pipe()
        except OSError as err:
            self._socket.close()
            theirs.close()
            raise DecoderUnavailable from err
        try:
            self._share_memory()
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", *program],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=said.fileno(),
                cwd=Path(__file__).parents[1],
                env={**ENVIRONMENT, "PYTHONPATH": find_modules()},
                # Ctrl-C in a terminal is for the service, which ends its decoders itself.
                start_new_session=True,
            )
            _lower_priority(self._process.pid, niceness)
        except OSError as err:
            self._close()
            raise DecoderUnavailable from err
        finally:
            theirs.close()
            said.close()

    def _share_memory(self) -> None:
        """Give the decoder what it maps before it is confined, or tell it that there is nothing."""
        self._shared = make_shared_file()
        if self._shared is None:
            self._socket.sendall(NOTHING_SHARED)
            return
        try:
            socket.send_fds(self._socket, [MEMORY_SHARED], [self._shared.descriptor])
        except OSError:  # a system that passes no descriptors on
            self._shared.close()
            self._shared = None
            self._socket.sendall(NOTHING_SHARED)

    def _close(self) -> None:
        self._socket.close()
        self._said.close()
        if self._shared is not None:
            self._shared.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def worked_unasked(self) -> bool:
        """Whether it used the processor since its last answer; for one that has no picture."""
        used_seconds = read_cpu_seconds(self.pid) - self._cpu_seconds_at_rest
        return self._ready is not None and used_seconds > MOST_IDLE_CPU_SECONDS

    @property
    def has_hidden_threads(self) -> bool:
        """Whether threads are left in it that may work later; for one that has no picture."""
        return self._ready is not None and count_threads(self.pid) > 1

    def wait_until_ready(self) -> Ready:
        """Wait for its first word. Raises DecoderEnded."""
        if self._ready is None:
            try:
                said = self._receive(READY_BYTES, time.monotonic() + START_SECONDS)
                self._ready = Ready.from_bytes(said)
            except (OSError, Nonsense) as err:
                self.end()
                raise DecoderEnded(Ending.NOT_READY) from err
            if self._required_layers not in self._ready.layers:
                self.end()
                raise DecoderEnded(Ending.NOT_CONFINED)
            self._cpu_seconds_at_rest = read_cpu_seconds(self.pid)
        return self._ready

    def ask(
        self, job: Job, content: bytes, patience_seconds: float
    ) -> list[ProcessedImage] | DarkroomError:
        """Send the file and wait for its pictures or its refusal. Raises DecoderEnded.

        The patience is for all of it together.
        """
        ready = self.wait_until_ready()
        self.pictures += 1
        deadline = time.monotonic() + patience_seconds
        try:
            self._check_silence()
            allowed_seconds = job.cpu_seconds + SPARE_CPU_SECONDS
            self._most_cpu_seconds = read_cpu_seconds(self.pid) + allowed_seconds
            _limit_memory(self.pid, ready.own_bytes + job.memory_bytes)
            is_shared = self._shared is not None and self._shared.fill(content)
            self._socket.settimeout(patience_seconds)
            self._socket.sendall(dataclasses.replace(job, is_shared=is_shared).to_line())
            if not is_shared:
                self._socket.settimeout(_left_until(deadline))
                self._socket.sendall(content)
            faults.reached("during_decode")
            answer = self._receive_answer(job, deadline)
            if self._shared is not None:
                self._shared.give_back()
        except _Overspent as err:
            self.kill()
            self.end()
            raise DecoderEnded(Ending.OUT_OF_TIME) from err
        except TimeoutError as err:
            self.end()
            raise DecoderEnded(Ending.STOOD_STILL) from err
        except (OSError, Nonsense) as err:
            raise DecoderEnded(self.end()) from err
        self._cpu_seconds_at_rest = read_cpu_seconds(self.pid)
        self._log_what_it_said()
        return answer

    def _check_silence(self) -> None:
        """Raise Nonsense if it answered before it was asked."""
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            self._socket.recv(1)
            raise Nonsense

    def _receive_answer(self, job: Job, deadline: float) -> list[ProcessedImage] | DarkroomError:
        """Receive all pictures of the job, each as it was asked for, or its refusal.

        Raises what `_receive` raises.
        """
        pictures: list[ProcessedImage] = []
        while len(pictures) < job.picture_count:
            head = read_head(self._receive(HEAD_BYTES, deadline), job, len(pictures))
            answer = head.finish(self._receive(head.following_bytes, deadline))
            if isinstance(answer, DarkroomError):
                return answer
            pictures.append(answer)
        return pictures

    def _receive(self, wanted_bytes: int, deadline: float) -> bytes:
        """Receive so many bytes.

        Raises TimeoutError, _Overspent, and Nonsense where it ends before.
        """
        received = bytearray()
        while len(received) < wanted_bytes:
            self._socket.settimeout(min(_left_until(deadline), CPU_LOOK_SECONDS))
            try:
                part = self._socket.recv(wanted_bytes - len(received))
            except TimeoutError:
                if read_cpu_seconds(self.pid) > self._most_cpu_seconds:
                    raise _Overspent from None
                continue  # until _left_until raises it
            if not part:
                raise Nonsense
            received += part
        return bytes(received)

    def _log_what_it_said(self) -> None:
        """Tell what it wrote on its standard error, as one line that no file can forge."""
        said = None if self._said.closed else self._said.read(PIPE_BYTES)
        if said:
            text = said[-MOST_SAID_BYTES:].decode("utf-8", "replace").strip()
            escaped = text.encode("unicode_escape").decode("ascii")
            logger.warning("decoder %d said: %s", self.pid, escaped[-MOST_SAID_BYTES:])

    def end(self) -> Ending:
        """End the process, if it has not ended by itself, and tell how that was."""
        self._socket.close()  # which an idle or dying one takes as its end
        try:
            ending = Ending.from_status(self._process.wait(END_SECONDS))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            ending = Ending.CRASHED  # it neither answered nor left
        self._log_what_it_said()
        self._close()
        return ending

    def kill(self) -> None:
        """End the process now, whatever it does; whoever asked it is told that it was killed."""
        self._process.kill()


def _make_pipe() -> tuple[FileIO, FileIO]:
    """Make a pipe on which neither side ever waits: what does not fit in is lost."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    return FileIO(read_end), FileIO(write_end, "w")


def _left_until(deadline: float) -> float:
    """Tell how many seconds there are. Raises TimeoutError when there are none."""
    left_seconds = deadline - time.monotonic()
    if left_seconds <= 0:
        raise TimeoutError
    return left_seconds


def _limit_memory(pid: int, most_bytes: int) -> None:
    """Allow a decoder this much address space from now on, where the system can.

    From here, and not in the decoder: one that was taken over cannot raise it.
    """
    if sys.platform != "linux":
        return
    import resource

    _, hard_bytes = resource.prlimit(pid, resource.RLIMIT_AS)
    is_unlimited = hard_bytes == resource.RLIM_INFINITY
    soft_bytes = most_bytes if is_unlimited else min(most_bytes, hard_bytes)
    resource.prlimit(pid, resource.RLIMIT_AS, (soft_bytes, hard_bytes))
