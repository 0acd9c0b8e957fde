"""A process that decodes pictures, one at a time: `python -m pictures.decoder`.

It has no environment, so no credentials, can open neither files nor connections, and is limited in
memory and time: a file that hangs, balloons or kills it costs its own upload and no other. How a
picture is made stands in image_utils.
"""

import os
import signal
import socket
import sys
from io import BufferedRWPair
from pathlib import Path

import image_utils
from errors import DarkroomError, UndecodablePicture
from pictures import pillow
from pictures.messages import MEMORY_SHARED, READY, Job, Made, Refused
from pictures.shared_file import map_shared_file
from pictures.values import Content

# Where all cores are busy the service, which answers everybody, comes first: a third of the weight
# for a decoder.
NICENESS = 5


def serve(connection: socket.socket) -> None:
    """Answer one job after the other until the service closes the connection."""
    pillow.configure()
    memory = _receive_memory(connection)
    with connection.makefile("rwb") as stream:
        own_bytes = _confine()
        connection.sendall(READY)
        while line := stream.readline():
            _answer(stream, memory, Job.from_line(line), own_bytes)


def _receive_memory(connection: socket.socket) -> memoryview | None:
    """Receive the service's first word, and map the memory that it shares, if it does."""
    word, descriptors, _, _ = socket.recv_fds(connection, len(MEMORY_SHARED), 1)
    if (word == MEMORY_SHARED) != bool(descriptors):
        sys.exit("The memory that the service shares did not arrive.")
    return map_shared_file(descriptors[0]) if descriptors else None


def _confine() -> int:
    """Give up what a decoder does not need: new descriptors, and so files and connections.

    Return the address space that it takes by itself.
    """
    import resource  # of POSIX only: where there is none nothing can be confined, or decoded

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # its service ends it, after the last picture
    os.nice(NICENESS)
    own_bytes = _count_address_space()
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return own_bytes


def _count_address_space() -> int:
    import resource

    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    pages = statm.read_text().split()[0]
    return int(pages) * resource.getpagesize()


def _answer(stream: BufferedRWPair, memory: memoryview | None, job: Job, own_bytes: int) -> None:
    # The limits come before the file: it is a part of what was set aside.
    _limit(job.cpu_seconds, own_bytes + job.memory_bytes)
    if memory is not None and job.is_shared:
        answer, jpeg = _decode(memory[: job.content_bytes], job)
    else:
        answer, jpeg = _decode(stream.read(job.content_bytes), job)
    signal.setitimer(signal.ITIMER_PROF, 0)
    stream.write(answer.to_line() + jpeg)
    stream.flush()


def _limit(cpu_seconds: float, memory_bytes: int) -> None:
    """Allow from now on this much address space, and processor time until SIGPROF."""
    import resource

    _, most_bytes = resource.getrlimit(resource.RLIMIT_AS)
    is_unlimited = most_bytes == resource.RLIM_INFINITY
    soft_bytes = memory_bytes if is_unlimited else min(memory_bytes, most_bytes)
    resource.setrlimit(resource.RLIMIT_AS, (soft_bytes, most_bytes))
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)


def _decode(content: Content, job: Job) -> tuple[Made | Refused, bytes]:
    """Make the picture, or the refusal of one. No memory of ours keeps anything of the file."""
    try:
        picture = image_utils.process_profile_image(
            content, job.crop, job.max_pixels, job.max_whole_pixels
        )
    except MemoryError:
        return Refused(UndecodablePicture.code, UndecodablePicture.sentence), b""
    except DarkroomError as err:
        # Only these two: a name for the error would keep its frames, and they the picture.
        return Refused(err.code, err.detail), b""
    answer = Made(
        len(picture.content),
        picture.dominant_colour,
        picture.thumbhash,
        picture.removed_metadata,
    )
    return answer, picture.content


if __name__ == "__main__":
    os.chdir("/")
    try:
        serve(socket.socket(fileno=sys.stdin.fileno()))
    except ConnectionError:
        pass  # the service has ended; that is no error of ours
