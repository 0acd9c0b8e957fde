"""The service, or a command, with jobs that the tests can hold.

`python -m tests.support.job_program serve` serves, with any other words it is cli.py with these. In
the working directory `note` leaves a line in `notes`; `hold` leaves `NAME.begun`, and goes on when
there is `NAME.go`. JOB_CONSTANTS are constants of modules, by their dotted names.
"""

import asyncio
import json
import os
import sys
from functools import partial
from pathlib import Path

import cli
import config
import main
from jobs import Handlers
from ops import launch, serving
from tests.support.program import set_constant

VARIABLE = "JOB_CONSTANTS"


def make_handlers(backends: object) -> Handlers:
    return {"note": note, "hold": hold}


async def note(text: str) -> None:
    with open("notes", "a") as notes:
        notes.write(f"{text}\n")


async def hold(name: str) -> None:
    Path(f"{name}.begun").touch()
    while not Path(f"{name}.go").exists():
        await asyncio.sleep(0.01)
    await note(name)


def run() -> None:
    for dotted, value in json.loads(os.environ[VARIABLE]).items():
        set_constant(dotted, value)
    for command in ("main", "cli"):
        set_constant(f"{command}.make_handlers", make_handlers)
    if sys.argv[1:] == ["serve"]:
        serving.serve(main.app)
    else:
        launch.run_command(partial(cli.main, config.settings))


if __name__ == "__main__":
    run()
