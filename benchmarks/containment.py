"""What the decoder process costs a picture, beside the same step in the thread.

`python -m benchmarks.containment` prints for each file the median wall time of both, in turns, and
the processor time that the service itself spends.
"""

import resource
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import image_utils
from benchmarks.image_step import draw_photo, encode, find_sides
from pictures import examine
from pictures.costs import DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS
from pictures.pool import DecoderPool

ROUNDS = 30
FILES = (("jpeg", 0.2), ("jpeg", 2), ("jpeg", 12), ("png", 2), ("webp", 2))


@dataclass(frozen=True)
class Taken:
    """Milliseconds on the clock, and of this process on the processor."""

    wall_ms: float
    cpu_ms: float


def measure(step: Callable[[], object]) -> Taken:
    cpu_seconds = read_own_cpu_seconds()
    started = time.perf_counter()
    step()
    wall_seconds = time.perf_counter() - started
    return Taken(wall_seconds * 1000, (read_own_cpu_seconds() - cpu_seconds) * 1000)


def read_own_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


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
    by_thread = []
    by_decoder = []
    for _ in range(ROUNDS):
        by_thread.append(measure(in_thread))
        by_decoder.append(measure(in_decoder))
    thread_ms = statistics.median(taken.wall_ms for taken in by_thread)
    decoder_ms = statistics.median(taken.wall_ms for taken in by_decoder)
    service_ms = statistics.median(taken.cpu_ms for taken in by_decoder)
    ratio = decoder_ms / thread_ms
    return f"{name:>16} {thread_ms:10.1f} {decoder_ms:11.1f} {ratio:6.2f} {service_ms:15.2f}"


def main() -> None:
    print(f"{'file':>16} {'thread ms':>10} {'decoder ms':>11} {'ratio':>6} {'service cpu ms':>15}")
    with closing(DecoderPool()) as pool:
        for kind, megapixels in FILES:
            content = encode(draw_photo(*find_sides(megapixels)), kind)
            print(compare(pool, f"{kind} {megapixels:g} MP", content))


if __name__ == "__main__":
    main()
