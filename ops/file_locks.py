"""Locks on open files, which end with the last process that has inherited them."""

from typing import IO

from errors import StartupError


def try_to_lock(file: IO[str], *, is_shared: bool = False) -> bool:
    """Lock the file unless another has a lock on it that forbids this one, and say whether it is.

    Raises StartupError where a system has no such locks.
    """
    try:
        import fcntl
    except ImportError as err:
        raise StartupError(
            "The embedded database needs a POSIX system."
            " Set DATABASE_URL to a PostgreSQL of yours instead."
        ) from err
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(file: IO[str]) -> None:
    """Give the lock back."""
    import fcntl

    fcntl.flock(file, fcntl.LOCK_UN)
