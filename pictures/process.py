"""One decoder process as the service sees it: started, asked, ended, and how it ended.

Neither this module nor what it imports loads a decoding library: what a file may do to a decoder,
it cannot do to the service.
"""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
from enum import Enum, auto
from pathlib import Path

import faults
from errors import DarkroomError, DecoderUnavailable
from pictures.costs import MIB
from pictures.messages import (
    MEMORY_SHARED,
    MOST_ANSWER_BYTES,
    NOTHING_SHARED,
    READY,
    Job,
    Nonsense,
    Refused,
    read_answer,
)
from pictures.shared_file import SharedFile, make_shared_file
from pictures.values import ProcessedImage

# How long a decoder may take until it is ready: it loads Python and Pillow.
START_SECONDS = 30.0
# An idle decoder ends at once; whoever does not is killed.
END_SECONDS = 1.0
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
    KILLED = auto()  # from outside, most often for want of memory
    STOOD_STILL = auto()  # out of time on the clock, but not on the processor
    OUT_OF_TIME = auto()  # on the processor
    CRASHED = auto()  # or left, or said nonsense

    @classmethod
    def from_status(cls, status: int) -> "Ending":
        """Name an exit status, which is negative for a signal."""
        if status == -signal.SIGKILL:
            return cls.KILLED
        if status == -signal.SIGPROF:
            return cls.OUT_OF_TIME
        return cls.CRASHED

    def condemns_file(self, *, is_decoder_new: bool) -> bool:
        """Whether it is the file's doing.

        The processor's time is counted for each file. A crash may be an earlier file's doing, and
        counts only in a decoder that had none. All else is the machine's doing.
        """
        return self is Ending.OUT_OF_TIME or (self is Ending.CRASHED and is_decoder_new)


class DecoderEnded(Exception):
    """The decoder ended before it answered."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.name)
        self.ending = ending


class DecoderProcess:
    """One process. Used by one thread at a time, but for `kill`."""

    def __init__(self, program: tuple[str, ...]) -> None:
        """Start Python with these arguments. Raises DecoderUnavailable."""
        self.pictures = 0
        self._is_ready = False
        self._shared: SharedFile | None = None
        try:
            self._socket, theirs = socket.socketpair()
        except OSError as err:
            raise DecoderUnavailable from err
        try:
            self._share_memory()
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", *program],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                cwd=Path(__file__).parents[1],
                env={**ENVIRONMENT, "PYTHONPATH": find_modules()},
                # Ctrl-C in a terminal is for the service, which ends its decoders itself.
                start_new_session=True,
            )
        except OSError as err:
            self._close()
            raise DecoderUnavailable from err
        finally:
            theirs.close()

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
        if self._shared is not None:
            self._shared.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Wait for its first word. Raises DecoderEnded."""
        if self._is_ready:
            return
        self._socket.settimeout(START_SECONDS)
        try:
            self._is_ready = self._socket.recv(len(READY)) == READY
        except OSError:
            pass
        if not self._is_ready:
            self.end()
            raise DecoderEnded(Ending.NOT_READY)

    def ask(
        self, job: Job, content: bytes, patience_seconds: float
    ) -> ProcessedImage | DarkroomError:
        """Send the file and wait for the picture or its refusal. Raises DecoderEnded."""
        self.wait_until_ready()
        self.pictures += 1
        self._socket.settimeout(patience_seconds)
        try:
            is_shared = self._shared is not None and self._shared.fill(content)
            self._socket.sendall(dataclasses.replace(job, is_shared=is_shared).to_line())
            if not is_shared:
                self._socket.sendall(content)
            faults.reached("during_decode")
            return self._receive()
        except TimeoutError as err:
            self.end()
            raise DecoderEnded(Ending.STOOD_STILL) from err
        except (OSError, Nonsense) as err:
            raise DecoderEnded(self.end()) from err

    def _receive(self) -> ProcessedImage | DarkroomError:
        with self._socket.makefile("rb") as stream:
            answer = read_answer(stream.readline(MOST_ANSWER_BYTES))
            if isinstance(answer, Refused):
                return answer.to_error()
            return answer.finish(stream.read(answer.jpeg_bytes))

    def end(self) -> Ending:
        """End the process, if it has not ended by itself, and tell how that was."""
        self._close()  # which an idle or dying one takes as its end
        try:
            return Ending.from_status(self._process.wait(END_SECONDS))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return Ending.CRASHED  # it neither answered nor left

    def kill(self) -> None:
        """End the process now, whatever it does; whoever asked it is told that it was killed."""
        self._process.kill()
