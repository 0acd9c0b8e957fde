"""What a process uses, as the kernel counts it: from outside, so that the process cannot lie."""

import sys
import time
from pathlib import Path

# linux/posix-timers.h: the precise count of a clock that tells a process's time on the processor.
_CPUCLOCK_SCHED = 2
# proc(5), /proc/pid/stat: counted from the state on, which follows the name in parentheses.
_THREADS_POSITION = 17


def read_cpu_seconds(pid: int) -> float:
    """Read what all its threads have had of the processor; 0 where the system does not tell."""
    if sys.platform != "linux":
        return 0.0
    # As clock_getcpuclockid() of the C library makes the number of a clock, which Python lacks.
    clock = (~pid << 3) | _CPUCLOCK_SCHED
    try:
        return time.clock_gettime(clock)
    except OSError:  # it has ended
        return 0.0


def count_threads(pid: int) -> int:
    """Count its threads; 1 where the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 1
    return int(stat.rpartition(")")[2].split()[_THREADS_POSITION])
