"""What the decoder process costs a picture, beside the same step in the thread.

`python -m benchmarks.containment` prints for each file, measured in turns, the least processor time
of both and its ratio, the median time on the clock, and the processor time that the service itself
spends. It needs Linux.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import image_utils
from benchmarks.image_step import draw_photo, encode, find_sides
from pictures import examine
from pictures.costs import DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS
from pictures.pool import DecoderPool

ROUNDS = 30
FILES = (
    *(("jpeg", 0.1), ("jpeg", 2), ("jpeg", 12)),
    *(("progressive", 12), ("png", 2), ("webp", 4)),
)
HEADING = (
    f"{'CPU ms:':>29}{'':>32}{'clock, ms:':>14}\n"
    f"{'file':>18}{'thread':>11}{'decoder':>12}{'ratio':>8}{'service':>12}"
    f"{'thread':>14}{'decoder':>12}"
)


@dataclass(frozen=True)
class Taken:
    """Milliseconds on the clock, and of this process and of the decoder on the processor."""

    wall_ms: float
    own_cpu_ms: float
    decoder_cpu_ms: float


def measure(step: Callable[[], object], decoder_pid: int) -> Taken:
    decoder_cpu_ms = read_cpu_ms(decoder_pid)
    own_cpu_seconds = time.process_time()
    started = time.perf_counter()
    step()
    wall_seconds = time.perf_counter() - started
    return Taken(
        wall_seconds * 1000,
        (time.process_time() - own_cpu_seconds) * 1000,
        read_cpu_ms(decoder_pid) - decoder_cpu_ms,
    )


def read_cpu_ms(pid: int) -> float:
    """Read how long a process of one thread has been on a processor, exact to a nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


def compare(pool: DecoderPool, name: str, content: bytes) -> str:
    """Make the picture both ways, in turns, and tell the medians in a line of the table."""
    _, cost = examine(content)
    in_thread = partial(image_utils.process_profile_image, content)
    in_decoder = partial(
        pool.process_profile_image,
        content,
        cost,
        None,
        DEFAULT_MAX_PIXELS,
        DEFAULT_MAX_WHOLE_PIXELS,
    )
    in_decoder()
    (decoder,) = pool._idle
    by_thread = []
    by_decoder = []
    for _ in range(ROUNDS):
        by_thread.append(measure(in_thread, decoder.pid))
        by_decoder.append(measure(in_decoder, decoder.pid))
    # Others' work only ever adds to it, so the least counts.
    thread_cpu_ms = min(taken.own_cpu_ms for taken in by_thread)
    decoder_cpu_ms = min(taken.decoder_cpu_ms for taken in by_decoder)
    thread_ms = statistics.median(taken.wall_ms for taken in by_thread)
    decoder_ms = statistics.median(taken.wall_ms for taken in by_decoder)
    service_cpu_ms = statistics.median(taken.own_cpu_ms for taken in by_decoder)
    return (
        f"{name:>18}{thread_cpu_ms:11.1f}{decoder_cpu_ms:12.1f}"
        f"{decoder_cpu_ms / thread_cpu_ms:8.2f}{service_cpu_ms:12.2f}"
        f"{thread_ms:14.1f}{decoder_ms:12.1f}"
    )


def main() -> None:
    print(HEADING)
    with closing(DecoderPool()) as pool:
        for kind, megapixels in FILES:
            content = encode(draw_photo(*find_sides(megapixels)), kind)
            print(compare(pool, f"{kind} {megapixels:g} MP", content))


if __name__ == "__main__":
    main()
