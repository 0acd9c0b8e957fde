"""What the decoder process costs a picture, beside the same
step in the thread: `python -m benchmarks.containment`.

Prints for each file the median wall time of both, in turns,
and the processor time that the service itself spends.
"""

import resource
import statistics
import time
from collections.abc import Callable
from functools import partial

import image_utils
from benchmarks.image_step import encoded, photo, sides
from pictures import decoder
from pictures.costs import DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS, examine

ROUNDS = 30
FILES = (("jpeg", 0.2), ("jpeg", 2), ("jpeg", 12), ("png", 2), ("webp", 2))


def own_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def timed(step: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds on the clock, and of this process on the processor."""
    cpu = own_cpu_seconds()
    clock = time.perf_counter()
    step()
    return (time.perf_counter() - clock) * 1000, (own_cpu_seconds() - cpu) * 1000


def main() -> None:
    print(f"{'file':>16} {'thread ms':>10} {'decoder ms':>11} {'ratio':>6} {'service cpu ms':>15}")
    for kind, megapixels in FILES:
        content = encoded(photo(*sides(megapixels)), kind)
        _, cost = examine(content)
        limits = None, DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS
        in_thread = []
        in_decoder = []
        decoder.process_profile_image(content, cost, *limits)
        for _ in range(ROUNDS):
            in_thread.append(timed(partial(image_utils.process_profile_image, content)))
            in_decoder.append(timed(partial(decoder.process_profile_image, content, cost, *limits)))
        thread_ms, decoder_ms = (
            statistics.median(wall for wall, _ in each) for each in (in_thread, in_decoder)
        )
        service_ms = statistics.median(cpu for _, cpu in in_decoder)
        name = f"{kind} {megapixels:g} MP"
        print(
            f"{name:>16} {thread_ms:10.1f} {decoder_ms:11.1f} {decoder_ms / thread_ms:6.2f} {service_ms:15.2f}"
        )
    decoder.close()


if __name__ == "__main__":
    main()
