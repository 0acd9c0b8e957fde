"""Decoders that are forked, with their libraries loaded, instead of started: 0.02 s, not 0.3.

They run the same code in processes of their own, and are confined alike. Where the start itself is
tested, it is real: tests/process/test_decoder.py.
"""

import io
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

from tests.support import warm

# What a decoder imports; by these names, since the product may be a copy with a fault in it.
LIBRARIES = ("image_utils", "pictures.confinement", "pictures.messages", "pictures.pillow")


def fork_decoders() -> None:
    """Let this process and its forks have their decoders like that; before any other fork."""
    from pictures import process

    warm.fork_warm_process(*LIBRARIES)
    replaced = SimpleNamespace(**vars(subprocess))
    replaced.Popen = _fork_decoder
    setattr(process, "subprocess", replaced)  # noqa: B010


def _fork_decoder(
    command: list[str],
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    cwd: Path,
    env: dict[str, str],
    start_new_session: bool,
) -> warm.Forked:
    """What stands in for `Popen` of `python -W ignore -m pictures.decoder`."""
    assert stdout == subprocess.DEVNULL
    with (
        io.FileIO(stdin, "rb+", closefd=False) as connection,
        io.FileIO(stderr, "wb", closefd=False) as said,
        open(os.devnull, "wb") as nothing,
    ):
        return warm.fork(
            *command[3:],
            env=env,
            cwd=cwd,
            stdin=connection,
            stdout=nothing,
            stderr=said,
            leads_group=start_new_session,
        )
