"""A process that decodes pictures, one at a time: `python -m pictures.decoder`.

It has no environment, so no credentials, is confined to answering (confinement.py), and is limited
in memory and time: a file that hangs, balloons or kills it costs its own upload and no other. How a
picture is made stands in image_utils.
"""

import os
import signal
import socket
import sys
from contextlib import suppress
from io import BufferedRWPair
from pathlib import Path

import image_utils
from errors import DarkroomError, UndecodablePicture
from pictures import pillow
from pictures.confinement import Layer, confine
from pictures.messages import MEMORY_SHARED, Job, Made, Ready, Refused, Rendered, refuse
from pictures.shared_file import map_shared_file
from pictures.values import THUMBNAIL_SIDE_PX, Content

# Where all cores are busy the service, which answers everybody, comes first: a third of the weight
# for a decoder.
NICENESS = 5

# A head and what follows it.
_Part = tuple[Made | Rendered | Refused, bytes]


def serve(connection: socket.socket) -> None:
    """Answer one job after the other until the service closes the connection."""
    pillow.configure()
    memory = _receive_memory(connection)
    with connection.makefile("rwb") as stream:
        own_bytes = _count_address_space()
        layers = _give_up()
        connection.sendall(Ready(layers, own_bytes).to_bytes())
        while line := stream.readline():
            _answer(stream, memory, Job.from_line(line))


def _receive_memory(connection: socket.socket) -> memoryview | None:
    """Receive the service's first word, and map the memory that it shares, if it does."""
    word, descriptors, _, _ = socket.recv_fds(connection, len(MEMORY_SHARED), 1)
    if (word == MEMORY_SHARED) != bool(descriptors):
        sys.exit("The memory that the service shares did not arrive.")
    return map_shared_file(descriptors[0]) if descriptors else None


def _give_up() -> Layer:
    """Give up what a decoder does not need; return the layers of its confinement that hold."""
    import resource  # of POSIX only: where there is none nothing can be confined, or decoded

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # its service ends it, after the last picture
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return confine()


def _count_address_space() -> int:
    import resource

    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    pages = statm.read_text().split()[0]
    return int(pages) * resource.getpagesize()


def _answer(stream: BufferedRWPair, memory: memoryview | None, job: Job) -> None:
    # Before the file: reading it is a part of the time that was set aside. Its end is SIGPROF.
    signal.setitimer(signal.ITIMER_PROF, job.cpu_seconds)
    if memory is not None and job.is_shared:
        answer = _decode(memory[: job.content_bytes], job)
    else:
        answer = _decode(stream.read(job.content_bytes), job)
    signal.setitimer(signal.ITIMER_PROF, 0)
    for head, following in answer:
        stream.write(head.to_bytes() + following)
    stream.flush()


def _decode(content: Content, job: Job) -> list[_Part]:
    """Make the pictures, or the refusal of them. No memory of ours keeps anything of the file."""
    try:
        return _make_pictures(content, job)
    except MemoryError:
        return [refuse(UndecodablePicture())]
    except DarkroomError as err:
        # Only its words: a name for the error would keep its frames, and they the picture.
        return [refuse(err)]


def _make_pictures(content: Content, job: Job) -> list[_Part]:
    if job.renditions:
        made = image_utils.make_renditions(content, job.renditions)
        return [
            (Rendered(rendition, len(picture.content)), picture.content)
            for rendition, picture in zip(job.renditions, made, strict=True)
        ]
    limits = (job.max_pixels, job.max_whole_pixels)
    if job.whole is None:
        picture = image_utils.process_profile_image(
            content, job.crop, *limits, background=job.background
        )
    elif job.whole.square_px == THUMBNAIL_SIDE_PX:
        picture = image_utils.make_thumbnail(content, *limits)
    else:
        picture = image_utils.make_master(content, *limits)
    return [(Made.of(picture), picture.content)]


if __name__ == "__main__":
    os.chdir("/")
    # Closed by name: the warning about one that is not asks for its address, which is forbidden.
    with socket.socket(fileno=sys.stdin.fileno()) as to_service, suppress(ConnectionError):
        serve(to_service)  # until the service has ended, which is no error of ours
