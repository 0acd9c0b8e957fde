"""What a confined decoder costs a picture, beside one that is not confined, and beside a thread.

`python -m benchmarks.containment` measures all three in turns. For each file it prints the least
processor time of each, the median and the middle half of what confinement adds in a round, and the
processor time that the service itself spends. It needs Linux.
"""

import statistics
import tempfile
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
    f"{'CPU ms:':>29}{'':>22}{'by confinement:':>34}\n"
    f"{'file':>18}{'thread':>11}{'unconfined':>12}{'confined':>10}"
    f"{'median':>10}{'middle half':>18}{'service':>10}"
)
# A decoder as it is, but for its confinement.
UNCONFINED = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import socket
from pictures import confinement, decoder

decoder.confine = lambda: confinement.NO_LAYER
with socket.socket(fileno=0) as to_service:
    decoder.serve(to_service)
"""


@dataclass(frozen=True)
class Taken:
    """Milliseconds on the processor, of this process and of the decoder."""

    own_ms: float
    decoder_ms: float


def measure(step: Callable[[], object], decoder_pid: int) -> Taken:
    decoder_ms = read_cpu_ms(decoder_pid)
    own_seconds = time.process_time()
    step()
    return Taken((time.process_time() - own_seconds) * 1000, read_cpu_ms(decoder_pid) - decoder_ms)


def read_cpu_ms(pid: int) -> float:
    """Read how long a process of one thread has been on a processor, exact to a nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


def compare(confined: DecoderPool, unconfined: DecoderPool, name: str, content: bytes) -> str:
    """Make the picture all three ways, in turns, and tell what they took in a line of the table."""
    _, cost = examine(content)
    limits = (None, DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS)
    in_thread = partial(image_utils.process_profile_image, content)
    steps = {
        pool: partial(pool.process_profile_image, content, cost, *limits)
        for pool in (confined, unconfined)
    }
    for step in steps.values():
        step()
    pids = {pool: pool._idle[0].pid for pool in steps}
    by_thread = []
    taken: dict[DecoderPool, list[Taken]] = {pool: [] for pool in steps}
    for number in range(ROUNDS):
        by_thread.append(measure(in_thread, pids[confined]).own_ms)
        # Each of the two comes first as often as the other.
        for pool in sorted(steps, key=lambda pool: (pool is confined) == bool(number % 2)):
            taken[pool].append(measure(steps[pool], pids[pool]))
    added = [
        one.decoder_ms / other.decoder_ms - 1
        for one, other in zip(taken[confined], taken[unconfined], strict=True)
    ]
    low, median, high = statistics.quantiles(added, n=4)
    # Others' work only ever adds to it, so the least counts.
    least = {pool: min(each.decoder_ms for each in taken[pool]) for pool in steps}
    service_ms = statistics.median(each.own_ms for each in taken[confined])
    return (
        f"{name:>18}{min(by_thread):11.1f}{least[unconfined]:12.1f}{least[confined]:10.1f}"
        f"{median:+10.1%}{f'{low:+.1%} to {high:+.1%}':>18}{service_ms:10.2f}"
    )


def main() -> None:
    print(HEADING)
    with (
        tempfile.NamedTemporaryFile("w", suffix=".py") as program,
        closing(DecoderPool()) as confined,
        closing(DecoderPool((program.name,))) as unconfined,
    ):
        program.write(UNCONFINED)
        program.flush()
        for kind, megapixels in FILES:
            content = encode(draw_photo(*find_sides(megapixels)), kind)
            print(compare(confined, unconfined, f"{kind} {megapixels:g} MP", content))


if __name__ == "__main__":
    main()
