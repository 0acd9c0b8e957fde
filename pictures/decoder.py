"""Pictures are decoded in processes of their own, warm
and one picture at a time, limited in memory and time.

A file that hangs, balloons or kills its decoder costs its own upload and no other. A decoder has
no environment, so no credentials, and can open neither files nor connections. This module is
both ends: the service asks, the process answers; how the picture is made stands in image_utils.
"""

import json
import logging
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import errors
import faults
import image_utils
from errors import DarkroomError, DecoderUnavailable, ShuttingDown, StartupError, UndecodablePicture
from image_utils import ProcessedImage
from pictures import metadata
from pictures.costs import MIB, Cost, Crop

logger = logging.getLogger(__name__)

# What Python runs as a decoder.
PROGRAM: tuple[str, ...] = ("-m", "pictures.decoder")
# Time on the processor: ten times the estimate, for machines
# that are slower than ours, and never less than this.
LEAST_CPU_SECONDS = 2.0
TIMES_THE_ESTIMATE = 10
# Time on the clock, as a multiple of it: the machine may be busy with other things.
TIMES_THE_CPU_SECONDS = 4
# Above the cost that was set aside: the address space
# is counted in whole arenas, and libraries round up.
SPARE_BYTES = 64 * MIB
# Starting anew now and then bounds what a leak in a library can take.
MOST_PICTURES = 1000
# Where all cores are busy the service, which answers
# everybody, comes first: a third of the weight for a decoder.
NICENESS = 5
# Ten times what a noisy 300 x 300 JPEG takes; a decoder that says more was taken over by its file.
MOST_ANSWER_BYTES = MIB
# What a decoder says when it can take a picture, and how
# long it may take until then: it loads Python and Pillow.
READY = b"!"
START_SECONDS = 30.0
# An idle decoder ends at once; whoever does not is killed.
END_SECONDS = 1.0
# No credentials. One arena, and large pieces returned to the system as soon as they are free.
_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(MIB),
    "MALLOC_TRIM_THRESHOLD_": str(4 * MIB),
}
# Killed from outside, most often for want of memory;
# or out of time on the clock but not on the processor.
_NOT_THE_FILES_FAULT = (signal.SIGKILL, signal.SIGALRM)
# What it may refuse a picture with.
_REFUSALS = {
    each.code: each
    for each in vars(errors).values()
    if isinstance(each, type)
    and issubclass(each, errors.BadPicture | errors.TooLarge | errors.BadForm)
}
_COLOUR = re.compile("#[0-9a-f]{6}")
_THUMBHASH = re.compile("[A-Za-z0-9+/]{8,40}={0,2}")
# All decoders, and those that have nothing to do, most
# recently used last. Each change of one is atomic.
_alive: set["_Decoder"] = set()
_idle: list["_Decoder"] = []


def process_profile_image(
    content: bytes, cost: Cost, crop: Crop | None, max_pixels: int, max_whole_pixels: int
) -> ProcessedImage:
    """Do what image_utils.process_profile_image does, but in a decoder; blocks until it answers.

    What a decoder dies of may be an earlier file's doing, so the picture is tried
    once more, in a new one. Raises what that function raises, UndecodablePicture
    when no decoder survives it, DecoderUnavailable and ShuttingDown.
    """
    job = {"crop": crop, "max_pixels": max_pixels, "max_whole_pixels": max_whole_pixels}
    for is_last in (False, True):
        decoder = _Decoder() if is_last else _ready()
        try:
            picture = decoder.ask(content, cost, job)
        except _Died as err:
            if decoder.is_given_up:
                raise ShuttingDown from err
            logger.warning("a decoder ended with %s over a picture of %d bytes", err, len(content))
            if err.number == signal.SIGPROF or (is_last and err.number not in _NOT_THE_FILES_FAULT):
                raise UndecodablePicture from err
        except BaseException:
            decoder.end()
            raise
        else:
            if decoder.pictures < MOST_PICTURES:
                _idle.append(decoder)
            else:
                decoder.end()
            if isinstance(picture, DarkroomError):
                raise picture
            return picture
    raise DecoderUnavailable


def warm() -> None:
    """Start one decoder, so that the first picture need
    not wait for it; others start when they are needed.
    """
    _idle.append(_Decoder())


def wait_until_warm() -> None:
    """Wait for the one that was started. Raises StartupError when it did not get ready."""
    try:
        _idle[-1].wait_until_ready()
    except _Died as err:
        raise StartupError(
            "The process that decodes pictures does not start; what it said stands above."
        ) from err


def close() -> None:
    """End all decoders, also those that are busy, whose uploads are told ShuttingDown."""
    while _idle:
        _idle.pop().end()
    for decoder in list(_alive):
        decoder.kill()


def _ready() -> "_Decoder":
    """The one that was used last and still lives, or a new one."""
    while True:
        try:
            decoder = _idle.pop()
        except IndexError:
            return _Decoder()
        if decoder.is_alive:
            return decoder
        decoder.end()


class _Died(Exception):
    """The decoder ended before it answered; `number` is the
    signal that ended it, SIGALRM if it was out of time.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}" if number > 0 else f"status {-number}")
        self.number = number


class _Decoder:
    """The service's end of one decoder process. Used by one thread at a time."""

    def __init__(self) -> None:
        """Start the process. Raises DecoderUnavailable."""
        self.pictures = 0
        self.is_given_up = False
        self._is_ready = False
        try:
            self._socket, theirs = socket.socketpair()
        except OSError as err:
            raise DecoderUnavailable from err
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", *PROGRAM],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                cwd=Path(__file__).parents[1],
                env=_ENVIRONMENT,
                # Ctrl-C in a terminal is for the service, which ends its decoders itself
                start_new_session=True,
            )
        except OSError as err:
            self._socket.close()
            raise DecoderUnavailable from err
        finally:
            theirs.close()
        _alive.add(self)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Wait for its first word.

        Until then it has no file: whatever ends it is from outside. Raises _Died.
        """
        if self._is_ready:
            return
        self._socket.settimeout(START_SECONDS)
        try:
            self._is_ready = self._socket.recv(len(READY)) == READY
        except OSError:
            pass
        if not self._is_ready:
            self.end()
            raise _Died(signal.SIGKILL)

    def ask(
        self, content: bytes, cost: Cost, job: dict[str, Any]
    ) -> ProcessedImage | DarkroomError:
        """Send the file and wait for the picture or its refusal. Raises _Died."""
        self.wait_until_ready()
        self.pictures += 1
        cpu_seconds = LEAST_CPU_SECONDS + TIMES_THE_ESTIMATE * cost.cpu_seconds
        limits = {"cpu_seconds": cpu_seconds, "memory_bytes": cost.memory_bytes}
        self._socket.settimeout(TIMES_THE_CPU_SECONDS * cpu_seconds)
        try:
            self._socket.sendall(
                json.dumps({**limits, "length": len(content), **job}).encode() + b"\n"
            )
            self._socket.sendall(content)
            faults.reached("during_decode")
            with self._socket.makefile("rb") as answers:
                answer = json.loads(answers.readline(MOST_ANSWER_BYTES))
                if "refusal" in answer:
                    return _REFUSALS[answer["refusal"]](answer["sentence"])
                if not 0 < answer["length"] <= MOST_ANSWER_BYTES:
                    raise ValueError("no picture is as long as this")
                return _believed(answers.read(answer["length"]), answer)
        except TimeoutError as err:
            self.end()
            raise _Died(signal.SIGALRM) from err
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
        ) as err:  # it is gone, or talks nonsense
            raise _Died(-self.end()) from err

    def end(self) -> int:
        """End the process and return its status, negative for a signal."""
        self._socket.close()  # which an idle or dying one takes as its end
        try:
            status = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        _alive.discard(self)
        return status

    def kill(self) -> None:
        """End the process now, whatever it does; whoever asked it sees that it was given up."""
        self.is_given_up = True
        self._process.kill()


def _believed(picture: bytes, answer: dict[str, Any]) -> ProcessedImage:
    """What a decoder says that a file may have taken over:
    nothing that names, types or vouches for its bytes.
    """
    colour = answer["dominant_colour"]
    thumbhash = answer["thumbhash"]
    removed = answer["removed_metadata"]
    if not (
        picture.startswith(b"\xff\xd8")
        and _COLOUR.fullmatch(colour)
        and _THUMBHASH.fullmatch(thumbhash)
    ):
        raise ValueError("this is no picture of ours")
    if not set(removed) <= set(metadata.NAMES):
        raise ValueError("there is no such metadata")
    return image_utils.finished(picture, colour, thumbhash, tuple(removed))


def _serve(connection: socket.socket) -> None:
    """The decoder's end: answer one job after the other until the service closes the connection."""
    with connection.makefile("rwb") as stream:
        base_bytes = _confine()
        connection.sendall(READY)
        while line := stream.readline():
            job = json.loads(line)
            _limit(job.pop("cpu_seconds"), base_bytes + job.pop("memory_bytes") + SPARE_BYTES)
            answer, picture = _made(stream.read(job.pop("length")), job)
            signal.setitimer(signal.ITIMER_PROF, 0)
            stream.write(json.dumps(answer).encode() + b"\n" + picture)
            stream.flush()


def _made(content: bytes, job: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    crop = Crop(*job.pop("crop")) if job["crop"] else job.pop("crop")
    try:
        made = image_utils.process_profile_image(content, crop, **job)
    except MemoryError:
        return {"refusal": UndecodablePicture.code, "sentence": UndecodablePicture.sentence}, b""
    except (
        DarkroomError
    ) as err:  # only these two: a name for the error would keep its frames, and they the picture
        return {"refusal": err.code, "sentence": err.detail}, b""
    answer = {name: value for name, value in vars(made).items() if name != "content"}
    return {**answer, "length": len(made.content)}, made.content


def _confine() -> int:
    """Give up what a decoder does not need: new descriptors, and so files and connections.

    Return what it now takes.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # its service ends it, after the last picture
    os.nice(NICENESS)
    statm = Path("/proc/self/statm")
    size_bytes = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return size_bytes


def _limit(cpu_seconds: float, memory_bytes: int) -> None:
    """From now on this much processor time, of which the
    system ends the process, and so much address space.
    """
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    soft = memory_bytes if most == resource.RLIM_INFINITY else min(memory_bytes, most)
    resource.setrlimit(resource.RLIMIT_AS, (soft, most))
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)


if __name__ == "__main__":
    os.chdir("/")
    try:
        _serve(socket.socket(fileno=sys.stdin.fileno()))
    except ConnectionError:
        pass  # the service has ended; that is no error of ours
