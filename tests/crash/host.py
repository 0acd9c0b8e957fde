"""Imports the service once and forks a real uvicorn for every start: 0.2 s instead of 2.

Reads one JSON object a line, {"faults": ..., "port": ..., "settings": ...}, the last of which hold
beside those of the environment, and answers with the pid. The forked process has an event loop, an
engine and stores of its own. At the line `reap` it forks a process that makes one pass of the
reaper, on connections of its own, and answers when it is done.
"""

import asyncio
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, TextIO

from tests.crash.decoders import fork_decoders

REAP = "reap\n"


def host() -> None:
    fork_decoders()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the service prints goes to the log
    import main
    import storage.s3  # noqa: F401  takes long, and only a start would do it

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the killed leave no zombies
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        if line == REAP:
            _fork(partial(_reap_and_answer, answers))
        else:
            pid = _fork(partial(_serve, answers, json.loads(line), main.app))
            print(pid, file=answers, flush=True)


def _fork(become: Callable[[], None]) -> int:
    """Fork a process that ends when it has become this; return its number."""
    pid = os.fork()
    if pid != 0:
        return pid
    os.close(0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    status = 1
    try:
        become()
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(status)


def _serve(answers: TextIO, wanted: dict[str, Any], app: Any) -> None:
    import uvicorn

    import faults

    os.close(answers.fileno())
    app.state.settings = app.state.settings.model_copy(update=wanted["settings"])
    faults.arm(wanted["faults"])
    uvicorn.run(
        app, host="127.0.0.1", port=wanted["port"], log_config=None, timeout_graceful_shutdown=5
    )


def _reap_and_answer(answers: TextIO) -> None:
    try:
        asyncio.run(_reap())
    except Exception:
        traceback.print_exc()  # the comparison will tell
    print("done", file=answers, flush=True)


async def _reap() -> None:
    from config import settings
    from database import Database
    from files import Backends, reaper
    from storage import Stores

    assert settings.database_url is not None
    stores = Stores(settings)
    database = Database(settings.database_url, 2, {"stores": stores})
    try:
        await reaper.reap(Backends(settings, database, stores))
    finally:
        await database.dispose()


if __name__ == "__main__":
    host()
