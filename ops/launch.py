"""What a command does before its imports: a Python that is too old is told so, Ctrl-C is quiet.

Python 3.6 can read this module and the three that begin with it: main.py, cli.py and check_s3.py.
It imports nothing but the standard library, and so `--help` and a misspelt word are answered
without the settings.
"""

import argparse
import os
import signal
import sys

OLDEST_PYTHON = (3, 11)
# As config.STARTUP_FAILURE_STATUS, which cannot be imported yet.
TOO_OLD_STATUS = 3
# What a shell says of a program that Ctrl-C ended, or that wrote to a pipe nobody reads any more.
INTERRUPTED_STATUS = 130
CLOSED_PIPE_STATUS = 141

if sys.version_info < OLDEST_PYTHON:
    sys.stderr.write(
        "Darkroom cannot start. It needs Python {}.{} or newer, and {} is {}.{}:"
        " install a newer one, which scripts/serve then finds.\n".format(
            *OLDEST_PYTHON, sys.executable, *sys.version_info[:2]
        )
    )
    sys.exit(TOO_OLD_STATUS)

from collections.abc import Callable  # noqa: E402
from types import FrameType  # noqa: E402


def end_quietly_at_ctrl_c() -> None:
    """Let Ctrl-C end the process at once and in silence, for as long as nothing has begun."""
    signal.signal(signal.SIGINT, _end_at_once)


def leave_signals_to_parent() -> None:
    """Ignore what a terminal sends to a worker too: its parent tells it what to do.

    uvicorn listens to Ctrl-C once the worker serves.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _end_at_once(number: int, frame: "FrameType | None") -> None:
    os._exit(INTERRUPTED_STATUS)


def parse_serving_words() -> argparse.Namespace:
    """Parse the command line of main.py; `host` and `port` are None unless they are given."""
    parser = argparse.ArgumentParser(
        prog="main.py",
        description="Serves Darkroom. Everything else is a setting: see .env.example.",
        allow_abbrev=False,
    )
    parser.add_argument("--host", help="the address to listen on, in place of HOST")
    parser.add_argument("--port", help="the port to listen on, in place of PORT")
    parser.add_argument(
        "--reload", action="store_true", help="start anew whenever a module changes"
    )
    return parser.parse_args()


def parse_doctor_words() -> argparse.Namespace:
    """Parse the command line of check_s3.py."""
    parser = argparse.ArgumentParser(
        prog="check_s3.py",
        description="The doctor of a bucket: tries all that Darkroom needs of the bucket of the"
        " settings, says of what fails the cause and the text to paste, and leaves nothing behind."
        " Exits with 0 if nothing failed, else with 1.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document at the end")
    parser.add_argument(
        "--admin-profile",
        metavar="NAME",
        help="a profile of ~/.aws whose credentials look where those of the service may not",
    )
    return parser.parse_args()


def run_command(main: "Callable[[], int]") -> None:
    """Run a command and exit with its status; quietly if nobody reads what it prints any more."""
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain at its end of what it still holds.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = CLOSED_PIPE_STATUS
    sys.exit(status)
